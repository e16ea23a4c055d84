"""Reader of the scene folder, which trusts nothing in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from da3gs._files import FORMAT_VERSION, SCENE_FORMAT, open_regular
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.arrays import load_arrays
from da3gs.formats.cameras.lens import Lens
from da3gs.formats.cameras.transforms import Frame, load_transforms
from da3gs.formats.finite import finite_rows
from da3gs.formats.jsonfile import load_json
from da3gs.formats.splats.ply import load_ply
from da3gs.geometry.projection import rigid_inverse
from da3gs.scene import Provenance, Scene, SceneRecord
from da3gs.views import Views

_MAX_VIEWS = 32767
_MAX_SIDE = 65536


def read_scene(path: Path) -> Scene:
    """The scene in a folder."""
    record = read_record(path)
    stored = dataclasses.replace(load_ply(path / "scene.ply"), antialiased=record.get("antialiased") is True)
    keep, notes = finite_rows(stored, "scene.ply")
    photos = _photos(path)
    sizes = _used_sizes(record, photos)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    _triple(record, "vertical_axis")
    stated = _triple(record, "offset")
    offset = np.zeros(3) if stated is None else stated
    images, masks = _pictures(photos, sizes, height, width)
    poses = np.stack([photo.cam_to_world for photo in photos])
    moved = poses.copy()
    moved[:, :3, 3] -= offset
    cameras = Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(moved)).float(),
        intrinsics=torch.from_numpy(
            np.stack([_scaled(p.lens, size) for p, size in zip(photos, sizes, strict=True)])
        ).float(),
        height=height,
        width=width,
    )
    rows = _provenance(path, len(stored), len(photos))
    return Scene(
        gaussians=stored.masked(keep) if notes else stored,
        cameras=cameras,
        views=Views(images=images, names=tuple(photo.image.stem for photo in photos), masks=masks),
        record=record,
        provenance=rows.map(lambda column: column[keep]) if notes and rows is not None else rows,
        **_depth(path, len(photos), height, width),
        offset=(float(offset[0]), float(offset[1]), float(offset[2])),
        cam_to_world_given=poses,
        notes=notes,
    )


def read_record(path: Path) -> SceneRecord:
    """The content of a scene folder's scene.json.

    Raises:
        InputError: there is no such folder, or it is not a scene of a version that we read.
    """
    if not path.is_dir():
        raise InputError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}; name a scene folder")
    if not (path / "scene.json").exists():
        raise InputError(f"{path.name or path} is not a scene folder: it has no scene.json")
    record = _json(path / "scene.json")
    if not isinstance(record, dict) or record.get("format") != SCENE_FORMAT:
        raise InputError(f"{path.name or path} is not a scene folder: its scene.json is not of da3gs")
    version = record.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise InputError(f"scene.json has the format version {str(version)[:20]!r}; it should be a number from 1 up")
    if version > FORMAT_VERSION:
        raise InputError(
            f"scene.json has format version {version}, newer than this da3gs reads ({FORMAT_VERSION}); update"
        )
    return cast(SceneRecord, record)


def _json(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path.name} of the scene {'is not a file' if path.exists() else 'does not exist'}")
    return load_json(path)


def _triple(record: SceneRecord, key: Literal["vertical_axis", "offset"]) -> np.ndarray | None:
    """Three numbers of scene.json's ``frame``; None where it does not state them."""
    frame = record.get("frame", {})
    if not isinstance(frame, dict):
        raise InputError(f"scene.json: 'frame' should be an object, it is {str(frame)[:40]!r}")
    if key not in frame:
        return None
    try:
        array = np.array(frame[key], np.float64).reshape(3)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"scene.json: {key!r} should be three numbers, it is {str(frame[key])[:40]!a}") from error
    if not np.isfinite(array).all():
        raise InputError(f"scene.json: {key!r} is not finite")
    return array


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Photo:
    image: Path
    mask: Path | None
    lens: Lens
    cam_to_world: np.ndarray


def _photos(folder: Path) -> list[_Photo]:
    path = folder / "transforms.json"
    if not path.is_file():
        raise InputError(f"transforms.json of the scene {'is not a file' if path.exists() else 'does not exist'}")
    frames = load_transforms(path).frames
    if len(frames) > _MAX_VIEWS:
        raise InputError(f"transforms.json has {len(frames)} frames; a scene has at most {_MAX_VIEWS}")
    return [_photo(folder, frame) for frame in frames]


def _photo(folder: Path, frame: Frame) -> _Photo:
    if not {"w", "h", "fl_x", "fl_y", "cx", "cy"} <= frame.numbers.keys() or frame.distortion:
        raise InputError(
            f"transforms.json: {frame.file_path[:80]!a} lacks one of w, h, fl_x, fl_y, cx, cy, or is distorted"
        )
    lens = frame.lens(0, 0)
    if max(lens.height, lens.width) > _MAX_SIDE:
        raise InputError(
            f"transforms.json: {frame.file_path[:80]!a} is {lens.width}x{lens.height}, more than {_MAX_SIDE}"
        )
    return _Photo(
        image=_inside(folder, frame.file_path),
        mask=None if frame.mask_path is None else _inside(folder, frame.mask_path),
        lens=lens,
        cam_to_world=frame.cam_to_world,
    )


def _inside(folder: Path, name: str) -> Path:
    """A relative path of the scene, which may not lead out of it, not even by symbolic links."""
    path = folder / name
    if name.startswith("/") or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"transforms.json names {name[:80]!r}, which lies outside the scene folder")
    return path


def _used_sizes(record: SceneRecord, photos: list[_Photo]) -> list[tuple[int, int]]:
    """(height, width) at which each photo was used; scene.json tells it where the photos are kept at full size."""
    sizes = record.get("sizes")
    if sizes is None:
        return [(photo.lens.height, photo.lens.width) for photo in photos]
    try:
        found = [(int(h), int(w)) for h, w in sizes]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError("scene.json: sizes should be pairs of numbers") from error
    if len(found) != len(photos):
        raise InputError(
            f"scene.json has {len(found)} sizes, transforms.json {len(photos)} frames; they belong together"
        )
    for (height, width), photo in zip(found, photos, strict=True):
        if not (0 < height <= photo.lens.height and 0 < width <= photo.lens.width):
            raise InputError(f"scene.json: {photo.image.name} was used at {height}x{width}, larger than the picture")
    return found


def _scaled(lens: Lens, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics for the size in use, whose shape may differ a little: the network's sides are multiples of 14."""
    return lens.intrinsics * np.array([[size[1] / lens.width], [size[0] / lens.height], [1.0]])


def _pictures(
    photos: list[_Photo], sizes: list[tuple[int, int]], height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Photos on the canvas, and masks where some pixel is padding or unwanted."""
    images = torch.zeros(len(photos), 3, height, width)
    masks = torch.zeros(len(photos), height, width, dtype=torch.bool)
    for index, (photo, (h, w)) in enumerate(zip(photos, sizes, strict=True)):
        pixels = _picture(photo.image, photo.lens, (h, w), "RGB")
        images[index, :, :h, :w] = torch.from_numpy(pixels).movedim(-1, 0) / 255
        wanted = True if photo.mask is None else _picture(photo.mask, photo.lens, (h, w), "L") >= 128
        masks[index, :h, :w] = torch.as_tensor(wanted)
    return images, None if bool(masks.all()) else masks


def _picture(path: Path, lens: Lens, size: tuple[int, int], mode: str) -> np.ndarray:
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG", "JPEG")) as picture:
            if picture.size != (lens.width, lens.height):
                have, said = f"{picture.width}x{picture.height}", f"{lens.width}x{lens.height}"
                raise InputError(f"{path.name} is {have} pixels large; transforms.json says {said}")
            pixels = picture.convert(mode)
            if pixels.size != (size[1], size[0]):
                filtering = Image.Resampling.BOX if mode == "RGB" else Image.Resampling.NEAREST
                pixels = pixels.resize((size[1], size[0]), filtering)
            return np.array(pixels)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path.name} of the scene cannot be read: it is neither PNG nor JPEG") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
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
