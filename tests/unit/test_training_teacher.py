"""The teacher's losses and alignments, each against a case worked out by hand."""

import math

import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.network.raw import RawOutputs
from da3gs.training.losses.alignment import absolute_alignment, coarse_samples, ransac_alignment
from da3gs.training.losses.teacher import (
    TeacherWeights,
    aligned_depth_loss,
    angular_error,
    canonical_depth,
    mask_loss,
    monocular_loss,
    normal_loss,
    patch_depth_loss,
    weighted_normals,
)


def cameras(count: int, height: int, width: int, focal: float = 10.0) -> Cameras:
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world_to_cam=torch.eye(4).repeat(count, 1, 1), intrinsics=intrinsics, height=height, width=width)


def test_absolute_alignment_passes_over_outliers():
    predicted = torch.tensor([[1.0, 2, 3, 4, 5]])
    depth = 2 * predicted + 1
    depth[0, 3] = 100.0
    scale, shift = absolute_alignment(predicted, depth, torch.ones(1, 5))
    assert (scale.item(), shift.item()) == pytest.approx((2, 1))
    # A weight of 0 takes the outlier out; the line through two values is exact.
    scale, shift = absolute_alignment(predicted, depth, torch.tensor([[1.0, 0, 0, 1, 0]]))
    assert (scale.item(), shift.item()) == pytest.approx((97 / 3, 3 - 97 / 3), rel=1e-5)


def test_absolute_alignment_is_the_least_by_brute_force():
    g = torch.Generator().manual_seed(0)
    p, d, w = (torch.rand(1, 12, generator=g) for _ in range(3))
    p, d = p.double(), (d + 2 * p).double()
    w = w.double()
    scale, shift = absolute_alignment(p, d, w)

    def cost(s: float, t: float) -> float:
        return float((w * (s * p + t - d).abs()).sum())

    lines = [(float((d[0, j] - d[0, i]) / (p[0, j] - p[0, i])), i) for i in range(12) for j in range(12) if i != j]
    least = min(cost(s, float(d[0, i] - s * p[0, i])) for s, i in lines if s > 0)
    assert cost(scale.item(), shift.item()) == pytest.approx(least, rel=1e-9)


def test_nothing_to_align_changes_nothing():
    scale, shift = absolute_alignment(torch.rand(1, 4), torch.rand(1, 4), torch.zeros(1, 4))
    assert (scale.item(), shift.item()) == (1, 0)


def test_coarse_samples():
    values, known = coarse_samples(torch.arange(16.0).reshape(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool), 2)
    assert values.tolist() == [[5, 7, 13, 15]]
    assert known.all()


def test_ransac_alignment_finds_the_line_among_outliers():
    g = torch.Generator().manual_seed(1)
    predicted = torch.rand(200, generator=g)
    depth = 3 * predicted + 0.5
    depth[:40] += 5 * torch.rand(40, generator=g)
    scale, shift = ransac_alignment(predicted, depth, generator=g)
    assert (scale.item(), shift.item()) == pytest.approx((3, 0.5), abs=0.05)


def test_aligned_depth_loss_is_relative():
    depth = torch.tensor([[[1.0, 2, 4, 8]]])
    predicted = (depth - 1) / 2
    valid = torch.ones_like(depth, dtype=torch.bool)
    loss, aligned = aligned_depth_loss(predicted, depth, valid, side=4)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(aligned, depth)
    predicted[..., 3] += 1  # aligned it is 10 for 8: a quarter too far, of one value in four
    loss, _ = aligned_depth_loss(predicted, depth, valid, side=4)
    assert loss.item() == pytest.approx(0.25 / 4)


def test_patches_are_aligned_each_for_itself():
    """Left and right half have scales of their own: no line fits both, but one fits each patch on one side."""
    depth = 1 + torch.rand(1, 16, 16)
    predicted = depth.clone()
    predicted[..., 8:] *= 3
    valid = torch.ones_like(depth, dtype=torch.bool)
    whole, _ = aligned_depth_loss(predicted, depth, valid, side=16)
    patches = patch_depth_loss(
        predicted, depth, valid, levels=((2, 8, 40),), generator=torch.Generator().manual_seed(0)
    )
    assert whole > 0.1
    assert patches < whole
    none = patch_depth_loss(predicted, depth, ~valid, levels=((2, 8, 4),), generator=torch.Generator().manual_seed(0))
    assert none == 0


def test_weighted_normals_of_a_plane_and_a_step():
    v, u = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    plane = torch.stack((u, v, u), -1)[None]  # z = x
    mean, parts = weighted_normals(plane)
    expected = torch.tensor([1.0, 0, -1]) / math.sqrt(2)
    assert torch.allclose(mean[0, 0, 0].abs(), expected.abs(), atol=1e-6)
    assert torch.allclose(parts[0, 0, 0], mean[0, 0].expand(4, 3), atol=1e-6)
    # The right neighbour lies 10 behind: its two cross products are (±10, 0, 1) long, the others 1.
    flat = torch.stack((u, v, torch.zeros_like(u)), -1)[None]
    flat[0, 1, 2, 2] = 10
    mean, parts = weighted_normals(flat)
    long = math.sqrt(101)
    total = 2 + 2 * long
    tilt = 2 * (total - long) * 10 / long
    straight = 2 * (total - 1) + 2 * (total - long) / long
    assert (mean[0, 0, 0, 0] / mean[0, 0, 0, 2]).abs().item() == pytest.approx(tilt / straight, rel=1e-5)


def test_angles_and_normal_loss():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    assert angular_error(a, b).item() == pytest.approx(math.pi / 2)
    assert angular_error(a, a).item() == 0
    wall = torch.full((1, 6, 6), 2.0)
    assert normal_loss(3 * wall, wall, cameras(1, 6, 6)).item() == pytest.approx(0, abs=1e-4)
    # A plane z = 2 + x has its normal at 45 degrees, in each of the five terms.
    rays = (torch.arange(6) + 0.5 - 3) / 10
    slope = (2 / (1 - rays)).expand(1, 6, 6)
    assert normal_loss(slope, wall, cameras(1, 6, 6)).item() == pytest.approx(5 * math.pi / 4, rel=1e-4)


def test_mask_loss():
    assert mask_loss(torch.tensor([0.5, 1.0]), torch.tensor([True, False])).item() == pytest.approx((0.25 + 1) / 2)


def test_canonical_depth():
    assert canonical_depth(torch.full((1, 2, 2), 4.0), cameras(1, 2, 2, focal=600.0))[0, 0, 0] == 2.0


def test_a_perfect_student_pays_nothing():
    depth = 1 + torch.rand(1, 2, 32, 32)
    depth[0, 1, :8] = 0  # sky
    batched = cameras(2, 32, 32).map(lambda t: t[None])
    sky = depth == 0
    predicted = torch.where(sky, 5.0, 0.5 * depth - 0.2)
    outputs = RawOutputs(depth=predicted, sky=sky.float())
    generator = torch.Generator().manual_seed(0)
    total, parts = monocular_loss(outputs, depth, batched, TeacherWeights(), sky=sky, generator=generator)
    assert total.item() == pytest.approx(0, abs=2e-3), parts
    metric, parts = monocular_loss(
        RawOutputs(depth=depth * 30, sky=1 - sky.float()), depth, batched, TeacherWeights(metric=True), sky=sky,
        generator=generator,
    )  # fmt: skip
    assert parts["whole"].item() == pytest.approx(0, abs=1e-5)
    assert parts["sky"].item() == 1
    assert metric.item() == pytest.approx(1, abs=1e-3)
