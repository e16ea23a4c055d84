"""Each training loss against a case worked out by hand."""

import math

import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.network.camera import encode_cameras
from da3gs.network.model import RawOutputs
from da3gs.training.losses.geometric import (
    LossWeights,
    camera_loss,
    conditioning,
    confident,
    depth_error,
    gradient_loss,
    masked_mean,
    ray_map,
    scene_truth,
    total_loss,
)


def _cameras(*centers: tuple[float, float, float], height: int = 2, width: int = 2, focal: float = 1.0) -> Cameras:
    world_to_cam = torch.eye(4).repeat(1, len(centers), 1, 1)
    world_to_cam[0, :, :3, 3] = -torch.tensor(centers)
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).repeat(1, len(centers), 1, 1)
    return Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=height, width=width)


def test_masked_mean_counts_only_what_the_mask_holds():
    values, mask = torch.tensor([1.0, 5.0, 100.0]), torch.tensor([True, True, False])
    assert masked_mean(values, mask) == 3.0
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0.0


def test_confident_error():
    found = confident(torch.tensor([0.5]), torch.tensor([2.0]), 0.2)
    assert found.item() == pytest.approx(2 * 0.5 - 0.2 * math.log(2))


def test_depth_error_absolute_and_relative():
    predicted, depth = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0])
    assert depth_error(predicted, depth, relative=False).tolist() == [1.0, 3.0]
    assert depth_error(predicted, depth, relative=True).tolist() == [0.5, 0.75]


def test_gradient_loss_sees_slopes_and_skips_holes():
    depth = torch.tensor([[[[1.0, 1.0, 0.0]]]])  # the last pixel has no depth
    predicted = torch.tensor([[[[1.0, 3.0, 9.0]]]])
    assert gradient_loss(predicted, depth, relative=False) == 2.0
    assert gradient_loss(predicted, depth, relative=True).item() == pytest.approx(math.log(3))
    assert gradient_loss(predicted, depth, relative=False, steps=(1, 2, 40)) == 2.0  # no pair is further apart
    assert gradient_loss(depth + 5 * (depth > 0), depth, relative=False) == 0.0  # an offset has no slope


def test_scene_truth_divides_by_the_mean_distance_from_the_first_camera():
    # Two one-pixel cameras look along z from (1, 0, 0) and (4, 0, 0) at depth 4: the points are (0, 0, 4) and (3, 0, 4)
    # from the first camera, 4 and 5 away, so the unit is 4.5.
    cameras = _cameras((1.0, 0.0, 0.0), (4.0, 0.0, 0.0), height=1, width=1)
    truth = scene_truth(torch.full((1, 2, 1, 1), 4.0), cameras)
    torch.testing.assert_close(truth.depth, torch.full((1, 2, 1, 1), 4 / 4.5))
    torch.testing.assert_close(truth.cameras.centers[0], torch.tensor([[0.0, 0, 0], [3 / 4.5, 0, 0]]))


def test_scene_truth_leaves_holes_out():
    depth = torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1)
    truth = scene_truth(depth, _cameras((0.0, 0.0, 0.0), (3.0, 0.0, 0.0), height=1, width=1))
    assert truth.depth.flatten().tolist() == [1.0, 0.0]
    assert truth.valid.flatten().tolist() == [True, False]


def test_camera_loss_is_the_mean_over_nine_numbers():
    cameras = _cameras((0.0, 0.0, 0.0))
    encoding = encode_cameras(cameras)
    assert camera_loss(encoding, cameras) == 0
    encoding[..., 0] += 0.9
    assert camera_loss(encoding, cameras).item() == pytest.approx(0.1)


def test_ray_map_points_through_cell_centres():
    rays = ray_map(_cameras((5.0, 6.0, 7.0), height=4, width=4, focal=2.0), 2, 2)[0, 0]
    # Cell centres are pixels 1 and 3 of 4; (1 - 2) / 2 = -0.5.
    assert rays[0, 0].tolist() == [-0.5, -0.5, 1.0, 5.0, 6.0, 7.0]
    assert rays[1, 0].tolist() == [-0.5, 0.5, 1.0, 5.0, 6.0, 7.0]


def test_conditioning_has_no_scale():
    near, far = _cameras((0.0, 0, 0), (1.0, 0, 0), (0, 3.0, 0)), _cameras((0.0, 0, 0), (10.0, 0, 0), (0, 30.0, 0))
    torch.testing.assert_close(conditioning(near).world_to_cam, conditioning(far).world_to_cam)
    assert conditioning(near).centers.norm(dim=-1).sum().item() == pytest.approx(2.0)


def _perfect(cameras: Cameras, depth: torch.Tensor) -> RawOutputs:
    truth = scene_truth(depth, cameras)
    rays = ray_map(truth.cameras, 2, 2)
    return RawOutputs(
        depth=truth.depth,
        confidence=torch.ones_like(truth.depth),
        rays=rays,
        ray_confidence=torch.ones(rays.shape[:-1]),
        pose_encoding=encode_cameras(truth.cameras),
        cameras=truth.cameras,
    )


def test_perfect_outputs_cost_nothing():
    cameras, depth = _cameras((0.0, 0, 0), (1.0, 0, 0), height=4, width=4), torch.rand(1, 2, 4, 4) + 1
    for relative in (False, True):
        weights = LossWeights(world=1.0, relative=relative)
        total, parts = total_loss(_perfect(cameras, depth), scene_truth(depth, cameras), weights)
        assert total.item() == pytest.approx(0, abs=1e-5), parts


def test_every_part_counts_with_its_weight():
    cameras, depth = _cameras((0.0, 0, 0), (1.0, 0, 0), height=4, width=4), torch.rand(1, 2, 4, 4) + 1
    outputs = _perfect(cameras, depth).map(lambda t: t + 0.05)
    weights = LossWeights(depth=1.0, rays=2.0, points=3.0, camera=4.0, gradient=5.0, world=6.0)
    total, parts = total_loss(outputs, scene_truth(depth, cameras), weights)
    names = ("depth", "rays", "points", "camera", "gradient", "world")
    expected = sum((i + 1) * parts[name].item() for i, name in enumerate(names))
    assert total.item() == pytest.approx(expected, rel=1e-5)
