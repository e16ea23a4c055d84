"""Fewer splats for the same picture."""

import dataclasses

import pytest
import torch

from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.pipeline.assemble import Assembled, assemble
from da3gs.pipeline.merge import cell_keys, check_budget, merge, merged_cells, splats_in, thinned
from da3gs.pipeline.predict import Placed
from da3gs.pipeline.score import photo_psnr
from da3gs.views import Views
from tests.unit.plane_scene import plane_scene


def everything() -> tuple[Assembled, Views, Views]:
    """The plane's splats from four of five photos, those photos, and the fifth."""
    views, depth = plane_scene(5, 56, 70)
    assert views.cameras is not None
    context = [0, 1, 3, 4]
    placed = Placed(depth=depth[context], cameras=views.cameras[context], poses="given")
    return assemble(placed, views[context]), views[context], views[[2]]


@pytest.mark.parametrize(("share", "price"), [(0.5, 0.2), (0.25, 0.6)])
def test_fewer_splats_cost_little_where_no_photo_was(share, price):
    """Half of them at most 0.2 dB, a quarter 0.6 dB: four photos of one plane are four layers of it."""
    found, views, held = everything()
    assert views.cameras is not None
    assert held.cameras is not None
    most = int(share * len(found.gaussians))
    fewer, rows, _ = merge(found.gaussians, found.provenance, views.cameras, views, most)
    assert len(fewer) <= most
    assert rows is not None
    assert len(rows.view) == len(fewer)
    assert (rows.view == -1).any()
    before = photo_psnr(found.gaussians, held.cameras, held)[0]
    assert photo_psnr(fewer, held.cameras, held)[0] > before - price


def test_the_price_is_the_loss_at_the_photos():
    found, views, _ = everything()
    assert views.cameras is not None
    fewer, _, price = merge(found.gaussians, None, views.cameras, views, 900)
    loss = torch.tensor(photo_psnr(found.gaussians, views.cameras, views)) - torch.tensor(
        photo_psnr(fewer, views.cameras, views)
    )
    assert price == pytest.approx(float(loss.mean()), abs=1e-3)
    with torch.inference_mode():
        inside = merge(found.gaussians.map(torch.clone), None, views.cameras.map(torch.clone), views, 900)[0]
    assert torch.equal(inside.means, fewer.means)
    same, _, free = merge(found.gaussians, None, views.cameras, views, len(found.gaussians))
    assert same is found.gaussians
    assert free == 0


def test_twins_become_one_and_loners_stay():
    """Two equal splats make one of the same place, size and colour; a third far away is untouched, to the bit."""
    mean = torch.tensor([[0.5, 0.5, 2.5], [0.5, 0.5, 2.5], [9.5, 0.5, 2.5]])
    splats = Gaussians(
        means=mean,
        scales=torch.tensor([[0.1, 0.2, 0.01]]).repeat(3, 1),
        quaternions=torch.tensor([[0.9, 0.1, 0.3, -0.2]]).repeat(3, 1),
        opacities=torch.tensor([0.3, 0.3, 0.6]),
        harmonics=torch.tensor([0.2, 0.4, 1.0])[:, None, None].expand(3, 1, 3).clone(),
    )
    keys = cell_keys(splats.means, torch.ones(3))
    assert keys[0] == keys[1] != keys[2]
    merged, _ = merged_cells(splats, None, keys)
    assert len(merged) == 2
    twin, loner = 0, 1  # in the order of the first members
    assert merged.scales[twin].sort().values.tolist() == pytest.approx([0.01, 0.1, 0.2], rel=1e-3)
    assert merged.opacities[twin] == pytest.approx(0.6, rel=1e-3)
    assert merged.harmonics[twin, 0, 0] == pytest.approx(0.3, rel=1e-5)
    for field in dataclasses.fields(splats):
        assert torch.equal(getattr(merged, field.name)[loner], getattr(splats, field.name)[2])


def test_splats_merge_piece_by_piece_as_at_once(monkeypatch):
    found, views, _ = everything()
    assert views.cameras is not None
    keep = torch.rand(len(found.gaussians), generator=torch.Generator().manual_seed(2)) < 0.7
    whole, rows = thinned(found.gaussians, found.provenance, views.cameras, 3000, keep=keep)
    monkeypatch.setattr("da3gs.pipeline.merge._CHUNK", 501)
    pieces, same_rows = thinned(found.gaussians, found.provenance, views.cameras, 3000, keep=keep)
    assert len(whole) <= 3000
    for field in dataclasses.fields(whole):
        torch.testing.assert_close(getattr(pieces, field.name), getattr(whole, field.name), rtol=1e-5, atol=1e-6)
    assert rows is not None
    assert same_rows is not None
    assert torch.equal(rows.view, same_rows.view)
    assert torch.equal(rows.pixel, same_rows.pixel)
    kept = thinned(found.gaussians.masked(keep), None, views.cameras, 3000)[0]
    assert torch.equal(kept.means, whole.means)


def test_cells_of_a_grid_have_keys_of_their_own():
    axis = torch.arange(-20, 20) + 0.5
    means = torch.cartesian_prod(axis, axis, axis).repeat(3, 1)
    sizes = torch.tensor([0.25, 0.5, 1.0]).repeat_interleave(len(axis) ** 3)
    assert len(torch.unique(cell_keys(means, sizes))) == len(means)


def test_budgets_that_mean_nothing_are_refused():
    for budget, size in ((0, None), (None, 0.0), (None, float("nan")), (5, 1.0)):
        with pytest.raises(InputError, match="--"):
            check_budget(budget, size)
    assert splats_in(1.0, 1) * 68 <= 1e6
