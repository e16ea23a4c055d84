"""Weights from disk into networks, and back.

Files are mapped into memory and become the parameters themselves, so that loading needs no second copy; in a lower
precision, or on another device, one tensor at a time is converted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from da3gs._files import atomic_file
from da3gs.checkpoints.choice import resolved_model
from da3gs.checkpoints.convert import (
    PUBLISHED_PREFIX,
    empty_model,
    our_shapes,
    to_our_name,
    to_upstream_names,
    upstream_shapes,
)
from da3gs.checkpoints.download import cached_folder
from da3gs.checkpoints.quantised import SCALES, quantised
from da3gs.checkpoints.stored import StoredTensors, folder_files, json_object, load_json
from da3gs.checkpoints.trust import checked_config
from da3gs.checkpoints.zoo import MODELS, ModelCard, model_card
from da3gs.errors import CheckpointError, InputError
from da3gs.network.config import (
    CONFIGS,
    ModelConfig,
    NestedConfig,
    config_from_dict,
    config_to_dict,
    named_config,
)
from da3gs.network.model import DepthAnything3
from da3gs.network.nested import NestedDepthAnything3

Network = DepthAnything3 | NestedDepthAnything3
"""What a checkpoint becomes."""

FORMAT, QUANTISED_FORMAT = "da3gs-1", "da3gs-2"
"""What our own files call themselves in their metadata: plain ones, and those with matrices in int8."""
_PRECISIONS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SHOWN = 4  # names listed in an error before it says how many more there are


def load_model(
    name_or_path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Network:
    """The network of this name or file, in eval mode.

    Args:
        name_or_path: a name of ``da3gs models``, ``auto`` for the best one on this machine, one of our .safetensors
            files, an official model.safetensors, or a folder in the official layout (config.json beside
            model.safetensors, whole or in shards).
        device: where the network shall run.
        dtype: precision of the backbone's matrices; with bfloat16 or float16 it runs under autocast. Heads, norms and
            the residual stream stay in float32, since depth is an exponential.

    Raises:
        CheckpointError: the weights are missing, broken, or not those of a known network.
    """
    name_or_path = resolved_model(name_or_path)
    path = Path(name_or_path)
    if not path.exists() and str(name_or_path).lower() in MODELS:
        path = weights_of(model_card(str(name_or_path)))
    if not path.exists():
        known = ", ".join(MODELS)
        raise CheckpointError(f"there is neither a model nor a file {str(name_or_path)!r}; known models: {known}")
    config, tensors = _read(path)
    model = build_model(config, tensors, source=path.name, device=device, dtype=dtype)
    return model.eval().requires_grad_(False)


def weights_of(card: ModelCard) -> Path:
    """Path of a named model's weights on this machine: a file, or a folder of the Hugging Face cache.

    Raises:
        CheckpointError: they do not.
    """
    if card.bundled:
        path = Path(__file__).parent / f"{card.name}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"this installation lacks the weights of {card.name}; install the package again")
        return path
    folder = cached_folder(card)
    if folder is None:
        raise CheckpointError(
            f"the weights of {card.name} are not on this machine; fetch them with: da3gs models download {card.name} "
            f"({card.licence}, {card.megabytes:,} MB), or pass a folder with its config.json and model.safetensors"
        )
    return folder


def build_model(
    config: ModelConfig | NestedConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A network whose parameters are these tensors (our names), not copies of them where device and precision agree.

    One tensor at a time is converted, and what it was converted from is let go.

    Raises:
        CheckpointError: names are missing or unknown, shapes are wrong, or values are not finite.
    """
    model = empty_model(config)
    shapes = tensors.shapes if isinstance(tensors, StoredTensors) else {n: tuple(t.shape) for n, t in tensors.items()}
    _compare(our_shapes(config), shapes, config.name, source)
    low = _matrices(model) if dtype != torch.float32 else frozenset[str]()
    kept = not low and torch.device(device).type == "cpu"
    state, broken = {}, []
    with tensors.together() if kept and isinstance(tensors, StoredTensors) else contextlib.nullcontext():
        for name in shapes:
            tensor = tensors[name]
            if tensor.dtype not in _PRECISIONS:
                raise CheckpointError(
                    f"{source} holds {tensor.dtype} in {_public(name)}; weights are floating-point numbers"
                )
            if not _finite(tensor):
                broken.append(_public(name))
                continue
            wanted = tensor.to(device=device, dtype=dtype if name in low else torch.float32)
            # where others are converted, views of the file would keep all of it in memory
            state[name] = wanted.clone() if not kept and wanted is tensor else wanted
    if broken:
        raise CheckpointError(f"{source} holds values that are not finite in {listed(broken)}; download it again")
    model.load_state_dict(state, assign=True)
    return model


def save_checkpoint(
    model: Network,
    path: Path | str,
    *,
    card: Mapping[str, Any] | ModelCard | None = None,
    dtype: torch.dtype | None = None,
    int8: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a network to one .safetensors file that ``load_model`` reads: our names, with the configuration beside.

    Args:
        model: its weights are written.
        path: the file.
        card: what to tell about the model; readable with ``checkpoint_card``.
        dtype: precision in the file; None keeps the weights' own.
        int8: the backbone's matrices in int8 with scales (``quantised``): little more than a quarter of float32.
        overwrite: replace an existing file.
    """
    told = dataclasses.asdict(card) if isinstance(card, ModelCard) else dict(card or {})
    metadata = {
        "format": QUANTISED_FORMAT if int8 else FORMAT,
        "config": json.dumps(config_to_dict(model.config), sort_keys=True),
        "card": json.dumps(told, sort_keys=True),
    }
    state: dict[str, Tensor] = {}
    low = _matrices(model) if int8 else frozenset[str]()
    for name, tensor in model.state_dict().items():
        if name in low:
            whole, scales = quantised(tensor.cpu())
            state[name], state[name + SCALES] = whole.contiguous(), scales
        else:
            state[name] = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        save_file(state, temporary, metadata=metadata)


def checkpoint_card(path: Path | str) -> dict[str, Any]:
    """Card of one of our files; empty for others.

    Raises:
        CheckpointError: the file is not readable.
    """
    metadata = StoredTensors([Path(path)]).metadata
    return json_object(metadata.get("card", "{}"), Path(path).name)


def _read(path: Path) -> tuple[ModelConfig | NestedConfig, StoredTensors]:
    """Configuration and tensors under our names."""
    folder = path if path.is_dir() else path.parent
    tensors = StoredTensors(folder_files(path) if path.is_dir() else [path])
    beside = official_config(folder) if path.is_dir() else None
    own = tensors.metadata.get("format", "")
    if own in (FORMAT, QUANTISED_FORMAT):
        try:
            return checked_config(config_from_dict(json_object(tensors.metadata.get("config", ""), path.name))), tensors
        except InputError as error:
            raise CheckpointError(f"{path.name} tells of no network: {error}; convert it again") from error
    if own.startswith("da3gs-"):
        raise CheckpointError(f"{path.name} has format {own[:20]!r}, newer than this da3gs; update da3gs")
    name = path.name or str(path)
    config = beside or official_config(folder) or guessed_config(tensors.shapes, path)
    return config, renamed(tensors, name)


def official_config(folder: Path) -> ModelConfig | NestedConfig | None:
    """The configuration that a folder's config.json names, if there is one; the rest of that file is not needed.

    Raises:
        CheckpointError: the file is broken, or names no known model.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    name = load_json(path).get("model_name")
    try:
        return named_config(str(name))
    except InputError as error:
        raise CheckpointError(f"{path.name} names no known model: {error}") from error


def guessed_config(shapes: Mapping[str, tuple[int, ...]], path: Path) -> ModelConfig | NestedConfig:
    """The official configuration with exactly these names and shapes.

    Where two models differ in nothing but their weights (da3mono-large and da3metric-large), the file's or its folder's
    name has to tell.

    Raises:
        CheckpointError: there is none, or nothing tells which.
    """
    found = {name.removeprefix(PUBLISHED_PREFIX): shape for name, shape in shapes.items()}
    fitting = [
        config
        for config in CONFIGS.values()
        if upstream_shapes(config, aliases=False).items() <= found.items() <= upstream_shapes(config).items()
    ]
    source = path.name or str(path)
    if len(fitting) > 1:
        words = " ".join(path.absolute().parts[-4:]).lower()
        fitting = [config for config in fitting if config.name.partition("-")[0] in words] or fitting
    if len(fitting) > 1:
        names = " and ".join(config.name for config in fitting)
        raise CheckpointError(
            f"{source} may be {names}, which have the same shapes; put the official config.json beside it"
        )
    if not fitting:
        raise CheckpointError(
            f"{source} has no config.json beside it and fits no known model; pass the official folder"
        )
    return fitting[0]


def our_names(upstream: Iterable[str], source: str) -> dict[str, str]:
    """The official names of the tensors of a file (with or without the published prefix) and ours; of tied ones only
    the stored name.

    Raises:
        CheckpointError: a name is unknown.
    """
    names = list(upstream)
    ours = {name: to_our_name(name.removeprefix(PUBLISHED_PREFIX)) for name in names}
    if unknown := [name for name, our in ours.items() if our is None]:
        raise CheckpointError(f"{source} has unknown parameters: {listed(unknown)}; is it a Depth Anything 3 model?")
    chosen: dict[str, str] = {}
    for name, our in ours.items():
        assert our is not None
        if our not in chosen or to_upstream_names(our)[0] == name.removeprefix(PUBLISHED_PREFIX):
            chosen[our] = name
    return {name: our for our, name in chosen.items()}


def renamed(tensors: StoredTensors, source: str) -> StoredTensors:
    """Official tensors under our names; of tied ones the stored name wins.

    Raises:
        CheckpointError: a name is unknown.
    """
    return tensors.renamed(our_names(tensors, source).get)


def _compare(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], model: str, source: str
) -> None:
    missing = [_public(name) for name in expected if name not in found]
    unknown = [_public(name) for name in found if name not in expected]
    misshapen = [
        f"{_public(name)} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("misshapen", misshapen))
    wrong = [f"{kind}: {listed(names)}" for kind, names in kinds if names]
    if wrong:
        raise CheckpointError(f"{source} does not fit {model}; {'; '.join(wrong)}; check that config and weights agree")


def _public(name: str) -> str:
    """The official name of one of ours, which is what a user can look up."""
    return (to_upstream_names(name) or [name])[0]


def listed(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _finite(tensor: Tensor) -> bool:
    """The extremes of a tensor are not finite exactly when one of its values is not; no copy is made for that."""
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _matrices(model: nn.Module) -> frozenset[str]:
    """The names of the backbones' matrices: what makes up nearly all of the weights and bears a lower precision."""
    names = []
    for prefix, module in model.named_modules():
        parts = prefix.split(".")
        if "backbone" in parts and isinstance(module, nn.Linear | nn.Conv2d):
            names.append(f"{prefix}.weight")
    return frozenset(names)
