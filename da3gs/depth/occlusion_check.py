"""Free-space violations: points that stand in the way of what another photo shows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from da3gs.cameras import Cameras
from da3gs.geometry.projection import project, unproject
from da3gs.views import Views

_AHEAD = 0.02  # of the other view's depth: nearer than that, and the point would hide what that photo shows
_SAME = 0.03  # relative difference of depth at which two views mean one surface
_UNLIKE = 0.1  # of the colour range, beyond the colours around that pixel
_AROUND = 1  # pixels: poses and depth are that exact


def contradicted(depth: Float[Tensor, "V H W"], cameras: Cameras, views: Views) -> Bool[Tensor, "V H W"]:
    """True where a point would cover another photo in a colour that it does not have, and too few views bear it out.

    A point of one view that lies clearly in front of the surface of another must be seen there; if that photo shows
    other colours, one of the two depths is wrong, and it is not the one whose colours fit. A view whose surface the
    point lies on, in its colour, bears it out.
    """
    photos = views.images.to(depth)
    low, high = _range(photos, -1), _range(photos, 1)
    nearest = _range(depth[:, None], -1)
    surface = torch.cat((low, high, nearest, depth[:, None]), 1)
    world = unproject(depth, cameras.intrinsics.to(depth), cameras.cam_to_world.to(depth)).flatten(1, 2)
    colors = photos.movedim(1, -1).flatten(1, 2)
    against = torch.zeros(world.shape[:2], dtype=torch.int64, device=depth.device)
    height, width = depth.shape[1:]
    masks = None if views.masks is None else views.masks.to(depth.device)
    for other in range(len(depth)):
        pixels, z = project(world.flatten(0, 1), cameras.intrinsics[other], cameras.world_to_cam[other])
        column, row = pixels.nan_to_num(-1).clamp(-1, max(height, width)).floor().long().unbind(-1)
        seen = (z > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
        if masks is not None:
            seen &= masks[other, row, column]
        there = surface[other, :, row, column]
        own = colors.flatten(0, 1).T
        alike = ((own > there[:3] - _UNLIKE) & (own < there[3:6] + _UNLIKE)).all(0)
        ahead = seen & (z < (1 - _AHEAD) * there[6]) & ~alike
        same = seen & ((z / there[7].clamp(min=1e-12) - 1).abs() < _SAME) & alike
        votes = (ahead.long() - same.long()).view_as(against)
        votes[other] = 0
        against += votes
    return (against > 0).view_as(depth)


def _range(maps: Float[Tensor, "V C H W"], sign: int) -> Float[Tensor, "V C H W"]:
    """The least (-1) or the greatest (1) value around each pixel."""
    return sign * functional.max_pool2d(sign * maps, 2 * _AROUND + 1, 1, _AROUND)
