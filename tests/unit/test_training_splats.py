"""The losses of the splat head against cases worked out by hand, and a head that learns."""

import dataclasses

import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.metrics.lpips import Lpips
from da3gs.network.model import DepthAnything3
from da3gs.training.data.loader import validation_batches
from da3gs.training.losses.geometric import Truth, scene_truth
from da3gs.training.losses.photometric import (
    PhotoWeights,
    color_loss,
    perceptual_loss,
    render_targets,
    scale_shift_invariant_loss,
    seen_by_context,
    splat_loss,
    splats_of,
    structure_loss,
    true_cameras_in_network_scale,
)
from da3gs.training.networks import trainable_network
from da3gs.training.presets import PRESETS
from da3gs.training.run import freeze, parameter_groups
from da3gs.training.step import Objective, training_step
from da3gs.training.validation import validate_splats
from da3gs.training.weight_init import awaken_splats

CONFIG = dataclasses.replace(PRESETS["nano-splats"], bfloat16=False)


@pytest.fixture(scope="module")
def batch():
    return validation_batches(1, (56, 84), views=2, targets=1)[0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = DepthAnything3(CONFIG.network())
    awaken_splats(network)
    return network


def test_color_loss_counts_what_was_seen():
    image, photo = torch.zeros(1, 2, 1, 3), torch.tensor([[[[0.5] * 3], [[1.0] * 3]]])
    both, one = torch.ones(1, 2, 1, dtype=torch.bool), torch.tensor([[[True], [False]]])
    assert color_loss(image, photo, both, measure="l1").item() == pytest.approx(0.75)
    assert color_loss(image, photo, both, measure="mse").item() == pytest.approx((0.25 + 1) / 2)
    assert color_loss(image, photo, one, measure="l1").item() == pytest.approx(0.5)


def test_structure_loss_of_equal_and_hidden_pictures_is_nothing():
    photo = torch.rand(1, 16, 16, 3)
    seen = torch.ones(1, 16, 16, dtype=torch.bool)
    assert structure_loss(photo, photo, seen).item() == pytest.approx(0, abs=1e-6)
    assert structure_loss(1 - photo, photo, ~seen).item() == pytest.approx(0, abs=1e-6)
    assert structure_loss(1 - photo, photo, seen).item() > 0.5


def test_scale_shift_invariant_loss():
    depth = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    valid = torch.ones_like(depth, dtype=torch.bool)
    assert scale_shift_invariant_loss(5 * depth + 7, depth, valid).item() == pytest.approx(0, abs=1e-6)
    # (0, 0, 1, 1) fits (1, 2, 3, 4) best as (1.5, 1.5, 3.5, 3.5): errors of a half, over a mean depth of 2.5.
    steps = torch.tensor([[[0.0, 0, 1, 1]]])
    assert scale_shift_invariant_loss(steps, depth, valid).item() == pytest.approx(0.5 / 2.5)
    hole = valid.clone()
    hole[..., 3] = False
    assert scale_shift_invariant_loss(torch.tensor([[[1.0, 2, 3, 99]]]), depth, hole).item() == pytest.approx(
        0, abs=1e-6
    )


def test_what_no_context_view_can_have_seen_is_left_out():
    """Two cameras side by side before a wall at depth 4: the second sees a strip that the first one does not."""
    world_to_cam = torch.eye(4).repeat(1, 2, 1, 1)
    world_to_cam[0, 1, 0, 3] = -1.0  # one unit to the right: 10 * 1 / 4 = 2.5 pixels
    intrinsics = torch.tensor([[10.0, 0, 5], [0, 10, 5], [0, 0, 1]]).repeat(1, 2, 1, 1)
    cameras = Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=10, width=10)
    seen = seen_by_context(Truth(depth=torch.full((1, 2, 10, 10), 4.0), cameras=cameras), 1)
    assert seen[0, 0].all(0).tolist() == [True] * 7 + [False] * 3
    nearer = torch.full((1, 2, 10, 10), 4.0)
    nearer[0, 0] = 3.0  # something stands before the first camera: the wall behind it was not seen
    assert not seen_by_context(Truth(depth=nearer, cameras=cameras), 1).any()


def test_true_cameras_take_the_scale_of_the_depth(model, batch):
    truth = scene_truth(batch.depth, batch.cameras)
    with torch.no_grad():
        out = model.raw(batch.images[:, :2], splats=True, reference="first")
    cameras = true_cameras_in_network_scale(dataclasses.replace(out, depth=3 * truth.depth[:, :2]), truth, 2)
    torch.testing.assert_close(cameras.centers, 3 * truth.cameras.centers, rtol=1e-4, atol=1e-6)


def test_a_fresh_head_on_true_depth_shows_the_photos(model, batch):
    """Splats begin where the depth is, in the photo's colours: a render from a context camera is nearly the photo."""
    truth = scene_truth(batch.depth, batch.cameras)
    with torch.no_grad():
        out = model.raw(batch.images[:, :2], splats=True, reference="first")
        out = dataclasses.replace(out, depth=truth.depth[:, :2])
        cameras = true_cameras_in_network_scale(out, truth, 2)
        again = cameras.map(lambda t: torch.cat((t, t[:, :1]), 1))
        picture = render_targets(splats_of(out, again, model.config), again, 3)[0, 0]
    error = (picture.clamp(0, 1) - batch.images[0, 0].movedim(0, -1)).abs().mean()
    assert error < 0.12


def test_only_the_head_learns_and_it_does(model, batch):
    freeze(model, CONFIG)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=2e-3)
    objective = Objective(model, CONFIG)
    losses = [training_step(objective, optimizer, [batch], 1.0) for _ in range(8)]
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert {"color", "structure", "splat_depth", "psnr"} <= set(losses[0])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("splat_head.") for name in changed)


def test_joint_training_reaches_the_depth(model, batch):
    config = dataclasses.replace(CONFIG, trained="all", photo_weights=PhotoWeights(geometry=1.0))
    total, parts = Objective(model, config)(batch)
    total.backward()
    assert {"color", "camera", "rays"} <= set(parts)
    assert model.depth_head.depth_output[0].weight.grad.abs().sum() > 0
    assert model.backbone.patch_embed.weight.grad.abs().sum() > 0


def test_real_scenes_without_depth_train_the_head(model, batch):
    empty = dataclasses.replace(batch, depth=torch.zeros_like(batch.depth))
    truth = scene_truth(empty.depth, empty.cameras)
    with torch.no_grad():
        out = model.raw(batch.images[:, :2], splats=True, reference="first")
        total, parts = splat_loss(out, truth, batch.images, model.config, PhotoWeights(perceptual=0.0))
    assert torch.isfinite(total)
    assert parts["splat_depth"] == 0


def test_validation_figures(model, batch):
    figures = validate_splats(model, [batch])
    assert set(figures) == {"psnr", "copy", "from_depth", "true_depth"}
    assert figures["true_depth"] > figures["copy"]


def test_perceptual_loss_wiring():
    """With random weights: no figure, but equal pictures cost nothing and gradients arrive."""
    widths, place, trunk, heads = (64, 128, 256, 512, 512), 0, {}, {}
    before = 3
    for stage, width in enumerate(widths):
        for _ in range(2 if stage < 2 else 3):
            trunk[f"features.{place}.weight"] = torch.randn(width, before, 3, 3) * (2 / 9 / before) ** 0.5
            trunk[f"features.{place}.bias"] = torch.zeros(width)
            before, place = width, place + 2
        place += 1
        heads[f"lin{stage}.model.1.weight"] = torch.ones(1, width, 1, 1)
    network = Lpips(trunk, heads)
    photo = torch.rand(1, 2, 32, 32, 3)
    image = (photo * 0.5).requires_grad_(True)
    assert perceptual_loss(photo, photo, network).item() == pytest.approx(0, abs=1e-6)
    perceptual_loss(image, photo, network).backward()
    assert image.grad.abs().sum() > 0


def test_the_bundled_model_with_a_head_stays_small():
    """Issue 6: at most 25 MB in half precision."""
    network = DepthAnything3(trainable_network("da3gs-nano-splats", {}))
    assert sum(p.numel() for p in network.parameters()) * 2 < 25e6
