"""One layer of splats from what views bear out, guesses kept out of the way, and surfaces continued beyond frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import da3gs
from da3gs.cameras import Cameras
from da3gs.depth.patch_match import StereoDepth, stereo_level, stereo_sides
from da3gs.depth.plane_completion import slopes_of
from da3gs.depth.surfels import surfel_views
from da3gs.depth.triangulation import Sharp
from da3gs.exports.splat_file import load_bare
from da3gs.gaussians import Gaussians
from da3gs.metrics.image import psnr
from da3gs.pipeline.check import check
from da3gs.pipeline.exact_cameras import Surfaces
from da3gs.pipeline.export import export
from da3gs.prediction import Placed
from da3gs.rendering import render
from da3gs.splats.from_prediction import Assembled, joined
from tests.small_scene import small_scene
from tests.unit.plane_scene import plane_scene

HEIGHT, WIDTH = 84, 112
EVERYTHING, DEPTH = plane_scene(5, HEIGHT, WIDTH)
CONTEXT = [0, 2, 4]
VIEWS = EVERYTHING[CONTEXT]
PIXELS = HEIGHT * WIDTH


def cameras_of(index: list[int]) -> Cameras:
    assert EVERYTHING.cameras is not None
    return EVERYTHING.cameras[index]


def photos() -> list[Sharp]:
    pictures = [(image.movedim(0, -1) * 255).round().byte().numpy() for image in VIEWS.images]
    return [Sharp(image=picture, height=HEIGHT, width=WIDTH) for picture in pictures]


def stereo_of(depth: torch.Tensor, votes: np.ndarray) -> StereoDepth:
    """What stereo would say with these depths, as borne out as that."""
    level = stereo_level(photos(), cameras_of(CONTEXT), None, WIDTH)
    return StereoDepth(planes=slopes_of((1 / depth).numpy()), votes=votes.astype(np.uint8), level=level)


def surfels(depth: torch.Tensor, votes: np.ndarray, most: int = 1_000_000) -> Assembled:
    bare = dataclasses.replace(VIEWS, cameras=None)
    result = Placed(depth=depth, cameras=cameras_of(CONTEXT), confidence=torch.full_like(depth, 2.0), poses="given")
    return joined(surfel_views(result, bare, stereo_of(depth, votes), photos(), most=most))


TRUE, SURE = DEPTH[CONTEXT], np.full((3, HEIGHT, WIDTH), 2)


@pytest.fixture(scope="module")
def layer() -> Assembled:
    return surfels(TRUE, SURE)


def shown(gaussians: Gaussians, view: int) -> float:
    """PSNR at any of the five photos, held out or not."""
    color = render(gaussians, cameras_of([view])[0]).color
    return float(psnr(color, EVERYTHING.images[view].movedim(0, -1)))


def test_a_surface_that_all_views_see_becomes_one_layer_and_shows_photos_that_were_left_out(layer: Assembled) -> None:
    seen = layer.provenance.confidence == 2
    assert PIXELS < int(seen.sum()) < 1.6 * PIXELS  # three layers would be 3, one view's frame alone 1
    assert layer.gaussians.antialiased
    for view in range(5):
        assert shown(layer.gaussians, view) > 31
    rows, columns = layer.provenance.pixel // WIDTH, layer.provenance.pixel % WIDTH
    assert int(rows.max()) == HEIGHT - 1
    assert int(columns.max()) == WIDTH - 1


def test_what_no_photo_shows_is_marked_and_stays_behind(layer: Assembled) -> None:
    """Seen from twice as wide, the continued surface covers what was black."""
    invented = layer.provenance.confidence == 1
    assert 100 < int(invented.sum()) < 35_000
    bare = layer.masked(~invented).gaussians
    wide = cameras_of([2]).cropped(-HEIGHT // 3, -WIDTH // 3, HEIGHT + 2 * (HEIGHT // 3), WIDTH + 2 * (WIDTH // 3))[0]
    whole, less = (render(g, wide).alpha for g in (layer.gaussians, bare))
    assert float((less > 0.5).float().mean()) < 0.7
    assert float((whole > 0.5).float().mean()) > 0.97


def test_guesses_that_would_hide_a_surface_move_behind_it() -> None:
    """A patch of the first view, borne out by none, at two thirds of its depth would stand before the others' plane."""
    depth, votes = TRUE.clone(), SURE.copy()
    depth[0, 30:50, 40:70] /= 1.5
    votes[0, 30:50, 40:70] = 0
    found = surfels(depth, votes).gaussians
    for view in (1, 2, 3, 4):
        assert shown(found, view) > 31
    held = votes.copy()
    held[0, 30:50, 40:70] = 1  # were it borne out it would be seen: this test can fail
    assert shown(surfels(depth, held).gaussians, 2) < 30


def test_a_guess_does_not_hide_what_another_photo_shows_though_that_is_a_guess_too() -> None:
    depth, votes = TRUE.clone(), np.zeros_like(SURE)
    right = surfels(depth, votes).gaussians
    depth[0, 30:50, 40:70] /= 1.5
    found = surfels(depth, votes).gaussians
    for view in (1, 2, 3, 4):
        assert shown(found, view) > shown(right, view) - 0.5


def test_detail_goes_down_with_the_budget() -> None:
    whole, fewer = (surfels(TRUE, SURE, most).provenance for most in (1_000_000, 6_000))
    assert len(fewer.view) < 6_300 < len(whole.view)


def test_levels_are_those_of_the_photos() -> None:
    large = [Sharp(image=np.zeros((672, 1008, 3), np.uint8), height=168, width=252)]
    assert stereo_sides(large) == (126, 252, 504)
    assert stereo_sides(photos()) == (56, 112)


def test_splats_are_refined_against_photos_of_their_detail() -> None:
    """A photo of half the canvas's width, twice as large on disk: its pixels, its mask and its padding grow alike."""
    narrow = [dataclasses.replace(photo, width=WIDTH // 2, image=photo.image[:, : WIDTH // 2]) for photo in photos()]
    large = tuple(dataclasses.replace(p, image=p.image.repeat(2, 0).repeat(2, 1)) for p in narrow)
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[:, 10:, : WIDTH // 2] = True
    views = dataclasses.replace(VIEWS, cameras=None, masks=masks, photo_sizes=((HEIGHT, WIDTH // 2),) * 3)
    result = Placed(depth=TRUE, cameras=cameras_of(CONTEXT), poses="given")
    finer = Surfaces(result=result, record={}, sharp=large).finer_views(views)
    assert (finer.height, finer.width, finer.sizes[0]) == (2 * HEIGHT, 2 * WIDTH, (2 * HEIGHT, WIDTH))
    assert finer.masks is not None
    assert torch.equal(finer.masks[:, ::2, ::2], masks)
    expected = VIEWS.images[..., : WIDTH // 2]
    torch.testing.assert_close(finer.images[..., ::2, :WIDTH:2], expected, atol=1 / 255, rtol=0)
    assert not finer.images[..., WIDTH:].any()


def test_scene_and_files_say_that_they_are_drawn_antialiased(tmp_path: Path) -> None:
    """Splats of half a pixel are drawn so by whatever reads the folder, or a file; check, too, holds them to it."""
    plain = small_scene()
    splats = dataclasses.replace(plain.gaussians, scales=0.3 * plain.gaussians.scales, antialiased=True)
    scene = dataclasses.replace(plain, gaussians=splats)
    scene.save(tmp_path / "a.scene")
    again = da3gs.load_scene(tmp_path / "a.scene")
    assert again.gaussians.antialiased
    assert check(tmp_path / "a.scene").passed
    drawn = render(again.gaussians, scene.cameras[0]).color
    assert torch.equal(drawn, render(again.gaussians, scene.cameras[0], antialias=True).color)
    assert not torch.allclose(drawn, render(again.gaussians, scene.cameras[0], antialias=False).color, atol=0.02)
    for name in ("a.ply", "a.spz", "a.sog"):
        export(scene, tmp_path / name)
        assert load_bare(tmp_path / name).gaussians.antialiased, name
    assert "SplatRenderMode: mip" in (tmp_path / "a.ply").read_bytes()[:2000].decode("latin-1")
    export(tmp_path / "a.ply", tmp_path / "b.ply")
    assert load_bare(tmp_path / "b.ply").gaussians.antialiased
    export(plain, tmp_path / "plain.ply")
    assert not load_bare(tmp_path / "plain.ply").gaussians.antialiased
