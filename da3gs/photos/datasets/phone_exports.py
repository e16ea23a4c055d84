"""Exports of scanning apps with the cameras that the phone tracked: Polycam's raw data and Record3D's.

Both give camera-to-world poses with OpenGL axes in the phone's world (y up, metres), and pinhole intrinsics.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, lens_of
from da3gs.formats.cameras.transforms import FLIP, check_rigid, checked_number
from da3gs.formats.jsonfile import load_json
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.folders.survey import PHOTO_SUFFIXES
from da3gs.photos.naming import folded, natural_key, shown, unique_stems
from da3gs.photos.records import Dropped, Kind

POLYCAM = (("corrected_images", "corrected_cameras"), ("images", "cameras"))
"""Folders of photos and of their cameras; the corrected ones come first."""
RECORD3D_PHOTOS = ("rgb", "rgbd")
RECORD3D_CAMERAS = ("metadata.json", "metadata")

_Camera = tuple[Lens, Float[np.ndarray, "4 4"]]


def polycam_photos(keyframes: Path) -> Collection:
    """The photos of Polycam's ``keyframes`` folder with the cameras of the JSON files beside them.

    Raises:
        InputError: a camera makes no sense.
    """
    pictures, cameras = next(
        (keyframes / p, keyframes / c) for p, c in POLYCAM if (keyframes / p).is_dir() and (keyframes / c).is_dir()
    )
    files = {folded(p.stem): p for p in cameras.iterdir() if p.suffix.lower() == ".json"}
    read: set[str] = set()

    def camera(photo: Path, where: str) -> _Camera | None:
        """By the file of the photo's name."""
        path = files.get(folded(photo.stem))
        if path is None:
            return None
        read.add(f"{cameras.name}/{path.name}")
        return _polycam_camera(load_json(path), where)

    return _collection("polycam", keyframes, pictures, camera, read)


def _polycam_camera(content: Any, where: str) -> _Camera:
    keys = [f"t_{row}{column}" for row in range(3) for column in range(4)]
    names = ("fx", "fy", "cx", "cy", "width", "height")
    if not isinstance(content, dict) or any(key not in content for key in (*keys, *names)):
        raise InputError(f"{where} has a camera that is no Polycam one; export the raw data again")
    matrix = np.eye(4)
    matrix[:3] = np.reshape([checked_number(content[key], f"{where}: {key}") for key in keys], (3, 4))
    fx, fy, cx, cy, width, height = (checked_number(content[name], f"{where}: {name}") for name in names)
    return lens_of(fx=fx, fy=fy, cx=cx, cy=cy, height=int(height), width=int(width)), _pose(matrix, where)


def record3d_photos(folder: Path) -> Collection:
    """The photos of a Record3D export (``rgb`` or ``rgbd`` beside ``metadata``) with its cameras.

    Raises:
        InputError: the metadata make no sense.
    """
    pictures = next(folder / name for name in RECORD3D_PHOTOS if (folder / name).is_dir())
    path = next(folder / name for name in RECORD3D_CAMERAS if (folder / name).is_file())
    content = load_json(path)
    where = shown(path.name)
    if not is_record3d(content):
        raise InputError(f"{where} has no 'K' and 'poses'; it is not Record3D's")
    poses, single = content["poses"], content.get("perFrameIntrinsicCoeffs")
    single = single if isinstance(single, list) and len(single) == len(poses) else None
    matrix = _numbers(content["K"], 9, f"{where}: K")
    width, height = (int(checked_number(content.get(key), f"{where}: {key}")) for key in ("w", "h"))

    def camera(photo: Path, place: str) -> _Camera | None:
        """By the number that the photo is called."""
        number = int(photo.stem) if photo.stem.isascii() and photo.stem.isdecimal() else -1
        if not 0 <= number < len(poses):
            return None
        values = [matrix[0], matrix[4], matrix[6], matrix[7]] if single is None else _numbers(single[number], 4, place)
        qx, qy, qz, qw, *position = _numbers(poses[number], 7, f"{place}: its pose")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _rotation(qw, qx, qy, qz, place), position
        fx, fy, cx, cy = values
        if abs(cx - height / 2) < abs(cx - width / 2) and abs(cy - width / 2) < abs(cy - height / 2):
            cx, cy = cy, cx  # told for the picture as the sensor lies
        return lens_of(fx=fx, fy=fy, cx=cx, cy=cy, height=height, width=width), _pose(pose, place)

    return _collection("record3d", folder, pictures, camera, {path.name})


def is_record3d(content: Any) -> bool:
    """Whether parsed metadata hold Record3D's cameras."""
    return isinstance(content, dict) and isinstance(content.get("poses"), list) and isinstance(content.get("K"), list)


def _numbers(value: Any, count: int, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise InputError(f"{where} must be {count} numbers")
    return [checked_number(number, where) for number in value]


def _rotation(w: float, x: float, y: float, z: float, where: str) -> Float[np.ndarray, "3 3"]:
    norm = float(np.linalg.norm((w, x, y, z)))
    if abs(norm - 1) > 1e-3:
        raise InputError(f"{where} has a quaternion of length {norm:.4g} in place of 1")
    import torch

    from da3gs.geometry.rotations import quaternion_to_matrix

    return quaternion_to_matrix(torch.tensor([w, x, y, z], dtype=torch.float64) / norm).numpy()


def _pose(matrix: Float[np.ndarray, "4 4"], where: str) -> Float[np.ndarray, "4 4"]:
    check_rigid(matrix, f"{where}: its pose")
    return matrix * FLIP


def _collection(
    kind: Kind,
    folder: Path,
    pictures: Path,
    camera: Callable[[Path, str], _Camera | None],
    read: set[str],
) -> Collection:
    """Photos of one folder, each with the camera that is found for it."""
    photos = sorted(
        (p for p in pictures.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES), key=lambda p: natural_key(p.name)
    )
    names = unique_stems(p.name for p in photos)
    candidates, dropped = [], []
    for index, photo in enumerate(photos):
        place = f"{pictures.name}/{photo.name}"
        found = camera(photo, shown(place))
        if found is None:
            dropped.append(Dropped(name=shown(place), reason="has no camera beside it"))
            continue
        lens, pose = found
        candidates.append(
            Candidate(index=index, name=names[index], path=photo, place=place, lens=lens, cam_to_world=pose)
        )
    title = shown(folder.resolve().name)
    return Collection(
        kind=kind, title=title, candidates=tuple(candidates), dropped=tuple(dropped), read=tuple(sorted(read)),
        listed=len(photos),
    )  # fmt: skip
