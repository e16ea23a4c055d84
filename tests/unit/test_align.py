"""Depth laid on points and on neighbouring views, against scenes whose depth is known exactly."""

import dataclasses

import numpy as np
import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.depth._plane_sweep import one_surface
from da3gs.depth.alignment import consistent_depth, honest_depth
from da3gs.depth.cost_volume import searched_field
from da3gs.depth.disparity_plane import surface_depth
from da3gs.depth.occlusion_check import contradicted
from da3gs.depth.scale_shift import align_to_points
from da3gs.depth.triangulation import matched_points
from da3gs.depth.view_pyramid import level_of
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import unproject
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.prediction import Placed
from da3gs.training import procedural_scene
from tests.unit.plane_scene import TruthNetwork, plane_scene, write_transforms
from tests.unit.test_reconstruct import similarity

VIEWS, TRUTH = procedural_scene(0, 4, 112, 154)
assert VIEWS.cameras is not None
CAMERAS: Cameras = VIEWS.cameras


def wrong(depth, seed: int, *, scales: float = 0.3, smooth: float = 0.0, shift: float = 0.0) -> torch.Tensor:
    """Depth times a factor a view, a slow factor over each view, and a factor for all."""
    g = torch.Generator().manual_seed(seed)
    logs = (2 * torch.rand(len(depth), 1, 1, generator=g) - 1) * scales + shift
    slow = torch.randn(len(depth), 1, 3, 4, generator=g) * smooth
    slow = torch.nn.functional.interpolate(slow, tuple(depth.shape[1:]), mode="bicubic", align_corners=True)[:, 0]
    return depth * (logs + slow).exp()


def off(depth, truth=TRUTH) -> torch.Tensor:
    return (depth / truth).log().abs()


@pytest.mark.parametrize(("scales", "smooth", "shift"), [(0.3, 0.0, 0.0), (0.3, 0.06, 0.0), (0.3, 0.06, 0.7)])
def test_views_find_their_common_depth(scales, smooth, shift):
    start = wrong(TRUTH, 1, scales=scales, smooth=smooth, shift=shift)
    found = consistent_depth(VIEWS.images, start, CAMERAS)
    assert found.after < found.before - 0.1
    # a pixel of disparity is about 1.5 % of the depth here: a third of that for half of the pixels
    assert off(found.depth).median() < 0.01
    assert off(found.depth).mean() < 0.25 * off(start).mean()


def test_a_search_far_and_wide_finds_depth_that_is_nowhere_near():
    """A network that says the same everywhere, and too little."""
    level = level_of(VIEWS.images, CAMERAS, None, 80)
    truth = torch.nn.functional.interpolate(TRUTH[:, None], level.size, mode="nearest-exact")[:, 0]
    start = torch.full_like(truth, 0.6 * float(TRUTH.median()))
    found = start * searched_field(level, [start], 3).exp()
    assert off(start, truth).mean() > 0.4
    assert off(found, truth).median() < 0.05
    assert off(found, truth).mean() < 0.25 * off(start, truth).mean()


def test_what_hides_anothers_surface_costs_and_what_lies_on_it_pays():
    level = level_of(VIEWS.images, CAMERAS, None, 80)
    truth = torch.nn.functional.interpolate(TRUTH[:, None], level.size, mode="nearest-exact")[:, 0]
    steps = np.log(np.array([0.8, 1.0, 1.25], np.float32))
    out = np.zeros((*level.size, 3), np.float32)
    one_surface(
        truth[1].numpy(), level.valid[1], level.rays[1], truth[[0]].numpy(), level.matrices[1, [0]],
        level.offsets[1, [0]], steps, 0.06, out,
    )  # fmt: skip
    inside = np.abs(out).max(-1) > 0
    ahead, there, behind = out[inside].mean(0)
    assert ahead > 0.5
    assert there < -0.5
    assert -0.1 < behind < 0.1
    assert out.min() >= -1
    assert out.max() <= 1


def test_pictures_that_tell_nothing_change_nothing():
    grey = torch.full_like(VIEWS.images, 0.5)
    start = wrong(TRUTH, 2)
    assert torch.equal(consistent_depth(grey, start, CAMERAS).depth, start)
    same_place = dataclasses.replace(CAMERAS, world_to_cam=CAMERAS.world_to_cam[:1].expand(4, 4, 4).clone())
    pictures = VIEWS.images[:1].expand(4, -1, -1, -1).clone()
    found = consistent_depth(pictures, start, same_place)
    assert torch.equal(found.depth, start)
    assert torch.equal(consistent_depth(VIEWS.images[:1], start[:1], CAMERAS[[0]]).depth, start[:1])


def test_depth_that_is_right_stays():
    """Whatever else is proposed, and however many windows look alike somewhere else by chance."""
    bent = TRUTH * (1 + 0.02 * torch.linspace(-1, 1, TRUTH.shape[2]))
    found = consistent_depth(VIEWS.images, TRUTH, CAMERAS, starts={"bent": bent, "surface": TRUTH.mean() + 0 * TRUTH})
    assert torch.equal(found.depth, TRUTH)
    assert not found.refined


def test_everything_masked_changes_nothing():
    start = wrong(TRUTH, 2)
    found = consistent_depth(VIEWS.images, start, CAMERAS, torch.zeros_like(TRUTH, dtype=torch.bool))
    assert torch.equal(found.depth, start)


def test_exposure_does_not_matter():
    gains = torch.tensor([1.0, 0.6, 0.8, 0.5])[:, None, None, None]
    found = consistent_depth(VIEWS.images * gains + 0.1, wrong(TRUTH, 1), CAMERAS)
    assert off(found.depth).median() < 0.01


def test_the_same_input_gives_the_same_depth():
    start = wrong(TRUTH, 3, smooth=0.05)
    first, second = (consistent_depth(VIEWS.images, start, CAMERAS).depth for _ in range(2))
    assert torch.equal(first, second)


def test_features_matched_along_epipolar_lines_lie_on_surfaces():
    found = matched_points(VIEWS.images, CAMERAS)
    assert (found.visible.sum(0) == 2).all()
    assert (found.visible.sum(1) > 20).all()
    local = found.positions.float() @ CAMERAS.world_to_cam[:, :3, :3].mT + CAMERAS.world_to_cam[:, None, :3, 3]
    pixels = local @ CAMERAS.intrinsics.mT
    column, row = (pixels[..., :2] / pixels[..., 2:]).floor().long().unbind(-1)
    inside = found.visible & (column >= 0) & (row >= 0) & (column < VIEWS.width) & (row < VIEWS.height)
    view = torch.arange(4)[:, None].expand_as(inside)[inside]
    ratio = local[..., 2][inside] / TRUTH[view, row[inside], column[inside]]
    assert (ratio.log().abs() < 0.05).float().mean() > 0.7  # the rest sits on edges, or is wrong


def points_of(depth, cameras, count: int = 200) -> torch.Tensor:
    world = unproject(depth, cameras.intrinsics, cameras.cam_to_world)
    pick = torch.randperm(world[0].numel() // 3 * len(depth), generator=torch.Generator().manual_seed(0))[:count]
    return world.reshape(-1, 3)[pick].double()


def test_scale_and_shift_are_found_despite_wrong_points():
    points = points_of(TRUTH, CAMERAS)
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = torch.cat((points, points[:60] + noise))
    scales, shifts = torch.tensor([0.5, 1.3, 2.0, 0.8]), torch.tensor([0.2, -0.1, 0.0, 0.1])
    start = (TRUTH - shifts[:, None, None]) / scales[:, None, None]
    found = align_to_points(start, CAMERAS, points)
    assert (found.points > 20).all()
    assert off(found.depth).median() < 0.01
    torch.testing.assert_close(found.scales, scales, rtol=0.05, atol=0)
    again = align_to_points(start, CAMERAS, points)
    assert torch.equal(found.depth, again.depth)


def test_few_points_give_a_scale_alone_and_none_the_scale_of_all():
    world = unproject(TRUTH, CAMERAS.intrinsics, CAMERAS.cam_to_world)
    points = world[0, 10::30, 10::30].reshape(-1, 3)
    visible = torch.zeros(4, len(points), dtype=torch.bool)
    visible[0], visible[1, :6] = True, False
    found = align_to_points(TRUTH / 3, CAMERAS, points, visible=visible)
    torch.testing.assert_close(found.scales, torch.full((4,), 3.0), rtol=1e-3, atol=0)
    assert found.points.tolist()[1:] == [0, 0, 0]
    none = align_to_points(TRUTH, CAMERAS, points[:0])
    assert torch.equal(none.depth, TRUTH)


def test_a_negative_shift_leaves_depth_positive():
    start = TRUTH + 5
    found = align_to_points(start, CAMERAS, points_of(TRUTH, CAMERAS))
    assert (found.depth > 0).all()
    wild = start.clone()
    wild[:, 0, 0] = 1e-3
    assert (align_to_points(wild, CAMERAS, points_of(TRUTH, CAMERAS)).depth > 0).all()


def test_a_plane_is_found_whatever_the_network_says():
    """Depth that is only noise about 1, and points of a slanted plane, a third of them wrong: the plane comes out."""
    views, truth = plane_scene()
    assert views.cameras is not None
    g = torch.Generator().manual_seed(0)
    points = points_of(truth, views.cameras, 300)
    points[::3] += torch.randn(len(points[::3]), 3, generator=g, dtype=torch.float64)
    visible = torch.ones(len(truth), len(points), dtype=torch.bool)
    noise = 1 + 0.1 * torch.rand(truth.shape, generator=g)
    found, counts = surface_depth(noise, views.cameras, points, visible=visible)
    assert min(counts) > 100
    assert off(found, truth).median() < 0.005
    same, counts = surface_depth(noise, views.cameras, points[:10], visible=visible[:, :10])
    assert torch.equal(same, noise)
    assert counts == [0] * len(truth)


def test_what_hides_another_photo_in_a_wrong_colour_is_found():
    """A patch of one view at four fifths of its depth is contradicted by the others; nothing else is."""
    wrong_depth = TRUTH.clone()
    wrong_depth[1, 40:70, 50:90] *= 0.8
    found = contradicted(wrong_depth, CAMERAS, VIEWS)
    patch = torch.zeros_like(found)
    patch[1, 40:70, 50:90] = True
    assert found[patch].float().mean() > 0.4  # where its colours differ from what stands behind
    assert found[~patch].float().mean() < 0.01
    assert contradicted(TRUTH, CAMERAS, VIEWS).float().mean() < 0.01


def test_splats_of_a_head_move_with_their_depth():
    start = wrong(TRUTH, 1)
    means = unproject(start, CAMERAS.intrinsics, CAMERAS.cam_to_world).reshape(-1, 3)
    count = len(means)
    splats = Gaussians(
        means=means, scales=start.reshape(-1, 1).expand(-1, 3).clone(),
        quaternions=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1), opacities=torch.ones(count),
        harmonics=torch.zeros(count, 1, 3),
    )  # fmt: skip
    moved, done = honest_depth(Placed(depth=start, cameras=CAMERAS, gaussians=splats), VIEWS)
    assert moved.gaussians is not None
    expected = unproject(moved.depth, CAMERAS.intrinsics, CAMERAS.cam_to_world).reshape(-1, 3)
    torch.testing.assert_close(moved.gaussians.means, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.gaussians.scales[:, 0], moved.depth.flatten(), rtol=1e-4, atol=0)
    assert done["views"]["disagreement"] < done["views"]["disagreement_before"]


def test_reconstruction_with_given_poses_mends_wrong_depth(tmp_path):
    """Stereo bears most of the plane out, whatever the network said of it."""
    views, depth = plane_scene()
    network = TruthNetwork(views, wrong(depth, 4), similarity(0.37, 1))
    folder = write_transforms(views, tmp_path / "posed")
    scene = reconstruct(folder, model=network, resolution=112, holdout="photo_2")
    plain = reconstruct(folder, model=network, resolution=112, holdout="photo_2", upstream=True)
    assert plain.record["alignment"] is None
    assert min(scene.record["alignment"]["stereo"]["confirmed"]) > 0.5
    assert scene.record["psnr"]["holdout_mean"] > plain.record["psnr"]["holdout_mean"] + 2
