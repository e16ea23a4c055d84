"""Axis conventions of splat files: what x, y and z point to, as three letters such as RDF (right, down, forward)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import harmonic_basis
from da3gs.geometry.similarity import Similarity

Frame = Literal["opencv", "opengl", "colmap", "supersplat"]
"""Whose axes: x right, y down, z forward (opencv, colmap); y up, z back (opengl); x left, y up (supersplat)."""

LETTERS: dict[Frame, str] = {"opencv": "RDF", "colmap": "RDF", "opengl": "RUB", "supersplat": "LUF"}
"""Each frame by its letters."""

ALL_AXES = (
    "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF", "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU",
)  # fmt: skip
"""Every convention in which x points to a side, in the order of ``.spz``."""

_DIRECTIONS = {
    "R": (1.0, 0.0, 0.0), "L": (-1.0, 0.0, 0.0),
    "D": (0.0, 1.0, 0.0), "U": (0.0, -1.0, 0.0),
    "F": (0.0, 0.0, 1.0), "B": (0.0, 0.0, -1.0),
}  # fmt: skip
_WORDS = {"R": "right", "L": "left", "D": "down", "U": "up", "F": "forward", "B": "back"}


def axes_words(letters: str) -> str:
    """The letters in words.

    >>> axes_words("RDF")
    'x right, y down, z forward'
    """
    return ", ".join(f"{axis} {_WORDS[letter]}" for axis, letter in zip("xyz", letters, strict=True))


def frame_of(letters: str) -> Frame | None:
    """The frame that has these axes, None where none of those with a name does."""
    return next((frame for frame, known in LETTERS.items() if known == letters), None)


def axes_change(source: str, target: str) -> Float[Tensor, "3 3"]:
    """The matrix that takes coordinates in ``source`` axes to ``target`` axes: a permutation with signs, float64.

    Its determinant is -1 where one of the two is left-handed.

    >>> (axes_change("RUB", "RDF") @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).tolist()
    [1.0, -2.0, -3.0]
    """
    rows, columns = (torch.tensor([_DIRECTIONS[letter] for letter in letters]) for letters in (target, source))
    return (rows @ columns.T).double()


def with_axes(gaussians: Gaussians, source: str, target: str) -> Gaussians:
    """Splats whose numbers are in ``source`` axes, in ``target`` axes; harmonics turn with them.

    Where only signs change no number is rounded. A reflection is possible too: a splat is its own mirror image in each
    of its principal planes, so that its mirrored shape has a proper rotation.
    """
    change = axes_change(source, target)
    signs = change.diagonal()
    if bool((signs == 1).all()):
        return gaussians
    if bool((signs != 0).all()):
        return _mirrored(gaussians, signs)
    handedness = torch.linalg.det(change).round()
    turn = Similarity(
        scale=torch.ones((), dtype=torch.float64),
        rotation=change * handedness,
        translation=torch.zeros(3, dtype=torch.float64),
    )
    turned = gaussians.transformed(turn)
    return turned if handedness > 0 else _mirrored(turned, -torch.ones(3, dtype=torch.float64))


def _mirrored(gaussians: Gaussians, signs: Float[Tensor, "3"]) -> Gaussians:
    """Splats after the coordinates were multiplied by ``signs``."""
    x, y, z = signs.tolist()
    turn = torch.tensor([1.0, y * z, z * x, x * y])
    return dataclasses.replace(
        gaussians,
        means=gaussians.means * signs.to(gaussians.means),
        quaternions=gaussians.quaternions * turn.to(gaussians.quaternions),
        harmonics=gaussians.harmonics
        * _parities((x, y, z), gaussians.degree).to(gaussians.harmonics)[: gaussians.harmonics.shape[-2], None],
    )


@functools.cache
def _parities(signs: tuple[float, float, float], degree: int) -> Float[Tensor, "K"]:
    """Each harmonic's factor, 1 or -1, when coordinates change their signs."""
    somewhere = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    mirrored = somewhere * torch.tensor(signs, dtype=torch.float64)
    return (harmonic_basis(mirrored, degree) / harmonic_basis(somewhere, degree)).round()
