"""Scales and shifts that make one depth map agree with another, robustly.

``absolute_alignment`` minimises absolute errors exactly (the solver of MoGe, Wang et al. 2024): the best line through
many points goes through one of them, and with that one fixed its slope is a weighted median. ``ransac_alignment`` is
the paper's for pseudo-labels (section 3.3): least squares within RANSAC.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def absolute_alignment(
    predicted: Float[Tensor, "B N"], depth: Float[Tensor, "B N"], weights: Float[Tensor, "B N"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The scale (at least 0) and shift with the least ``Σ w |s p + t − d|``; weights of 0 leave values out.

    No gradient flows through the alignment. Where nothing can be aligned (no weights, one value) the scale is 1.
    """
    with torch.no_grad():
        p, d, w = predicted.detach(), depth, weights
        slopes_from = p[:, None] - p[:, :, None]  # B anchor other
        rises = d[:, None] - d[:, :, None]
        flat = slopes_from.abs() < 1e-9
        slopes = torch.where(flat, 0, rises / torch.where(flat, 1, slopes_from))
        mass = torch.where(flat, 0, w[:, None] * slopes_from.abs())
        slopes, order = slopes.sort(-1)
        mass = mass.gather(-1, order).cumsum(-1)
        middle = (mass >= 0.5 * mass[..., -1:]).float().argmax(-1, keepdim=True)
        scale = slopes.gather(-1, middle)[..., 0].clamp(min=0)
        shift = d - scale * p
        error = (w[:, None] * (scale[..., None] * p[:, None] + shift[..., None] - d[:, None]).abs()).sum(-1)
        error = torch.where(w > 0, error, torch.inf)
        best = error.argmin(-1, keepdim=True)
        scale, shift = scale.gather(-1, best)[:, 0], shift.gather(-1, best)[:, 0]
        usable = (w > 0).sum(-1) >= 2
        return torch.where(usable & (scale > 0), scale, 1.0), torch.where(usable & (scale > 0), shift, 0.0)


def coarse_samples(
    maps: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"], side: int
) -> tuple[Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """At most side × side values of each map, evenly spread, and which are valid."""
    height, width = min(side, maps.shape[-2]), min(side, maps.shape[-1])
    picked = F.interpolate(maps[:, None], size=(height, width), mode="nearest-exact")[:, 0]
    known = F.interpolate(valid[:, None].float(), size=(height, width), mode="nearest-exact")[:, 0] > 0.5
    return picked.flatten(1), known.flatten(1)


def ransac_alignment(
    predicted: Float[Tensor, "N"], depth: Float[Tensor, "N"], *, generator: torch.Generator, rounds: int = 64
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """``argmin_{s>0, t} Σ (s D̃ + t − D)²`` over the inliers of the best of ``rounds`` lines through two random values.

    An inlier's residual is at most the mean absolute deviation of the target depth's residuals from their median, which
    is taken once, from the least-squares line over everything. The paper tells neither the number of rounds nor the
    size of a sample.

    Args:
        predicted: the teacher's depth.
        depth: what it is to be laid onto; only valid values.
        generator: on the CPU.
        rounds: random lines tried.
    """
    scale, shift = _least_squares(predicted, depth)
    if len(predicted) < 3:
        return scale, shift
    residuals = scale * predicted + shift - depth
    threshold = (residuals - residuals.median()).abs().mean().clamp(min=1e-9)
    pairs = torch.randint(len(predicted), (rounds, 2), generator=generator).to(predicted.device)
    p, d = predicted[pairs], depth[pairs]
    step = p[:, 1] - p[:, 0]
    scales = torch.where(step.abs() < 1e-9, 0, (d[:, 1] - d[:, 0]) / torch.where(step.abs() < 1e-9, 1, step))
    shifts = d[:, 0] - scales * p[:, 0]
    inside = (scales[:, None] * predicted + shifts[:, None] - depth).abs() <= threshold
    counts = torch.where(scales > 0, inside.sum(-1), -1)
    best = inside[counts.argmax()]
    if int(counts.max()) < 2:
        return scale, shift
    refined = _least_squares(predicted[best], depth[best])
    return refined if float(refined[0]) > 0 else (scale, shift)


def _least_squares(predicted: Float[Tensor, "N"], depth: Float[Tensor, "N"]) -> tuple[Tensor, Tensor]:
    p, d = predicted.mean(), depth.mean()
    scale = ((predicted - p) * (depth - d)).mean() / (predicted - p).square().mean().clamp(min=1e-12)
    return scale, d - scale * p
