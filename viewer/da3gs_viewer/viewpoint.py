"""Viewpoints: a photo's camera, or a place outside where there is none."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix, slerp

if TYPE_CHECKING:
    from da3gs.scene import Scene

SNAP = math.cos(math.radians(15))
"""The mean of the photos' up sides becomes a world axis when it is this near to it (cosine)."""

MAX_SAMPLES = 1_000_000
"""So many splats tell how large a scene is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Viewpoint:
    """One place to stand."""

    position: Float[ndarray, "3"]
    """Camera centre."""
    wxyz: Float[ndarray, "4"]
    """Camera-to-world rotation, OpenCV axes."""
    distance: float
    """How far ahead the point lies that the camera turns round, above 0."""
    fov: float
    """Vertical field of view, radians."""
    aspect: float
    """Width over height of the picture."""

    @property
    def look_at(self) -> Float[ndarray, "3"]:
        """The point that the camera turns round."""
        forward = quaternion_to_matrix(torch.as_tensor(self.wxyz))[:, 2].numpy()
        return self.position + self.distance * forward

    def fitted(self, aspect: float) -> float:
        """The vertical field of view at which a window of this aspect shows the whole picture."""
        if aspect <= 0 or aspect >= self.aspect:
            return self.fov
        return 2 * math.atan(math.tan(self.fov / 2) * self.aspect / aspect)


def photo_viewpoint(cameras: Cameras, index: int, size: tuple[int, int], means: Float[Tensor, "N 3"]) -> Viewpoint:
    """Viewpoint at which the photo at ``index`` was taken, looking as far as the median splat in the middle of it.

    Args:
        size: height and width of the photo itself on the canvas.
        means: of the splats.
    """
    camera = cameras[index].to(device="cpu", dtype=torch.float64)
    height, width = size
    local = means.cpu().double() @ camera.world_to_cam[:3, :3].T + camera.world_to_cam[:3, 3]
    ahead = local[:, 2] > 1e-6
    middle = ahead & (local[:, :2].norm(dim=-1) < 0.3 * local[:, 2])
    seen = local[middle if bool(middle.any()) else ahead, 2]
    distance = float(seen.median()) if len(seen) else 1.0
    return Viewpoint(
        position=camera.centers.numpy(),
        wxyz=matrix_to_quaternion(camera.cam_to_world[:3, :3]).numpy(),
        distance=max(distance, 1e-6),
        fov=2 * math.atan(height / (2 * float(camera.intrinsics[1, 1]))),
        aspect=width / height,
    )


def outside_viewpoint(gaussians: Gaussians, up: Float[ndarray, "3"]) -> Viewpoint:
    """In front of a splat without cameras, far enough to see nine tenths of it."""
    means = gaussians.means[:: 1 + len(gaussians) // MAX_SAMPLES].cpu().double()
    low, high = means.quantile(0.05, 0), means.quantile(0.95, 0)
    center, radius = (low + high) / 2, max(float((high - low).norm()) / 2, 1e-6)
    fov = math.radians(50)
    distance = 1.2 * radius / math.sin(fov / 2)
    eye = center - distance * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    world_to_cam = look_at(eye, center, torch.as_tensor(up).double())
    return Viewpoint(
        position=eye.numpy(),
        wxyz=matrix_to_quaternion(world_to_cam[:3, :3].T).numpy(),
        distance=distance,
        fov=fov,
        aspect=1.0,
    )


def up_direction(scene: Scene | None, stated: tuple[float, float, float] = (0.0, -1.0, 0.0)) -> Float[ndarray, "3"]:
    """The direction up: -y in our own frames; with given poses the mean of the photos' up sides.

    Args:
        scene: None for a bare file.
        stated: what that file says.
    """
    down_is_y = np.array([0.0, -1.0, 0.0])
    if scene is None:
        return np.array(stated)
    if scene.frame.get("up") != "given":
        return down_is_y
    mean = -scene.cameras.world_to_cam[..., 1, :3].reshape(-1, 3).double().cpu().mean(0).numpy()
    length = float(np.linalg.norm(mean))
    if length < 1e-3:
        return down_is_y
    mean = mean / length
    axis = int(np.abs(mean).argmax())
    if abs(mean[axis]) > SNAP:
        return np.sign(mean[axis]) * np.eye(3)[axis]
    return mean


def between(start: Viewpoint, end: Viewpoint, t: float) -> tuple[ndarray, ndarray]:
    """Position and rotation on the way, t from 0 to 1, slow at both ends."""
    eased = t * t * (3 - 2 * t)
    turn = slerp(torch.as_tensor(start.wxyz), torch.as_tensor(end.wxyz), torch.tensor(eased, dtype=torch.float64))
    return start.position + eased * (end.position - start.position), turn.numpy()
