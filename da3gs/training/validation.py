"""How good a network is on held-out scenes, in figures that need no scale."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.geometry.rotations import angle_between
from da3gs.network.model import DepthAnything3
from da3gs.training.data import Batch
from da3gs.training.losses import conditioning, scene_truth


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Means over scenes."""

    absrel: float
    """``|s D̂ − D| / D`` with one scale s for all views of a scene (the median ratio)."""
    delta1: float
    """Share of pixels with ``max(s D̂ / D, D / (s D̂)) < 1.25``."""
    constant_absrel: float
    """AbsRel of a depth that is the same everywhere: what any model has to beat."""
    silog: float
    """Standard deviation of ``log D̂ − log D`` within a scene."""
    constant_silog: float
    """The same for a constant depth."""
    rotation: float
    """Mean angle between predicted and true rotations relative to the first view, degrees."""
    direction: float
    """Mean angle between predicted and true directions of travel from the first view, degrees."""
    auc30: float
    """Area under the curve of the larger of the two angles up to 30 degrees."""


def aligned_depth_errors(
    predicted: Float[Tensor, "V H W"], depth: Float[Tensor, "V H W"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """AbsRel and δ1 of a scene after one scale, the median of ``D / D̂``, for all its views."""
    valid = depth > 0
    p, d = predicted[valid], depth[valid]
    p = p * (d / p.clamp(min=1e-9)).median()
    ratio = torch.maximum(p / d, d / p.clamp(min=1e-9))
    return ((p - d).abs() / d).mean(), (ratio < 1.25).float().mean()


def scale_invariant_error(predicted: Float[Tensor, "V H W"], depth: Float[Tensor, "V H W"]) -> Float[Tensor, ""]:
    """Standard deviation of ``log D̂ − log D`` over a scene's pixels (Eigen et al. 2014, without the scale)."""
    valid = depth > 0
    return (predicted[valid].clamp(min=1e-9).log() - depth[valid].log()).std(correction=0)


def validate(model: DepthAnything3, batches: list[Batch], *, posed: bool = False) -> Figures:
    """Run the network on held-out scenes."""
    rows: list[list[float]] = []
    angles: list[Tensor] = []
    for batch in batches:
        truth = scene_truth(batch.depth, batch.cameras)
        with torch.no_grad():
            given = conditioning(batch.cameras) if posed else None
            out = model.raw(batch.images, given, reference="first")
        assert out.cameras is not None
        for i in range(len(batch.images)):
            absrel, delta1 = aligned_depth_errors(out.depth[i], truth.depth[i])
            flat = torch.ones_like(truth.depth[i])
            constant, _ = aligned_depth_errors(flat, truth.depth[i])
            silog, constant_silog = (scale_invariant_error(d, truth.depth[i]) for d in (out.depth[i], flat))
            found, true = out.cameras.cam_to_world[i], truth.cameras.cam_to_world[i]
            turn = angle_between(found[:1, :3, :3].mT @ found[1:, :3, :3], true[1:, :3, :3])
            travel = (found[:1, :3, :3].mT @ (found[1:, :3, 3:] - found[:1, :3, 3:])).squeeze(-1)
            cosine = torch.nn.functional.cosine_similarity(travel, true[1:, :3, 3], dim=-1)
            angles.append(torch.stack((turn, torch.arccos(cosine.clamp(-1, 1))), -1) * (180 / math.pi))
            rows.append([float(x) for x in (absrel, delta1, constant, silog, constant_silog)])
    absrel, delta1, constant, silog, constant_silog = torch.tensor(rows).mean(0).tolist()
    both = torch.cat(angles)
    worst = both.max(-1).values
    auc30 = float((1 - worst / 30).clamp(min=0).mean())
    rotation, direction = both.mean(0).tolist()
    return Figures(
        absrel=absrel,
        delta1=delta1,
        constant_absrel=constant,
        silog=silog,
        constant_silog=constant_silog,
        rotation=rotation,
        direction=direction,
        auc30=auc30,
    )
