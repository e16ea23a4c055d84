"""Budget of splats: neighbours that look alike are merged, then distilled to show what all of them showed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.optimisation.distillation import polished
from da3gs.rendering import Backend, contributions
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Provenance
from da3gs.splats.merging import thinned
from da3gs.views import Views

DEFAULT_BUDGET = 1_500_000
"""More splats than that are too many for most viewers."""
_UNSEEN = 0.01
"""Splats that cover less of a pixel than this, over all photos, go before any are merged."""


def splats_in(megabytes: float, bands: int) -> int:
    """Number of splats of so many harmonics that a .ply file of this size holds, its header and comments included."""
    return max(1, int((megabytes * 1e6 - 4096) // (4 * (14 + 3 * bands))))


def check_budget(budget: int | None, max_mb: float | None) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: naming the flag, its value and the range.
    """
    if budget is not None and budget < 1:
        raise InputError(f"--budget is a number of splats from 1 up, got {budget}")
    if max_mb is not None and not 0.01 <= max_mb <= 1e6:
        raise InputError(f"--max-mb is the size of a file from 0.01 to 1000000 MB, got {max_mb:g}")
    if budget is not None and max_mb is not None:
        raise InputError("--budget and --max-mb exclude each other; give one of them")


def bounded(
    gaussians: Gaussians, provenance: Provenance | None, cameras: Cameras, budget: int
) -> tuple[Gaussians, Provenance | None]:
    """Few enough splats for ``merge``, which draws them all: photos by the hundred make more than memory may hold.

    That is twice the budget, or twice the usual one where that is more.
    """
    return thinned(gaussians, provenance, cameras, 2 * max(budget, DEFAULT_BUDGET))


def merge(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    views: Views,
    budget: int,
    *,
    backend: Backend = "auto",
    progress: Progress = silent,
) -> tuple[Gaussians, Provenance | None, float]:
    """At most ``budget`` splats, and what that costs: the mean PSNR at the photos before, less that after, in dB.

    Splats that no photo shows go first; then neighbours become one, whichever photos they come from (their provenance
    is then view -1), where that changes the pictures least. Where the photos are shown worse for it, some steps of
    descent make the fewer splats show what all of them showed. Cutting by contribution alone would be far worse: the
    layers of a surface share it, and a cut leaves holes. The price is below 0 where the photos are shown better for it.
    """
    if len(gaussians) <= budget:
        return gaussians, provenance, 0.0
    before = photo_psnr(gaussians, cameras, views, backend=backend)
    weights = contributions(gaussians, cameras, pixel_weights=_wanted(views), backend=backend, progress=progress)
    fewer, rows = thinned(gaussians, provenance, cameras, budget, keep=weights >= _UNSEEN, weights=weights)
    del weights
    price = _mean(before) - _mean(photo_psnr(fewer, cameras, views, backend=backend))
    if price > 0:
        better, origins = polished(fewer, gaussians, cameras, views, backend=backend, progress=progress)
        paid = _mean(before) - _mean(photo_psnr(better, cameras, views, backend=backend))
        if paid < price:
            return better, None if rows is None else rows.map(lambda t: t[origins]), paid
    return fewer, rows, price


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _wanted(views: Views) -> Float[Tensor, "V H W"] | None:
    """1 where a pixel counts."""
    return None if views.masks is None else views.masks.float()
