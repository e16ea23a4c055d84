"""Levels of detail: the same splats in less and less of them, for viewers that load coarse ones first."""

from __future__ import annotations

import torch

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.splats.merging import thinned

_FACTOR = 4
_FEWEST = 4096
_MOST_LEVELS = 5


def coarser_levels(gaussians: Gaussians, cameras: Cameras | None = None) -> list[Gaussians]:
    """Levels with a quarter of the splats each, down to some thousands: neighbours that agree become one.

    Args:
        gaussians: the finest level.
        cameras: from which places the splats are looked at, with a leading axis; None: from all sides.
    """
    levels: list[Gaussians] = []
    finest = gaussians.detach().to("cpu", torch.float32)
    if cameras is None:
        cameras = _around(finest)
    while len(levels) < _MOST_LEVELS - 1 and len(finest) >= _FACTOR * _FEWEST:
        finest, _ = thinned(finest, None, cameras, len(finest) // _FACTOR)
        levels.append(finest)
    return levels


def _around(gaussians: Gaussians) -> Cameras:
    """Six cameras about the splats, at twice the distance at which most of them lie."""
    center = gaussians.means.median(0).values
    radius = float((gaussians.means - center).norm(dim=-1).quantile(0.9)) if len(gaussians) < 1 << 24 else 1.0
    ways = torch.cat((torch.eye(3), -torch.eye(3)))
    eyes = center + 2 * max(radius, 1e-6) * ways
    up = torch.tensor([0.0, -1.0, 0.0]).repeat(6, 1)
    up[[1, 4]] = torch.tensor([0.0, 0.0, 1.0])
    intrinsics = torch.tensor([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]).repeat(6, 1, 1)
    pose = torch.stack([look_at(eye, center, above) for eye, above in zip(eyes, up, strict=True)])
    return Cameras(world_to_cam=pose, intrinsics=intrinsics, height=1000, width=1000)
