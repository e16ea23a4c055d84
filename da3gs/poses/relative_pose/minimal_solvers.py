"""Minimal solvers of relative pose from matches with monocular depth."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

_PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class DepthPoses:
    """Relative poses ``x₂ = R x₁ + t`` in the unit of the first depth map, and what lays the depth maps on each other.

    A point of depth d₁ in the first map is at ``d₁ + shift₁``, one of d₂ in the second at ``scale (d₂ + shift₂)``.
    """

    rotation: Float[np.ndarray, "M 3 3"]
    """Of the second camera against the first."""
    translation: Float[np.ndarray, "M 3"]
    """In the unit of the first depth map."""
    scale: Float[np.ndarray, "M"]
    """Units of the first map in one of the second."""
    shifts: Float[np.ndarray, "M 2"]
    """What is added to the depth of each map, in its own unit."""
    sample: Int[np.ndarray, "M"]
    """Which sample each comes from."""


def scale_shift_poses(
    rays: tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 3 3"]],
    depths: tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]],
) -> DepthPoses:
    """Poses from samples of three matches whose depths are known up to a scale and a shift for each photo.

    Distances between the three points are the same in both cameras:
    ``|(d₁ᵢ+b₁) xᵢ − (d₁ⱼ+b₁) xⱼ|² = s² |(d₂ᵢ+b₂) yᵢ − (d₂ⱼ+b₂) yⱼ|²``. The three equations are linear in
    ``(s²b₂², s²b₂, s²)`` and ``(b₁², b₁, 1)``, so the former are quadratics in b₁, and what ties them together is a
    quartic: at most four poses a sample (the problem of MADPose, Yu et al., CVPR 2025).

    Args:
        rays: directions with z = 1 in each camera, three points a sample.
        depths: along z, at the same points.
    """
    left, right = _distances(rays[0], depths[0]), _distances(rays[1], depths[1])
    good = np.abs(np.linalg.det(right)) > 1e-14 * np.abs(right).max((1, 2)) ** 3
    polynomials = np.zeros_like(left)
    polynomials[good] = np.linalg.solve(right[good], left[good])
    square, middle, plain = polynomials[:, 0], polynomials[:, 1], polynomials[:, 2]
    quartic = _product(square, plain) - _product(middle, middle)
    good &= np.abs(quartic[:, 0]) > 1e-12 * np.abs(quartic).max(1)
    sample = np.flatnonzero(good)
    roots = _quartic_roots(quartic[sample])
    row, column = np.nonzero(np.isfinite(roots))
    sample, first = sample[row], roots[row, column]
    powers = np.stack((first * first, first, np.ones_like(first)), -1)
    plain_value = (plain[sample] * powers).sum(-1)
    positive = plain_value > 0
    sample, first, plain_value, powers = sample[positive], first[positive], plain_value[positive], powers[positive]
    second = (middle[sample] * powers).sum(-1) / plain_value
    scale = np.sqrt(plain_value)
    return _aligned(rays, depths, sample, scale, np.stack((first, second), -1))


def scale_poses(
    rays: tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 3 3"]],
    depths: tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]],
) -> DepthPoses:
    """Poses from samples of three matches whose depths are known up to one scale between the photos.

    The scale is the ratio of the triangles' sizes, the pose takes one triangle to the other.
    """
    sizes = [np.sqrt(_distances(x, d)[:, :, 2].sum(1)) for x, d in zip(rays, depths, strict=True)]
    sample = np.flatnonzero((sizes[0] > 1e-12) & (sizes[1] > 1e-12))
    scale = sizes[0][sample] / sizes[1][sample]
    return _aligned(rays, depths, sample, scale, np.zeros((len(sample), 2)))


def _distances(rays: Float[np.ndarray, "S 3 3"], depths: Float[np.ndarray, "S 3"]) -> Float[np.ndarray, "S 3 3"]:
    """Of the three squared distances the coefficients of ``(b², b, 1)``, a row a pair."""
    points = rays * depths[..., None]
    rows = []
    for i, j in _PAIRS:
        ray, point = rays[:, i] - rays[:, j], points[:, i] - points[:, j]
        rows.append(np.stack(((ray * ray).sum(-1), 2 * (point * ray).sum(-1), (point * point).sum(-1)), -1))
    return np.stack(rows, 1)


def _product(a: Float[np.ndarray, "S 3"], b: Float[np.ndarray, "S 3"]) -> Float[np.ndarray, "S 5"]:
    """Coefficients of the product of quadratics, highest power first."""
    out = np.zeros((len(a), 5))
    for i in range(3):
        for j in range(3):
            out[:, i + j] += a[:, i] * b[:, j]
    return out


def _quartic_roots(coefficients: Float[np.ndarray, "S 5"]) -> Float[np.ndarray, "S 4"]:
    """Real roots, NaN in place of the others: eigenvalues of the companion matrices, and a step of Newton's."""
    companion = np.zeros((len(coefficients), 4, 4))
    companion[:, 0] = -coefficients[:, 1:] / coefficients[:, :1]
    companion[:, (1, 2, 3), (0, 1, 2)] = 1
    values = np.linalg.eigvals(companion)
    real = np.abs(values.imag) <= 1e-6 * (1 + np.abs(values.real))
    x = values.real.astype(np.float64)
    for _ in range(2):
        value, slope = np.zeros_like(x), np.zeros_like(x)
        for k in range(5):
            slope = slope * x + value
            value = value * x + coefficients[:, k, None]
        x = x - np.where(np.abs(slope) > 1e-30, value / np.where(slope == 0, 1.0, slope), 0.0)
    return np.where(real, x, np.nan)


def _aligned(
    rays: tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 3 3"]],
    depths: tuple[Float[np.ndarray, "S 3"], Float[np.ndarray, "S 3"]],
    sample: Int[np.ndarray, "M"],
    scale: Float[np.ndarray, "M"],
    shifts: Float[np.ndarray, "M 2"],
) -> DepthPoses:
    """The poses that take each first triangle to its second one; those with points behind a camera are left out."""
    near = depths[0][sample] + shifts[:, :1]
    far = scale[:, None] * (depths[1][sample] + shifts[:, 1:])
    keep = (near > 0).all(1) & (far > 0).all(1) & np.isfinite(scale)
    sample, scale, shifts, near, far = sample[keep], scale[keep], shifts[keep], near[keep], far[keep]
    source, target = rays[0][sample] * near[..., None], rays[1][sample] * far[..., None]
    rotation = _triangle_axes(target) @ np.swapaxes(_triangle_axes(source), -1, -2)
    translation = target.mean(1) - np.einsum("mij,mj->mi", rotation, source.mean(1))
    fine = np.isfinite(rotation).all((1, 2))
    return DepthPoses(
        rotation=rotation[fine], translation=translation[fine], scale=scale[fine], shifts=shifts[fine],
        sample=sample[fine],
    )  # fmt: skip


def _triangle_axes(points: Float[np.ndarray, "M 3 3"]) -> Float[np.ndarray, "M 3 3"]:
    """An orthonormal frame in each triangle's plane, in columns; NaN where the triangle is a line.

    The first axis is a mean over the three corners, so that triangles which do not quite agree meet in the middle.
    """
    a, b, c = np.moveaxis(points, 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        normal = np.cross(b - a, c - a)
        normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
        # edges turned by 0, 120 and 240 degrees in the plane point one way in an equilateral triangle
        total = np.zeros_like(a)
        for edge, turn in ((b - a, 0.0), (c - b, -2 * np.pi / 3), (a - c, 2 * np.pi / 3)):
            total = total + np.cos(turn) * edge + np.sin(turn) * np.cross(normal, edge)
        along = total / np.linalg.norm(total, axis=-1, keepdims=True)
    return np.stack((along, np.cross(normal, along), normal), -1)
