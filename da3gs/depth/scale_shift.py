"""Depth laid on sparse points: a robust scale and shift for every view."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.geometry.projection import project

_LEAST = 12  # points that a view needs for a scale and a shift of its own
_FEW = 4  # and for a scale of its own
_SAMPLES = 256
_LEAST_SHARE = 0.25  # of the scaled depth that a negative shift has to leave
_FAR_OFF = 0.7  # a point whose log depth is this far from the median says nothing of this view: something hides it


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PointAlignment(TensorRecord):
    """Depth that fits sparse points."""

    depth: Float[Tensor, "V H W"]
    """``scale · depth + shift``, positive."""
    scales: Float[Tensor, "V"]
    """A view's factor."""
    shifts: Float[Tensor, "V"]
    """A view's shift in the cameras' units, 0 where points are few."""
    points: Int[Tensor, "V"]
    """How many points each view was fitted to (its inliers); 0: it got the factor of all views."""

    def as_dict(self) -> dict[str, Any]:
        """For scene.json."""
        return {
            "scales": [round(s, 4) for s in self.scales.tolist()],
            "shifts": [round(s, 6) for s in self.shifts.tolist()],
            "points": self.points.tolist(),
        }


def align_to_points(
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    points: Float[Tensor, "N 3"],
    *,
    visible: Bool[Tensor, "V N"] | None = None,
    masks: Bool[Tensor, "V H W"] | None = None,
    seed: int = 0,
) -> PointAlignment:
    """Each view's depth by the scale and shift that fit the points it sees.

    ``(s > 0, t) = argmin Σ (s d + t − D)²`` inside RANSAC, with the mean absolute deviation of the residuals from their
    median as inlier bound (Depth Anything 3's rule for teacher labels). A view with fewer than a dozen points gets a
    scale alone, one with hardly any the median scale of all views.

    Args:
        depth: positive.
        cameras: exact, in the points' world.
        points: world coordinates.
        visible: which views see which points (COLMAP's tracks); without it every point inside a picture counts that is
            not far off the others in depth.
        masks: False where a pixel says nothing.
        seed: of the samples that RANSAC draws.
    """
    pairs = [
        _pairs(
            depth[v], cameras[v], points, None if visible is None else visible[v], None if masks is None else masks[v]
        )
        for v in range(len(depth))
    ]
    ratios = [(far / near).log() for near, far in pairs if len(near) >= _FEW]
    overall = torch.cat(ratios).median().exp() if ratios else torch.ones((), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    fits = [_fitted(near, far, overall, generator) for near, far in pairs]
    scales, shifts = torch.stack([fit[0] for fit in fits]), torch.stack([fit[1] for fit in fits])
    factors, offsets = scales.to(depth)[:, None, None], shifts.to(depth)[:, None, None]
    # a negative shift must not turn what is nearest inside out
    moved = torch.maximum(factors * depth + offsets, _LEAST_SHARE * factors * depth)
    return PointAlignment(
        depth=moved, scales=scales.to(depth), shifts=shifts.to(depth),
        points=torch.tensor([fit[2] for fit in fits], device=depth.device),
    )  # fmt: skip


def _pairs(
    depth: Float[Tensor, "H W"],
    camera: Cameras,
    points: Float[Tensor, "N 3"],
    visible: Tensor | None,
    mask: Tensor | None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """The depth that the map and the points have where the points are seen, float64 on the CPU."""
    height, width = depth.shape
    pixels, far = project(points.double().cpu(), camera.intrinsics.double().cpu(), camera.world_to_cam.double().cpu())
    inside = (far > 0) & (pixels >= 0).all(-1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    if visible is not None:
        inside &= visible.cpu()
    column, row = pixels[inside].floor().long().unbind(-1)
    near, far = depth.cpu().double()[row, column], far[inside]
    usable = torch.isfinite(near) & (near > 0)
    if mask is not None:
        usable &= mask.cpu()[row, column]
    near, far = near[usable], far[usable]
    if visible is None and len(near):
        logs = (far / near).log()
        keep = (logs - logs.median()).abs() < _FAR_OFF
        near, far = near[keep], far[keep]
    return near, far


def _fitted(
    near: Float[Tensor, "n"], far: Float[Tensor, "n"], overall: Float[Tensor, ""], generator: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Scale, shift and number of inliers of one view."""
    nothing = torch.zeros((), dtype=torch.float64)
    if len(near) < _FEW:
        return overall.double(), nothing, 0
    scale = (far / near).median()
    if len(near) < _LEAST:
        return scale, nothing, len(near)
    pick = torch.randint(len(near), (_SAMPLES, 2), generator=generator)
    a, b = near[pick[:, 0]], near[pick[:, 1]]
    slopes = (far[pick[:, 1]] - far[pick[:, 0]]) / (b - a)
    slopes = torch.cat((slopes, scale[None]))
    offsets = torch.cat((far[pick[:, 0]] - slopes[:-1] * a, nothing[None]))
    # far from the scale alone is no scale of a depth map that means anything
    sane = torch.isfinite(slopes) & (slopes > 0.25 * scale) & (slopes < 4 * scale)
    slopes, offsets = slopes[sane], offsets[sane]
    residuals = slopes[:, None] * near + offsets[:, None] - far
    start = scale * near - far
    bound = (start - start.median()).abs().mean().clamp(min=1e-9 * scale)
    inliers = residuals.abs() <= bound
    cost = torch.where(inliers, residuals.abs(), bound).sum(-1)
    keep = inliers[cost.argmin()]
    if int(keep.sum()) < _LEAST:
        return scale, nothing, len(near)
    x, y = near[keep], far[keep]
    spread = (x - x.mean()).square().sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    if not (spread > 0 and 0.25 * scale < slope < 4 * scale):
        return scale, nothing, len(near)
    return slope, y.mean() - slope * x.mean(), int(keep.sum())
