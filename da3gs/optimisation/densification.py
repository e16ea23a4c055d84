"""Densification: which Gaussians to split, and the two halves that take a split one's place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.optimisation.photometric_loss import PhotometricLoss
from da3gs.rendering import Backend, contributions, render

_APART = 0.6
"""Halves lie so many standard deviations of the whole from its middle, along its longest axis."""
_NARROWER = math.log(1.6)
"""Halves are so much smaller, in logarithms, along that axis: 3D Gaussian Splatting's factor."""


def error_shares(
    splats: Gaussians,
    cameras: Cameras,
    losses: Sequence[PhotometricLoss],
    *,
    antialias: bool | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "N"]:
    """Each splat's share of the photos' absolute error, by its blending weights (Rota Bulò et al. 2024)."""
    total = torch.zeros(len(splats), device=splats.device)
    for view, loss in enumerate(losses):
        color = render(splats, cameras[view], antialias=antialias, backend=backend).color
        error = (color - loss.photo).abs().mean(-1) * (loss.weights[..., 0] > 0)
        camera = cameras[[view]]
        total += contributions(splats, camera, pixel_weights=error[None], antialias=antialias, backend=backend)
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
    """The halves of a split Gaussian: the way from its middle to that of a half (the other lies opposite), the
    halves' log sizes, and their opacity, such that both together let through as much light as the whole."""
    longest = torch.nn.functional.one_hot(scales.argmax(-1), 3).to(scales)
    way = (quaternion_to_matrix(quaternions) @ (longest * scales * _APART)[..., None]).squeeze(-1)
    return way, scales.log() - _NARROWER * longest, 1 - (1 - opacities.clamp(max=0.999)).sqrt()
