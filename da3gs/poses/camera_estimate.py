"""Camera estimates: which photos are placed, where, and how well their features agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs.formats.cameras.colmap_model import ColmapCamera
from da3gs.formats.cameras.lens import Lens
from da3gs.photos import Placement
from da3gs.poses.features.database import position_of

FEWEST_INLIERS = 12
"""A photo that shows fewer points is not placed."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CameraEstimate:
    """Cameras of some of the photos in one world of unknown scale, OpenCV axes."""

    positions: tuple[int, ...]
    """Which photos are placed, ascending."""
    world_to_cam: Float[np.ndarray, "n 4 4"]
    """Their poses, float64."""
    lenses: tuple[Lens, ...]
    """Their lenses, in pixels of the working copies."""
    placements: tuple[Placement, ...]
    """How each was placed."""
    points: Float[np.ndarray, "N 3"]
    """Triangulated points, float64."""
    colors: UInt8[np.ndarray, "N 3"]
    """Their sRGB."""
    errors: Float[np.ndarray, " N"]
    """Their mean reprojection error in pixels."""
    seen: Bool[np.ndarray, "n N"]
    """Which of the placed photos show which point."""
    model: Any
    """The pycolmap ``Reconstruction`` that all this was read from; None where there is none."""
    one_spot: bool = False
    """Whether all photos were taken from one place, so that nothing tells depth."""

    def __len__(self) -> int:
        """How many photos are placed."""
        return len(self.positions)

    def only(self, positions: Sequence[int]) -> CameraEstimate:
        """Some of the photos, and the points that two of them show; itself if these are all."""
        if tuple(positions) == self.positions:
            return self
        model = type(self.model)(self.model)
        for image in list(model.images.values()):
            if image.has_pose and position_of(image.name) not in positions:
                model.deregister_frame(image.frame_id)
        placed = dict(zip(self.positions, self.placements, strict=True))
        return estimate_of(model, placed)

    @property
    def rank(self) -> tuple[int, int]:
        """Rank of an estimate: the better of two explains more features, then the one that places more photos."""
        return int(self.seen.sum()), len(self.positions)


def estimate_of(model: Any, placed: dict[int, Placement] | None = None) -> CameraEstimate:
    """The estimate that a pycolmap ``Reconstruction`` holds.

    Args:
        model: with points and tracks.
        placed: how photos were placed where it was not by structure-from-motion.
    """
    carried = [i for i in model.images.values() if i.has_pose and i.num_points3D >= FEWEST_INLIERS]
    images = sorted(carried, key=lambda i: position_of(i.name))
    number = {image.image_id: row for row, image in enumerate(images)}
    column = {point_id: j for j, point_id in enumerate(sorted(model.points3D))}
    points = [model.points3D[i] for i in column]
    seen = np.zeros((len(images), len(points)), bool)
    for j, point in enumerate(points):
        for element in point.track.elements:
            if element.image_id in number:
                seen[number[element.image_id], j] = True
    positions = np.array([p.xyz for p in points]).reshape(-1, 3)
    placements = []
    for image in images:
        count, error = _fit(model, image, positions, column)
        how = (placed or {}).get(position_of(image.name), Placement(placed="sfm")).placed
        placements.append(Placement(placed=how, inliers=count, reprojection_error=error))
    return CameraEstimate(
        positions=tuple(position_of(image.name) for image in images),
        world_to_cam=np.stack([pose_of(image) for image in images]) if images else np.zeros((0, 4, 4)),
        lenses=tuple(lens_of_camera(model.cameras[image.camera_id]) for image in images),
        placements=tuple(placements),
        points=positions,
        colors=np.array([p.color for p in points], np.uint8).reshape(-1, 3),
        errors=np.array([p.error for p in points]).reshape(-1),
        seen=seen,
        model=model,
    )


def pose_of(image: Any) -> Float[np.ndarray, "4 4"]:
    """World to camera of a pycolmap ``Image``."""
    pose = np.eye(4)
    pose[:3] = image.cam_from_world().matrix()
    return pose


def lens_of_camera(camera: Any) -> Lens:
    """The lens of a pycolmap ``Camera``."""
    return ColmapCamera(
        id=int(camera.camera_id), model=camera.model.name, width=int(camera.width), height=int(camera.height),
        params=tuple(float(p) for p in camera.params),
    ).lens()  # fmt: skip


def _fit(model: Any, image: Any, points: np.ndarray, column: dict[int, int]) -> tuple[int, float | None]:
    """How many features show a point, and how far on average from where it projects."""
    shown = [p for p in image.points2D if p.has_point3D()]
    if not shown:
        return 0, None
    pose = pose_of(image)
    world = points[[column[p.point3D_id] for p in shown]]
    local = world @ pose[:3, :3].T + pose[:3, 3]
    pixels = np.asarray(model.cameras[image.camera_id].img_from_cam(local))
    away = np.linalg.norm(pixels - np.array([p.xy for p in shown]), axis=1)
    return len(shown), round(float(away.mean()), 3)
