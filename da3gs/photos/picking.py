"""Choice of photos where there are more than wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from da3gs.photos.candidates import Candidate


def picked(candidates: Sequence[Candidate], views: int | None) -> list[Candidate]:
    """At most ``views`` of them, in order: spread by the cameras' positions where all are given, else evenly."""
    if views is None or len(candidates) <= views:
        return list(candidates)
    poses = [c.cam_to_world for c in candidates if c.cam_to_world is not None]
    if len(poses) == len(candidates):
        return [candidates[i] for i in covering(np.stack(poses), views)]
    return [candidates[i] for i in evenly(len(candidates), views)]


def evenly(count: int, wanted: int) -> list[int]:
    """``wanted`` of ``count`` positions, the first and the last among them.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    >>> evenly(10, 1)
    [5]
    """
    if wanted == 1:
        return [count // 2]
    return [round(i) for i in np.linspace(0, count - 1, wanted).tolist()]


def covering(cam_to_world: Float[np.ndarray, "V 4 4"], wanted: int) -> list[int]:
    """Positions of the cameras that lie farthest from one another, found one by one, in ascending order.

    The first is the one nearest to the middle; then always the camera farthest from all that were chosen. A turn of 90
    degrees counts as much as half of the cameras' extent, so that a camera that turns on one spot is spread as well.
    """
    centers, forward = cam_to_world[:, :3, 3], cam_to_world[:, :3, 2]
    away = np.linalg.norm(centers - centers.mean(0), axis=1)
    features = np.concatenate((centers / max(2 * float(away.max()), 1e-12), forward * 0.35), 1)
    chosen = [int(np.linalg.norm(features - features.mean(0), axis=1).argmin())]
    nearest = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < wanted:
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return sorted(chosen)
