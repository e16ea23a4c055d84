"""Records of COLMAP's sparse models: cameras, images with their poses, points."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, lens_of, panorama_lens
from da3gs.geometry.rotations import quaternion_to_matrix

MODELS = {
    "SIMPLE_PINHOLE": (0, 3), "PINHOLE": (1, 4), "SIMPLE_RADIAL": (2, 4), "RADIAL": (3, 5), "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8), "FULL_OPENCV": (6, 12), "FOV": (7, 5), "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5), "THIN_PRISM_FISHEYE": (10, 12), "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
    "SIMPLE_DIVISION": (12, 4), "DIVISION": (13, 5), "SIMPLE_FISHEYE": (14, 3), "FISHEYE": (15, 4), "EUCM": (16, 6),
    "EQUIRECTANGULAR": (17, 2),
}  # fmt: skip
"""COLMAP's camera models: number in binary files, count of parameters."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ColmapCamera:
    """One line of ``cameras``."""

    id: int
    """Number that images refer to."""
    model: str
    """A key of ``MODELS``."""
    width: int
    """Width of its pictures in pixels."""
    height: int
    """Height of its pictures in pixels."""
    params: tuple[float, ...]
    """As many as the model has."""

    def lens(self, *, wide: bool = False) -> Lens:
        """The camera as a pinhole with distortion, or with ``wide`` as a fisheye lens too.

        Raises:
            InputError: a model without such a form, or numbers that make no sense.
        """
        p = self.params
        if wide and (found := self._wide_lens()) is not None:
            return found
        distortion: tuple[float, ...]
        match self.model:
            case "SIMPLE_PINHOLE":
                fx, fy, cx, cy, distortion = p[0], p[0], p[1], p[2], ()
            case "SIMPLE_RADIAL":
                fx, fy, cx, cy, distortion = p[0], p[0], p[1], p[2], (p[3], 0.0, 0.0, 0.0)
            case "RADIAL":
                fx, fy, cx, cy, distortion = p[0], p[0], p[1], p[2], (p[3], p[4], 0.0, 0.0)
            case "PINHOLE" | "OPENCV" | "FULL_OPENCV":
                fx, fy, cx, cy, *rest = p
                distortion = tuple(rest)
            case _:
                raise InputError(
                    f"the COLMAP camera model {self.model} is not supported yet; "
                    "run `colmap image_undistorter` and give its result"
                )
        return lens_of(fx=fx, fy=fy, cx=cx, cy=cy, height=self.height, width=self.width, distortion=distortion)

    def _wide_lens(self) -> Lens | None:
        """The camera where it is a fisheye lens or a panorama."""
        match self.model:
            case "EQUIRECTANGULAR":
                return panorama_lens(self.height, self.width)
            case "SIMPLE_FISHEYE" | "SIMPLE_RADIAL_FISHEYE" | "RADIAL_FISHEYE":
                fx, fy, cx, cy, *rest = (self.params[0], *self.params)
            case "FISHEYE" | "OPENCV_FISHEYE":
                fx, fy, cx, cy, *rest = self.params
            case "THIN_PRISM_FISHEYE":
                fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1 = self.params
                rest = [k1, k2, k3, k4, p1, p2, sx1, sy1]
            case _:
                return None
        distortion = (*rest, *[0.0] * (4 - len(rest)))
        return lens_of(
            fx=fx, fy=fy, cx=cx, cy=cy, height=self.height, width=self.width, distortion=distortion,
            projection="fisheye",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColmapImage:
    """Two lines of ``images``."""

    id: int
    """Number that tracks refer to."""
    rotation: tuple[float, float, float, float]
    """World to camera, unit quaternion wxyz."""
    translation: tuple[float, float, float]
    """World to camera."""
    camera_id: int
    """Its camera."""
    name: str
    """Path of the picture, relative to the folder of pictures."""
    keypoints: Float[np.ndarray, "K 2"]
    """Pixel positions (u, v) of its features."""
    point_ids: Int[np.ndarray, " K"]
    """The 3D point that each feature shows, -1 for none."""

    def world_to_cam(self) -> Float[np.ndarray, "4 4"]:
        """The pose in float64."""
        pose = np.eye(4)
        pose[:3, :3] = quaternion_to_matrix(torch.tensor(self.rotation, dtype=torch.float64)).numpy()
        pose[:3, 3] = self.translation
        return pose


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColmapPoints:
    """``points3D``, a row a point."""

    ids: Int[np.ndarray, " N"]
    """Numbers that features refer to."""
    positions: Float[np.ndarray, "N 3"]
    """World coordinates."""
    colors: UInt8[np.ndarray, "N 3"]
    """sRGB."""
    errors: Float[np.ndarray, " N"]
    """Mean reprojection error in pixels, -1 where unknown."""
    track_lengths: Int[np.ndarray, " N"]
    """How many features show each point."""
    tracks: Int[np.ndarray, "T 2"]
    """(image number, feature index) of those features, point after point."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColmapModel:
    """A sparse model."""

    cameras: tuple[ColmapCamera, ...]
    """In the file's order."""
    images: tuple[ColmapImage, ...]
    """In the file's order; each refers to a camera that is there."""
    points: ColmapPoints
    """Possibly none."""

    def camera_of(self, image: ColmapImage) -> ColmapCamera:
        """The camera that took an image."""
        return next(c for c in self.cameras if c.id == image.camera_id)
