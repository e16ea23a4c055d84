"""Camera paths in and out: nerfstudio and nerfview, Inria's cameras.json, transforms.json, COLMAP, SuperSplat.

What a file is, its content says, never its name. Files of photos' cameras (Inria, transforms.json, COLMAP) are read as
one frame a camera, in the file's order (COLMAP: in natural name order).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import numpy as np
import torch

from da3gs._files import atomic_file, atomic_folder, open_regular
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import find_colmap, load_colmap, pinhole_model, save_colmap
from da3gs.formats.cameras.inria import InriaCameras, save_inria, to_inria
from da3gs.formats.cameras.nerfstudio import nerfstudio_content, to_nerfstudio_path
from da3gs.formats.cameras.supersplat import supersplat_content, to_supersplat_path
from da3gs.formats.cameras.transforms import load_transforms, transforms_content
from da3gs.formats.jsonfile import load_json
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import orthonormalized
from da3gs.keyframes import MAX_FRAMES, CameraPath, stated_frames

PathFormat = Literal["nerfstudio", "inria", "transforms", "colmap", "supersplat"]
"""A camera-path format; colmap is a folder, the others are JSON files."""

PATH_FORMATS: tuple[PathFormat, ...] = get_args(PathFormat)


def path_format(path: Path | str) -> PathFormat:
    """Format of a file or folder by its content.

    Raises:
        InputError: none of them, or it cannot be read.
    """
    return _opened(Path(path))[0]


def load_camera_path(path: Path | str, *, size: tuple[int, int] = (1080, 1920)) -> CameraPath:
    """Read a camera path of any format, told by its content.

    Cameras of other sizes than the file's first one are brought to its size: scaled to fill it, the rest cut on both
    sides alike. Lens distortion is left out.

    Args:
        size: height and width of the pictures where the file does not say.

    Raises:
        InputError: the file is missing, broken, of no known format, or holds no camera.
    """
    path = Path(path)
    kind, content = _opened(path)
    match kind:
        case "nerfstudio":
            return to_nerfstudio_path(content, path.name, size=size)
        case "supersplat":
            return to_supersplat_path(content, path.name, size=size)
        case "inria":
            inria = to_inria(content, path.name)
            return _photo_path(inria.world_to_cam, inria.intrinsics, inria.sizes, path.name)
        case "transforms":
            return _from_transforms(path / "transforms.json" if path.is_dir() else path, size)
        case "colmap":
            return _from_colmap(path)
        case other:
            assert_never(other)


def save_camera_path(
    camera_path: CameraPath | Cameras, path: Path | str, *, format: PathFormat, overwrite: bool = False
) -> None:
    """Write a camera path, or cameras as the frames of one.

    ``nerfstudio`` and ``supersplat`` keep keyframes, times and loop; the former every frame too. The other formats get
    one camera a frame, with all intrinsics but skew. nerfstudio's pixels are square and its principal point is the
    middle; so are SuperSplat's, whose cameras do not roll either.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or the format is unknown.
    """
    path = Path(path)
    if isinstance(camera_path, Cameras):
        camera_path = stated_frames(camera_path)
    match format:
        case "nerfstudio":
            _save_json(nerfstudio_content(camera_path), path, overwrite)
        case "supersplat":
            _save_json(supersplat_content(camera_path), path, overwrite)
        case "inria" | "transforms" | "colmap":
            _save_photo_cameras(camera_path.cameras(), path, format, overwrite)
        case _:
            raise InputError(f"camera paths are not written as {format!r}; choose one of {', '.join(PATH_FORMATS)}")


def _opened(path: Path) -> tuple[PathFormat, Any]:
    if path.is_dir():
        if find_colmap(path) is not None:
            return "colmap", None
        if (path / "transforms.json").is_file():
            return "transforms", None
        raise InputError(f"the folder {path.name} holds no COLMAP model and no transforms.json; it is no camera path")
    with open_regular(path):
        pass
    content = load_json(path)
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        if all("rotation" in entry and "position" in entry for entry in content):
            return "inria", content
    elif isinstance(content, dict):
        if isinstance(content.get("keyframes"), dict) or "animTracks" in content:
            return "supersplat", content
        if "camera_path" in content or "keyframes" in content:
            return "nerfstudio", content
        if "frames" in content:
            return "transforms", content
        if isinstance(content.get("cameras"), list) or isinstance(content.get("camera"), dict):
            return "supersplat", content
    raise InputError(
        f"{path.name} is no camera path that da3gs knows; give one of nerfstudio, Inria (cameras.json), "
        "transforms.json, COLMAP (a folder) or SuperSplat (settings.json)"
    )


def _photo_path(
    world_to_cam: torch.Tensor, intrinsics: torch.Tensor, sizes: tuple[tuple[int, int], ...], name: str
) -> CameraPath:
    """One frame a camera, all of the first one's size."""
    if len(sizes) > MAX_FRAMES:
        raise InputError(f"{name} has {len(sizes)} cameras; at most {MAX_FRAMES} frames are drawn")
    height, width = sizes[0]
    poses = world_to_cam.double().clone()
    poses[:, :3, :3] = orthonormalized(poses[:, :3, :3])
    lenses = intrinsics.double().clone()
    for index, (h, w) in enumerate(sizes):
        scale = max(width / w, height / h)
        lenses[index, :2] *= scale
        lenses[index, 0, 2] += (width - w * scale) / 2
        lenses[index, 1, 2] += (height - h * scale) / 2
    return stated_frames(Cameras(world_to_cam=poses, intrinsics=lenses, height=height, width=width))


def _from_transforms(path: Path, size: tuple[int, int]) -> CameraPath:
    frames = load_transforms(path).frames
    lenses = [frame.lens(*size) for frame in frames]
    poses = torch.from_numpy(np.stack([frame.cam_to_world for frame in frames]))
    intrinsics = torch.from_numpy(np.stack([lens.intrinsics for lens in lenses]))
    sizes = tuple((lens.height, lens.width) for lens in lenses)
    return _photo_path(rigid_inverse(poses), intrinsics, sizes, path.name)


def _from_colmap(folder: Path) -> CameraPath:
    place = find_colmap(folder)
    assert place is not None
    model = load_colmap(place)
    lenses = {camera.id: camera.lens() for camera in model.cameras}
    images = sorted(model.images, key=lambda image: _natural(image.name))
    poses = torch.from_numpy(np.stack([image.world_to_cam() for image in images]))
    used = [lenses[image.camera_id] for image in images]
    intrinsics = torch.from_numpy(np.stack([lens.intrinsics for lens in used]))
    return _photo_path(poses, intrinsics, tuple((lens.height, lens.width) for lens in used), folder.name)


def _natural(name: str) -> list[tuple[int, int, str]]:
    pieces = re.split(r"([0-9]+)", name)
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in pieces]


def _save_photo_cameras(
    cameras: Cameras, path: Path, format: Literal["inria", "transforms", "colmap"], overwrite: bool
) -> None:
    cameras = cameras.detach().to("cpu", torch.float64)
    count = len(cameras)
    names, sizes = [f"frame_{i:05d}.png" for i in range(count)], [(cameras.height, cameras.width)] * count
    intrinsics = cameras.intrinsics.numpy()
    if format == "inria":
        record = InriaCameras(
            names=tuple(names), sizes=tuple(sizes), world_to_cam=cameras.world_to_cam, intrinsics=cameras.intrinsics
        )
        save_inria(record, path, overwrite=overwrite)
    elif format == "transforms":
        poses = rigid_inverse(cameras.world_to_cam).numpy()
        _save_json(transforms_content(names, cam_to_world=poses, intrinsics=intrinsics, sizes=sizes), path, overwrite)
    else:
        model = pinhole_model(names, world_to_cam=cameras.world_to_cam.numpy(), intrinsics=intrinsics, sizes=sizes)
        _check_model_folder(path)
        with atomic_folder(path, overwrite=overwrite) as folder:
            place = folder / "sparse" / "0"
            place.mkdir(parents=True)
            save_colmap(model, place)


def _check_model_folder(path: Path) -> None:
    """Only a folder with nothing but a model in it may be replaced."""
    if path.is_dir() and not path.is_symlink():
        strangers = [entry.name for entry in path.iterdir() if entry.name != "sparse"]
        if strangers:
            raise InputError(f"{path.name} holds more than a COLMAP model ({strangers[0]}); choose another name")
    elif path.exists() or path.is_symlink():
        raise InputError(f"{path.name} exists already and is no folder of a COLMAP model; choose another name")


def _save_json(content: dict[str, Any], path: Path, overwrite: bool) -> None:
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
