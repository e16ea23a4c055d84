"""Pinhole cameras: OpenCV axes (x right, y down, z forward), intrinsics in pixels, pixel centres at +0.5."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rigid_inverse(transforms: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of rigid transforms by transposition: ``[Rᵀ | −Rᵀ t]``, never a general matrix inverse."""
    rotation = transforms[..., :3, :3].transpose(-1, -2)
    translation = -rotation @ transforms[..., :3, 3:]
    bottom = transforms[..., 3:, :]
    return torch.cat((torch.cat((rotation, translation), -1), bottom), -2)


def pixel_centers(
    height: int, width: int, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "H W 2"]:
    """Coordinates (u, v) of every pixel's centre.

    >>> pixel_centers(1, 2).tolist()
    [[[0.5, 0.5], [1.5, 0.5]]]
    """
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=dtype) + 0.5,
        torch.arange(width, device=device, dtype=dtype) + 0.5,
        indexing="ij",
    )
    return torch.stack((u, v), -1)


def camera_directions(
    intrinsics: Float[Tensor, "*batch 3 3"], pixels: Float[Tensor, "*grid 2"]
) -> Float[Tensor, "*out 3"]:
    """Directions ``K⁻¹ (u, v, 1)`` in camera space with z = 1, for every camera (leading axes) and every pixel.

    Skew is honoured. The result is not of unit length: multiply it by z, not by the distance along the ray.
    """
    k = intrinsics.reshape(*intrinsics.shape[:-2], *([1] * (pixels.ndim - 1)), 3, 3)
    y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
    return torch.stack((x, y, torch.ones_like(x)), -1)


def unproject(
    depth: Float[Tensor, "*batch H W"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    cam_to_world: Float[Tensor, "*batch 4 4"],
) -> Float[Tensor, "*batch H W 3"]:
    """Lift every pixel of a depth map to a point in the world.

    A pixel with centre ``(u, v)`` and depth ``z`` lands at ``x = R (z K⁻¹ (u, v, 1)ᵀ) + t``. ``depth`` is along the
    camera's z axis, not along the ray: a wall parallel to the image plane has one depth everywhere.
    """
    height, width = depth.shape[-2:]
    pixels = pixel_centers(height, width, device=depth.device, dtype=depth.dtype)
    points = camera_directions(intrinsics, pixels) * depth[..., None]
    rotation, translation = cam_to_world[..., :3, :3], cam_to_world[..., :3, 3]
    return torch.einsum("...ij,...hwj->...hwi", rotation, points) + translation[..., None, None, :]


def project(
    points: Float[Tensor, "*batch N 3"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    world_to_cam: Float[Tensor, "*batch 4 4"],
) -> tuple[Float[Tensor, "*batch N 2"], Float[Tensor, "*batch N"]]:
    """Pixel coordinates (u, v) and depth z of world points.

    Points at or behind the camera plane (z <= 0) get whatever the division gives; ask ``z`` before using them.
    """
    local = points @ world_to_cam[..., :3, :3].transpose(-1, -2) + world_to_cam[..., None, :3, 3]
    depth = local[..., 2]
    homogeneous = local @ intrinsics.transpose(-1, -2)
    return homogeneous[..., :2] / depth[..., None], depth
