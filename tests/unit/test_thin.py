"""Splats that agree become one; those that do not stay."""

import dataclasses

import numpy as np
import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering import render
from da3gs.scene import Provenance
from da3gs.splats.merging import agreeing_cells, merged_cells, thinned

SIDE = 96
SHADE = 0.28209479177387814


def camera() -> Cameras:
    """One that sees the wall with a splat a pixel."""
    intrinsics = torch.tensor([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]], dtype=torch.float32)
    return Cameras(world_to_cam=torch.eye(4)[None], intrinsics=intrinsics[None], height=SIDE, width=SIDE)


def wall(colors: torch.Tensor) -> Gaussians:
    """Flat splats a pixel apart, a unit away, of these grey values, row by row."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    count = SIDE * SIDE
    return Gaussians(
        means=torch.stack((x, y, torch.ones_like(x)), -1).reshape(-1, 3),
        scales=torch.tensor([0.7 / SIDE, 0.7 / SIDE, 0.01 / SIDE]).repeat(count, 1),
        quaternions=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), 0.95),
        harmonics=((colors.reshape(-1, 1, 1) - 0.5) / SHADE).expand(-1, 1, 3).contiguous(),
    )


def origins(views: torch.Tensor, pixels: torch.Tensor) -> Provenance:
    """Rows of these views and pixels."""
    return Provenance(
        view=views.short(),
        pixel=pixels.int(),
        confidence=torch.ones(len(views)).half(),
        edge=torch.zeros(len(views)).half(),
        sky=torch.zeros(len(views), dtype=torch.bool),
    )


def test_an_edge_stays_sharp_that_uniform_cells_blur() -> None:
    """Half black, half white, from column 37 on: no splat mixes the two, and the picture keeps the edge."""
    columns = torch.arange(SIDE).expand(SIDE, SIDE)
    splats = wall((columns >= 37).float())
    fewer, _ = thinned(splats, None, camera(), len(splats) // 16)
    shades = fewer.harmonics[:, 0, 0] * SHADE + 0.5
    assert torch.minimum(shades, 1 - shades).max() < 1e-3
    whole = render(splats, camera()[0]).color
    keys = (torch.arange(SIDE)[:, None] // 4 * SIDE + columns // 4).flatten()
    order = keys.argsort(stable=True)
    starts = torch.from_numpy(np.flatnonzero(np.diff(keys[order].numpy(), prepend=-1)))
    uniform, _ = merged_cells(splats, None, order, starts)
    assert len(fewer) <= len(uniform)
    near = slice(33, 41)
    errors = [(render(some, camera()[0]).color - whole)[8:-8, near].square().mean() for some in (fewer, uniform)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("share", [4, 16, 64])
def test_a_wall_of_one_colour_merges_to_few_splats_without_holes(share: int) -> None:
    splats = wall(torch.full((SIDE, SIDE), 0.8))
    fewer, _ = thinned(splats, None, camera(), len(splats) // share)
    assert len(splats) // (2 * share) < len(fewer) <= len(splats) // share
    inside = slice(SIDE // 6, -SIDE // 6)
    shown = render(fewer, camera()[0])
    alpha = shown.alpha[inside, inside]
    assert alpha.mean() > 0.9, "nothing dims"
    assert alpha.min() > 0.75, "and there are no holes"
    shade = shown.color[inside, inside, 0] / alpha
    assert (shade - 0.8).abs().max() < 1e-3


def test_detail_gets_the_splats_that_the_flat_part_spares() -> None:
    """Noise on the left, one colour on the right: most cells are on the left."""
    noise = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    noise[:, SIDE // 2 :] = 0.5
    fewer, _ = thinned(wall(noise), None, camera(), SIDE * SIDE // 4)
    left = int((fewer.means[:, 0] < 0).sum())
    assert left > 3 * (len(fewer) - left)


def test_a_step_in_depth_is_not_bridged() -> None:
    """One half ten times the distance away: no splat lies between."""
    splats = wall(torch.full((SIDE, SIDE), 0.5))
    far = torch.arange(SIDE * SIDE) % SIDE >= SIDE // 2
    splats = dataclasses.replace(splats, means=torch.where(far[:, None], 10 * splats.means, splats.means))
    fewer, _ = thinned(splats, None, camera(), 200)
    depth = fewer.means[:, 2]
    assert torch.minimum((depth - 1).abs(), (depth - 10).abs()).max() < 1e-4


@pytest.mark.parametrize("most", [1, 2, 17, 400, 9000])
def test_the_budget_is_never_exceeded(most: int) -> None:
    """Every splat to keep is in one cell, those of a cell are neighbours in the list, and cells are at most so many."""
    generator = torch.Generator().manual_seed(most)
    splats = wall(torch.rand(SIDE, SIDE, generator=generator))
    splats = dataclasses.replace(splats, means=splats.means + 0.3 * torch.randn(len(splats), 3, generator=generator))
    keep = torch.rand(len(splats), generator=generator) < 0.7
    members, starts = agreeing_cells(splats, camera(), most, keep=keep)
    assert torch.equal(members.sort().values, keep.nonzero()[:, 0])
    assert starts[0] == 0
    assert (starts.diff() > 0).all()
    assert min(most, int(keep.sum())) * 0.9 - 1 <= len(starts) <= most


def test_places_that_are_not_finite_do_no_harm() -> None:
    splats = wall(torch.full((SIDE, SIDE), 0.5))
    means = splats.means.clone()
    means[3], means[500, 1], means[4000] = torch.nan, torch.inf, 1e30
    fewer, _ = thinned(dataclasses.replace(splats, means=means), None, camera(), 1000)
    assert 0 < len(fewer) <= 1000


def test_twins_become_one_and_loners_stay() -> None:
    """Two equal splats make one of the same place, size and colour; a third far away is untouched, to the bit."""
    mean = torch.tensor([[0.5, 0.5, 2.5], [9.5, 0.5, 2.5], [0.5, 0.5, 2.5]])
    splats = Gaussians(
        means=mean,
        scales=torch.tensor([[0.1, 0.2, 0.01]]).repeat(3, 1),
        quaternions=torch.tensor([[0.9, 0.1, 0.3, -0.2]]).repeat(3, 1),
        opacities=torch.tensor([0.3, 0.6, 0.3]),
        harmonics=torch.tensor([0.2, 1.0, 0.4])[:, None, None].expand(3, 1, 3).clone(),
    )
    rows = origins(torch.tensor([4, 0, 5]), torch.tensor([7, 8, 9]))
    merged, merged_rows = thinned(splats, rows, camera(), 2)
    assert len(merged) == 2
    twin, loner = (0, 1) if merged.means[0, 0] < 5 else (1, 0)
    assert merged.scales[twin].sort().values.tolist() == pytest.approx([0.01, 0.1, 0.2], rel=1e-3)
    assert merged.opacities[twin] == pytest.approx(0.6, rel=1e-3)
    assert merged.harmonics[twin, 0, 0] == pytest.approx(0.3, rel=1e-5)
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        assert torch.equal(getattr(merged, name)[loner], getattr(splats, name)[1])
    assert merged_rows is not None
    assert merged_rows.view[[twin, loner]].tolist() == [-1, 0]
    assert merged_rows.pixel[[twin, loner]].tolist() == [7, 8]


def test_splats_merge_piece_by_piece_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    splats = wall(torch.rand(SIDE, SIDE, generator=generator))
    keep = torch.rand(len(splats), generator=generator) < 0.7
    rows = origins(torch.arange(len(splats)) % 3, torch.arange(len(splats)))
    whole, whole_rows = thinned(splats, rows, camera(), 3000, keep=keep)
    monkeypatch.setattr("da3gs.splats.merging._CHUNK", 501)
    pieces, piece_rows = thinned(splats, rows, camera(), 3000, keep=keep)
    for field in dataclasses.fields(whole):
        torch.testing.assert_close(getattr(pieces, field.name), getattr(whole, field.name), rtol=1e-5, atol=1e-6)
    assert whole_rows is not None
    assert piece_rows is not None
    assert torch.equal(whole_rows.view, piece_rows.view)
    assert torch.equal(whole_rows.pixel, piece_rows.pixel)
    kept, _ = thinned(splats.masked(keep), None, camera(), 3000)
    assert torch.equal(kept.means, whole.means)
