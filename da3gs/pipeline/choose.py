"""Whether a Gaussian head's splats or those made from depth show the photos better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from da3gs.gaussians import Gaussians
from da3gs.pipeline.assemble import assembled_views
from da3gs.pipeline.predict import Placed
from da3gs.pipeline.score import photo_psnr
from da3gs.rendering import drop_workspaces
from da3gs.views import Views

JUDGES = 6
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
    judges = sorted({round(place) for place in np.linspace(0, len(views) - 1, JUDGES)})
    from_head, from_depth = (_shown_by_others(one, views, judges) for one in (result, bare))
    drop_workspaces()  # they are as large as the splats
    return result if from_head > from_depth + _CLEAR else bare


def _shown_by_others(result: Placed, views: Views, judges: Sequence[int]) -> float:
    """Mean PSNR, in dB, of each judge as the splats of the other judges show it."""
    kept = [
        part.gaussians.masked(part.wanted & ~part.provenance.sky)
        for part in assembled_views(result, views, only=judges)
    ]
    cameras = result.cameras.to("cpu")
    scores = []
    for place, view in enumerate(judges):
        others = Gaussians.concatenated(kept[:place] + kept[place + 1 :])
        scores += photo_psnr(others, cameras[[view]], views[[view]])
        del others  # before the next ones are made
    return sum(scores) / len(scores)
