"""Where LPIPS gets its weights from, or why there is no number."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import torch

from da3gs._files import sha256
from da3gs.errors import InputError
from da3gs.metrics.lpips import Lpips
from da3gs.photos.naming import shown

TRUNK = "vgg16-397923af.pth"
"""torchvision's ImageNet weights; the name ends in the beginning of the file's SHA-256."""
TRUNK_SHA256 = "397923af"


def find_trunk(path: str | None) -> tuple[Path | None, str | None]:
    """The trunk's file, or the reason why LPIPS cannot be computed.

    Args:
        path: the file that the user names; None looks into torch's cache of downloads, where torchvision puts it.

    Raises:
        InputError: a file that was named is missing or another one.
    """
    named = path is not None
    file = Path(path) if path is not None else Path(torch.hub.get_dir()) / "checkpoints" / TRUNK
    if not file.is_file():
        if named:
            raise InputError(f"--lpips-trunk {shown(str(file))} does not exist; give torchvision's {TRUNK}")
        return None, f"no VGG-16 trunk in torch's cache; put torchvision's {TRUNK} there or name it with --lpips-trunk"
    if not sha256(file).startswith(TRUNK_SHA256):
        problem = f"{shown(file.name)} is not torchvision's {TRUNK} (its SHA-256 begins otherwise)"
        if named:
            raise InputError(f"--lpips-trunk: {problem}; values with other weights mean nothing")
        return None, problem
    if _heads_file() is None:
        return None, "the package lpips, which brings the linear heads, is not installed: pip install 'da3gs[eval]'"
    return file, None


@functools.lru_cache(maxsize=1)
def load_lpips(trunk: Path) -> Lpips:
    """The metric with its weights, read without unpickling code.

    Raises:
        InputError: a file is damaged.
    """
    heads = _heads_file()
    assert heads is not None
    try:
        return Lpips(_weights(trunk), _weights(heads))
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{trunk.name} does not fit LPIPS ({' '.join(str(error).split())[:100]})") from error


def _weights(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in many ways
        raise InputError(f"{path.name} cannot be read as weights; fetch it again") from error


def _heads_file() -> Path | None:
    """``lpips/weights/v0.1/vgg.pth``; the package is not imported, since it would import torchvision."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        return None
    file = Path(os.path.dirname(spec.origin)) / "weights" / "v0.1" / "vgg.pth"
    return file if file.is_file() else None
