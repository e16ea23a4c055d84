"""Relative pose with monocular depth as a prior: hybrid LO-RANSAC over epipolar and depth-based hypotheses."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float

from da3gs.poses.relative_pose.minimal_solvers import scale_poses, scale_shift_poses
from da3gs.poses.relative_pose.pair_hypotheses import (
    DEPTH_WEIGHT,
    LITTLE_DEPTH,
    MatchedPair,
    PairModels,
    cost_of,
    focal_factor,
    fundamental_of,
    inliers_of,
    intrinsics_of,
    joined,
    optimised,
)
from da3gs.poses.relative_pose.two_view_geometry import (
    Matches,
    bearings,
    chance_of_inlier,
    log_tail,
    meeting_depths,
    ray_angles,
    sampson_errors,
)

LEAST_MATCHES = 10
"""Fewer tell no pose."""

SURPRISING = 4.0
"""A pose is believed that chance would find agreement for less than once in ten to this power."""

_SAMPLES, _ROUNDS = 384, 4  # minimal samples a round, and rounds
_SCORED = 400  # matches that hypotheses are scored with
_KEPT = 3  # hypotheses of a kind that are optimised
_MOST_AGREE = 0.6  # of the matches not seen: then depth is not asked
_FOCALS = 5  # that five-point hypotheses are made for where the focal length is in doubt
_CERTAIN = 0.03  # a doubt below which one focal length is enough


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PairView:
    """View of one photo of a pair."""

    intrinsics: Float[np.ndarray, "3 3"]
    """In pixels, float64; the focal length may be a guess."""
    focal_doubt: float
    """Standard deviation of the focal length's logarithm; 0: it is known."""
    depth: Float[np.ndarray, "N"] | None
    """Along z at the photo's matches, up to a scale and a shift; None where there is none."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RelativePose:
    """Relative pose of the second camera to the first: ``x₂ = R x₁ + t``."""

    rotation: Float[np.ndarray, "3 3"]
    """Proper rotation."""
    translation: Float[np.ndarray, "3"]
    """In the unit of the first photo's depth where both have depth, else of length 1."""
    intrinsics: Float[np.ndarray, "2 3 3"]
    """Of both, the focal lengths optimised where they were in doubt."""
    scale: float
    """Units of the first depth map in one of the second."""
    shifts: tuple[float, float]
    """What is added to the depth of each, in its own unit."""
    inliers: Bool[np.ndarray, "N"]
    """Matches that lie in front of both cameras and within the bound of the epipolar geometry."""
    error: float
    """Median Sampson error of the inliers in pixels."""
    parallax: float
    """Median angle between the rays of the inliers, degrees."""
    held_out: tuple[int, int]
    """How many of the matches that the pose had not seen agree with it, of how many."""
    surprise: float
    """``-log₁₀`` of the probability that as many of those agree by chance."""


def relative_pose(
    matches: Matches,
    first: PairView,
    second: PairView,
    *,
    bound: float,
    shared_focal: bool = False,
    seed: int = 0,
) -> RelativePose | None:
    """The pose that most matches agree with, checked on the half of them that it was not made from.

    Hypotheses come from five matches, and where these do not explain most matches from three with depth (scale alone;
    scale and a shift for each photo), at focal lengths drawn around the guesses. They are scored by truncated squares
    of Sampson's error and, with less weight and a wider bound, of the reprojection error of points lifted by each depth
    map; the best of each kind are optimised, focal lengths, scale and shifts with them (after MADPose, Yu et al., CVPR
    2025). Each half of the matches makes a pose and judges the other's; the one that chance explains worst wins and is
    optimised once more over all of them.

    Args:
        matches: putative ones, most of which may be wrong.
        first, second: the photos.
        bound: of Sampson's error of an inlier, pixels.
        shared_focal: both focal lengths are off by one factor.
        seed: of the samples.

    Returns:
        The pose, or None where fewer than ``LEAST_MATCHES`` matches are there or no hypothesis has as many inliers as
        it was made from.
    """
    if len(matches) < LEAST_MATCHES:
        return None
    generator = np.random.default_rng(seed)
    depth = None if first.depth is None or second.depth is None else np.stack((first.depth, second.depth))
    pair = MatchedPair(
        matches=matches, intrinsics=np.stack((first.intrinsics, second.intrinsics)),
        doubts=(first.focal_doubt, second.focal_doubt), shared=shared_focal, depth=depth, bound=bound,
    )  # fmt: skip
    order = generator.permutation(len(matches))
    folds = (pair[order[::2]], pair[order[1::2]])
    found = [_checked(seen, unseen, pair, generator) for seen, unseen in (folds, folds[::-1])]
    best = max((f for f in found if f is not None), key=lambda f: f[2], default=None)
    if best is None:
        return None
    model, held_out, surprise = best
    final = optimised(model, pair, depth_weight=LITTLE_DEPTH)
    if cost_of(final, pair, depth_weight=0.0)[0] > cost_of(model, pair, depth_weight=0.0)[0]:
        final = model
    return _recorded(final, pair, held_out, surprise)


def _checked(
    seen: MatchedPair, unseen: MatchedPair, pair: MatchedPair, generator: np.random.Generator
) -> tuple[PairModels, tuple[int, int], float] | None:
    """The best hypothesis of one half of the matches, how many of the other half agree, and how surprising that is.

    Depth is asked where epipolar geometry alone does not explain most of what it had not seen.
    """
    count = len(seen.matches)
    scored = seen if count <= _SCORED else seen[generator.choice(count, _SCORED, replace=False)]
    best: tuple[PairModels, tuple[int, int], float] | None = None
    for depth_weight in (0.0, DEPTH_WEIGHT) if pair.depth is not None else (0.0,):
        if depth_weight:
            kinds = [_from_depth(scored, generator, shifted=shifted) for shifted in (False, True)]
        else:
            kinds = [_five_point(seen, generator)]
        model = _best(kinds, scored, depth_weight)
        if model is None:
            continue
        agree = int(inliers_of(model, unseen)[0].sum())
        chance = chance_of_inlier(fundamental_of(model, pair)[0], pair.matches, pair.bound, generator=generator)
        surprise = -log_tail(agree, len(unseen.matches), chance)
        if best is None or surprise > best[2]:
            best = model, (agree, len(unseen.matches)), surprise
        if surprise >= SURPRISING and agree >= _MOST_AGREE * len(unseen.matches):
            break
    return best


def _recorded(model: PairModels, pair: MatchedPair, held_out: tuple[int, int], surprise: float) -> RelativePose | None:
    inliers = inliers_of(model, pair)[0]
    if int(inliers.sum()) < 5:
        return None
    intrinsics = intrinsics_of(model, pair)[:, 0]
    errors = np.abs(sampson_errors(fundamental_of(model, pair)[0], pair.matches))[inliers]
    rays = (bearings(pair.matches.first, intrinsics[0]), bearings(pair.matches.second, intrinsics[1]))
    length = 1.0 if pair.depth is not None else float(np.linalg.norm(model.translation[0]))
    return RelativePose(
        rotation=model.rotation[0], translation=model.translation[0] / length, intrinsics=intrinsics,
        scale=float(model.scale[0]), shifts=(float(model.shifts[0, 0]), float(model.shifts[0, 1])),
        inliers=inliers, error=float(np.median(errors)),
        parallax=float(np.median(ray_angles(model.rotation[0], rays)[inliers])),
        held_out=held_out, surprise=surprise,
    )  # fmt: skip


def _best(kinds: list[PairModels], pair: MatchedPair, depth_weight: float) -> PairModels | None:
    """The hypothesis of least cost after optimisation."""
    best, least = None, np.inf
    for models in kinds:
        if not len(models.scale):
            continue
        for index in np.argsort(cost_of(models, pair, depth_weight=depth_weight))[:_KEPT]:
            model = optimised(models[index : index + 1], pair, depth_weight=max(depth_weight, LITTLE_DEPTH))
            cost = float(cost_of(model, pair, depth_weight=depth_weight)[0])
            if cost < least:
                best, least = model, cost
    return best


def _from_depth(pair: MatchedPair, generator: np.random.Generator, *, shifted: bool) -> PairModels:
    """Hypotheses of three matches with depth; the best of each round stay."""
    assert pair.depth is not None
    kept: list[PairModels] = []
    for _ in range(_ROUNDS):
        focals = _drawn_focals(pair, _SAMPLES, generator)
        pick = np.argsort(generator.random((_SAMPLES, len(pair.matches))), 1)[:, :3]
        scaled = pair.intrinsics[:, None] * focal_factor(focals.T)
        rays = (bearings(pair.matches.first[pick], scaled[0]), bearings(pair.matches.second[pick], scaled[1]))
        solve = scale_shift_poses if shifted else scale_poses
        poses = solve(rays, (pair.depth[0][pick], pair.depth[1][pick]))
        models = PairModels(
            rotation=poses.rotation, translation=poses.translation, scale=poses.scale, shifts=poses.shifts,
            focals=focals[poses.sample],
        )  # fmt: skip
        kept.append(models[np.argsort(cost_of(models, pair, depth_weight=DEPTH_WEIGHT))[:_KEPT]])
    return joined(kept)


def _five_point(pair: MatchedPair, generator: np.random.Generator) -> PairModels:
    """Hypotheses of USAC's five-point solver, at one focal length or several."""
    kept: list[PairModels] = []
    doubt = max(pair.doubts)
    spread = np.linspace(-1.2, 1.2, _FOCALS) if doubt > _CERTAIN else np.zeros(1)
    for step in spread:
        focals = np.exp(step * np.array(pair.doubts))[None]
        scaled = pair.intrinsics * focal_factor(focals.T)[:, 0]
        options = cv2.UsacParams()
        options.randomGeneratorState = int(generator.integers(2**31 - 1))
        options.score, options.sampler = cv2.SCORE_METHOD_MAGSAC, cv2.SAMPLING_UNIFORM
        options.loMethod, options.loIterations, options.loSampleSize = cv2.LOCAL_OPTIM_SIGMA, 10, 20
        options.confidence, options.maxIterations, options.threshold = 0.999, 3000, pair.bound
        try:
            essential, _ = cv2.findEssentialMat(
                pair.matches.first, pair.matches.second, scaled[0], scaled[1], None, None, options
            )
        except cv2.error:  # degenerate points
            continue
        if essential is None or essential.shape != (3, 3) or not np.isfinite(essential).all():
            continue
        one, two, direction = cv2.decomposeEssentialMat(essential)
        turns = np.stack((one, one, two, two))
        ways = np.stack((direction[:, 0], -direction[:, 0], direction[:, 0], -direction[:, 0]))
        kept.append(_with_depth(turns, ways, np.repeat(focals, 4, 0), pair))
    return joined(kept)


def _with_depth(
    rotation: Float[np.ndarray, "M 3 3"],
    direction: Float[np.ndarray, "M 3"],
    focals: Float[np.ndarray, "M 2"],
    pair: MatchedPair,
) -> PairModels:
    """Epipolar hypotheses with the length of translation and the scale that fit the depth maps best."""
    count = len(rotation)
    models = PairModels(
        rotation=rotation, translation=direction, scale=np.ones(count), shifts=np.zeros((count, 2)), focals=focals
    )
    if pair.depth is None:
        return models
    inliers = inliers_of(models, pair)
    length, scale = np.ones(count), np.ones(count)
    for index in range(count):
        keep = inliers[index]
        if keep.sum() < 5:
            continue
        intrinsics = intrinsics_of(models[index : index + 1], pair)[:, 0]
        one = bearings(pair.matches.first[keep], intrinsics[0]) @ rotation[index].T
        two = bearings(pair.matches.second[keep], intrinsics[1])
        depths = meeting_depths(one, two, direction[index])
        near, far = (
            np.median(pair.depth[0][keep] / np.maximum(depths[:, 0], 1e-9)),
            np.median(pair.depth[1][keep] / np.maximum(depths[:, 1], 1e-9)),
        )
        if near > 0 and far > 0:
            length[index], scale[index] = near, near / far
    return dataclasses.replace(models, translation=direction * length[:, None], scale=scale)


def _drawn_focals(pair: MatchedPair, count: int, generator: np.random.Generator) -> Float[np.ndarray, "M 2"]:
    drawn = np.clip(generator.normal(size=(count, 2)), -2, 2)
    if pair.shared:
        drawn[:, 1] = drawn[:, 0]
    return np.exp(drawn * np.array(pair.doubts))
