"""Pruning of a reconstruction's splats."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from jaxtyping import Bool
from torch import Tensor

from da3gs.depth.occlusion_check import contradicted
from da3gs.errors import InputError
from da3gs.pipeline.settings import Settings
from da3gs.prediction import Placed
from da3gs.splats.from_prediction import Assembled, assembled_views, joined
from da3gs.splats.pruning import NO_LIMITS, Limits, cleaned, kept_splats, parse_photos
from da3gs.upstream import official_pruning
from da3gs.views import Views


def kept_splats_of(
    result: Placed, views: Views, settings: Settings, surfels: Iterable[Assembled] | None = None
) -> tuple[Assembled, dict[str, int]]:
    """The splats that stay, cleaned view by view, and how many went for which reason.

    Args:
        result: what the splats are made from.
        views: the photos.
        settings: the flags.
        surfels: the splats of each view where stereo has made them; nothing contradicts these.

    Raises:
        InputError: none stays.
    """
    parts, dropped, count = [], dict[str, int](), 0
    limits = _limits(settings, views)
    alone = None if limits is None else dataclasses.replace(limits, outliers=None)
    exact = surfels is None and limits is not None and not settings.upstream and result.poses == "given"
    against = contradicted(result.depth, result.cameras, views).cpu() if exact else None
    if surfels is None:
        surfels = assembled_views(result, views, sky=settings.sky, backend=settings.backend)
    for view, candidates in enumerate(surfels):
        keep, reasons = _cleaned(candidates, result, view, alone, settings)
        if against is not None:
            h, w = views.sizes[view]
            bad = against[view, :h, :w].flatten()[candidates.provenance.pixel.long()] & ~candidates.provenance.sky
            reasons["contradicted"] = int((keep & bad).sum())
            keep = keep & ~bad
        parts.append(candidates.masked(keep))
        count += len(keep)
        dropped = {reason: dropped.get(reason, 0) + number for reason, number in reasons.items()}
    kept = joined(parts)
    if limits is not None and limits.outliers is not None:
        keep, _ = cleaned(kept.gaussians, kept.provenance, dataclasses.replace(NO_LIMITS, outliers=limits.outliers))
        dropped["outliers"] = int((~keep).sum())
        kept = kept.masked(keep)
    if not len(kept.gaussians):
        why = ", ".join(f"{reason} {number}" for reason, number in dropped.items() if number)
        raise InputError(f"none of {count} splats is left ({why}); loosen the cleaning or use --no-clean")
    return kept, dropped


def _limits(settings: Settings, views: Views) -> Limits | None:
    """The bounds, with the photos by position."""
    limits = settings.limits
    if limits is None or settings.photos is None:
        return limits
    return dataclasses.replace(limits, views=parse_photos(settings.photos, views.names))


def _cleaned(
    candidates: Assembled, result: Placed, view: int, limits: Limits | None, settings: Settings
) -> tuple[Bool[Tensor, "N"], dict[str, int]]:
    """Which of a view's splats stay: ours by the cleaning rules, the official head's with ``--upstream`` by the
    official ones."""
    provenance = candidates.provenance
    if settings.upstream and settings.clean and result.gaussians is not None:
        pruned = official_pruning(result.depth[view : view + 1]).cpu()
        keep, dropped = kept_splats(candidates.gaussians, wanted=candidates.wanted, limits=None)
        return keep & pruned, {**dropped, "official": int((keep & ~pruned).sum())}
    return kept_splats(
        candidates.gaussians,
        wanted=candidates.wanted,
        confidence=provenance.confidence.float(),
        edge=provenance.edge.float(),
        sky=provenance.sky,
        view=provenance.view,
        limits=limits,
    )
