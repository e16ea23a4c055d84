"""Weights of any kind to one .safetensors file of ours, old pickled ones too, without running what they hold."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from da3gs._files import sha256
from da3gs.checkpoints.convert import PUBLISHED_PREFIX
from da3gs.checkpoints.load import (
    Network,
    build_model,
    checkpoint_card,
    guessed_config,
    load_model,
    official_config,
    our_names,
    save_checkpoint,
)
from da3gs.checkpoints.stored import PICKLED
from da3gs.checkpoints.zoo import MODELS, ModelCard
from da3gs.errors import CheckpointError, InputError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "module")
_PREFIXES = ("module.", "_orig_mod.")
_SAFE = (2, 10)  # earlier torch has holes in weights_only
_DEEPEST = 4


def convert_checkpoint(
    source: Path | str, output: Path | str, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write weights as one of our files, and return what became of it: model, licence, parameters, file.

    Args:
        source: a folder in the official layout, a .safetensors file, or a pickled file (.pt, .pth, .bin, .ckpt), which
            is read with ``weights_only``: tensors and plain containers, never code.
        output: a .safetensors file.
        dtype: precision in the file; None keeps the weights' own.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: the weights are broken, unsafe, or not those of a known network.
    """
    source, output = Path(source), Path(output)
    if output.suffix != ".safetensors":
        raise InputError(f"{output.name} is not named .safetensors; name the output so")
    if output.exists() and not overwrite:
        raise InputError(f"{output.name} exists already; choose another name or pass --overwrite")
    if not source.exists():
        raise InputError(f"{source} does not exist; name a folder or file with weights")
    if output.exists() and output.resolve() == source.resolve():
        raise InputError(f"{output.name} is the input itself; choose another output")
    pickled = _pickled_file(source)
    model = load_model(source) if pickled is None else load_pickled(pickled)
    card = card_of_weights(model, source)
    save_checkpoint(model, output, card=card, dtype=dtype, overwrite=overwrite)
    return {
        "file": str(output),
        "name": card.get("name"),
        "licence": card.get("licence"),
        "commercial": card.get("commercial"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": round(output.stat().st_size / 1e6, 1),
        "sha256": sha256(output),
    }


def card_of_weights(model: Network, source: Path) -> dict[str, Any]:
    """Card of a converted file: the source's own card, else the card of the model that it is."""
    if source.is_file() and source.suffix == ".safetensors" and (told := checkpoint_card(source)):
        return told
    card = named_card(source, model.config.name)
    if card is None:
        return {"name": model.config.name, "licence": "unknown", "commercial": False}
    return {name: value for name, value in dataclasses.asdict(card).items() if name not in ("revision", "sha256")}


def named_card(source: Path, config: str) -> ModelCard | None:
    """The card of official weights of a configuration: the one that the folder is named after, else the first one.

    >>> named_card(Path("weights/DA3-LARGE-1.1"), "da3-large").name
    'da3-large-1.1'
    """
    fitting = [card for card in MODELS.values() if card.config == config]
    words = [part.lower().rpartition("--")[2] for part in source.absolute().parts[-4:]]
    named = [card for card in fitting if card.name in words]
    return next(iter(named or fitting), None)


def _pickled_file(source: Path) -> Path | None:
    """The pickled file that is meant, if one is."""
    if source.is_dir():
        if any(source.glob("*.safetensors")):
            return None
        found = sorted(path for path in source.iterdir() if path.suffix in PICKLED and path.is_file())
        if len(found) > 1:
            raise CheckpointError(f"{source.name} holds {len(found)} pickled files; name one of them")
        return found[0] if found else None
    return source if source.suffix in PICKLED else None


def load_pickled(path: Path) -> Network:
    """The network in a pickled file, in eval mode.

    Raises:
        CheckpointError: the file holds anything but tensors in plain containers, or not those of a known network.
    """
    tensors = pickled_tensors(path)
    config = official_config(path.parent) or guessed_config(_shapes(tensors), path)
    names = our_names(tensors, path.name)
    return build_model(config, {our: tensors[name] for name, our in names.items()}, source=path.name).eval()


def pickled_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a pickled file, read without running what the file holds.

    Raises:
        CheckpointError: it holds anything but tensors in plain containers.
    """
    return _state(_unpickled(path), path.name)


def _unpickled(path: Path) -> object:
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < _SAFE:
        raise CheckpointError(f"reading {path.name} safely needs torch 2.10 or newer, this is {torch.__version__}")
    if not path.is_file():
        raise CheckpointError(f"{path.name} is not a regular file; name a file with weights")
    zipped = zipfile.is_zipfile(path)
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                packed = [item.filename for item in archive.infolist() if item.compress_type != zipfile.ZIP_STORED]
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise CheckpointError(f"{path.name} is damaged or cut short; get it again") from error
        if packed:
            raise CheckpointError(f"{path.name} holds compressed members, which torch never writes; do not trust it")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} holds more than tensors in plain containers, so it may run code; get the weights as "
            ".safetensors, or save only model.state_dict()"
        ) from error
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # damaged files raise anything: EOFError, RuntimeError, KeyError, struct.error ...
        line = " ".join(str(error).split())[:80] or type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read ({line}); get it again") from error


def _state(loaded: object, name: str) -> dict[str, Tensor]:
    """The state dict within what was saved, without the wrappers of training programs."""
    for _ in range(_DEEPEST):
        if not isinstance(loaded, Mapping):
            break
        tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
        if tensors:
            return _bare(tensors, name)
        loaded = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
    raise CheckpointError(f"{name} holds no tensors by name; is it a state dict of a model?")


def _bare(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{source}: {name[:80]} is no plain tensor; save a state dict of dense tensors")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    published = f"{PUBLISHED_PREFIX}{PUBLISHED_PREFIX}"
    return {name.replace(published, PUBLISHED_PREFIX, 1): tensor for name, tensor in tensors.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def verify_checkpoint(source: Path | str) -> dict[str, Any]:
    """Make sure that weights are complete: names, shapes, finite values; returns what they are, with SHA-256.

    Args:
        source: a folder in the official layout, or a .safetensors file.

    Raises:
        CheckpointError: they are not; the message says what is wrong.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source} does not exist; name a folder or file with weights")
    from da3gs.checkpoints.stored import folder_files

    files = folder_files(source) if source.is_dir() else [source]
    model = load_model(source)
    sums = {file.name: sha256(file) for file in files}
    card = named_card(source, model.config.name)
    blobs = {file.name: file.resolve().name for file in files if len(file.resolve().name) == 64}
    for name, stated in blobs.items():
        if sums[name] != stated:
            raise CheckpointError(f"{name} has SHA-256 {sums[name][:9]}..., not {stated[:9]}...; download it again")
    known = card.sha256 if card is not None else None
    told = card_of_weights(model, source)
    return {
        "file": str(source),
        "name": told.get("name"),
        "licence": told.get("licence"),
        "commercial": told.get("commercial"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tensors": len(model.state_dict()),
        "sha256": sums,
        "official": None if known is None or len(sums) > 1 else known in sums.values(),
    }
