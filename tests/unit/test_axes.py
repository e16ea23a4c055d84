"""Axis conventions: splats look the same from the same place, whatever the axes of their numbers."""

from __future__ import annotations

import itertools

import pytest
import torch

from da3gs.exports.independent.record import DecodedSplats, left_handed
from da3gs.formats.axes import ALL_AXES, axes_change, axes_words, frame_of, with_axes
from da3gs.geometry.harmonics import evaluate_harmonics
from da3gs.geometry.rotations import quaternion_to_matrix
from tests.small_scene import small_gaussians

WAYS = {"R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1)}


def in_space(axes: str, numbers: torch.Tensor) -> torch.Tensor:
    """Where numbers of these axes point, as x right, y down, z forward, from the meaning of the letters alone."""
    return sum(numbers[..., i, None] * torch.tensor(WAYS[letter], dtype=numbers.dtype) for i, letter in enumerate(axes))


@pytest.mark.parametrize("axes", ALL_AXES)
def test_splats_stay_where_they_are(axes: str) -> None:
    splats = small_gaussians(60, 16)
    turned = with_axes(splats, "RDF", axes)
    torch.testing.assert_close(in_space(axes, turned.means), splats.means)
    before, after = ((quaternion_to_matrix(s.quaternions) * s.scales[:, None]) for s in (splats, turned))
    shape = before @ before.mT
    columns = in_space(axes, (after @ after.mT).mT)
    torch.testing.assert_close(in_space(axes, columns.mT), shape, rtol=1e-4, atol=1e-6)
    direction = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7]]), dim=-1).expand(60, 3)
    there = direction @ axes_change("RDF", axes).T.float()
    torch.testing.assert_close(in_space(axes, there), direction)
    torch.testing.assert_close(
        evaluate_harmonics(turned.harmonics, there), evaluate_harmonics(splats.harmonics, direction), rtol=0, atol=2e-6
    )
    again = with_axes(turned, axes, "RDF")
    torch.testing.assert_close(again.means, splats.means)
    torch.testing.assert_close(again.harmonics, splats.harmonics, rtol=0, atol=2e-6)


@pytest.mark.parametrize("axes", ["RUB", "LUF", "RUF", "LDB"])
def test_signs_alone_round_nothing(axes: str) -> None:
    splats = small_gaussians(60, 16)
    again = with_axes(with_axes(splats, "RDF", axes), axes, "RDF")
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        assert torch.equal(getattr(again, name), getattr(splats, name))


def test_handedness() -> None:
    for axes in ALL_AXES:
        assert left_handed(axes) == (torch.linalg.det(axes_change("RDF", axes)) < 0)


@pytest.mark.parametrize("axes", [axes for axes in ALL_AXES if left_handed(axes)])
def test_the_independent_decoder_mirrors_left_handed_axes(axes: str) -> None:
    """Its own rule gives the same splats, in right-handed axes, as ours."""
    splats = with_axes(small_gaussians(20, 16), "RDF", axes)
    fields = {name: getattr(splats, name).numpy() for name in ("means", "scales", "quaternions", "opacities")}
    decoded = DecodedSplats.of(".spz", splats.harmonics.numpy(), axes=axes, **fields)
    assert not left_handed(decoded.axes)
    wanted = with_axes(splats, axes, decoded.axes)
    torch.testing.assert_close(torch.from_numpy(decoded.means), wanted.means)
    torch.testing.assert_close(torch.from_numpy(decoded.harmonics), wanted.harmonics)
    shapes = []
    for quaternions in (torch.from_numpy(decoded.quaternions), wanted.quaternions):
        turn = quaternion_to_matrix(quaternions) * wanted.scales[:, None]
        shapes.append(turn @ turn.mT)
    torch.testing.assert_close(*shapes)


def test_names() -> None:
    assert [frame_of(axes) for axes in ("RDF", "RUB", "LUF", "RFU")] == ["opencv", "opengl", "supersplat", None]
    assert axes_words("LFU") == "x left, y forward, z up"
    letters = {"".join(axes) for pair in ("DUFB",) for axes in itertools.product("LR", pair, pair)}
    assert set(ALL_AXES) <= letters
    assert len(set(ALL_AXES)) == 16
