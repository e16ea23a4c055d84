"""Real spherical harmonics in the basis of 3D Gaussian Splatting (Kerbl et al. 2023), degrees 0 to 3."""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

C0 = 0.28209479177387814
"""The constant harmonic: a colour c is stored as (c - 0.5) / C0."""

_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = (math.sqrt(15 / (4 * math.pi)), math.sqrt(5 / (16 * math.pi)), math.sqrt(15 / (16 * math.pi)))
_C3 = (
    math.sqrt(35 / (32 * math.pi)),
    math.sqrt(105 / (4 * math.pi)),
    math.sqrt(21 / (32 * math.pi)),
    math.sqrt(7 / (16 * math.pi)),
    math.sqrt(105 / (16 * math.pi)),
)


def harmonic_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch K"]:
    """The basis functions Y_k at unit directions, K = (degree + 1)²."""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, C0)]
    if degree >= 1:
        terms += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        a, b, c = _C2
        terms += [a * x * y, -a * y * z, b * (2 * z * z - x * x - y * y), -a * x * z, c * (x * x - y * y)]
    if degree >= 3:
        a, b, c, d, e = _C3
        r = 4 * z * z - x * x - y * y
        terms += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * r,
            d * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c * x * r,
            e * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, -1)


def evaluate_harmonics(
    harmonics: Float[Tensor, "*batch K 3"], directions: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """Colours towards unit directions: ``max(0, Σ_k Y_k harmonics[k] + 0.5)``.

    The direction points from the camera to the splat.
    """
    degree = round(harmonics.shape[-2] ** 0.5) - 1
    basis = harmonic_basis(directions, degree)
    return ((basis[..., None] * harmonics).sum(-2) + 0.5).clamp(min=0)


def _band(degree: int) -> slice:
    """Where the coefficients of one degree stand."""
    return slice(degree * degree, (degree + 1) ** 2)


@functools.cache
def _sample_basis(degree: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Fixed directions, and per degree the pseudo-inverse of the basis there, in float64."""
    index = torch.arange(64, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / 64
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    directions = torch.stack((radius * angle.cos(), radius * angle.sin(), z), -1)
    basis = harmonic_basis(directions, degree)
    return directions, tuple(torch.linalg.pinv(basis[:, _band(n)]) for n in range(degree + 1))


def harmonic_rotations(rotation: Float[Tensor, "*batch 3 3"], degree: int) -> list[Float[Tensor, "*batch n n"]]:
    """The matrix of every band of degree 1 to ``degree`` that turns coefficients by ``rotation``.

    Defined by ``Σ c'_k Y_k(R e) = Σ c_k Y_k(e)`` for all e; solved exactly on fixed directions, since every band is
    invariant under rotations.
    """
    directions, inverses = _sample_basis(degree)
    back = directions @ rotation.cpu().double()  # rows are Rᵀ e
    basis = harmonic_basis(back, degree)
    return [(inverses[n] @ basis[..., _band(n)]).to(rotation) for n in range(1, degree + 1)]


def rotate_harmonics(
    harmonics: Float[Tensor, "*batch N K 3"], rotation: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch N K 3"]:
    """The coefficients of the same colours after the world turned by ``rotation``; degree 0 never changes."""
    degree = round(harmonics.shape[-2] ** 0.5) - 1
    if degree == 0:
        return harmonics
    bands = [harmonics[..., :1, :]]
    for n, matrix in enumerate(harmonic_rotations(rotation, degree), start=1):
        bands.append(torch.einsum("...ij,...njc->...nic", matrix, harmonics[..., _band(n), :]))
    return torch.cat(bands, -2)
