"""Gaussians from the channels of the Gaussian head.

Channels of a pixel: offset in x and y (pixels), three scales, quaternion (x, y, z, w), harmonics colour by colour,
depth offset, density.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import rotate_harmonics
from da3gs.geometry.projection import pixel_centers
from da3gs.geometry.rotations import matrix_to_quaternion, multiply_quaternions, quaternion_to_matrix
from da3gs.network.config import SplatConfig

_FOOTPRINT = 0.1  # a scale of 1 is a tenth of a pixel's footprint, summed over both axes
_BAND_WEIGHTS = (1.0, 0.025, 0.00625, 0.0015625)  # a tenth of a quarter each: harmonics start near constant colour
_SCALE_RANGE = (1 / 3, 3.0)  # how far given cameras may change the predicted scale


def splats_from_channels(
    channels: Float[Tensor, "B V H W C"],
    depth: Float[Tensor, "B V H W"],
    cameras: Cameras,
    config: SplatConfig,
    *,
    quaternions: Literal["proper", "upstream"],
    depth_along: Literal["z", "ray"],
    opacities: Float[Tensor, "B V H W"] | None = None,
    scale: Float[Tensor, "B"] | None = None,
) -> Gaussians:
    """One splat a pixel, in the order view, row, column.

    The centre lies on the ray of the shifted pixel, at ``depth`` plus an offset. ``upstream`` quaternions are composed
    as the official weights expect, which is the rotation meant only for a camera that is not turned.

    Args:
        channels: raw head outputs; the last one, the density, may be missing where ``opacities`` are given.
        depth: as the depth head says.
        cameras: (B, V); their intrinsics are honoured in full.
        config: sizes and limits of the head.
        quaternions: how splats turn with the camera.
        depth_along: what depth is measured along.
        opacities: in place of the density channel.
        scale: multiplies camera centres and depths.
    """
    offset, size, turn, color, deeper, density = channels[..., : config.channels].split(
        (2, 3, 4, 3 * config.coefficients, 1, channels.shape[-1] - config.channels + 1), -1
    )
    depth = depth + deeper[..., 0]
    cam_to_world = cameras.cam_to_world[..., None, None, :, :]
    rotation, center = cam_to_world[..., :3, :3], cam_to_world[..., :3, 3]
    if scale is not None:
        depth, center = depth * scale[:, None, None, None], center * scale[:, None, None, None, None]
    height, width = depth.shape[-2:]
    pixels = pixel_centers(height, width, device=depth.device, dtype=depth.dtype) + offset
    directions = _directions(cameras.intrinsics[..., None, None, :, :], pixels)
    if depth_along == "ray":
        directions = directions / directions.norm(dim=-1, keepdim=True)
    means = center + depth[..., None] * (rotation @ directions[..., None]).squeeze(-1)
    span = config.scale_max - config.scale_min
    scales = (config.scale_min + span * size.sigmoid()) * (depth * _footprint(cameras.intrinsics))[..., None]
    turn = turn / (turn.norm(dim=-1, keepdim=True) + 1e-8)
    if quaternions == "proper":
        composed = multiply_quaternions(matrix_to_quaternion(rotation), turn.roll(1, -1))
    else:
        composed = _upstream_composition(rotation, turn)
    weights = torch.cat([color.new_full((2 * band + 1,), _BAND_WEIGHTS[band]) for band in range(config.degree + 1)])
    harmonics = color.unflatten(-1, (3, -1)).mT * weights[:, None]
    harmonics = rotate_harmonics(harmonics.flatten(2, 3), cameras.cam_to_world[..., :3, :3])
    return Gaussians(
        means=means.flatten(1, 3),
        scales=scales.flatten(1, 3),
        quaternions=composed.flatten(1, 3),
        opacities=(density[..., 0].sigmoid() if opacities is None else opacities).flatten(1, 3),
        harmonics=harmonics.flatten(1, 2),
    )


def _directions(intrinsics: Float[Tensor, "*#grid 3 3"], pixels: Float[Tensor, "*#grid 2"]) -> Float[Tensor, "*grid 3"]:
    """``K⁻¹ (u, v, 1)`` where every pixel has coordinates of its own."""
    y = (pixels[..., 1] - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
    x = (pixels[..., 0] - intrinsics[..., 0, 2] - intrinsics[..., 0, 1] * y) / intrinsics[..., 0, 0]
    return torch.stack((x, y, torch.ones_like(x)), -1)


def _footprint(intrinsics: Float[Tensor, "B V 3 3"]) -> Float[Tensor, "B V 1 1"]:
    """A tenth of how far a step of one pixel right and one down goes at depth 1, both axes added."""
    fx, fy, skew = intrinsics[..., 0, 0], intrinsics[..., 1, 1], intrinsics[..., 0, 1]
    return (_FOOTPRINT * (1 / fx + 1 / fy - skew / (fx * fy)))[..., None, None]


def _upstream_composition(
    rotation: Float[Tensor, "*#batch 3 3"], quaternion: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """The official composition, to the letter: unit (a, b, c, d) becomes (d, a, b, c), is read with the scalar last,
    turned by the camera, and its scalar-last result is then used as scalar-first."""
    turned = rotation @ quaternion_to_matrix(quaternion.roll(2, -1))  # (c, d, a, b): scalar first
    return matrix_to_quaternion(turned).roll(-1, -1)


def scale_onto(
    predicted: Float[Tensor, "B V 3"], given: Float[Tensor, "B V 3"], *, clamp: bool = True
) -> Float[Tensor, "B"]:
    """By how much predicted camera centres have to grow to have the spread of the given ones.

    The scale of the least-squares similarity (Umeyama 1991); unlike its rotation it is well defined for centres on a
    line too. 1 where all centres of a side coincide.

    Args:
        predicted: predicted camera centres.
        given: the same cameras' given centres.
        clamp: keep within [1/3, 3], as the official splats have it.
    """
    source, target = predicted.cpu().double(), given.cpu().double()  # not every device has float64
    source, target = source - source.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    u, singular, vt = torch.linalg.svd(target.mT @ source)
    signs = torch.ones_like(singular)
    signs[:, 2] = torch.sign(torch.det(u) * torch.det(vt))
    spread = source.square().sum((1, 2))
    scale = (singular * signs).sum(-1) / spread.clamp(min=torch.finfo(torch.float64).tiny)
    scale = torch.where((spread > 0) & (scale > 0), scale, torch.ones_like(scale)).to(predicted)
    return scale.clamp(*_SCALE_RANGE) if clamp else scale


def moved_to_cameras(
    splats: Gaussians,
    predicted: Cameras,
    given: Cameras,
    *,
    scale: float | Float[Tensor, ""] | Float[Tensor, "V"] = 1.0,
) -> Gaussians:
    """The splats of predicted views, carried over to given cameras of the same views.

    Each view's splats go through the similarity that takes its predicted camera to its given one, then onto the rays of
    the given intrinsics at ``scale`` times the depth; they stay as wide as their pixels. Harmonics and quaternions turn
    exactly, so each view looks from its given camera as it did from its predicted one.

    Args:
        splats: (N), one a pixel, in the order view, row, column.
        predicted: (V), where the splats were made.
        given: (V), where they shall be.
        scale: given depth by predicted depth, of all views or of each.
    """
    views = len(predicted)
    along = torch.as_tensor(scale, dtype=splats.means.dtype, device=splats.means.device).expand(views)[:, None, None]
    lateral = (predicted.intrinsics[:, (0, 1), (0, 1)] / given.intrinsics[:, (0, 1), (0, 1)]).mean(-1)[:, None, None]
    parts = splats.map(lambda t: t.unflatten(0, (views, -1)))
    turn = given.cam_to_world[:, :3, :3] @ predicted.world_to_cam[:, :3, :3]
    world_to_cam = predicted.world_to_cam
    local = parts.means @ world_to_cam[:, :3, :3].mT + world_to_cam[:, None, :3, 3]
    pixels = local @ predicted.intrinsics.mT
    rays = _directions(given.intrinsics[:, None], pixels[..., :2] / pixels[..., 2:])
    local = rays * local[..., 2:] * along
    quaternions = multiply_quaternions(matrix_to_quaternion(turn)[:, None], parts.quaternions)
    moved = dataclasses.replace(
        parts,
        means=local @ given.cam_to_world[:, :3, :3].mT + given.centers[:, None],
        scales=parts.scales * along * lateral,
        quaternions=quaternions,
        harmonics=rotate_harmonics(parts.harmonics, turn),
    )
    return moved.map(lambda t: t.flatten(0, 1))
