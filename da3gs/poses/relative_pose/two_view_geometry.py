"""Epipolar geometry of two views: Sampson errors, points in front, parallax, and how far chance would get."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Matches:
    """Points of two photos that may show the same spot."""

    first: Float[np.ndarray, "N 2"]
    """Pixels of the first photo, float64."""
    second: Float[np.ndarray, "N 2"]
    """Pixels of the second one."""

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: np.ndarray) -> Matches:
        return Matches(first=self.first[index], second=self.second[index])

    def swapped(self) -> Matches:
        """The same with the photos' parts exchanged."""
        return Matches(first=self.second, second=self.first)


def skew(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """``[v]×``, so that ``[v]× w = v × w``.

    >>> (skew(np.array([0.0, 0.0, 1.0])) @ np.array([1.0, 0.0, 0.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)


def rotation_matrices(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotations about the vectors' directions by their lengths in radians (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    cross = skew(vectors)
    safe = np.where(angle < 1e-8, 1.0, angle)
    sine = np.where(angle < 1e-8, 1.0, np.sin(safe) / safe)
    cosine = np.where(angle < 1e-8, 0.5, (1 - np.cos(safe)) / safe**2)
    return np.eye(3) + sine * cross + cosine * (cross @ cross)


def bearings(
    pixels: Float[np.ndarray, "*#batch N 2"], intrinsics: Float[np.ndarray, "*#batch 3 3"]
) -> Float[np.ndarray, "*batch N 3"]:
    """Directions ``K⁻¹ (u, v, 1)`` with z = 1; intrinsics without skew."""
    k = intrinsics[..., None, :, :]
    x = (pixels[..., 0] - k[..., 0, 2]) / k[..., 0, 0]
    y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    return np.stack((x, y, np.ones_like(x)), -1)


def fundamental_matrix(
    rotation: Float[np.ndarray, "*#batch 3 3"],
    translation: Float[np.ndarray, "*#batch 3"],
    intrinsics: tuple[Float[np.ndarray, "*#batch 3 3"], Float[np.ndarray, "*#batch 3 3"]],
) -> Float[np.ndarray, "*batch 3 3"]:
    """``F = K₂⁻ᵀ [t]× R K₁⁻¹`` for ``x₂ = R x₁ + t``."""
    first, second = (np.linalg.inv(k) for k in intrinsics)
    return np.swapaxes(second, -1, -2) @ skew(translation) @ rotation @ first


def sampson_errors(fundamental: Float[np.ndarray, "*#batch 3 3"], matches: Matches) -> Float[np.ndarray, "*batch N"]:
    """First-order distance, in pixels, of each match from the nearest pair that obeys ``x₂ᵀ F x₁ = 0`` (Sampson 1982).

    Signed as the algebraic error is, so that it can be a residual of least squares.
    """
    one, two = _homogeneous(matches.first), _homogeneous(matches.second)
    lines = one @ np.swapaxes(fundamental, -1, -2)
    back = two @ fundamental
    algebraic = (lines * two).sum(-1)
    slope = (lines[..., :2] ** 2).sum(-1) + (back[..., :2] ** 2).sum(-1)
    return algebraic / np.sqrt(np.maximum(slope, 1e-30))


def in_front(
    rotation: Float[np.ndarray, "*#batch 3 3"],
    translation: Float[np.ndarray, "*#batch 3"],
    rays: tuple[Float[np.ndarray, "*#batch N 3"], Float[np.ndarray, "*#batch N 3"]],
) -> Bool[np.ndarray, "*batch N"]:
    """Mask of rays that meet before both cameras: ``s₁, s₂ > 0`` in ``s₁ R x₁ + t ≈ s₂ x₂``.

    Rays that are parallel to within rounding count as meeting far ahead.
    """
    first, second, toward = rays[0] @ np.swapaxes(rotation, -1, -2), rays[1], translation[..., None, :]
    aa, bb, ab = (first * first).sum(-1), (second * second).sum(-1), (first * second).sum(-1)
    at, bt = (first * toward).sum(-1), (second * toward).sum(-1)
    # the normal equations of the two depths, their determinant (positive) multiplied out
    near, far = ab * bt - bb * at, aa * bt - ab * at
    scale = 1e-9 * np.sqrt(aa * bb) * np.linalg.norm(toward, axis=-1)
    return (ab > 0) & (near >= -scale) & (far >= -scale)


def meeting_depths(
    first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "N 2"]:
    """The depths ``(s₁, s₂)`` at which ``s₁ x₁ + t`` and ``s₂ x₂`` are closest, for rays in the second camera's axes.

    Rays that are nearly parallel meet far away, before or behind.
    """
    system = np.stack((first, -second), -1)
    transposed = np.swapaxes(system, -1, -2)
    normal = transposed @ system + 1e-9 * np.eye(2)
    return np.linalg.solve(normal, -(transposed @ translation)[..., None])[..., 0]


def ray_angles(
    rotation: Float[np.ndarray, "3 3"], rays: tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]
) -> Float[np.ndarray, "N"]:
    """Degrees between the two rays of each match, both in the second camera's axes: the parallax."""
    first, second = rays[0] @ rotation.T, rays[1]
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.degrees(np.arctan2(sine, (first * second).sum(-1)))


def chance_of_inlier(
    fundamental: Float[np.ndarray, "3 3"], matches: Matches, bound: float, *, generator: np.random.Generator
) -> float:
    """The probability that two points that have nothing to do with each other lie within ``bound`` of the geometry.

    Measured: with the points of the second photo dealt out anew a few times. Never less than one in the number of
    pairs that were tried.
    """
    rounds = max(1, math.ceil(2000 / max(len(matches), 1)))
    hits = 0
    for _ in range(rounds):
        dealt = Matches(first=matches.first, second=matches.second[generator.permutation(len(matches))])
        hits += int((np.abs(sampson_errors(fundamental, dealt)) <= bound).sum())
    return (hits + 1) / (rounds * len(matches) + 1)


def log_tail(successes: int, trials: int, probability: float) -> float:
    """``log₁₀ P[at least so many successes]`` of a binomial distribution; 0 for what surprises nobody.

    The a-contrario measure of Moisan and Stival (2004): minus ten says that chance does this once in 10¹⁰ times.

    >>> round(log_tail(10, 10, 0.1), 6)
    -10.0
    """
    if successes <= trials * probability:
        return 0.0
    counts = np.arange(successes, trials + 1)
    choose = np.array([math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in counts])
    logs = choose + counts * math.log(probability) + (trials - counts) * math.log1p(-min(probability, 1 - 1e-12))
    top = logs.max()
    return min(0.0, float((top + np.log(np.exp(logs - top).sum())) / math.log(10)))


def _homogeneous(pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    return np.concatenate((pixels, np.ones_like(pixels[:, :1])), -1)
