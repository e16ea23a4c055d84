"""The similarity that lays most cameras on their true places, whatever a few of them do."""

from __future__ import annotations

import math

import numpy as np
import torch

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity, umeyama
from da3gs.poses.pose_alignment import similarity_between

ROUNDS = 10
SEED = 42


def robust_similarity(predicted: Cameras, true: Cameras) -> Similarity:
    """Umeyama's similarity of the camera centres within RANSAC, as the official benchmark aligns poses.

    Ten random halves of the cameras (three at least); a camera is an inlier when it lands no farther off than the
    median distance, after a first alignment of all, from a camera to the nearest true one; the half with the most
    inliers, then the smallest mean error, wins, and its inliers decide (the half itself where they are fewer than
    three). Fewer than four cameras, or cameras on a line, are aligned by centres and viewing axes at once.
    """
    source, target = predicted.centers.double().cpu(), true.centers.double().cpu()
    count = len(source)
    if count < 4:
        return similarity_between(predicted, true)
    try:
        winner = umeyama(source, target)
    except InputError:
        return similarity_between(predicted, true)
    threshold = float(torch.cdist(winner.apply(source), target).min(-1).values.median())
    generator = np.random.default_rng(SEED)
    best: tuple[int, float] = (-1, math.inf)
    chosen = torch.zeros(count, dtype=torch.bool)
    for _ in range(ROUNDS):
        half = torch.from_numpy(generator.choice(count, max(3, math.ceil(count / 2)), replace=False))
        try:
            found = umeyama(source[half], target[half])
        except InputError:
            continue
        error = (found.apply(source) - target).norm(dim=-1)
        inliers = error <= threshold
        score = (int(inliers.sum()), float(error[inliers].mean()) if inliers.any() else math.inf)
        if score[0] > best[0] or (score[0] == best[0] and score[1] < best[1]):
            best, chosen, winner = score, inliers, found
    try:
        return umeyama(source[chosen], target[chosen]) if int(chosen.sum()) >= 3 else winner
    except InputError:
        return winner
