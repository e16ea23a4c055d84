"""The frame of given poses: kept near the origin while a scene is made, and told to the caller as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float

from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import orthonormalized
from da3gs.photos import LoadedPhotos
from da3gs.scene import far_offset
from da3gs.views import Views


def near_origin(photos: LoadedPhotos) -> tuple[Views, tuple[float, float, float]]:
    """The views with given cameras moved, in float64, to where float32 can hold the scene; and what was subtracted."""
    views, poses = photos.views, photos.cam_to_world_given
    if views.cameras is None or poses is None:
        return views, (0.0, 0.0, 0.0)
    cam_to_world = torch.from_numpy(poses).clone()
    cam_to_world[:, :3, :3] = orthonormalized(cam_to_world[:, :3, :3])
    offset = far_offset(dataclasses.replace(views.cameras, world_to_cam=rigid_inverse(cam_to_world)))
    if not offset.any():
        return views, (0.0, 0.0, 0.0)
    cam_to_world[:, :3, 3] -= offset
    cameras = dataclasses.replace(views.cameras, world_to_cam=rigid_inverse(cam_to_world).float())
    x, y, z = offset.tolist()
    return dataclasses.replace(views, cameras=cameras), (x, y, z)


def resized_poses(cam_to_world: Float[np.ndarray, "V 4 4"], factor: float) -> Float[np.ndarray, "V 4 4"]:
    """Poses in a world whose lengths are multiplied by a factor."""
    resized = cam_to_world.copy()
    resized[:, :3, 3] *= factor
    return resized
