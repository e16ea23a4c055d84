"""Cross-validation of a refinement: photos left out in turn tell whether it helps, and for how many steps."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.optimisation.optimizer import Limit, Options, SplatOptimizer
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Provenance
from da3gs.splats.merging import thinned
from da3gs.views import Views

FOLDS = 3
"""At most so many photos are left out, each in a fold of its own: both ends of the sequence and its middle."""
_SHARE = 0.35
"""Share of the time, or of the steps, that all folds together take."""
_LEFT = 0.5
"""Share of the time that is left for the refinement however long the folds took: a busy machine refuses nothing."""
_MIN_STEPS = 24
"""Steps that every fold takes at least, whatever the clock says: fewer tell nothing."""
_FIRST_LOOK, _NEXT_LOOK = 8, 1.5
"""The step of the first score, and the factor from one score to the next."""
_CLEAR = 0.5
"""dB won in every fold that settle the matter."""
_PAST = 0.3
"""dB under the best score at which a fold has clearly begun to overfit."""
_LEAST_GAIN = -0.05
"""dB that the score has to reach: photos that are seen always get better, so that none need be won elsewhere."""
_SIDE, _SPLATS = 252, 100_000
"""Long side of the photos of a fold, and its splats, at most: enough to tell, at a tenth of the price."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """Gains at photos that were left out."""

    photos: tuple[str, ...]
    """Names of the photos left out, one a fold."""
    steps: int
    """Steps of each fold."""
    best_step: int
    """Steps after which the score was highest; 0 where none was worth it."""
    gains: tuple[float, ...]
    """dB won at each of the photos by then; where ``best_step`` is 0, by the best look there was."""

    def limit(self, limit: Limit, views: int, elapsed: float) -> Limit:
        """How far all photos may go: all the way, or as many rounds of the photos as the folds kept winning for."""
        steps = limit.steps
        if self.best_step < self.steps:
            rounds = math.ceil(self.best_step * views / (views - 1))
            steps = rounds if steps is None else min(steps, rounds)
        seconds = None if limit.seconds is None else max(limit.seconds - elapsed, _LEFT * limit.seconds)
        return Limit(steps=steps, seconds=seconds)

    def as_dict(self) -> dict[str, Any]:
        """For scene.json."""
        return {
            "photos": list(self.photos),
            "gains": [round(gain, 3) for gain in self.gains],
            "best_step": self.best_step,
            "steps": self.steps,
        }


def cross_validate(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    views: Views,
    limit: Limit,
    options: Options,
    *,
    progress: Progress = silent,
) -> Validation:
    """Refine without a photo and the splats that come from it, for some photos in turn, and score what was left out.

    All folds advance together, so that their scores compare at equal steps. The score of a step is the mean of the mean
    gain and the worst: a step that helps on average and harms at one photo is not taken.

    Args:
        gaussians: the start.
        provenance: a row a splat; without it no splat can be left out.
        cameras: one a photo.
        views: at least two photos.
        limit: of the whole refinement; the folds take a share of it.
        options: of the refinement.
    """
    count = len(views)
    views = _smaller(views)
    cameras = cameras.resized(views.height, views.width)
    start, view = _fewer(gaussians, provenance, cameras, min(options.most, _SPLATS))
    chosen = sorted({0, count // 2, count - 1}) if count > 2 else [0, 1]
    begin = time.perf_counter()
    folds = [_Fold(start, view, cameras, views, photo, options) for photo in chosen[:FOLDS]]
    most = None if limit.steps is None else max(math.ceil(_SHARE * limit.steps), min(_MIN_STEPS, limit.steps))
    time_box = math.inf if limit.seconds is None else _SHARE * limit.seconds
    steps, curve, stepping = [0], [[0.0] * len(folds)], 0.0
    while True:
        target = max(_FIRST_LOOK, math.ceil(_NEXT_LOOK * steps[-1]))
        target = target if most is None else min(target, most)
        expected = stepping * (target - steps[-1])
        over = time.perf_counter() - begin + expected > time_box and steps[-1] >= _MIN_STEPS
        if target == steps[-1] or over:
            break
        started = time.perf_counter()
        curve.append([fold.advanced(target - steps[-1]) for fold in folds])
        stepping = (time.perf_counter() - started) / (target - steps[-1])
        steps.append(target)
        progress("cross-validating the refinement", min(target, most or target), most or target)
        scores = [_score(gains, options) for gains in curve]
        past = target >= _MIN_STEPS and scores[-1] < max(scores[1:]) - _PAST
        if past or min(curve[-1]) >= _CLEAR:
            break
    best = max(range(1, len(scores)), key=scores.__getitem__)
    worth = scores[best] >= _LEAST_GAIN
    return Validation(
        photos=tuple(views.names[fold.photo] for fold in folds),
        steps=steps[-1],
        best_step=steps[best] if worth else 0,
        gains=tuple(curve[best]),
    )


def _score(gains: list[float], options: Options) -> float:
    """Half the mean and half the worst gain; with moving cameras the median, since one left out may be off itself."""
    if options.cameras:
        return statistics.median(gains)
    return 0.5 * (statistics.mean(gains) + min(gains))


def _fewer(
    gaussians: Gaussians, provenance: Provenance | None, cameras: Cameras, most: int
) -> tuple[Gaussians, Int[Tensor, "N"]]:
    """About so many splats, merged with those of the same view alone, and the view of each; -1: of none."""
    if provenance is None:
        fewer, _ = thinned(gaussians, None, cameras, most)
        return fewer, torch.full((len(fewer),), -1, device=gaussians.device)
    view = provenance.view.long()
    share = min(1.0, most / len(gaussians))
    parts = []
    for number in view.unique().tolist():
        own = gaussians.masked(view == number)
        parts.append((thinned(own, None, cameras, max(1, round(share * len(own))))[0], number))
    return Gaussians.concatenated([part for part, _ in parts]), torch.cat(
        [torch.full((len(part),), number, device=gaussians.device) for part, number in parts]
    )


def _smaller(views: Views) -> Views:
    """The photos, at most so large that a fold is quick."""
    factor = _SIDE / max(views.height, views.width)
    if factor >= 1:
        return views
    size = (max(1, round(views.height * factor)), max(1, round(views.width * factor)))
    masks = views.masks
    if masks is not None:
        masks = functional.interpolate(masks[:, None].float(), size, mode="nearest-exact")[:, 0] > 0
    extents = tuple((max(1, round(h * factor)), max(1, round(w * factor))) for h, w in views.sizes)
    images = functional.interpolate(views.images, size, mode="area")
    return Views(images=images, names=views.names, masks=masks, photo_sizes=extents)


class _Fold:
    """A refinement that does not see one photo."""

    def __init__(
        self,
        start: Gaussians,
        view: Int[Tensor, "N"],
        cameras: Cameras,
        views: Views,
        photo: int,
        options: Options,
    ) -> None:
        self.photo, self._at, self._view, self._options = photo, cameras[[photo]], views[[photo]], options
        others = [i for i in range(len(views)) if i != photo]
        start = start.masked(view != photo) if bool((view != photo).any()) else start
        share = len(start) / len(view)
        own = dataclasses.replace(options, most=max(len(start), round(min(options.most, _SPLATS) * share)))
        self._before = self._score(start)
        self._optimizer = SplatOptimizer(start, cameras[others], views[others], own)

    def _score(self, splats: Gaussians) -> float:
        return photo_psnr(
            splats, self._at, self._view, antialias=self._options.antialias, backend=self._options.backend
        )[0]

    def advanced(self, steps: int) -> float:
        """So many more steps; dB won at the photo left out since the start."""
        self._optimizer.run(Limit(steps=steps), decay=False)
        return self._score(self._optimizer.splats().detach()) - self._before
