"""Cameras into tokens, and tokens into cameras.

A pose encoding is 9 numbers: translation (3) and quaternion (x, y, z, w) of camera to world, vertical and horizontal
field of view. The principal point is not encoded.
"""

from __future__ import annotations

import dataclasses
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.network.attention import Block
from da3gs.network.config import CameraConfig, PoseUnit
from da3gs.network.sizes import Sizes

_NO_DISTANCE = 1e-5  # of the distance from the origin: below lies float32's rounding, not a baseline


def encode_cameras(cameras: Cameras, sizes: Sizes | None = None) -> Float[Tensor, "*batch 9"]:
    """Pose encodings of cameras; ``sizes`` are the views' own where they are padded to one canvas."""
    cam_to_world = cameras.cam_to_world
    quaternion = matrix_to_quaternion(cam_to_world[..., :3, :3]).roll(-1, -1)  # wxyz to xyzw
    focal = cameras.intrinsics[..., (1, 0), (1, 0)]
    half_size = focal.new_tensor(sizes or (cameras.height, cameras.width)) / 2
    return torch.cat((cam_to_world[..., :3, 3], quaternion, 2 * torch.atan(half_size / focal)), -1)


def decode_cameras(encoding: Float[Tensor, "*batch 9"], height: int, width: int, sizes: Sizes | None = None) -> Cameras:
    """The cameras of pose encodings for images of this size, principal point in the middle.

    ``sizes`` are the views' own where they are padded to one canvas.
    """
    translation, quaternion, fov = encoding.split((3, 4, 2), -1)
    rotation = quaternion_to_matrix(quaternion.roll(1, -1))  # xyzw to wxyz
    bottom = encoding.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*encoding.shape[:-1], 1, 4)
    cam_to_world = torch.cat((torch.cat((rotation, translation[..., None]), -1), bottom), -2)
    half_size = encoding.new_tensor(sizes or (height, width)) / 2
    fy, fx = (half_size / torch.tan(fov / 2).clamp(min=1e-6)).unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = (fx, zero, zero + half_size[..., 1], zero, fy, zero + half_size[..., 0], zero, zero, one)
    intrinsics = torch.stack(rows, -1).unflatten(-1, (3, 3))
    return Cameras(world_to_cam=rigid_inverse(cam_to_world), intrinsics=intrinsics, height=height, width=width)


def normalized_cameras(cameras: Cameras, unit: PoseUnit = "median") -> Cameras:
    """Cameras as the network wants to see them: the first is the origin, a typical distance from it is 1.

    ``median`` is what official weights expect: torch's lower median of all distances with the first camera's own zero
    among them, and at least 0.1; so two cameras are always divided by 0.1. ``mean`` is the mean distance of the others.
    """
    first = cameras.cam_to_world[..., :1, :, :]
    relative = dataclasses.replace(cameras, world_to_cam=cameras.world_to_cam @ first)
    distances = relative.centers.norm(dim=-1)
    match unit:
        case "median":
            distance = distances.median(-1).values.clamp(min=0.1)
        case "mean":
            distance = distances.sum(-1) / max(1, distances.shape[-1] - 1)
            rounding = _NO_DISTANCE * cameras.centers.norm(dim=-1).amax(-1)  # a turned tripod has no distance
            distance = torch.maximum(distance, rounding).clamp(min=1e-9)
        case _:
            assert_never(unit)
    world_to_cam = relative.world_to_cam.clone()
    world_to_cam[..., :3, 3] /= distance[..., None, None]
    return dataclasses.replace(cameras, world_to_cam=world_to_cam)


class CameraEncoder(nn.Module):
    """Known cameras to the tokens that take the place of the learned ones; cameras look at each other."""

    def __init__(self, width: int, config: CameraConfig) -> None:
        super().__init__()
        self.pose_up = nn.Linear(9, width // 2)
        self.pose_down = nn.Linear(width // 2, width)
        self.input_norm = nn.LayerNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(
            Block(width, config.encoder_heads, 4 * width, epsilon=1e-5) for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, encoding: Float[Tensor, "B V 9"]) -> Float[Tensor, "B V C"]:
        """A token a camera."""
        x = self.input_norm(self.pose_down(F.gelu(self.pose_up(encoding))))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CameraDecoder(nn.Module):
    """First tokens of the last layer to pose encodings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.translation = nn.Linear(width, 3)
        self.quaternion = nn.Linear(width, 4)
        self.fov = nn.Linear(width, 2)

    def forward(self, tokens: Float[Tensor, "B V F"]) -> Float[Tensor, "B V 9"]:
        """Pose encodings; the quaternions (x, y, z, w) have any length."""
        x = self.trunk(tokens)
        return torch.cat((self.translation(x), self.quaternion(x), F.relu(self.fov(x))), -1)
