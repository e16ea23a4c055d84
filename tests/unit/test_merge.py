"""Fewer splats for the same picture."""

import dataclasses
from pathlib import Path

import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats.splats.ply import save_ply
from da3gs.optimisation.budget import check_budget, merge, splats_in
from da3gs.optimisation.distillation import polished
from da3gs.prediction import Placed
from da3gs.rendering import render
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.splats.from_prediction import Assembled, assemble
from da3gs.splats.merging import thinned
from da3gs.views import Views
from tests.small_scene import small_gaussians
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


def test_the_same_bytes_on_any_number_of_threads():
    found, views, _ = everything()
    assert views.cameras is not None
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 2):
            torch.set_num_threads(number)
            results.append(merge(found.gaussians, found.provenance, views.cameras, views, 800))
    finally:
        torch.set_num_threads(threads)
    (one, rows, price), *others = results
    assert rows is not None
    for other, other_rows, other_price in others:
        assert other_rows is not None
        assert other_price == price
        assert torch.equal(other_rows.view, rows.view)
        for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
            assert torch.equal(getattr(other, name), getattr(one, name))


def test_polishing_shows_what_the_many_showed_without_the_photos():
    """Photos of noise leave no trace: the targets are renders. Every splat still knows where it comes from."""
    found, views, held = everything()
    assert views.cameras is not None
    assert held.cameras is not None
    fewer, _ = thinned(found.gaussians, None, views.cameras, 700)
    noise = torch.rand(views.images.shape, generator=torch.Generator().manual_seed(3))
    told = []
    better, origins = polished(
        fewer, found.gaussians, views.cameras, dataclasses.replace(views, images=noise),
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )  # fmt: skip
    assert told[-1] == ("polishing merged splats", 100, 100)
    assert len(better) == len(origins) <= len(fewer)
    wanted = render(found.gaussians, held.cameras[0])
    before, after = (render(splats, held.cameras[0]) for splats in (fewer, better))
    assert (after.color - wanted.color).square().mean() < 0.5 * (before.color - wanted.color).square().mean()
    assert (after.alpha - wanted.alpha).abs().mean() < 0.01
    again, _ = polished(fewer, found.gaussians, views.cameras, views)
    assert torch.equal(again.means, better.means)


def test_budgets_that_mean_nothing_are_refused():
    for budget, size in ((0, None), (None, 0.0), (None, float("nan")), (5, 1.0)):
        with pytest.raises(InputError, match="--"):
            check_budget(budget, size)


@pytest.mark.parametrize("bands", [1, 4, 9])
def test_a_file_of_as_many_splats_as_fit_is_as_large_as_allowed(tmp_path: Path, bands: int) -> None:
    megabytes = 0.05
    save_ply(small_gaussians(splats_in(megabytes, bands), bands), tmp_path / "full.ply")
    size = (tmp_path / "full.ply").stat().st_size
    assert 0.05e6 - 4096 - 4 * (14 + 3 * bands) < size <= 0.05e6
