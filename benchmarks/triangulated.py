"""Splats from points that COLMAP triangulates in photos with known cameras: how 3D Gaussian Splatting begins."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.photos.records import Photo

_NEIGHBOURS = 3
_OPACITY = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """Triangulated points."""

    positions: Float[np.ndarray, "N 3"]
    colors: UInt8[np.ndarray, "N 3"]
    seen: list[list[int]]
    """For every point the photos in which it was found."""


def triangulated(photos: Sequence[Photo], cameras: Cameras) -> Points:
    """What COLMAP triangulates from the photos at their full size, cameras fixed; exhaustive matching.

    Args:
        photos: with intrinsics of their own size.
        cameras: whose poses count, a row a photo.
    """
    pycolmap.logging.minloglevel = 3
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        model = pycolmap.Reconstruction()
        with pycolmap.Database.open(folder / "database.db") as database:
            for number, photo in enumerate(photos, start=1):
                _added(database, model, number, photo, cameras, folder / "images")
        device = pycolmap.Device.cpu
        pycolmap.extract_features(folder / "database.db", folder / "images", device=device)
        pycolmap.match_exhaustive(folder / "database.db", device=device)
        found = pycolmap.triangulate_points(model, folder / "database.db", folder / "images", folder / "out")
        points = list(found.points3D.values())
        return Points(
            positions=np.array([point.xyz for point in points]).reshape(-1, 3),
            colors=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
            seen=[sorted({element.image_id - 1 for element in point.track.elements}) for point in points],
        )


def _added(
    database: Any, model: pycolmap.Reconstruction, number: int, photo: Photo, cameras: Cameras, images: Path
) -> None:
    """A photo with its own camera, in the database and in the model, under the same numbers."""
    name = f"{number:05d}.png"
    original = photo.read()
    assert original.intrinsics is not None
    Image.fromarray(original.image).save(images / name)
    k = original.intrinsics
    camera = pycolmap.Camera(
        camera_id=number, model="PINHOLE", width=original.image.shape[1], height=original.image.shape[0],
        params=[k[0, 0], k[1, 1], k[0, 2], k[1, 2]], has_prior_focal_length=True,
    )  # fmt: skip
    database.write_camera(camera, use_camera_id=True)
    image = pycolmap.Image(image_id=number, name=name, camera_id=number)
    database.write_image(image, use_image_id=True)
    model.add_camera_with_trivial_rig(camera)
    matrix = cameras.world_to_cam[number - 1, :3].double().numpy()
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))


def splats_from_points(points: Points, *, harmonics: int = 1) -> Gaussians:
    """Round splats as large as the root mean square distance of the three nearest neighbours, opacity 0.1."""
    means = torch.from_numpy(points.positions).float()
    distances = torch.cdist(means, means).topk(min(_NEIGHBOURS + 1, len(means)), largest=False).values[:, 1:]
    sizes = distances.square().mean(-1).sqrt().clamp(min=1e-7)
    colors = torch.zeros(len(means), harmonics, 3)
    colors[:, 0] = (torch.from_numpy(points.colors).float() / 255 - 0.5) / C0
    return Gaussians(
        means=means,
        scales=sizes[:, None].expand(-1, 3).clone(),
        quaternions=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        opacities=torch.full((len(means),), _OPACITY),
        harmonics=colors,
    )
