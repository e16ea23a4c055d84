"""Which splats stay."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from da3gs.cli._cleaning import NO_CLEANING, Cleaning
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.splats.pruning import NO_LIMITS, Limits, cleaned, cleaned_scene, neighbours, parse_crop, parse_photos
from tests.small_scene import small_scene


def kept(**bounds: Any) -> torch.Tensor:
    scene = small_scene()
    keep, counts = cleaned(scene.gaussians, scene.provenance, dataclasses.replace(NO_LIMITS, **bounds))
    assert sum(counts.values()) == int((~keep).sum()), "each dropped splat is counted once"
    return keep


def test_each_bound_keeps_what_it_says() -> None:
    g, rows = small_scene().gaussians, small_scene().provenance
    assert rows is not None
    assert torch.equal(kept(min_opacity=0.5), g.opacities >= 0.5)
    assert torch.equal(kept(max_size=0.1), g.scales.amax(-1) <= 0.1)
    assert torch.equal(kept(sky=True), ~rows.sky)
    assert torch.equal(kept(edge=0.5), ~(rows.edge.float() > 0.5))
    assert torch.equal(kept(min_confidence=1.5), ~(rows.confidence.float() < 1.5))
    assert torch.equal(kept(views=(0, 2)), (rows.view == 0) | (rows.view == 2) | (rows.view == -1))
    inside = ((g.means >= -0.3) & (g.means <= 0.3)).all(-1)
    assert torch.equal(kept(crop=(-0.3, -0.3, -0.3, 0.3, 0.3, 0.3)), inside)
    assert bool(kept().all()), "sound splats keep the neutral bounds"


def test_a_bare_file_has_no_rows_to_go_by() -> None:
    g = small_scene().gaussians
    for bounds in ({"min_confidence": 2.0}, {"edge": 0.1}, {"views": (0,)}):
        with pytest.raises(InputError, match=r"splats\.npz"):
            cleaned(g, None, dataclasses.replace(NO_LIMITS, **bounds))
    keep, _ = cleaned(g, None, dataclasses.replace(NO_LIMITS, min_opacity=0.5))
    assert torch.equal(keep, g.opacities >= 0.5)
    assert bool(cleaned(g, None, None)[0].all())


def test_a_cleaned_scene_says_so() -> None:
    scene = small_scene()
    limits = dataclasses.replace(NO_LIMITS, min_opacity=0.5)
    less = cleaned_scene(scene, limits)
    assert less.provenance is not None
    assert len(less.provenance.view) == len(less.gaussians) == int((scene.gaussians.opacities >= 0.5).sum())
    assert less.record["cleaning"]["limits"]["min_opacity"] == 0.5
    assert less.record["cleaning"]["dropped"] == {"opacity": len(scene.gaussians) - len(less.gaussians)}
    assert cleaned_scene(scene, None) is scene
    with pytest.raises(InputError, match="none of 300"):
        cleaned_scene(scene, dataclasses.replace(NO_LIMITS, crop=(90.0, 90.0, 90.0, 91.0, 91.0, 91.0)))


def surface(side: int, *, step: float, at: float) -> torch.Tensor:
    grid = (torch.arange(side) - side / 2) * step
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    return torch.stack((x, y, torch.full_like(x, at)), -1).reshape(-1, 3)


def test_flyers_have_few_neighbours_whatever_the_scale() -> None:
    near, far = surface(30, step=0.01, at=1.0), surface(30, step=1.0, at=100.0)
    flyers = torch.tensor([[0.0, 0, 0.5], [0.1, 0, 0.7], [5.0, 5, 50]])
    sizes = torch.cat((torch.full((900,), 0.01), torch.full((900,), 1.0), torch.tensor([0.005, 0.007, 0.5])))
    g = Gaussians(
        means=torch.cat((near, far, flyers)),
        scales=sizes[:, None].expand(-1, 3).contiguous(),
        quaternions=torch.tensor([1.0, 0, 0, 0]).expand(1803, 4).contiguous(),
        opacities=torch.ones(1803),
        harmonics=torch.zeros(1803, 1, 3),
    )
    around = neighbours(g)
    assert int(around[:1800].min()) >= 8, "even a corner has some"
    assert int(around[1800:].max()) == 0
    moved = neighbours(dataclasses.replace(g, means=g.means * 3 + 7, scales=g.scales * 3))
    assert int(moved[1800:].max()) == 0
    assert int(moved[:1800].min()) >= 8
    broken = g.means.clone()
    broken[0] = torch.nan
    assert int(neighbours(dataclasses.replace(g, means=broken))[0]) == 0


def test_neighbours_agree_with_counting_by_hand() -> None:
    generator = torch.Generator().manual_seed(3)
    means = torch.rand(60, 3, generator=generator) * 8
    scales = torch.exp2(torch.randint(-3, 1, (60, 1), generator=generator).float()).expand(60, 3).contiguous()
    g = Gaussians(
        means=means, scales=scales, quaternions=torch.ones(60, 4), opacities=torch.ones(60),
        harmonics=torch.zeros(60, 1, 3),
    )  # fmt: skip
    moved = (means - means.amin(0)).double()
    expected = []
    for index in range(60):
        cells = torch.floor(moved / (4 * float(scales[index, 0])))
        expected.append(int(((cells - cells[index]).abs() <= 1).all(-1).sum()) - 1)
    assert neighbours(g).tolist() == expected


def test_words_become_bounds() -> None:
    assert NO_CLEANING.limits(None) is None
    limits = Cleaning(min_opacity=0.1, crop="0,0,0,1,2,3", photos="b.jpg,0").limits(["a", "b"])
    assert limits == Limits(min_opacity=0.1, edge=None, sky=False, crop=(0.0, 0.0, 0.0, 1.0, 2.0, 3.0), views=(0, 1))
    with pytest.raises(InputError, match="scene folder"):
        Cleaning(photos="a").limits(None)
    for text in ("1,2,3", "0,0,0,0,1,1", "a,b,c,d,e,f", "0,0,0,1,1,nan"):
        with pytest.raises(InputError, match="--crop"):
            parse_crop(text)
    for text in ("", "c", "2", "-1", "²"):
        with pytest.raises(InputError, match="--photos"):
            parse_photos(text, ["a", "b"])
    for bounds in ({"max_size": 0.0}, {"max_size": float("nan")}, {"outliers": -1}):
        with pytest.raises(InputError):
            Limits(**bounds)  # type: ignore[arg-type]
