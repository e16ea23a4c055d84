"""Whether a Gaussian head's splats or those made from depth show the photos better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from da3gs.gaussians import Gaussians
from da3gs.pipeline.assemble import assembled_views
from da3gs.pipeline.predict import Placed
from da3gs.pipeline.score import photo_psnr
from da3gs.views import Views

_JUDGES = 6
"""Photos, spread over all, that decide."""
_CLEAR = 0.5
"""dB by which the head has to win: farther from the photos that made them, sharp splats fare worse than they will."""


def better_splats(result: Placed, views: Views) -> Placed:
    """The prediction without its head's splats, unless they are clearly better than those made from depth.

    A photo is shown by the splats of the other photos, from where it was taken: one that shows itself proves nothing.
    Splats from depth are sharp, and win where depth is right; those of a small head are soft, and forgive. A single
    photo gets the sharp ones.

    Args:
        result: with the splats of a head.
        views: the photos.
    """
    bare = dataclasses.replace(result, gaussians=None)
    if result.gaussians is None or len(views) == 1:
        return bare
    judges = sorted({round(place) for place in np.linspace(0, len(views) - 1, _JUDGES)})
    few = views[judges]
    from_head, from_depth = (_shown_by_others(_only(one, judges), few) for one in (result, bare))
    return result if from_head > from_depth + _CLEAR else bare


def _only(result: Placed, judges: Sequence[int]) -> Placed:
    """The prediction of some views."""
    count, pick = len(result.depth), list(judges)
    splats = result.gaussians
    return dataclasses.replace(
        result,
        depth=result.depth[pick],
        cameras=result.cameras[pick],
        confidence=None if result.confidence is None else result.confidence[pick],
        sky=None if result.sky is None else result.sky[pick],
        gaussians=None if splats is None else splats.map(lambda t: t.unflatten(0, (count, -1))[pick].flatten(0, 1)),
    )


def _shown_by_others(result: Placed, views: Views) -> float:
    """Mean PSNR, in dB, of each photo as the splats of the others show it."""
    parts = assembled_views(result, views)
    kept = [part.gaussians.masked(part.wanted & ~part.provenance.sky) for part in parts]
    cameras = result.cameras.to("cpu")
    scores = []
    for view in range(len(views)):
        others = [splats for other, splats in enumerate(kept) if other != view]
        scores += photo_psnr(Gaussians.concatenated(others), cameras[[view]], views[[view]])
    return sum(scores) / len(scores)
