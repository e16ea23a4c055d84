"""The similarity that lays most cameras on their true places, whatever a few of them do."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity, umeyama
from da3gs.pipeline.place import similarity_between

ROUNDS = 10
SEED = 42


def robust_similarity(predicted: Cameras, true: Cameras) -> Similarity:
    """Umeyama's similarity of the camera centres within RANSAC, as the official benchmark aligns poses.

    Ten random halves of the cameras (three at least); a camera is an inlier when it lands nearer than the median
    distance of neighbouring cameras after a first alignment of all; the half with the most inliers, then the smallest
    mean error, wins, and its inliers decide. Fewer than four cameras, or cameras on
    a line, are aligned by centres and viewing axes at once.
    """
    source, target = predicted.centers.double().cpu(), true.centers.double().cpu()
    count = len(source)
    if count < 4:
        return similarity_between(predicted, true)
    try:
        threshold = _threshold(umeyama(source, target).apply(source))
    except InputError:
        return similarity_between(predicted, true)
    generator = np.random.default_rng(SEED)
    best: tuple[int, float] = (-1, math.inf)
    chosen = torch.ones(count, dtype=torch.bool)
    for _ in range(ROUNDS):
        half = torch.from_numpy(generator.permutation(count)[: max(3, math.ceil(count / 2))])
        try:
            error = (umeyama(source[half], target[half]).apply(source) - target).norm(dim=-1)
        except InputError:
            continue
        inliers = error < threshold
        score = (int(inliers.sum()), float(error[inliers].mean()) if inliers.any() else math.inf)
        if score[0] > best[0] or (score[0] == best[0] and score[1] < best[1]):
            best, chosen = score, inliers
    try:
        return umeyama(source[chosen], target[chosen])
    except InputError:
        return umeyama(source, target)


def _threshold(centers: Float[Tensor, "N 3"]) -> float:
    """The median distance of cameras to their nearest neighbours."""
    apart = torch.cdist(centers, centers)
    apart.fill_diagonal_(math.inf)
    return float(apart.min(-1).values.median())
