"""Weights of LPIPS: where they are found, that they are the right ones, or why there is no number."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from da3gs.errors import InputError
from da3gs.metrics.lpips import Lpips, TrunkName, trunk_of, trunk_shapes
from da3gs.photos.naming import shown

FILES = ("vgg16-397923af.pth", "lpips_vgg16.safetensors")
"""What is looked for in torch's cache of downloads: torchvision's file, or its convolutions alone."""
DIGESTS: dict[TrunkName, str] = {
    "vgg16": "c904448ba069dd03d996c5be4fd923bc391f87f5af0dd6d1dae7010481fe74bf",
    "alexnet": "b58cb12516261361a1ed14f3b70c0abad70c1ca4c1c75e1aa576654d3759aa06",
}
"""``tensor_digest`` of the convolutions that torchvision trained on ImageNet (IMAGENET1K_V1)."""
_HEADS: dict[TrunkName, str] = {"vgg16": "vgg.pth", "alexnet": "alex.pth"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FoundTrunk:
    """A trunk that can be used."""

    file: Path
    """Its file."""
    name: TrunkName
    """Which network it is."""


def find_trunk(path: str | None) -> tuple[FoundTrunk | None, str | None]:
    """The trunk, or the reason why LPIPS cannot be computed.

    Args:
        path: the file that the user names, .pth or .safetensors, of VGG-16 or of AlexNet; None looks for VGG-16 in
            torch's cache of downloads, where torchvision puts it.

    Raises:
        InputError: a file that was named is missing or another one.
    """
    if path is not None:
        file = Path(path)
        if not file.is_file():
            raise InputError(f"--lpips-trunk {shown(str(file))} does not exist; give torchvision's {FILES[0]}")
        name, problem = _identified(file)
        if problem is not None:
            raise InputError(f"--lpips-trunk: {problem}; values with other weights mean nothing")
    else:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        there = [folder / name for name in FILES if (folder / name).is_file()]
        if not there:
            where = "put it there or name it with --lpips-trunk"
            return None, f"no VGG-16 trunk in torch's cache, neither {' nor '.join(FILES)}; {where}"
        file = there[0]
        name, problem = _identified(file)
        if problem is not None:
            return None, problem
    assert name is not None
    if _heads_file(name) is None:
        return None, "the package lpips, which brings the linear heads, is not installed: pip install 'da3gs[eval]'"
    return FoundTrunk(file=file, name=name), None


def _identified(file: Path) -> tuple[TrunkName | None, str | None]:
    """Which trunk a file holds, or what is wrong with it."""
    try:
        tensors = _weights(file)
    except InputError as error:
        return None, str(error)
    name = trunk_of({key: tuple(value.shape) for key, value in tensors.items()})
    if name is None:
        return None, f"{shown(file.name)} holds the convolutions of neither VGG-16 nor AlexNet (features.0.weight ...)"
    if tensor_digest(tensors, name) != DIGESTS[name]:
        return None, f"{shown(file.name)} is not torchvision's {name} (the SHA-256 of its tensors is another)"
    return name, None


def tensor_digest(tensors: Mapping[str, Tensor], name: TrunkName) -> str:
    """SHA-256 of a trunk's convolutions whatever file they come from: names, shapes and float32 values, in order."""
    total = hashlib.sha256()
    for key, shape in trunk_shapes(name).items():
        total.update(f"{key} {shape}\n".encode())
        total.update(tensors[key].float().contiguous().numpy().astype("<f4").tobytes())
    return total.hexdigest()


@functools.lru_cache(maxsize=2)
def load_lpips(trunk: Path) -> Lpips:
    """The metric with the weights of a trunk that ``find_trunk`` found, read without unpickling code.

    Raises:
        InputError: a file is damaged.
    """
    tensors = _weights(trunk)
    name = trunk_of({key: tuple(value.shape) for key, value in tensors.items()})
    heads = None if name is None else _heads_file(name)
    if name is None or heads is None:
        raise InputError(f"{trunk.name} does not fit LPIPS, or the package lpips with its heads is gone")
    try:
        return Lpips(tensors, _weights(heads), name=name)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{trunk.name} does not fit LPIPS ({' '.join(str(error).split())[:100]})") from error


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    except (MemoryError, KeyboardInterrupt):
        raise
    except (Exception, safetensors.SafetensorError) as error:  # the unpickler fails in many ways
        raise InputError(f"{shown(path.name)} cannot be read as weights; fetch it again") from error


def _heads_file(name: TrunkName) -> Path | None:
    """``lpips/weights/v0.1/vgg.pth``; the package is not imported, since it would import torchvision."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        return None
    file = Path(os.path.dirname(spec.origin)) / "weights" / "v0.1" / _HEADS[name]
    return file if file.is_file() else None
