"""Hypotheses of a pair's relative pose: how well matches and lifted points agree, and the nearest minimum of that."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from da3gs.poses.relative_pose.robust_minimum import robust_minimum
from da3gs.poses.relative_pose.two_view_geometry import (
    Matches,
    bearings,
    fundamental_matrix,
    in_front,
    rotation_matrices,
    sampson_errors,
)

DEPTH_WEIGHT = 0.3
"""Of a lifted point against a match, where depth has to decide."""
LITTLE_DEPTH = 0.01
"""The same where it only has to tell lengths."""

_REPROJECTION = 10.0  # bound of lifted points, in bounds of Sampson's error: depth is a rough thing
_SHIFT_DOUBT = 0.5  # of the median depth


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PairModels:
    """Hypotheses ``x₂ = R x₁ + t``, a row each."""

    rotation: Float[np.ndarray, "M 3 3"]
    """Of the second camera against the first."""
    translation: Float[np.ndarray, "M 3"]
    """In the unit of the first depth map."""
    scale: Float[np.ndarray, "M"]
    """Units of the first depth map in one of the second."""
    shifts: Float[np.ndarray, "M 2"]
    """What is added to the depth of each, in its own unit."""
    focals: Float[np.ndarray, "M 2"]
    """Focal lengths as multiples of the guesses."""

    def __getitem__(self, index: np.ndarray | slice) -> PairModels:
        return PairModels(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MatchedPair:
    """A pair's matches and what is known of its photos."""

    matches: Matches
    """Putative ones."""
    intrinsics: Float[np.ndarray, "2 3 3"]
    """Guesses, in pixels."""
    doubts: tuple[float, float]
    """Standard deviations of the logarithms of the focal lengths; 0: known."""
    shared: bool
    """Both focal lengths are off by one factor."""
    depth: Float[np.ndarray, "2 N"] | None
    """At the matches, along z."""
    bound: float
    """Of Sampson's error, pixels."""

    def __getitem__(self, index: np.ndarray) -> MatchedPair:
        depth = None if self.depth is None else self.depth[:, index]
        return dataclasses.replace(self, matches=self.matches[index], depth=depth)


def focal_factor(focals: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Factor of intrinsics, entry by entry, for another focal length."""
    factor = np.ones((*focals.shape, 3, 3))
    factor[..., (0, 1), (0, 1)] = focals[..., None]
    return factor


def joined(parts: list[PairModels]) -> PairModels:
    """All hypotheses one after the other."""
    if not parts:
        return PairModels(
            rotation=np.zeros((0, 3, 3)), translation=np.zeros((0, 3)), scale=np.zeros(0), shifts=np.zeros((0, 2)),
            focals=np.zeros((0, 2)),
        )  # fmt: skip
    return PairModels(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(PairModels)}
    )


def intrinsics_of(models: PairModels, pair: MatchedPair) -> Float[np.ndarray, "2 M 3 3"]:
    """Intrinsics of both photos under each hypothesis."""
    return pair.intrinsics[:, None] * focal_factor(models.focals.T)


def fundamental_of(models: PairModels, pair: MatchedPair) -> Float[np.ndarray, "M 3 3"]:
    """Fundamental matrices of hypotheses."""
    first, second = intrinsics_of(models, pair)
    return fundamental_matrix(models.rotation, models.translation, (first, second))


def inliers_of(models: PairModels, pair: MatchedPair) -> Bool[np.ndarray, "M N"]:
    """Mask of matches that lie in front of both cameras and within the bound."""
    first, second = intrinsics_of(models, pair)
    near = np.abs(sampson_errors(fundamental_of(models, pair), pair.matches)) <= pair.bound
    ahead = in_front(
        models.rotation,
        models.translation,
        (bearings(pair.matches.first, first), bearings(pair.matches.second, second)),
    )
    return near & ahead


def cost_of(models: PairModels, pair: MatchedPair, *, depth_weight: float) -> Float[np.ndarray, "M"]:
    """Truncated squares, 0 to 1 a match and up to ``depth_weight`` for its lifted points."""
    first, second = intrinsics_of(models, pair)
    rays = (bearings(pair.matches.first, first), bearings(pair.matches.second, second))
    squares = (sampson_errors(fundamental_matrix(models.rotation, models.translation, (first, second)), pair.matches)
               / pair.bound) ** 2  # fmt: skip
    squares = np.where(in_front(models.rotation, models.translation, rays), np.minimum(squares, 1), 1.0)
    cost = squares.sum(-1)
    if pair.depth is not None and depth_weight:
        for off in _lifted_residuals(models, pair, rays, (first, second)):
            cost = cost + depth_weight / 2 * np.minimum((off**2).sum(-1), 1).sum(-1)
    return cost


def _lifted_residuals(
    models: PairModels,
    pair: MatchedPair,
    rays: tuple[Float[np.ndarray, "M N 3"], Float[np.ndarray, "M N 3"]],
    intrinsics: tuple[Float[np.ndarray, "M 3 3"], Float[np.ndarray, "M 3 3"]],
) -> tuple[Float[np.ndarray, "M N 2"], Float[np.ndarray, "M N 2"]]:
    """Where points lifted by one depth map land in the other photo, minus the match, in bounds."""
    assert pair.depth is not None
    rotation, translation = models.rotation, models.translation[:, None]
    near = pair.depth[0] + models.shifts[:, :1]
    far = models.scale[:, None] * (pair.depth[1] + models.shifts[:, 1:])
    there = (rays[0] * near[..., None]) @ np.swapaxes(rotation, -1, -2) + translation
    back = (rays[1] * far[..., None] - translation) @ rotation
    return (
        _off(there, near, intrinsics[1], pair.matches.second, pair.bound),
        _off(back, far, intrinsics[0], pair.matches.first, pair.bound),
    )


def _off(
    points: Float[np.ndarray, "M N 3"],
    depth: Float[np.ndarray, "M N"],
    intrinsics: Float[np.ndarray, "M 3 3"],
    pixels: Float[np.ndarray, "N 2"],
    bound: float,
) -> Float[np.ndarray, "M N 2"]:
    z = points[..., 2]
    usable = (depth > 0) & (z > 1e-6 * np.abs(depth))
    safe = np.where(usable, z, 1.0)
    u = intrinsics[:, None, 0, 0] * points[..., 0] / safe + intrinsics[:, None, 0, 2] - pixels[:, 0]
    v = intrinsics[:, None, 1, 1] * points[..., 1] / safe + intrinsics[:, None, 1, 2] - pixels[:, 1]
    off = np.stack((u, v), -1) / (_REPROJECTION * bound)
    return np.where(usable[..., None], np.clip(off, -1e3, 1e3), 10.0)


def optimised(model: PairModels, pair: MatchedPair, *, depth_weight: float) -> PairModels:
    """One hypothesis moved to the nearest minimum of its robust cost: pose, scale, shifts and focal lengths."""
    return robust_minimum(
        model,
        lambda models: _residuals(models, pair, depth_weight),
        lambda state, steps: _moved(state, steps, pair),
        parameters=11,
        known=2 if pair.depth is None else 4,
    )


def _residuals(models: PairModels, pair: MatchedPair, depth_weight: float) -> Float[np.ndarray, "M R"]:
    first, second = intrinsics_of(models, pair)
    errors = sampson_errors(fundamental_matrix(models.rotation, models.translation, (first, second)), pair.matches)
    parts = [errors / pair.bound]
    if pair.depth is not None:
        rays = (bearings(pair.matches.first, first), bearings(pair.matches.second, second))
        for off in _lifted_residuals(models, pair, rays, (first, second)):
            parts.append(np.sqrt(depth_weight / 2) * off.reshape(len(off), -1))
        middle = np.median(pair.depth, 1)
        parts.append(models.shifts / (_SHIFT_DOUBT * middle))
    doubts = np.maximum(np.array(pair.doubts), 1e-6)
    parts.append(np.log(models.focals) / doubts)
    return np.concatenate(parts, 1)


def _moved(model: PairModels, steps: Float[np.ndarray, "S P"], pair: MatchedPair) -> PairModels:
    """The hypothesis after each of some small steps: turn, translation, scale, shifts, focal lengths."""
    length = np.linalg.norm(model.translation[0])
    middle = np.ones(2) if pair.depth is None else np.median(pair.depth, 1)
    doubt = np.array(pair.doubts)
    free = np.where(doubt > 0, 1.0, 0.0)
    focal = np.repeat(steps[:, 9:10], 2, 1) if pair.shared else steps[:, 9:11]
    return PairModels(
        rotation=rotation_matrices(steps[:, :3]) @ model.rotation,
        translation=model.translation + length * steps[:, 3:6],
        scale=model.scale * np.exp(np.clip(steps[:, 6], -2, 2)),
        shifts=model.shifts + middle * steps[:, 7:9],
        focals=model.focals * np.exp(np.clip(focal * free, -1, 1)),
    )
