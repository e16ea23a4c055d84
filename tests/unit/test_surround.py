"""A soft surround: no direction is black, colours are those of the photos, and nothing in front of it changes."""

import dataclasses

import torch

from da3gs.geometry.harmonics import C0
from da3gs.pipeline.refine import refine
from da3gs.rendering import render
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.splats.background_shell import surround, surrounded
from tests.unit.test_refine import noisy_scene


def test_no_direction_is_black():
    """From among the cameras, looking anywhere: opaque everywhere, in colours between the darkest and the brightest."""
    scene, _ = noisy_scene(0.0)
    added = surround(scene.gaussians, scene.cameras, scene.views)
    colors = added.harmonics[:, 0] * C0 + 0.5
    assert colors.min() >= scene.views.images.min() - 1e-4
    assert colors.max() <= scene.views.images.max() + 1e-4
    camera = scene.cameras[0]
    for turn in (torch.diag(torch.tensor([1.0, 1, 1])), torch.diag(torch.tensor([-1.0, 1, -1]))):
        pose = camera.world_to_cam.clone()
        pose[:3] = turn @ pose[:3]
        picture = render(added, dataclasses.replace(camera, world_to_cam=pose))
        assert picture.alpha.min() > 0.95


def test_what_photos_show_stays():
    """The plane fills the photos: behind it the surround is hidden but for what little shines through."""
    scene, _ = noisy_scene(0.0)
    before = photo_psnr(scene.gaussians, scene.cameras, scene.views)
    splats, rows = surrounded(scene.gaussians, scene.provenance, scene.cameras, scene.views)
    after = photo_psnr(splats, scene.cameras, scene.views)
    assert min(a - b for a, b in zip(after, before, strict=True)) > -0.5
    assert rows is not None
    count = len(splats) - len(scene.gaussians)
    assert (rows.view[-count:] == -1).all()
    assert len(rows.view) == len(splats)
    assert torch.equal(splats.means[:-count], scene.gaussians.means)
    away = (splats.means[-count:] - scene.cameras.centers.mean(0)).norm(dim=-1)
    assert away.min() > (scene.gaussians.means - scene.cameras.centers.mean(0)).norm(dim=-1).median()


def test_refine_lays_it_behind():
    scene, _ = noisy_scene()
    done = refine(scene, steps=12, budget=12_000, surround=True)
    assert done.record["refinement"]["surround"]
    assert done.provenance is not None
    assert (done.provenance.view == -1).any()
    away = dataclasses.replace(scene.cameras[0], world_to_cam=torch.diag(torch.tensor([-1.0, 1, -1, 1])))
    assert render(done.gaussians, away).alpha.min() > 0.5
    assert render(scene.gaussians, away).alpha.max() < 0.01
