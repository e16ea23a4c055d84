"""A soft surround behind everything, for what no photo saw: blurred colours of the scene in place of black."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.scene import Provenance
from da3gs.splats.sky_shell import BEHIND
from da3gs.views import Views

_COUNT = 2048
"""Splats of the surround, some 4.5 degrees apart."""
_WIDE = 0.7
"""Standard deviation in distances between neighbours: no gaps, no grain."""
_THIN = 0.05
_OPACITY = 0.99
_SOFT = 8.0
"""How fast a photo's colours lose weight with the angle: ``exp(8 (cos a - 1))`` halves by 24 degrees."""
_RAYS = 24
"""Pixels along the long side of a photo that are asked."""
_NEARLY_ALL = 0.995
"""Of the splats lie inside; what flies farther may be hidden."""


def surrounded(
    gaussians: Gaussians, provenance: Provenance | None, cameras: Cameras, views: Views
) -> tuple[Gaussians, Provenance | None]:
    """The splats with a surround behind them, which comes from no photo in particular (view -1)."""
    added = surround(gaussians.to("cpu"), cameras.to("cpu"), views.to("cpu")).to(gaussians.device)
    if provenance is None:
        return Gaussians.concatenated((gaussians, added)), None
    count = len(added)
    rows = Provenance(
        view=torch.cat((provenance.view, provenance.view.new_full((count,), -1))),
        pixel=torch.cat((provenance.pixel, provenance.pixel.new_zeros(count))),
        confidence=torch.cat((provenance.confidence, provenance.confidence.new_full((count,), torch.nan))),
        edge=torch.cat((provenance.edge, provenance.edge.new_zeros(count))),
        sky=torch.cat((provenance.sky, provenance.sky.new_zeros(count))),
    )
    return Gaussians.concatenated((gaussians, added)), rows


def surround(gaussians: Gaussians, cameras: Cameras, views: Views) -> Gaussians:
    """Splats on a sphere round the scene, coloured like what photos show in their direction.

    The colour of a direction is the mean over the photos' pixels, weighted by the angle to their rays; far from all
    rays that is the mean of the scene.

    Args:
        gaussians: what shall be inside.
        cameras: one a photo.
        views: the photos.
    """
    center = cameras.centers.mean(0)
    away = (gaussians.means - center).norm(dim=-1)
    inside = away.sort().values[min(int(_NEARLY_ALL * len(away)), len(away) - 1)]
    radius = BEHIND * torch.maximum(inside, (cameras.centers - center).norm(dim=-1).max())
    outward = _spread(_COUNT)
    colors = _colors(outward, cameras, views)
    up = torch.where(outward[:, 1:2].abs() < 0.9, torch.tensor([0.0, 1, 0]), torch.tensor([1.0, 0, 0]))
    across = torch.nn.functional.normalize(torch.linalg.cross(outward, up), dim=-1)
    axes = torch.stack((across, torch.linalg.cross(outward, across), outward), -1)
    wide = _WIDE * radius * math.sqrt(4 * math.pi / _COUNT)
    harmonics = torch.zeros(_COUNT, gaussians.harmonics.shape[-2], 3)
    harmonics[:, 0] = (colors - 0.5) / C0
    return Gaussians(
        means=center + radius * outward,
        scales=wide * torch.tensor([1.0, 1.0, _THIN]).expand(_COUNT, 3),
        quaternions=matrix_to_quaternion(axes),
        opacities=torch.full((_COUNT,), _OPACITY),
        harmonics=harmonics,
    )


def _spread(count: int) -> Float[Tensor, "N 3"]:
    """Directions that are spread evenly over the sphere, by the golden angle."""
    index = torch.arange(count) + 0.5
    height = 1 - 2 * index / count
    turn = math.pi * (1 + math.sqrt(5)) * index
    flat = (1 - height.square()).sqrt()
    return torch.stack((flat * turn.cos(), height, flat * turn.sin()), -1)


def _colors(outward: Float[Tensor, "N 3"], cameras: Cameras, views: Views) -> Float[Tensor, "N 3"]:
    """The photos' colours about each direction."""
    height, width = views.height, views.width
    stride = max(1, max(height, width) // _RAYS)
    pixels = pixel_centers(height, width)[stride // 2 :: stride, stride // 2 :: stride]
    total, weight = torch.zeros(len(outward), 3), torch.zeros(len(outward), 1)
    for view, (h, w) in enumerate(views.sizes):
        own = ((pixels[..., 0] < w) & (pixels[..., 1] < h)).flatten()
        rays = camera_directions(cameras.intrinsics[view], pixels).flatten(0, 1)[own]
        rays = torch.nn.functional.normalize(rays @ cameras.cam_to_world[view, :3, :3].T, dim=-1)
        colors = views.images[view, :, stride // 2 :: stride, stride // 2 :: stride].flatten(1).T[own]
        near = (_SOFT * (outward @ rays.T - 1)).exp()
        total += near @ colors
        weight += near.sum(1, keepdim=True)
    return total / weight
