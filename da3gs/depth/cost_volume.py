"""Cost volume over multiples of each view's depth, and the smooth depth of least cost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.depth import _plane_sweep as _sweep
from da3gs.depth.view_pyramid import Level, neighbors_of

_Result = TypeVar("_Result")

_RADIUS = 2  # of the window that is compared, pixels of the level
_MATCH = 0.4  # 1 − ZNCC from which on two windows count as different: chance alone reaches lower over many labels
_WIDE = 3  # the radius where labels are many and pixels few
_REACH, _STEP = 1.4, 0.04  # of the field's logarithm
_PRIOR, _FAR = 0.1, 1.0  # what it costs to be this far (log depth) from every start, growing up to there
_UNSEEN = 0.9  # cost of a depth that no other view sees: a little less than that of one that looks wrong
_SMALL, _LARGE = 0.3, 3.0  # penalties of a change by a label, and by more
_SAME, _ONE_SURFACE = 0.06, 0.5  # log depth that counts as one surface, and what lying on it is worth


def steps_of(reach: float, step: float) -> Float[np.ndarray, " L"]:
    """Steps of log depth from -reach to reach."""
    count = round(reach / step)
    return (np.arange(-count, count + 1) * step).astype(np.float32)


def per_view(work: Callable[[int], _Result], count: int) -> list[_Result]:
    """The results of every view, on as many threads as torch uses; the kernels hold no lock."""
    with ThreadPoolExecutor(max(1, min(count, torch.get_num_threads()))) as pool:
        return list(pool.map(work, range(count)))


def volume_of(
    level: Level,
    depth: Float[Tensor, "V h w"],
    view: int,
    others: Sequence[int],
    steps: Float[np.ndarray, " L"],
    *,
    radius: int = _RADIUS,
    unseen: float | None = None,
) -> Float[np.ndarray, "h w L"]:
    """How little a view's pixels agree with other views, 0 to 1, at each step of its log depth.

    ``radius`` is that of the compared windows, in pixels; ``unseen`` the cost of a depth that no other view sees, by
    default that of windows that differ.
    """
    chosen, volume = list(others), np.full((*level.size, len(steps)), _sweep.UNSEEN)
    if chosen:
        _sweep.sweep(
            level.grey[view], level.valid[view], depth[view].contiguous().numpy(), level.rays[view],
            level.grey[chosen], level.valid[chosen], level.matrices[view, chosen], level.offsets[view, chosen],
            steps, radius, volume,
        )  # fmt: skip
    hidden = volume == _sweep.UNSEEN
    volume = np.minimum(volume / np.float32(_MATCH), np.float32(1))
    if unseen is not None:
        volume[hidden] = unseen
    else:  # what starts out of sight must not be drawn into it: any place in sight looks better than none
        volume[hidden[..., len(steps) // 2]] = 1.0
    return volume


def searched_field(level: Level, starts: Sequence[Float[Tensor, "V h w"]], count: int) -> Float[Tensor, "V h w"]:
    """The smooth field that each view's first start is best multiplied by, from a search far and wide.

    A network's depth can be off by more than a search nearby finds. Here every multiple of it within ``exp(1.4)`` is
    asked, so that its shape still decides where photos have no texture; a second round also asks whether the surfaces
    that the first one found mean one world. Semi-global matching keeps the field smooth.

    Args:
        level: the views.
        starts: depth that something speaks for, the best first: it is cheap to stay near any of them.
        count: of neighbours that each view is compared with.

    Returns:
        The logarithm of the field.
    """
    base = starts[0]
    logs = torch.stack(list(starts)).clamp(min=1e-12).log()
    others_away, steps = (logs - logs[:1]).numpy(), steps_of(_REACH, _STEP)
    neighbors = neighbors_of(level, base, count)
    no_jumps = np.zeros(level.size, np.float32)
    found = np.zeros(base.shape, np.float32)

    def search(view: int, first: bool) -> Float[np.ndarray, "h w"]:
        """The field of a view."""
        seen_by = neighbors[view]
        volume = volume_of(level, base, view, seen_by, steps, radius=_WIDE, unseen=_UNSEEN)
        away = np.abs(others_away[:, view, ..., None] - steps).min(0)
        volume += np.float32(_PRIOR) * np.minimum(away / np.float32(_FAR), np.float32(1))
        if seen_by and not first:
            agreement = np.zeros_like(volume)
            _sweep.one_surface(
                base[view].contiguous().numpy(), level.valid[view], level.rays[view],
                base[seen_by].numpy() * np.exp(found[seen_by]), level.matrices[view, seen_by],
                level.offsets[view, seen_by], steps, _SAME, agreement,
            )  # fmt: skip
            volume += np.float32(_ONE_SURFACE) * agreement
        total, out = np.zeros_like(volume), np.zeros(level.size, np.float32)
        _sweep.smooth_costs(volume, no_jumps, no_jumps, _SMALL, _LARGE, total)
        _sweep.best_step(total, steps, out)
        return out

    for first in (True, False):
        found = np.stack(per_view(functools.partial(search, first=first), len(base)))
    return torch.from_numpy(found)
