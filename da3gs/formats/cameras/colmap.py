"""COLMAP's sparse models: ``cameras``, ``images`` and ``points3D``, as ``.bin`` or ``.txt``.

COLMAP's conventions are ours: world-to-camera transforms with OpenCV axes, quaternions wxyz, pixel centres at
+0.5. Files of newer versions beside them (``rigs``, ``frames``) say nothing more about single cameras and are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from da3gs.errors import InputError
from da3gs.formats.cameras import _colmap_binary, _colmap_text
from da3gs.formats.cameras.colmap_model import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from da3gs.geometry.rotations import matrix_to_quaternion

PARTS = ("cameras", "images", "points3D")
"""The files of a model, without ``.bin`` or ``.txt``."""


def is_colmap(folder: Path) -> bool:
    """Whether a folder holds the files of a model: cameras and images, both binary or both text."""
    return _suffix(folder) is not None


def _suffix(folder: Path) -> str | None:
    """``.bin`` or ``.txt``; binary ones win where both are there."""
    for suffix in (".bin", ".txt"):
        if all((folder / f"{name}{suffix}").is_file() for name in PARTS[:2]):
            return suffix
    return None


def find_colmap(folder: Path) -> Path | None:
    """The folder with the model files: ``sparse/0``, ``sparse`` or the folder itself; None where there are none."""
    return next((p for p in (folder / "sparse" / "0", folder / "sparse", folder) if is_colmap(p)), None)


def colmap_files(folder: Path) -> tuple[Path, ...]:
    """The files of the model in a folder that are read."""
    suffix = _suffix(folder)
    return () if suffix is None else tuple(p for n in PARTS if (p := folder / f"{n}{suffix}").is_file())


def load_colmap(folder: Path, *, features: bool = True) -> ColmapModel:
    """Read a model from the folder that holds its files; binary ones win where both are there.

    Args:
        folder: where they are.
        features: whether to read the images' features too, by far the most of a model.

    Raises:
        InputError: files are missing, cut short, not finite or contradict one another.
    """
    paths = {path.stem: path for path in colmap_files(folder)}
    if not paths:
        raise InputError(f"{folder.name} holds no COLMAP model; cameras.bin and images.bin (or .txt) are needed")
    module = _module(paths["cameras"].suffix)
    cameras, images = module.read_cameras(paths["cameras"]), module.read_images(paths["images"], features=features)
    points = module.read_points(paths["points3D"]) if "points3D" in paths else no_points()
    _check(cameras, images, points)
    return ColmapModel(cameras=tuple(cameras), images=tuple(images), points=points)


def image_names(folder: Path) -> list[str]:
    """The pictures that a model has cameras for, without reading the rest.

    Raises:
        InputError: there is no model, or its images cannot be read.
    """
    suffix = _suffix(folder)
    if suffix is None:
        raise InputError(f"{folder.name} holds no COLMAP model; cameras.bin and images.bin (or .txt) are needed")
    return [i.name for i in _module(suffix).read_images(folder / f"images{suffix}", features=False)]


def _module(suffix: str) -> Any:
    return _colmap_binary if suffix == ".bin" else _colmap_text


def save_colmap(model: ColmapModel, folder: Path, *, binary: bool = True) -> None:
    """Write ``cameras``, ``images`` and ``points3D`` into an existing folder."""
    suffix = ".bin" if binary else ".txt"
    module = _module(suffix)
    (folder / f"cameras{suffix}").write_bytes(b"".join(module.written_cameras(model.cameras)))
    (folder / f"images{suffix}").write_bytes(b"".join(module.written_images(model.images)))
    (folder / f"points3D{suffix}").write_bytes(b"".join(module.written_points(model.points)))


def no_points() -> ColmapPoints:
    """The points of a model that has none."""
    return ColmapPoints(
        ids=np.zeros(0, np.int64),
        positions=np.zeros((0, 3)),
        colors=np.zeros((0, 3), np.uint8),
        errors=np.zeros(0),
        track_lengths=np.zeros(0, np.int64),
        tracks=np.zeros((0, 2), np.int64),
    )


def pinhole_model(
    names: Sequence[str],
    *,
    world_to_cam: Float[np.ndarray, "V 4 4"],
    intrinsics: Float[np.ndarray, "V 3 3"],
    sizes: Sequence[tuple[int, int]],
    positions: Float[np.ndarray, "N 3"] | None = None,
    colors: UInt8[np.ndarray, "N 3"] | None = None,
) -> ColmapModel:
    """A model of pinhole cameras, one camera for all images that share it, with points that have no tracks.

    Args:
        names: file names of the pictures.
        world_to_cam: rigid poses, OpenCV axes.
        intrinsics: in pixels; skew cannot be stored and has to be 0.
        sizes: (height, width) of each picture.
        positions: points in the world.
        colors: their sRGB colours.
    """
    cameras: dict[tuple[float, ...], ColmapCamera] = {}
    images = []
    quaternions = matrix_to_quaternion(torch.from_numpy(world_to_cam[:, :3, :3]).double()).tolist()
    for i, name in enumerate(names):
        k, (height, width) = intrinsics[i], sizes[i]
        params = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
        camera = cameras.setdefault(
            (*params, height, width),
            ColmapCamera(id=len(cameras) + 1, model="PINHOLE", width=width, height=height, params=params),
        )
        w, x, y, z = quaternions[i]
        tx, ty, tz = (float(t) for t in world_to_cam[i, :3, 3])
        images.append(
            ColmapImage(
                id=i + 1,
                rotation=(w, x, y, z),
                translation=(tx, ty, tz),
                camera_id=camera.id,
                name=name,
                keypoints=np.zeros((0, 2)),
                point_ids=np.zeros(0, np.int64),
            )
        )
    points = no_points()
    if positions is not None:
        count = len(positions)
        points = ColmapPoints(
            ids=np.arange(1, count + 1),
            positions=positions.astype(np.float64),
            colors=np.full((count, 3), 128, np.uint8) if colors is None else colors,
            errors=np.full(count, -1.0),
            track_lengths=np.zeros(count, np.int64),
            tracks=np.zeros((0, 2), np.int64),
        )
    return ColmapModel(cameras=tuple(cameras.values()), images=tuple(images), points=points)


def _check(cameras: Sequence[ColmapCamera], images: Sequence[ColmapImage], points: ColmapPoints) -> None:
    ids = {c.id for c in cameras}
    if len(ids) < len(cameras):
        raise InputError("the COLMAP model has two cameras with the same number; export it again")
    if not images:
        raise InputError("the COLMAP model has no registered images; a model with at least one is needed")
    names: set[str] = set()
    for problem in _problems(images, ids, names):
        raise InputError(f"the COLMAP model's images: {problem}; export it again")
    if not np.isfinite(points.positions).all():
        raise InputError("the COLMAP model has points that are not finite; export it again")


def _problems(images: Sequence[ColmapImage], camera_ids: set[int], names: set[str]) -> Iterator[str]:
    for image in images:
        shown = image.name[:80].encode("ascii", "replace").decode() if not image.name.isprintable() else image.name[:80]
        norm = math.hypot(*image.rotation)
        if image.camera_id not in camera_ids:
            yield f"{shown} refers to camera {image.camera_id}, which is not there"
        if not np.isfinite((*image.rotation, *image.translation)).all():
            yield f"{shown} has a pose that is not finite"
        elif abs(norm - 1) > 1e-3:
            yield f"{shown} has a quaternion of length {norm:.4g} in place of 1"
        if image.name in names:
            yield f"{shown} stands there twice"
        names.add(image.name)
