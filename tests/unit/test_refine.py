"""Refinement makes splats show photos better, also those it never saw, and never ends worse than it began."""

import dataclasses

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.metrics.image import psnr
from da3gs.optimisation.densification import halves
from da3gs.optimisation.optimizer import RATES, Limit, Options, SplatOptimizer
from da3gs.optimisation.photometric_loss import PhotometricLoss, _blurred, convolved
from da3gs.pipeline.refine import refine, refined
from da3gs.prediction import Placed
from da3gs.rendering import render
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Scene
from da3gs.splats.from_prediction import assemble
from tests.unit.plane_scene import plane_scene

HELD = [2]
CONTEXT = [0, 1, 3, 4]


def noisy_scene(noise: float = 0.05) -> tuple[Scene, Scene]:
    """The context and the held-out part of the plane, as splats of a depth that waves."""
    views, depth = plane_scene(5, 56, 70)
    assert views.cameras is not None
    wave = 1 + noise * torch.sin(torch.arange(70) / 4 + torch.arange(5)[:, None, None])
    cameras = views.cameras[CONTEXT]
    found = assemble(Placed(depth=(depth * wave)[CONTEXT], cameras=cameras, poses="given"), views[CONTEXT])

    def scene(index: list[int]) -> Scene:
        assert views.cameras is not None
        return Scene(
            gaussians=found.gaussians,
            cameras=views.cameras[index],
            views=dataclasses.replace(views[index], cameras=None),
            provenance=found.provenance,
            record={},
        )

    return scene(CONTEXT), scene(HELD)


def test_refining_helps_at_photos_it_never_saw():
    """By at least 1 dB within 40 steps; the scene given is not touched, and the same call gives the same bytes."""
    scene, held = noisy_scene()
    before = scene.gaussians.map(torch.clone)
    first = refine(scene, steps=40, budget=4000)
    again = refine(scene, steps=40, budget=4000)
    start = photo_psnr(scene.gaussians, held.cameras, held.views)[0]
    assert first.record["refinement"]["kept"]
    assert photo_psnr(first.gaussians, held.cameras, held.views)[0] > start + 1
    assert len(first.gaussians) <= 4000
    assert first.provenance is not None
    assert len(first.provenance.view) == len(first.gaussians)
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        assert torch.equal(getattr(before, name), getattr(scene.gaussians, name))
        assert torch.equal(getattr(first.gaussians, name), getattr(again.gaussians, name))


def test_what_does_not_help_is_not_kept():
    """Photos that contradict each other: what wins at three of them loses at the fourth, so the start comes back."""
    scene, _ = noisy_scene(0.0)
    images = scene.views.images.clone()
    images[[0, 1, 3]] = 1 - images[[0, 1, 3]]  # all but the photo in the middle, which is left out of the trial
    wrong = dataclasses.replace(scene, views=dataclasses.replace(scene.views, images=images))
    done = refine(wrong, steps=10)
    assert not done.record["refinement"]["kept"]
    assert done.gaussians is wrong.gaussians


def test_masked_pixels_do_not_count():
    """Garbage under a mask changes nothing."""
    scene, _ = noisy_scene()
    masks = torch.ones(4, 56, 70, dtype=torch.bool)
    masks[:, :20, :20] = False
    garbage = scene.views.images.clone()
    garbage[:, :, :20, :20] = 1
    clean = dataclasses.replace(scene.views, masks=masks)
    spoiled = dataclasses.replace(scene.views, masks=masks, images=garbage)
    parts = (scene.gaussians, scene.provenance, scene.cameras)
    one = refined(*parts, clean, steps=30, budget=3000)
    two = refined(*parts, spoiled, steps=30, budget=3000)
    assert one.record["kept"]
    assert torch.equal(one.gaussians.means, two.gaussians.means)


def test_photos_kept_out_are_not_read():
    """What is in a held-out photo makes no difference to the splats; it is scored."""
    scene, _ = noisy_scene()
    images = scene.views.images.clone()
    images[0] = 0.5
    other = dataclasses.replace(scene, views=dataclasses.replace(scene.views, images=images))
    one, two = (refine(s, steps=30, budget=3000, holdout=scene.views.names[0]) for s in (scene, other))
    assert one.record["refinement"]["kept"]
    assert torch.equal(one.gaussians.means, two.gaussians.means)
    assert one.record["refinement"]["psnr_holdout_before"] != two.record["refinement"]["psnr_holdout_before"]


def test_wrong_cameras_are_moved_back():
    """A camera turned by half a degree finds most of the way back while the splats are held; the first one stays."""
    scene, _ = noisy_scene(0.0)
    angle = torch.tensor(0.009)
    turn = torch.eye(4)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = angle.cos(), angle.sin(), -angle.sin(), angle.cos()
    world_to_cam = scene.cameras.world_to_cam.clone()
    world_to_cam[3] = turn @ world_to_cam[3]
    wrong = dataclasses.replace(scene.cameras, world_to_cam=world_to_cam)
    options = Options(cameras=True, rates=dict.fromkeys(RATES, 0.0))
    optimizer = SplatOptimizer(scene.gaussians, wrong, scene.views, options)
    optimizer.run(Limit(steps=80))
    moved = optimizer.cameras().world_to_cam.detach()
    assert torch.equal(moved[0], world_to_cam[0])
    error = [float((pose[3] - scene.cameras.world_to_cam[3])[:3, :3].norm()) for pose in (world_to_cam, moved)]
    assert error[1] < 0.7 * error[0]


def test_refining_with_moving_cameras_helps_where_poses_are_off():
    """Two of four cameras turned by a third of a degree end nearer to the truth, and the photos look better."""
    scene, _ = noisy_scene(0.02)
    angle = torch.tensor(0.006)
    turn = torch.eye(4)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = angle.cos(), angle.sin(), -angle.sin(), angle.cos()
    world_to_cam = scene.cameras.world_to_cam.clone()
    world_to_cam[1], world_to_cam[3] = turn.T @ world_to_cam[1], turn @ world_to_cam[3]
    wrong = dataclasses.replace(scene, cameras=dataclasses.replace(scene.cameras, world_to_cam=world_to_cam))
    moved = refine(wrong, steps=80, budget=4000, optimise_cameras=True)
    held = refine(wrong, steps=80, budget=4000)
    assert moved.record["refinement"]["kept"]
    assert moved.record["refinement"]["psnr_after"] > held.record["refinement"]["psnr_after"]
    assert torch.equal(held.cameras.world_to_cam, world_to_cam)
    assert torch.equal(moved.cameras.world_to_cam[0], world_to_cam[0])
    truth = scene.cameras.world_to_cam
    before, after = ((pose - truth)[[1, 3], :3, :3].norm() for pose in (world_to_cam, moved.cameras.world_to_cam))
    assert after < before


def test_rows_keep_their_photos_when_some_are_held_out():
    """Held-out photos do not cost the scene its provenance, and views count as before."""
    scene, _ = noisy_scene()
    done = refine(scene, steps=30, budget=100_000, holdout=scene.views.names[1])
    assert done.record["refinement"]["kept"]
    assert done.provenance is not None
    assert scene.provenance is not None
    assert len(done.provenance.view) == len(done.gaussians)
    share = torch.bincount(done.provenance.view.long(), minlength=4) / len(done.gaussians)
    assert (share > 0.15).all()  # a quarter each, give or take what was split and what faded
    # a splat's place is near the pixel it comes from, in the view that it names
    first = {
        (int(v), int(p)): i for i, (v, p) in enumerate(zip(scene.provenance.view, scene.provenance.pixel, strict=True))
    }
    pairs = zip(done.provenance.view.tolist(), done.provenance.pixel.tolist(), strict=True)
    at = torch.tensor([first[pair] for pair in pairs])
    moved = (scene.gaussians.means[at] - done.gaussians.means).norm(dim=-1)
    apart = (scene.gaussians.means - scene.gaussians.means.mean(0)).norm(dim=-1)
    assert moved.median() < 0.05 * apart.median()


def test_splats_are_split_where_the_error_is_and_the_faded_go():
    """Growth stays within the count, each new splat knows where it comes from, and light is the same right after."""
    scene, _ = noisy_scene()
    faded = scene.gaussians.opacities.clone()
    faded[:50] = 1e-4
    splats = dataclasses.replace(scene.gaussians, opacities=faded)
    most = len(splats) + 100
    optimizer = SplatOptimizer(splats, scene.cameras, scene.views, Options(most=most))
    optimizer.run(Limit(steps=2))
    before = render(optimizer.splats().detach(), scene.cameras[0]).color
    optimizer.densify_and_prune()
    grown = optimizer.splats().detach()
    assert len(splats) < len(grown) <= most
    assert optimizer.origins.tolist()[: len(splats) - 50] == list(range(50, len(splats)))
    assert len(optimizer.origins) == len(grown)
    assert (render(grown, scene.cameras[0]).color - before).abs().mean() < 0.02
    optimizer.run(Limit(steps=3))
    assert optimizer.splats().means.isfinite().all()


def test_halves_are_as_wide_and_as_opaque_as_the_whole():
    """Opposite halves let through together what the whole does, and lie along its longest axis."""
    scales, opacities = torch.tensor([[0.1, 0.4, 0.2]]), torch.tensor([0.75])
    way, logs, faint = halves(scales, torch.tensor([[1.0, 0, 0, 0]]), opacities)
    assert way[0].tolist() == pytest.approx([0, 0.24, 0])
    assert logs.exp()[0].tolist() == pytest.approx([0.1, 0.25, 0.2])
    assert float((1 - faint[0]) ** 2) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"seconds": 0.0}, "--seconds"), ({"seconds": float("nan")}, "--seconds"), ({"steps": 0}, "--steps"),
     ({"budget": 0}, "--budget"), ({"holdout": "nobody", "steps": 1}, "nobody")],
)  # fmt: skip
def test_limits_out_of_range_are_refused(flags, said):
    with pytest.raises(InputError, match=said):
        refine(noisy_scene()[0], **flags)


def test_a_time_box_holds():
    """Half a second asked for; the last step, thinning and scores on top of it stay under 20 on a busy machine."""
    scene, _ = noisy_scene()
    assert refine(scene, seconds=0.5, budget=2000).record["refinement"]["seconds"] < 20


def test_the_gradient_of_the_loss_is_its_derivative():
    """Against finite differences of the loss itself, in random directions; blurring is done in float32: 1 %."""
    generator = np.random.default_rng(0)
    photo = generator.random((24, 30, 3), np.float32)
    mask = generator.random((24, 30)) < 0.8
    photo, mask = torch.from_numpy(photo), torch.from_numpy(mask)
    loss = PhotometricLoss.of(photo, mask, share=0.9)
    image = photo + 0.3 * torch.from_numpy(generator.random((24, 30, 3), np.float32)) + 0.05
    _, gradient = loss(image)
    assert not gradient[~mask].any()
    for _ in range(3):
        way = torch.from_numpy(generator.standard_normal((24, 30, 3)).astype(np.float32)) * 4e-3
        slope = float(loss(image + way)[0] - loss(image - way)[0]) / 2
        assert slope == pytest.approx(float((gradient * way).sum()), rel=2e-2, abs=1e-5)


def test_the_loss_is_zero_at_the_photo():
    photo = torch.from_numpy(np.random.default_rng(1).random((20, 20, 3), np.float32))
    assert float(PhotometricLoss.of(photo)(photo)[0]) == pytest.approx(0, abs=1e-4)
    assert psnr(photo, photo) == 100


def test_the_window_of_other_devices_is_that_of_the_cpu():
    """The convolution that stands in for OpenCV's blur, at the borders too; both sum 121 products in float32."""
    image = torch.rand(23, 31, 3, generator=torch.Generator().manual_seed(2))
    assert (convolved(image) - _blurred(image)).abs().max() < 2e-6


def test_one_photo_is_refined_by_its_own_score():
    scene, _ = noisy_scene()
    done = refined(scene.gaussians, None, scene.cameras[[0]], scene.views[[0]], steps=8)
    color = render(done.gaussians, done.cameras[0]).color
    assert color.isfinite().all()
    assert done.record["psnr_after"] >= done.record["psnr_before"]
