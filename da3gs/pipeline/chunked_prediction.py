"""Prediction of more views than go through a network together, in overlapping chunks that are joined into one world.

Attention asks for memory and time with the square of the number of views; chunks of one size make both linear. Where
cameras are given each chunk comes out in their frame. Where they are predicted, neighbouring chunks are laid on each
other by the views that they share, a view that two have seen is taken from the first, and where the first and the last
views see the same place the loop is closed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from da3gs._progress import Progress
from da3gs.cameras import Cameras
from da3gs.checkpoints import ModelCard
from da3gs.geometry.similarity import Similarity
from da3gs.pipeline.chunk_store import ChunkStore
from da3gs.pipeline.memory_estimate import what_fits, within_memory
from da3gs.pipeline.metric_scale import is_monocular
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.predict import predict
from da3gs.pipeline.settings import Settings
from da3gs.poses.chunk_joining import concatenated, drift, joint, loop_between, rows, spread
from da3gs.poses.world_frame import upright_frame
from da3gs.prediction import Placed
from da3gs.views import Views

AT_ONCE = 32
"""Views that go through a network together unless its card or ``--chunk`` says more."""

_Together = Callable[[Views], Placed]


def at_once(card: ModelCard, settings: Settings) -> int:
    """How many views go through the network together."""
    return max(card.views, AT_ONCE) if settings.chunk == "auto" else settings.chunk


def chunk_ranges(count: int, size: int) -> list[range]:
    """Positions of each chunk: ``size`` views at most, a quarter of them the last ones of the chunk before.

    >>> chunk_ranges(10, 8), chunk_ranges(8, 8)
    ([range(0, 8), range(6, 10)], [range(0, 8)])
    """
    size = max(2, size)
    shared = shared_views(size)
    starts = range(0, max(1, count - shared), size - shared)
    return [range(start, min(start + size, count)) for start in starts]


def shared_views(size: int) -> int:
    """How many views neighbouring chunks have in common."""
    return max(1, size // 4)


def predicted_in_memory(
    ready: LoadedModel,
    everything: Views,
    split: tuple[list[int], list[int]],
    settings: Settings,
    progress: Progress,
    partial: str | Path | None = None,
) -> tuple[Placed, Cameras | None, dict[str, Any] | None]:
    """What the network says of the context views, in the scene's frame; the cameras of all views where photos are held
    out whose cameras are not given; and what to record of the chunks, where there are several.

    Smaller pieces are tried where memory runs out.

    Args:
        everything: all views.
        split: positions of the context views and of the held-out ones.
        settings: the flags.
        progress: told of each chunk.
        partial: a folder where finished chunks are kept.
    """
    network = ready.network
    store = None if partial is None else ChunkStore(Path(partial), network, settings)
    context, held = split
    views = everything[context]
    whole = settings.upstream or is_monocular(network)  # depth of photos by themselves is made to agree between all
    size = len(everything) if whole else at_once(ready.card, settings)

    def alone(part: Views) -> Placed:
        """The prediction of a chunk."""
        return predict(network, part, settings)

    def cameras_alone(part: Views) -> Placed:
        """The same without what is known of cameras."""
        bare = dataclasses.replace(part, cameras=None)
        return predict(network, bare, dataclasses.replace(settings, splats="depth"))

    def work() -> tuple[Placed, Cameras | None, dict[str, Any] | None]:
        """Everything; called a second time where memory ran out."""
        result, record = _in_chunks(alone, views, size, progress, store)
        if result.poses != "given" and not settings.upstream:
            result = result.transformed(_frame(result, views, settings))
        everyone = None
        if held and result.poses != "given":
            everyone = _in_chunks(cameras_alone, everything, size, progress, None)[0].cameras
        return result, everyone, record

    shape = {"views": min(size, len(everything)), "height": everything.height, "width": everything.width}
    return within_memory(work, functools.partial(what_fits, network, settings, **shape))


def _in_chunks(
    alone: _Together, views: Views, size: int, progress: Progress, store: ChunkStore | None
) -> tuple[Placed, dict[str, Any] | None]:
    """The prediction of all views in the first chunk's frame, and how the chunks were joined; None for a single one."""
    ranges = chunk_ranges(len(views), size)
    found: list[Placed] = []
    for number, part in enumerate(ranges):
        progress("predicting depth and cameras", number, len(ranges))
        found.append(_kept(alone, views[list(part)], store if len(ranges) > 1 else None))
    progress("predicting depth and cameras", len(ranges), len(ranges))
    if len(ranges) == 1:
        return found[0], None
    record: dict[str, Any] = {"count": len(ranges), "views": size, "shared": shared_views(size)}
    news = [slice(before.stop - part.start, None) for before, part in itertools.pairwise(ranges)]
    if found[0].poses == "given":
        fresh = [rows(chunk, new) for chunk, new in zip(found[1:], news, strict=True)]
        return concatenated([found[0], *fresh]), record
    chain = [found[0]]
    for chunk, new in zip(found[1:], news, strict=True):
        shared = new.start
        chain.append(chunk.transformed(joint(rows(chunk, slice(0, shared)), rows(chain[-1], slice(-shared, None)))))
    whole = concatenated([chain[0], *(rows(chunk, new) for chunk, new in zip(chain[1:], news, strict=True))])
    return _closed(whole, alone, views, shared_views(size), store, record)


def _closed(
    whole: Placed,
    alone: _Together,
    views: Views,
    shared: int,
    store: ChunkStore | None,
    record: dict[str, Any],
) -> tuple[Placed, dict[str, Any]]:
    """The chain with its loop closed, where its ends see the same place."""
    ends = list(range(2 * shared)) + list(range(len(views) - 2 * shared, len(views)))
    together = _kept(alone, views[ends], store)
    loop = loop_between(rows(whole, slice(0, 2 * shared)), rows(whole, slice(-2 * shared, None)), together)
    record = {**record, "loop_seen": round(loop.seen, 3), "loop_closed": loop.closed}
    if loop.correction is None:
        return whole, record
    record["drift"] = drift(loop.correction, whole.cameras, 2 * shared)
    whole = spread(whole, loop.correction)
    left = loop_between(rows(whole, slice(0, 2 * shared)), rows(whole, slice(-2 * shared, None)), together)
    assert left.correction is not None
    return whole, {**record, "drift_left": drift(left.correction, whole.cameras, 2 * shared)}


def _kept(alone: _Together, views: Views, store: ChunkStore | None) -> Placed:
    """The prediction of a chunk, from the store where it has been made before."""
    if store is None:
        return alone(views)
    known = store.load(views)
    if known is None:
        known = alone(views)
        store.save(views, known)
    return known


def _frame(result: Placed, views: Views, settings: Settings) -> Similarity:
    up: Literal["auto", "camera"] = "camera" if settings.up == "camera" else "auto"
    valid = None if views.masks is None else views.masks.to(result.depth.device)
    if result.sky is not None and not bool(result.sky.all()):
        valid = ~result.sky if valid is None else valid & ~result.sky
    return upright_frame(result.cameras, result.depth, up=up, keep_scale=result.metric, valid=valid)
