"""Reads the scene folder back, trusting nothing in it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from da3gs._files import SCENE_FORMAT, open_regular
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.arrays import load_arrays
from da3gs.formats.ply import load_ply
from da3gs.geometry.projection import rigid_inverse
from da3gs.scene import Provenance, Scene
from da3gs.views import Views

FORMAT_VERSION = 1
"""The newest format that this version reads."""

_MAX_JSON = 1 << 28
_MAX_VIEWS = 32767
_MAX_SIDE = 65536


def read_scene(path: Path) -> Scene:
    """The scene in a folder."""
    record = read_record(path)
    gaussians = load_ply(path / "scene.ply")
    frames = _frames(path)
    sizes = _used_sizes(record, frames)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    offset = read_offset(record)
    images, masks = _pictures(path, frames, sizes, height, width)
    poses = np.stack([frame.cam_to_world for frame in frames])
    moved = poses.copy()
    moved[:, :3, 3] -= offset
    cameras = Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(moved)).float(),
        intrinsics=torch.from_numpy(
            np.stack([_scaled(f, size) for f, size in zip(frames, sizes, strict=True)])
        ).float(),
        height=height,
        width=width,
    )
    return Scene(
        gaussians=gaussians,
        cameras=cameras,
        views=Views(images=images, names=tuple(frame.stem for frame in frames), masks=masks),
        record=record,
        provenance=_provenance(path, len(gaussians), len(frames)),
        **_depth(path, len(frames), height, width),
        offset=(float(offset[0]), float(offset[1]), float(offset[2])),
        cam_to_world_given=poses,
    )


def read_record(path: Path) -> dict[str, Any]:
    """The content of a scene folder's scene.json.

    Raises:
        InputError: there is no such folder, or it is not a scene of a version that we read.
    """
    if not path.is_dir():
        raise InputError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}; name a scene folder")
    if not (path / "scene.json").exists():
        raise InputError(f"{path.name or path} is not a scene folder: it has no scene.json")
    record = read_json(path / "scene.json")
    if not isinstance(record, dict) or record.get("format") != SCENE_FORMAT:
        raise InputError(f"{path.name or path} is not a scene folder: its scene.json is not of da3gs")
    version = record.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise InputError(f"scene.json has the format version {str(version)[:20]!r}; it should be a number from 1 up")
    if version > FORMAT_VERSION:
        raise InputError(
            f"scene.json has format version {version}, newer than this da3gs reads ({FORMAT_VERSION}); update"
        )
    return record


def read_json(path: Path) -> Any:
    """A JSON file, with or without a byte order mark, NaN and infinity refused.

    Raises:
        InputError: it is missing, too large, or not JSON.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not a number of JSON")

    with open_regular(path) as file:
        data = file.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise InputError(f"{path.name} is larger than {_MAX_JSON >> 20} MB; it is no {path.name} of a scene")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not JSON: {' '.join(str(error).split())[:100]}") from error


def read_offset(record: dict[str, Any]) -> np.ndarray:
    """The offset that scene.json states; zeros where it states none."""
    frame = record.get("frame")
    offset = frame.get("offset", [0, 0, 0]) if isinstance(frame, dict) else [0, 0, 0]
    try:
        array = np.array(offset, np.float64).reshape(3)
    except (ValueError, TypeError) as error:
        raise InputError(f"scene.json: the offset should be three numbers, it is {str(offset)[:40]}") from error
    if not np.isfinite(array).all():
        raise InputError("scene.json: the offset is not finite")
    return array


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    image: Path
    mask: Path | None
    height: int
    width: int
    intrinsics: np.ndarray
    cam_to_world: np.ndarray

    @property
    def stem(self) -> str:
        return self.image.stem


def _frames(folder: Path) -> list[_Frame]:
    record = read_json(folder / "transforms.json")
    entries = record.get("frames") if isinstance(record, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_VIEWS:
        raise InputError("transforms.json of the scene has no list of frames")
    return [_frame(folder, index, entry) for index, entry in enumerate(entries)]


def _frame(folder: Path, index: int, entry: Any) -> _Frame:
    try:
        height, width = int(entry["h"]), int(entry["w"])
        numbers = [float(entry[key]) for key in ("fl_x", "fl_y", "cx", "cy")]
        pose = np.array(entry["transform_matrix"], np.float64).reshape(4, 4)
        image = _inside(folder, entry["file_path"])
        mask = _inside(folder, entry["mask_path"]) if "mask_path" in entry else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"transforms.json: frame {index} is malformed ({type(error).__name__}: {reason})") from error
    if not (np.isfinite(pose).all() and all(map(math.isfinite, numbers))):
        raise InputError(f"transforms.json: frame {index} holds a number that is not finite")
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE and numbers[0] > 0 and numbers[1] > 0):
        raise InputError(f"transforms.json: frame {index} has a size or focal length out of range")
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise InputError(f"transforms.json: the matrix of frame {index} is not a rotation and a translation")
    fx, fy, cx, cy = numbers
    return _Frame(
        image=image,
        mask=mask,
        height=height,
        width=width,
        intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        cam_to_world=pose @ np.diag([1.0, -1.0, -1.0, 1.0]),
    )


def _inside(folder: Path, name: str) -> Path:
    """A relative path of the scene, which may not lead out of it, not even by symbolic links."""
    path = folder / name
    if PurePosixPath(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"transforms.json names {name[:80]!r}, which lies outside the scene folder")
    return path


def _used_sizes(record: dict[str, Any], frames: list[_Frame]) -> list[tuple[int, int]]:
    """(height, width) at which each photo was used; scene.json tells it where the photos are kept at full size."""
    sizes = record.get("sizes")
    if sizes is None:
        return [(frame.height, frame.width) for frame in frames]
    try:
        found = [(int(h), int(w)) for h, w in sizes]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError("scene.json: sizes should be pairs of numbers") from error
    if len(found) != len(frames):
        raise InputError(
            f"scene.json has {len(found)} sizes, transforms.json {len(frames)} frames; they belong together"
        )
    for (height, width), frame in zip(found, frames, strict=True):
        if not (0 < height <= frame.height and 0 < width <= frame.width):
            raise InputError(f"scene.json: {frame.image.name} was used at {height}x{width}, larger than the picture")
    return found


def _scaled(frame: _Frame, size: tuple[int, int]) -> np.ndarray:
    factors = np.array([size[1] / frame.width, size[0] / frame.height, 1.0])
    return frame.intrinsics * factors[:, None]


def _pictures(
    folder: Path, frames: list[_Frame], sizes: list[tuple[int, int]], height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Photos on the canvas, and masks where some pixel is padding or unwanted."""
    images = torch.zeros(len(frames), 3, height, width)
    masks = torch.zeros(len(frames), height, width, dtype=torch.bool)
    for index, (frame, (h, w)) in enumerate(zip(frames, sizes, strict=True)):
        photo = _picture(folder, frame.image, frame, (h, w), "RGB")
        images[index, :, :h, :w] = torch.from_numpy(photo).movedim(-1, 0) / 255
        wanted = True if frame.mask is None else _picture(folder, frame.mask, frame, (h, w), "L") >= 128
        masks[index, :h, :w] = torch.as_tensor(wanted)
    return images, None if bool(masks.all()) else masks


def _picture(folder: Path, path: Path, frame: _Frame, size: tuple[int, int], mode: str) -> np.ndarray:
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG", "JPEG")) as picture:
            if picture.size != (frame.width, frame.height):
                have, said = f"{picture.width}x{picture.height}", f"{frame.width}x{frame.height}"
                raise InputError(f"{path.name} is {have} pixels large; transforms.json says {said}")
            pixels = picture.convert(mode)
            if pixels.size != (size[1], size[0]):
                pixels = pixels.resize(
                    (size[1], size[0]), Image.Resampling.BOX if mode == "RGB" else Image.Resampling.NEAREST
                )
            return np.array(pixels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} of the scene cannot be read: {' '.join(str(error).split())[:100]}") from error


def _provenance(folder: Path, count: int, views: int) -> Provenance | None:
    path = folder / "splats.npz"
    if not path.exists():
        return None
    kinds = {"view": "i2", "pixel": "i4", "confidence": "f2", "edge": "f2", "sky": "?"}
    arrays = load_arrays(path, {name: (kind, (count,)) for name, kind in kinds.items()})
    if count and not (arrays["view"].min() >= -1 and arrays["view"].max() < views):
        raise InputError(f"splats.npz names a view that the scene does not have (it has {views})")
    return Provenance(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _depth(folder: Path, views: int, height: int, width: int) -> dict[str, torch.Tensor | None]:
    path = folder / "depth.npz"
    if not path.exists():
        return {"depth": None, "confidence": None, "sky": None}
    shape = (views, height, width)
    expected = {"depth": ("f4", shape), "confidence": ("f4", shape), "sky": ("?", shape)}
    arrays = load_arrays(path, expected, optional=frozenset(("confidence", "sky")))
    return {name: torch.from_numpy(arrays[name]) if name in arrays else None for name in expected}
