"""Pinhole cameras."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.similarity import Similarity


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cameras(TensorRecord):
    """Any number of pinhole cameras of one image size.

    OpenCV axes (x right, y down, z forward); pixel centres at +0.5, so that an uncropped camera's principal point is
    ``(width / 2, height / 2)``.
    """

    world_to_cam: Float[Tensor, "*batch 4 4"]
    """Rigid transforms from world to camera."""
    intrinsics: Float[Tensor, "*batch 3 3"]
    """``[[fx, skew, cx], [0, fy, cy], [0, 0, 1]]`` in pixels."""
    height: int
    """Image height in pixels."""
    width: int
    """Image width in pixels."""

    def __len__(self) -> int:
        """How many cameras along the first axis; a single camera without a leading axis has no length."""
        if self.world_to_cam.ndim == 2:
            raise TypeError("a single camera has no length")
        return self.world_to_cam.shape[0]

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Cameras:
        """The cameras at ``index`` of the first axis; an integer drops that axis."""
        return dataclasses.replace(self, world_to_cam=self.world_to_cam[index], intrinsics=self.intrinsics[index])

    @property
    def cam_to_world(self) -> Float[Tensor, "*batch 4 4"]:
        """Rigid transforms from camera to world."""
        return rigid_inverse(self.world_to_cam)

    @property
    def centers(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in the world."""
        return self.cam_to_world[..., :3, 3]

    @property
    def forward(self) -> Float[Tensor, "*batch 3"]:
        """Unit viewing directions in the world."""
        return self.world_to_cam[..., 2, :3]

    @property
    def fov(self) -> Float[Tensor, "*batch 2"]:
        """Horizontal and vertical field of view of a centred camera with these focal lengths, radians."""
        focal = self.intrinsics[..., (0, 1), (0, 1)]
        size = focal.new_tensor([self.width, self.height])
        return 2 * torch.atan(size / (2 * focal))

    def resized(self, height: int, width: int) -> Cameras:
        """The cameras of the same pictures resampled to another size; the field of view stays."""
        factors = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return dataclasses.replace(self, intrinsics=self.intrinsics * factors[:, None], height=height, width=width)

    def cropped(self, top: int, left: int, height: int, width: int) -> Cameras:
        """The cameras of a window of the pictures; the window may reach outside (padding)."""
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, 2] -= left
        intrinsics[..., 1, 2] -= top
        return dataclasses.replace(self, intrinsics=intrinsics, height=height, width=width)

    def scaled(self, scale: float | Float[Tensor, ""]) -> Cameras:
        """The cameras in a world whose lengths are multiplied by ``scale``."""
        factors = torch.ones_like(self.world_to_cam)
        factors[..., :3, 3] = scale
        return dataclasses.replace(self, world_to_cam=self.world_to_cam * factors)

    def transformed(self, similarity: Similarity) -> Cameras:
        """The cameras after the world went through a similarity (no batch axis on it)."""
        moved = similarity.to(dtype=torch.float64).apply_to_cameras(self.cam_to_world.double().reshape(-1, 4, 4))
        world_to_cam = rigid_inverse(moved).reshape(self.world_to_cam.shape)
        return dataclasses.replace(self, world_to_cam=world_to_cam.to(self.world_to_cam.dtype))


def look_at(
    eye: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], up: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """World-to-camera transforms of cameras at ``eye`` that look at ``target``, the image's up side towards ``up``.

    Where ``up`` is parallel to the viewing direction another axis takes its place, so that the result is always a
    rotation.
    """
    z = torch.nn.functional.normalize(target - eye, dim=-1)
    up = up.expand_as(z)
    x = torch.linalg.cross(z, up)
    parallel = x.norm(dim=-1, keepdim=True) < 1e-6 * up.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    least = torch.nn.functional.one_hot(z.abs().argmin(-1), 3).to(z)
    x = torch.nn.functional.normalize(torch.where(parallel, torch.linalg.cross(z, least), x), dim=-1)
    rotation = torch.stack((x, torch.linalg.cross(z, x), z), -2)
    top = torch.cat((rotation, -rotation @ eye[..., None]), -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), -2)
