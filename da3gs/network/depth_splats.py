"""Splats without a splat head: one Gaussian a pixel, from depth, confidence and camera."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.geometry.rotations import matrix_to_quaternion

FOOTPRINT = 0.3
"""Standard deviation of a splat in pixels of its own view, before the rasteriser's blur."""

_THICKNESS = 0.1  # of the smaller tangent axis: flat, but not degenerate
_STEEPEST = 4.0  # a surface seen at a grazing angle is stretched at most this much
_OPACITY = 0.95
_LEAST = 0.9  # share of that which the faintest splat keeps: a doubtful layer that lets others through blurs them


def depth_edges(depth: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
    """Distance of a pixel's depth from its neighbours': the largest ``|log(z / z')|`` of the four. Scale-free."""
    logs = depth.clamp(min=1e-12).log()
    down = (logs[..., 1:, :] - logs[..., :-1, :]).abs()
    right = (logs[..., :, 1:] - logs[..., :, :-1]).abs()
    pad = torch.nn.functional.pad
    steps = (pad(down, (0, 0, 1, 0)), pad(down, (0, 0, 0, 1)), pad(right, (1, 0)), pad(right, (0, 1)))
    return torch.stack(steps).amax(0)


def depth_flyers(depth: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
    """Flying-pixel score, how far one hangs between surfaces: ``|log(z / z')|`` of the more alike of two opposite
    neighbours, where one is nearer and the other farther; the larger of across and down. Scale-free.

    The rims of two surfaces that meet at a sharp edge have 0: they lie where they should.
    """
    logs = depth.clamp(min=1e-12).log()
    found = torch.zeros_like(logs)
    for axis in (-1, -2):
        size = logs.shape[axis]
        if size < 3:
            continue
        steps = logs.diff(dim=axis)
        before, after = steps.narrow(axis, 0, size - 2), steps.narrow(axis, 1, size - 2)
        between = torch.where(before * after > 0, torch.minimum(before.abs(), after.abs()), torch.zeros_like(before))
        middle = found.narrow(axis, 1, size - 2)
        middle.copy_(torch.maximum(middle, between))
    return found


def depth_normals(points: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, "*batch H W 3"]:
    """Unit normals of a depth map lifted to camera space, turned towards the camera.

    Each tangent is the shorter of the forward and the backward difference, so that normals do not bend over depth
    edges.
    """

    def tangent(axis: int) -> Tensor:
        """The shorter difference along an axis."""
        step = points.diff(dim=axis)
        first, last = step.narrow(axis, 0, 1), step.narrow(axis, step.shape[axis] - 1, 1)
        forward, backward = torch.cat((step, last), axis), torch.cat((first, step), axis)
        shorter = forward.square().sum(-1, keepdim=True) <= backward.square().sum(-1, keepdim=True)
        return torch.where(shorter, forward, backward)

    normals = torch.nn.functional.normalize(torch.linalg.cross(tangent(-2), tangent(-3)), dim=-1, eps=1e-30)
    towards = -torch.nn.functional.normalize(points, dim=-1)
    facing = (normals * towards).sum(-1, keepdim=True)
    degenerate = normals.square().sum(-1, keepdim=True) < 0.5
    return torch.where(degenerate, towards, torch.where(facing < 0, -normals, normals))


def splats_from_depth(
    images: Float[Tensor, "V 3 H W"],
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    *,
    confidence: Float[Tensor, "V H W"] | None = None,
    footprint: float = FOOTPRINT,
) -> Gaussians:
    """One splat a pixel, in the order view, row, column; degree 0.

    The splat lies in the tangent plane of the surface and covers ``footprint`` pixels (a standard deviation) of its
    own view: with ``r = K⁻¹ (u, v, 1)`` and the plane's normal n, moving by a pixel moves the point by ``z (r_u − r
    (n·r_u) / (n·r))``; the two such vectors span the ellipse. Low confidence and depth edges lower the opacity.

    Args:
        images: sRGB in [0, 1].
        depth: along the camera's z axis, in the units of the cameras.
        cameras: where the splats are placed; their intrinsics are honoured in full.
        confidence: at least 1, larger is surer; None counts every pixel as sure.
        footprint: pixels.
    """
    views, height, width = depth.shape
    pixels = pixel_centers(height, width, device=depth.device, dtype=depth.dtype)
    rays = camera_directions(cameras.intrinsics, pixels)
    points = rays * depth[..., None]
    axes, scales = _tangent_ellipses(rays, depth, depth_normals(points), cameras.intrinsics)
    rotation = cameras.cam_to_world[:, None, None, :3, :3]
    means = (rotation @ points[..., None]).squeeze(-1) + cameras.centers[:, None, None]
    colors = images.movedim(1, -1)
    opacities = _pixel_opacity(confidence, depth)
    return Gaussians(
        means=means.reshape(-1, 3),
        scales=(footprint * scales).reshape(-1, 3),
        quaternions=matrix_to_quaternion(rotation @ axes).reshape(-1, 4),
        opacities=opacities.expand_as(depth).reshape(-1),
        harmonics=((colors - 0.5) / C0).reshape(views * height * width, 1, 3),
    )


def _tangent_ellipses(
    rays: Float[Tensor, "V H W 3"],
    depth: Float[Tensor, "V H W"],
    normals: Float[Tensor, "V H W 3"],
    intrinsics: Float[Tensor, "V 3 3"],
) -> tuple[Float[Tensor, "V H W 3 3"], Float[Tensor, "V H W 3"]]:
    """Axes (columns, camera space) and half-lengths of the ellipse that projects to a circle of one pixel."""
    focal = intrinsics[:, (0, 1), (0, 1)][:, None, None]
    facing = (normals * rays).sum(-1, keepdim=True)
    # never edge-on: the least slant that keeps the stretch below the bound
    facing = torch.minimum(facing, -rays.norm(dim=-1, keepdim=True) / _STEEPEST)
    step = torch.eye(3, dtype=rays.dtype, device=rays.device)[:2] / focal[..., None]
    slant = (step * normals[..., None, :]).sum(-1, keepdim=True) / facing[..., None]
    tangents = depth[..., None, None] * (step - rays[..., None, :] * slant)  # V H W 2 3
    tangents = tangents - (tangents * normals[..., None, :]).sum(-1, keepdim=True) * normals[..., None, :]
    a, b = tangents.unbind(-2)
    aa, bb, ab = (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)
    mean, spread = (aa + bb) / 2, (((aa - bb) / 2).square() + ab.square()).sqrt()
    angle = torch.atan2(2 * ab, aa - bb) / 2
    major = torch.nn.functional.normalize(a * angle.cos()[..., None] + b * angle.sin()[..., None], dim=-1, eps=1e-30)
    minor = torch.linalg.cross(normals, major)
    large = (mean + spread).clamp(min=0).sqrt()
    small = torch.maximum((mean - spread).clamp(min=0).sqrt(), large / (2 * _STEEPEST))
    axes = torch.stack((major, minor, normals), -1)
    return axes, torch.stack((large, small, _THICKNESS * small), -1)


def _pixel_opacity(confidence: Float[Tensor, "V H W"] | None, depth: Float[Tensor, "V H W"]) -> Float[Tensor, "V H W"]:
    """High where depth is sure and smooth; never so low that a pixel's own view would show a hole."""
    smooth = torch.exp(-(depth_edges(depth) / 0.15).square())
    return _OPACITY * (_LEAST + (1 - _LEAST) * _surety(confidence) * smooth)


def _surety(confidence: Float[Tensor, "V H W"] | None) -> Tensor:
    """In (0, 1]: 1 from half the median confidence on, falling to 0.2 where there is none."""
    if confidence is None:
        return torch.ones(())
    above = (confidence - 1).clamp(min=0)
    half = above.flatten(1).median(-1).values[:, None, None] / 2
    return 0.2 + 0.8 * (above / half.clamp(min=1e-12)).clamp(max=1)
