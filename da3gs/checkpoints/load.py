"""Weights from disk into networks, and back.

Files are mapped into memory and become the parameters themselves, so that loading needs no second copy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from da3gs._files import atomic_file
from da3gs.checkpoints.convert import (
    PUBLISHED_PREFIX,
    empty_model,
    our_shapes,
    to_our_name,
    to_upstream_names,
    upstream_shapes,
)
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

FORMAT = "da3gs-1"
"""What our own files call themselves in their metadata."""
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""Suffixes of files that can run code when they are read."""
_SHOWN = 4  # names listed in an error before it says how many more there are


def load_model(
    name_or_path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Network:
    """The network of this name or file, in eval mode.

    Args:
        name_or_path: the name of a model that comes with the package, one of our .safetensors files, an official
            model.safetensors, or a folder in the official layout (config.json beside model.safetensors, whole or in
            shards).
        device: where the network shall run.
        dtype: precision of the backbone's matrices; with bfloat16 or float16 it runs under autocast. Heads, norms and
            the residual stream stay in float32, since depth is an exponential.

    Raises:
        CheckpointError: the weights are missing, broken, or not those of a known network.
    """
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
    """Where the weights of a named model lie on this machine.

    Raises:
        CheckpointError: they do not.
    """
    if card.bundled:
        path = Path(__file__).parent / f"{card.name}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"this installation lacks the weights of {card.name}; install the package again")
        return path
    raise CheckpointError(
        f"the weights of {card.name} are not on this machine; download https://huggingface.co/{card.repository} "
        "and pass the folder"
    )


def build_model(
    config: ModelConfig | NestedConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A network whose parameters are these tensors (our names), not copies of them where device and precision agree.

    Raises:
        CheckpointError: names are missing or unknown, shapes are wrong, or values are not finite.
    """
    model = empty_model(config)
    expected = our_shapes(config)
    _compare(expected, {name: tuple(t.shape) for name, t in tensors.items()}, config.name, source)
    _refuse_nonfinite(tensors, source)
    low = _matrices(model) if dtype != torch.float32 else frozenset[str]()
    state = {n: t.to(device=device, dtype=dtype if n in low else torch.float32) for n, t in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model


def save_checkpoint(
    model: Network,
    path: Path | str,
    *,
    card: Mapping[str, Any] | ModelCard | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a network to one .safetensors file that ``load_model`` reads: our names, with the configuration beside.

    Args:
        model: its weights are written.
        path: the file.
        card: what to tell about the model; readable with ``checkpoint_card``.
        dtype: precision in the file; None keeps the weights' own.
        overwrite: replace an existing file.
    """
    told = dataclasses.asdict(card) if isinstance(card, ModelCard) else dict(card or {})
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config_to_dict(model.config), sort_keys=True),
        "card": json.dumps(told, sort_keys=True),
    }
    state = {n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in model.state_dict().items()}
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        save_file(state, temporary, metadata=metadata)


def checkpoint_card(path: Path | str) -> dict[str, Any]:
    """What one of our files tells about itself; empty for others.

    Raises:
        CheckpointError: the file is not readable.
    """
    _, metadata = _read_file(Path(path), tensors=False)
    return dict(_json(metadata.get("card", "{}"), Path(path).name))


def _read(path: Path) -> tuple[ModelConfig | NestedConfig, dict[str, Tensor]]:
    """Configuration and tensors under our names."""
    if path.is_dir():
        return _read_folder(path)
    tensors, metadata = _read_file(path)
    if metadata.get("format") == FORMAT:
        try:
            return config_from_dict(_json(metadata.get("config", ""), path.name)), tensors
        except InputError as error:
            raise CheckpointError(f"{path.name}: {error}") from error
    if "format" in metadata and metadata["format"].startswith("da3gs-"):
        raise CheckpointError(f"{path.name} has format {metadata['format']!r}, newer than this da3gs; update da3gs")
    beside = path.parent / "config.json"
    config = _official_config(beside) if beside.is_file() else _guessed_config(tensors, path.name)
    return config, _renamed(tensors, path.name)


def _read_folder(folder: Path) -> tuple[ModelConfig | NestedConfig, dict[str, Tensor]]:
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        shards = _json(index.read_text(encoding="utf-8-sig"), index.name).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) and s == Path(s).name for s in shards.values()):
            raise CheckpointError(f"{index.name} has no valid weight_map; download the folder again")
        files = [folder / shard for shard in sorted(set(shards.values()))]
    elif whole.is_file():
        files = [whole]
    else:
        for file in sorted(folder.iterdir()):
            _refuse_pickled(file)
        raise CheckpointError(f"{folder.name} holds no model.safetensors; pass a folder in the Hugging Face layout")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(_read_file(file)[0])
    beside = folder / "config.json"
    config = _official_config(beside) if beside.is_file() else _guessed_config(tensors, folder.name)
    return config, _renamed(tensors, folder.name)


def _read_file(path: Path, *, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    _refuse_pickled(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name} is not a .safetensors file; weights are read from those only")
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing; download the folder again")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()} if tensors else {}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read ({line}); download or convert it again") from error


def _refuse_pickled(path: Path) -> None:
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path.name} is a pickled file, which may run code when read; convert it safely with: "
            f"da3gs models convert {path.name} -o {path.stem}.safetensors"
        )


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{name} holds broken JSON ({error}); download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{name} holds {type(values).__name__} where an object is expected; download it again")
    return values


def _official_config(path: Path) -> ModelConfig | NestedConfig:
    """The configuration that an official config.json names; the rest of that file is not needed."""
    name = _json(path.read_text(encoding="utf-8-sig"), path.name).get("model_name")
    try:
        return named_config(str(name))
    except InputError as error:
        raise CheckpointError(f"{path.name} names no known model: {error}") from error


def _guessed_config(tensors: Mapping[str, Tensor], source: str) -> ModelConfig | NestedConfig:
    """The official configuration with exactly these names and shapes."""
    found = {name.removeprefix(PUBLISHED_PREFIX): tuple(t.shape) for name, t in tensors.items()}
    for config in CONFIGS.values():
        if upstream_shapes(config, aliases=False).items() <= found.items() <= upstream_shapes(config).items():
            return config
    raise CheckpointError(f"{source} has no config.json beside it and fits no known model; pass the official folder")


def _renamed(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Official tensors under our names; of tied ones the stored name wins."""
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        inner = name.removeprefix(PUBLISHED_PREFIX)
        ours = to_our_name(inner)
        if ours is None:
            unknown.append(name)
        elif ours not in renamed or to_upstream_names(ours)[0] == inner:
            renamed[ours] = tensor
    if unknown:
        raise CheckpointError(f"{source} has unknown parameters: {_listed(unknown)}; is it a Depth Anything 3 model?")
    return renamed


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
    wrong = [f"{kind}: {_listed(names)}" for kind, names in kinds if names]
    if wrong:
        raise CheckpointError(f"{source} does not fit {model}; {'; '.join(wrong)}; check that config and weights agree")


def _public(name: str) -> str:
    """The official name of one of ours, which is what a user can look up."""
    return (to_upstream_names(name) or [name])[0]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refuse_nonfinite(tensors: Mapping[str, Tensor], source: str) -> None:
    """The extremes of a tensor are not finite exactly when one of its values is not; no copy is made for that."""
    broken = [
        _public(name) for name, t in tensors.items() if t.numel() and not torch.stack(torch.aminmax(t)).isfinite().all()
    ]
    if broken:
        raise CheckpointError(f"{source} holds values that are not finite in {_listed(broken)}; download it again")


def _matrices(model: nn.Module) -> frozenset[str]:
    """The names of the backbones' matrices: what makes up nearly all of the weights and bears a lower precision."""
    names = []
    for prefix, module in model.named_modules():
        parts = prefix.split(".")
        if "backbone" in parts and isinstance(module, nn.Linear | nn.Conv2d):
            names.append(f"{prefix}.weight")
    return frozenset(names)
