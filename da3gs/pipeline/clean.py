"""Which splats stay: one rule for the command line, the viewer and the exports."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.errors import InputError
from da3gs.gaussians import Gaussians

DEFAULT_EDGE = 0.12
"""A pixel whose depth differs from a neighbour's by more than this share counts as a flyer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds that a splat has to keep; None leaves a criterion out."""

    min_opacity: float | None = None
    """Splats fainter than this go."""
    min_confidence: float | None = None
    """Splats of pixels whose depth confidence (at least 1) is below this go."""
    edge: float | None = DEFAULT_EDGE
    """Splats of pixels beside a jump in depth of more than this share go."""
    sky: bool = True
    """Splats of sky go."""

    def __post_init__(self) -> None:
        """Refuse bounds that mean nothing."""
        if self.min_opacity is not None and not 0 <= self.min_opacity <= 1:
            raise InputError(f"--min-opacity is a share from 0 to 1, got {self.min_opacity:g}")
        if self.min_confidence is not None and not 0 <= self.min_confidence < float("inf"):
            raise InputError(f"--min-confidence is a number from 0 up, got {self.min_confidence:g}")
        if self.edge is not None and not 0 < self.edge < float("inf"):
            raise InputError(f"--edge is a positive share of the depth, got {self.edge:g}")


def finite_splats(gaussians: Gaussians) -> Bool[Tensor, "N"]:
    """Splats whose every number is finite."""
    tensors = (gaussians.means, gaussians.scales, gaussians.quaternions, gaussians.harmonics.flatten(1))
    finite = torch.isfinite(gaussians.opacities)
    for tensor in tensors:
        finite &= torch.isfinite(tensor).all(-1)
    return finite


def kept_splats(
    gaussians: Gaussians,
    *,
    wanted: Bool[Tensor, "N"] | None = None,
    confidence: Float[Tensor, "N"] | None = None,
    edge: Float[Tensor, "N"] | None = None,
    sky: Bool[Tensor, "N"] | None = None,
    limits: Limits | None,
) -> tuple[Bool[Tensor, "N"], dict[str, int]]:
    """Which splats stay, and how many go for which reason; each is counted once, under the first that applies.

    Args:
        gaussians: the candidates.
        wanted: False where the pixel is padding or masked out.
        confidence: of the pixel's depth.
        edge: ``depth_edges`` of the pixel.
        sky: True where the pixel is sky.
        limits: the bounds; None drops nothing but the non-finite and the unwanted.
    """
    keep = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
    counts: dict[str, int] = {}

    def drop(reason: str, bad: Tensor) -> None:
        nonlocal keep
        counts[reason] = int((keep & bad).sum())
        keep &= ~bad

    if wanted is not None:
        drop("masked", ~wanted)
    drop("non_finite", ~finite_splats(gaussians))
    if limits is None:
        return keep, counts
    drop("non_positive", (gaussians.scales <= 0).any(-1) | (gaussians.opacities <= 0))
    if limits.sky and sky is not None:
        drop("sky", sky)
    if limits.edge is not None and edge is not None:
        drop("edge", edge > limits.edge)
    if limits.min_confidence is not None and confidence is not None:
        drop("confidence", confidence < limits.min_confidence)
    if limits.min_opacity is not None:
        drop("opacity", gaussians.opacities < limits.min_opacity)
    return keep, counts
