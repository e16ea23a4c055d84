"""Self-calibration: the focal length at which the epipolar geometry of many pairs holds best."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from da3gs.poses.relative_pose.two_view_geometry import Matches, sampson_errors

_SHARES = np.exp(np.linspace(np.log(0.45), np.log(3.2), 15))  # focal lengths in long sides: 96 to 18 degrees
_FEWEST, _MOST_PAIRS, _MOST_MATCHES = 30, 12, 400
_TELLING = 0.004  # by how much of the matches' score the best focal length has to beat the middle of the others
_ROUNDS = 2


def focal_from_matches(
    pairs: Sequence[Matches], *, height: int, width: int, bound: float, seed: int = 0
) -> tuple[float, float] | None:
    """The focal length, in pixels, of one camera that took all photos, and how sure it is; None where nothing tells.

    For each of some focal lengths the essential matrix of every pair is estimated; the one for which the matches lie
    closest to their epipolar lines (truncated squares of Sampson's error) wins, and its neighbours are searched more
    finely. Turning on the spot, planes and motion along one axis tell little: then the curve is flat.

    Args:
        pairs: verified matches; a dozen of them are used.
        height: of the photos in pixels, all of one size; the principal point is taken to be in their middle.
        width: the same across.
        bound: of Sampson's error, pixels.
        seed: of the samples.

    Returns:
        The focal length, and the standard deviation of its logarithm as the curve's width tells it.
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
    best = int(costs.argmin())
    if middle - costs[best] < _TELLING:
        return None
    # where the cost is within a little of the best
    flat = shares[costs < costs[best] + max(_TELLING, 0.1 * costs[best])]
    doubt = float(np.log(flat.max() / flat.min()) / 2 + 0.01)
    return float(shares[best] * max(height, width)), doubt


def _cost(pairs: Sequence[Matches], share: float, height: int, width: int, bound: float) -> float:
    """Mean truncated square over all matches, 0 to 1, at a focal length in long sides."""
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
    errors = sampson_errors(inverse.T @ essential @ inverse, pair) / bound
    return float(np.minimum(errors**2, 1).sum())
