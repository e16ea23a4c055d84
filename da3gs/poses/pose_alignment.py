"""Pose alignment: depth and splats moved from the network's frame to that of given cameras."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.rotations import angle_between
from da3gs.geometry.similarity import Similarity
from da3gs.network.splats import moved_to_cameras
from da3gs.prediction import PoseResidual, Prediction


def similarity_between(source: Cameras, target: Cameras) -> Similarity:
    """The similarity that lays ``source`` cameras on ``target`` ones, told from centres and viewing axes alike.

    Rotation is the mean of the relative rotations, so that one camera, two, or cameras on a line are enough; scale is
    the ratio of the centres' spreads (1 where they coincide). With three well-spread cameras Umeyama's is the same up
    to noise.
    """
    a, b = source.cam_to_world.double(), target.cam_to_world.double()
    relative = (b[:, :3, :3] @ a[:, :3, :3].transpose(-1, -2)).sum(0)
    u, _, vt = torch.linalg.svd(relative)
    u = u * torch.tensor([1.0, 1.0, torch.det(u @ vt).sign().item()], dtype=u.dtype, device=u.device)
    rotation = u @ vt
    mean_a, mean_b = a[:, :3, 3].mean(0), b[:, :3, 3].mean(0)
    spread_a, spread_b = (a[:, :3, 3] - mean_a).norm(), (b[:, :3, 3] - mean_b).norm()
    known = (spread_a > 1e-9) & (spread_b > 1e-9)
    scale = torch.where(known, spread_b / spread_a.clamp(min=1e-12), torch.ones_like(spread_a))
    return Similarity(scale=scale, rotation=rotation, translation=mean_b - scale * (rotation @ mean_a))


def pose_residual(predicted: Cameras, given: Cameras) -> PoseResidual:
    """The residual between predicted and given cameras."""
    moved = predicted.transformed(similarity_between(predicted, given))
    angles = angle_between(moved.world_to_cam[:, :3, :3].double(), given.world_to_cam[:, :3, :3].double())
    extent = (given.centers - given.centers.mean(0)).norm(dim=-1).max().item()
    distance = (moved.centers - given.centers).norm(dim=-1).median().item()
    return PoseResidual(
        rotation_degrees=torch.rad2deg(angles.median()).item(), center=distance / extent if extent > 0 else 0.0
    )


def placed(prediction: Prediction, given: Cameras, scale: float | Float[Tensor, ""]) -> Prediction:
    """The prediction in the caller's frame: the given cameras as they are, depth and splats by one global scale.

    Each view's splats go from its predicted camera to its given one by that view's own similarity; their means are
    put on the rays of the given intrinsics at the same pixel. A focal length that differs keeps lateral size: depth
    is multiplied by ``f_given / f_predicted``, since ``z = f b / disparity``.

    Args:
        prediction: with cameras, in the network's frame.
        given: one camera a view, in the caller's frame.
        scale: caller's units a network unit.
    """
    cameras = prediction.cameras
    assert cameras is not None
    focal = given.intrinsics[:, (0, 1), (0, 1)].mean(-1) / cameras.intrinsics[:, (0, 1), (0, 1)].mean(-1)
    depth = prediction.depth * (scale * focal)[:, None, None]
    gaussians = prediction.gaussians
    if gaussians is not None:
        gaussians = moved_to_cameras(gaussians, cameras, given, scale=scale * focal)
    return dataclasses.replace(prediction, depth=depth, cameras=given, gaussians=gaussians)
