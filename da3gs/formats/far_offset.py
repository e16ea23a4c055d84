"""Offset of splats that lie far from the origin, as georeferenced ones do: float32 cannot tell their places apart."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from da3gs.formats.records import SplatFile
from da3gs.gaussians import Gaussians

Offset = tuple[float, float, float]
"""What to add to positions to get the caller's."""

FINEST = 1e-3
"""Positions are wanted to this share of the median splat."""

_STEP = 2.0**-23
_AWAY = 8.0  # times the extent: nearer ones gain nothing by an offset
_SAMPLES = 100_000


def median_splat(gaussians: Gaussians) -> float:
    """The median over all splats of their middle standard deviation; 0 where there is none."""
    scales = gaussians.scales[:: 1 + len(gaussians) // _SAMPLES].detach()
    scales = scales[scales.isfinite().all(-1)].median(-1).values
    return float(scales.median()) if len(scales) else 0.0


def far_offset(gaussians: Gaussians) -> Offset | None:
    """A round number near the middle of splats whose places float32 holds too coarsely; None where it holds them."""
    means = gaussians.means[:: 1 + len(gaussians) // _SAMPLES].detach().cpu().double()
    means = means[means.isfinite().all(-1)]
    if not len(means):
        return None
    middle = means.median(0).values
    away = float(middle.abs().max())
    if away * _STEP <= FINEST * median_splat(gaussians):
        return None
    extent = float((means - middle).norm(dim=-1).quantile(0.9)) if len(means) > 1 else 0.0
    if away < _AWAY * extent:
        return None
    step = 10.0 ** torch.tensor(max(extent, away * _STEP)).log10().floor()
    x, y, z = ((middle / step).round() * step + 0.0).tolist()
    return x, y, z


def nearer(file: SplatFile, positions: Float[Tensor, "N 3"] | None = None) -> SplatFile:
    """The file with its splats moved to the origin and the offset told, where they lie too far from it for float32.

    Args:
        file: splats as they were read.
        positions: their centres in more than float32, where the file has them.
    """
    offset = far_offset(file.gaussians)
    if offset is None:
        return file
    exact = file.gaussians.means if positions is None else positions
    means: Float32[Tensor, "N 3"] = (exact.double() - torch.tensor(offset, dtype=torch.float64)).float()
    x, y, z = (a + b for a, b in zip(file.offset or (0.0, 0.0, 0.0), offset, strict=True))
    told = "too far from the origin for float32; taken off: " + " ".join(f"{value:.12g}" for value in offset)
    return dataclasses.replace(
        file,
        gaussians=dataclasses.replace(file.gaussians, means=means),
        offset=(x, y, z),
        notes=(*file.notes, told),
    )
