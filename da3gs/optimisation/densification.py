"""Where refinement needs more splats, and what becomes of one that is split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.optimisation.photometric_loss import PhotoLoss
from da3gs.rendering import contributions, render

_APART = 0.6
"""Halves lie so many standard deviations of the whole from its middle, along its longest axis."""
_NARROWER = math.log(1.6)
"""Halves are so much smaller, in logarithms, along that axis: 3D Gaussian Splatting's factor."""


def error_shares(splats: Gaussians, cameras: Cameras, losses: Sequence[PhotoLoss]) -> Float[Tensor, "N"]:
    """How much of the photos' absolute error lies on each splat, by its blending weights (Rota Bulò et al. 2024)."""
    total = torch.zeros(len(splats))
    for view, loss in enumerate(losses):
        color = render(splats, cameras[view], backend="cpu").color
        wanted = torch.from_numpy(loss.weights[..., 0] > 0)
        error = (color - torch.from_numpy(loss.photo)).abs().mean(-1) * wanted
        total += contributions(splats, cameras[[view]], pixel_weights=error[None], backend="cpu")
    return total


def most_erring(shares: Float[Tensor, "N"], count: int) -> Int[Tensor, "M"]:
    """The splats with the largest shares, at most ``count`` and only those with any, in ascending order."""
    if count < 1:
        return torch.zeros(0, dtype=torch.int64)
    top = shares.topk(min(count, len(shares))).indices
    return top[shares[top] > 0].sort().values


def halves(
    scales: Float[Tensor, "M 3"], quaternions: Float[Tensor, "M 4"], opacities: Float[Tensor, "M"]
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M 3"], Float[Tensor, "M"]]:
    """What takes a splat's place: the way from its middle to that of a half (the other lies opposite), the halves' log
    sizes, and their opacity, such that both together let through as much light as the whole."""
    longest = torch.nn.functional.one_hot(scales.argmax(-1), 3).to(scales)
    way = (quaternion_to_matrix(quaternions) @ (longest * scales * _APART)[..., None]).squeeze(-1)
    return way, scales.log() - _NARROWER * longest, 1 - (1 - opacities.clamp(max=0.999)).sqrt()
