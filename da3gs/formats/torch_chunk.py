"""DL3DV's ``.torch`` chunks (pixelSplat's format): scenes as a pickled list, opened without running what it holds.

A chunk is a list of dictionaries ``key``, ``url``, ``timestamps`` (int64, the number in each picture's file name),
``cameras`` (N × 18: fx/w, fy/h, cx/w, cy/h, 0, 0, and world-to-camera 3×4 row by row) and ``images`` (encoded bytes as
uint8 tensors, in the order of the timestamps). Only tensors in plain containers are read (``weights_only``), from zip
archives that compress nothing, of at most 2 GB; tensors are mapped, so that a scene is read when it is looked at.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from da3gs.errors import InputError

SCENE_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
"""What the name of a scene looks like; it may become a file's name."""

_LARGEST = 2 << 30
_LARGEST_PICKLE = 64 << 20
_SAFE = (2, 10)  # earlier torch has holes in weights_only
_MOST_SCENES, _MOST_FRAMES, _LARGEST_PHOTO = 100_000, 100_000, 256 << 20


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ChunkScene:
    """One scene of a chunk."""

    key: str
    """Its name."""
    timestamps: Int64[np.ndarray, " N"]
    """The number in each picture's file name."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """In units of the picture: the first row divided by its width, the second by its height."""
    world_to_cam: Float[np.ndarray, "N 4 4"]
    """OpenCV axes, float64, as stored; not checked to be rigid."""
    images: Sequence[Tensor]
    """Encoded bytes, mapped."""


def load_chunk(path: Path) -> list[ChunkScene]:
    """The scenes of a chunk; kinds, shapes and names are checked, pictures are not decoded.

    Raises:
        InputError: it is not such a file, is too large or packed, or holds more than tensors in plain containers.
    """
    loaded = _unpickled(path)
    if not isinstance(loaded, list) or not 0 < len(loaded) <= _MOST_SCENES:
        raise InputError(f"{path.name} holds no list of scenes; give a DL3DV chunk")
    return [_scene(entry, f"{path.name}, scene {index}") for index, entry in enumerate(loaded)]


def _unpickled(path: Path) -> object:
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < _SAFE:
        raise InputError(f"reading {path.name} safely needs torch 2.10 or newer, this is {torch.__version__}")
    if not path.is_file():
        raise InputError(f"{path.name} is not a regular file; give a DL3DV chunk")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path.name} is {path.stat().st_size / 1e9:.1f} GB; chunks of at most 2 GB are read")
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path.name} holds more than tensors in plain containers, so it may run code") from error
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # damaged files raise anything: EOFError, RuntimeError, KeyError, struct.error ...
        line = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(f"{path.name} cannot be read ({line}); get it again") from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path.name} is not a file that torch wrote, or is cut short; get it again") from error
    if any(item.compress_type != zipfile.ZIP_STORED or item.file_size != item.compress_size for item in members):
        raise InputError(f"{path.name} holds compressed members, which torch never writes; do not trust it")
    if sum(item.file_size for item in members) > path.stat().st_size:
        raise InputError(f"{path.name} claims to hold more than it is long; do not trust it")
    if any(item.filename.endswith(".pkl") and item.file_size > _LARGEST_PICKLE for item in members):
        raise InputError(f"{path.name} has an index of more than 64 MB; that is no DL3DV chunk")


def _scene(entry: object, where: str) -> ChunkScene:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no dictionary; give a DL3DV chunk")
    missing = [name for name in ("key", "timestamps", "cameras", "images") if name not in entry]
    if missing:
        raise InputError(f"{where} has no {missing[0]!r}; give a DL3DV chunk")
    key, images = entry["key"], entry["images"]
    if not isinstance(key, str) or not SCENE_KEY.fullmatch(key):
        raise InputError(f"{where} is called {ascii(key)[:60]}; names are letters, digits, '.', '_' and '-', up to 128")
    stamps = _plain(entry["timestamps"], f"{where}: timestamps")
    cameras = _plain(entry["cameras"], f"{where}: cameras")
    count = stamps.shape[0] if stamps.ndim == 1 else 0
    if stamps.dtype != torch.int64 or not 0 < count <= _MOST_FRAMES:
        raise InputError(f"{where}: timestamps are {stamps.dtype} of shape {tuple(stamps.shape)}, not int64 (N)")
    if cameras.shape != (count, 18) or cameras.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{where}: cameras are {cameras.dtype} of shape {tuple(cameras.shape)}, not float ({count}, 18)"
        )
    if not torch.isfinite(cameras).all():
        raise InputError(f"{where}: cameras hold numbers that are not finite")
    if not isinstance(images, list | tuple) or len(images) != count:
        raise InputError(f"{where}: there must be one image for each of {count} timestamps")
    for number, image in enumerate(images):
        _check_image(image, f"{where}: image {number}")
    numbers = cameras.double().numpy()
    intrinsics, world_to_cam = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = numbers[:, 0], numbers[:, 1]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = numbers[:, 2], numbers[:, 3]
    world_to_cam[:, :3] = numbers[:, 6:].reshape(count, 3, 4)
    return ChunkScene(
        key=key, timestamps=stamps.numpy().copy(), intrinsics=intrinsics, world_to_cam=world_to_cam, images=images
    )


def _plain(value: Any, where: str) -> Tensor:
    """A dense tensor that is as long in memory as its shape says (a stride of 0 could stand for any length)."""
    if type(value) is not Tensor or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise InputError(f"{where} is no plain tensor; give a DL3DV chunk")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise InputError(f"{where} is longer than what is stored; do not trust the file")
    return value.detach()


def _check_image(image: Any, where: str) -> None:
    image = _plain(image, where)
    if image.dtype != torch.uint8 or image.ndim != 1 or not 0 < image.numel() <= _LARGEST_PHOTO:
        raise InputError(f"{where} is {image.dtype} of shape {tuple(image.shape)}, not the bytes of a picture")
