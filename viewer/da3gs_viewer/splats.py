"""Splats as the browser draws them: a covariance and one colour each, and only as many as it can bear."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import evaluate_harmonics
from da3gs.geometry.rotations import quaternion_to_matrix

MAX_GROWTH = 5.0
"""The most that splats are widened to cover for those left out."""

CHANCE = 0.25
"""By so much more, since chance leaves gaps."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BrowserSplats:
    """Arrays as ``add_gaussian_splats`` takes them."""

    centers: Float[ndarray, "N 3"]
    """Means."""
    covariances: Float[ndarray, "N 3 3"]
    """World-space covariances."""
    rgbs: Float[ndarray, "N 3"]
    """One colour a splat, 0 to 1, as the nearest photo's camera sees it."""
    opacities: Float[ndarray, "N 1"]
    """0 to 1."""

    def __len__(self) -> int:
        """How many splats."""
        return len(self.centers)


def browser_splats(gaussians: Gaussians, eyes: Float[Tensor, "V 3"], *, limit: int) -> BrowserSplats:
    """At most ``limit`` splats, those that contribute most drawn with the best chance.

    A splat contributes opacity times its area as the nearest eye sees it. Choosing strictly by that would leave holes
    where many small splats lie, so the choice is random with these weights (exponential races, with a fixed seed), and
    the chosen ones are widened until their areas make up for the missing ones. What is not finite is left out.

    Args:
        eyes: camera centres, at least one.
    """
    g = gaussians.to(device="cpu", dtype=torch.float32)
    g = g.masked(g.means.isfinite().all(-1) & g.scales.isfinite().all(-1) & g.opacities.isfinite())
    nearest, distance = _nearest(g.means, eyes.to(g.means))
    growth = 1.0
    if len(g) > limit:
        largest = g.scales.topk(2, dim=-1).values.prod(-1)
        weight = (g.opacities * largest / distance.square().clamp(min=1e-12)).nan_to_num(0.0).clamp(min=1e-20)
        race = torch.rand(len(g), generator=torch.Generator().manual_seed(0)).clamp(min=1e-12).log() / weight
        chosen = race.topk(limit).indices.sort().values
        missing = 1 - limit / len(g)
        growth = float((weight.sum() / weight[chosen].sum()).sqrt()) * (1 + CHANCE * missing)
        growth = min(growth, MAX_GROWTH)
        g, nearest = g.masked(chosen), nearest[chosen]
    axes = quaternion_to_matrix(g.quaternions) * (growth * g.scales)[:, None, :]
    towards = torch.nn.functional.normalize(g.means - nearest, dim=-1)
    return BrowserSplats(
        centers=g.means.numpy(),
        covariances=(axes @ axes.transpose(-1, -2)).numpy(),
        rgbs=evaluate_harmonics(g.harmonics, towards).clamp(max=1).numpy(),
        opacities=g.opacities[:, None].numpy(),
    )


def _nearest(
    points: Float[Tensor, "N 3"], eyes: Float[Tensor, "V 3"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """For each point the nearest eye and its distance; one eye at a time, so that memory stays small."""
    best = torch.full((len(points),), torch.inf)
    nearest = torch.zeros_like(points)
    for eye in eyes:
        distance = (points - eye).norm(dim=-1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        nearest = torch.where(closer[:, None], eye, nearest)
    return nearest, best
