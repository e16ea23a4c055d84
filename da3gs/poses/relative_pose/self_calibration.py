"""Self-calibration: the focal length at which the epipolar geometry of many pairs holds best."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from da3gs.poses.relative_pose.two_view_geometry import Matches, bearings, in_front, sampson_errors

_SHARES = np.exp(np.linspace(np.log(0.45), np.log(3.2), 15))  # focal lengths in long sides: 96 to 18 degrees
_FEWEST, _MOST_PAIRS, _MOST_MATCHES = 30, 12, 400
_TELLING = 0.004  # by how much of the matches' score the best focal length has to beat the middle of the others
_WIDE = 0.1  # of the best score: focal lengths within that are as good when the curve's width is told
_LEVEL = 0.02  # of the best score: within that nothing speaks against a focal length
_ROUNDS = 2
_MOST_DOUBT = 0.25  # half the width of the curve, in logarithms, from which on a guess decides


def focal_from_matches(
    pairs: Sequence[Matches], *, height: int, width: int, bound: float, guess: float | None = None, seed: int = 0
) -> float | None:
    """The focal length, in pixels, of one camera that took all photos; None where nothing tells.

    For each of some focal lengths the essential matrix of every pair is estimated; the one for which most matches lie
    close to their epipolar lines (truncated squares of Sampson's error) and in front of both cameras wins, and its
    neighbours are searched more finely. Where a camera moves sideways, lines hardly tell the focal length, since a turn
    makes up for it; but too short a one puts what is far behind the cameras. Turning on the spot, planes and motion
    along one axis tell little: then the curve is flat, and the guess decides as far as the curve lets it.

    Args:
        pairs: verified matches; a dozen of them are used.
        height: of the photos in pixels, all of one size; the principal point is taken to be in their middle.
        width: the same across.
        bound: of Sampson's error, pixels.
        guess: what else is known of the focal length, in pixels.
        seed: of the samples.
    """
    generator = np.random.default_rng(seed)
    chosen = sorted((p for p in pairs if len(p) >= _FEWEST), key=len)
    if len(chosen) > _MOST_PAIRS:  # those with most matches alone would be those that hardly moved
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, _MOST_PAIRS).round().astype(int)]
    few = generator.permutation
    chosen = [p if len(p) <= _MOST_MATCHES else p[few(len(p))[:_MOST_MATCHES]] for p in chosen]
    if not chosen:
        return None
    shares, costs = _SHARES, np.array([_cost(chosen, share, height, width, bound) for share in _SHARES])
    middle = float(np.median(costs))
    for _ in range(_ROUNDS):
        best = int(costs.argmin())
        low, high = shares[max(best - 1, 0)], shares[min(best + 1, len(shares) - 1)]
        finer = np.exp(np.linspace(np.log(low), np.log(high), 7)[1:-1])
        more = np.array([_cost(chosen, share, height, width, bound) for share in finer])
        shares, costs = np.concatenate((shares, finer)), np.concatenate((costs, more))
        order = shares.argsort()
        shares, costs = shares[order], costs[order]
    best, long_side = int(costs.argmin()), max(height, width)
    wide = shares[costs < costs[best] + max(_TELLING, _WIDE * costs[best])]
    if middle - costs[best] >= _TELLING and np.log(wide.max() / wide.min()) / 2 < _MOST_DOUBT:
        return float(shares[best] * long_side)
    if guess is None:
        return None
    level = max(_LEVEL * costs[best], 2 / sum(map(len, chosen)))  # at least what a match or two make of the score
    fair = shares[costs <= costs[best] + level] * long_side
    return float(np.clip(guess, fair.min(), fair.max()))


def _cost(pairs: Sequence[Matches], share: float, height: int, width: int, bound: float) -> float:
    """Mean truncated square over all matches, 0 to 1 and 1 for those that are not in front, at a focal length in long
    sides."""
    focal = share * max(height, width)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    total, count = 0.0, 0
    for number, pair in enumerate(pairs):
        total += len(pair) if (found := _essential(pair, intrinsics, bound, number)) is None else found
        count += len(pair)
    return total / count


def _essential(pair: Matches, intrinsics: Float[np.ndarray, "3 3"], bound: float, seed: int) -> float | None:
    options = cv2.UsacParams()
    options.randomGeneratorState = seed
    options.score, options.sampler = cv2.SCORE_METHOD_MAGSAC, cv2.SAMPLING_UNIFORM
    options.loMethod, options.loIterations, options.loSampleSize = cv2.LOCAL_OPTIM_SIGMA, 20, 30
    options.confidence, options.maxIterations, options.threshold = 0.999, 1000, bound
    essential, _ = cv2.findEssentialMat(pair.first, pair.second, intrinsics, intrinsics, None, None, options)
    if essential is None or essential.shape != (3, 3) or not np.isfinite(essential).all():
        return None
    inverse = np.linalg.inv(intrinsics)
    squares = np.minimum((sampson_errors(inverse.T @ essential @ inverse, pair) / bound) ** 2, 1)
    one, two, direction = cv2.decomposeEssentialMat(essential)
    turns, ways = np.stack((one, one, two, two)), direction[:, 0] * np.array([[1], [-1], [1], [-1]])
    ahead = in_front(turns, ways, (bearings(pair.first, intrinsics), bearings(pair.second, intrinsics)))
    return float(np.where(ahead, squares, 1.0).sum(-1).min())
