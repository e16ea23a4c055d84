"""Attention that is taught to match: true matches against cases worked out by hand, and that steps learn from them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.network.model import DepthAnything3
from da3gs.training.config_files import load_config
from da3gs.training.data.loader import Batches
from da3gs.training.losses.geometric import LossWeights, Truth, scene_truth
from da3gs.training.losses.matching import Probe, bilinear_shares, matching_loss, motion_loss, true_matches
from da3gs.training.step import Objective


def wall(shift: float, depth: float = 4.0, side: int = 8, views: int = 2) -> Truth:
    """A wall in front of cameras side by side; from one picture to the next it moves by ``shift`` pixels."""
    focal = float(side)
    world_to_cam = torch.eye(4).repeat(1, views, 1, 1)
    world_to_cam[0, :, 0, 3] = torch.arange(views) * shift * depth / focal
    intrinsics = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]]).repeat(1, views, 1, 1)
    cameras = Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=side, width=side)
    return Truth(depth=torch.full((1, views, side, side), depth), cameras=cameras)


def test_bilinear_shares() -> None:
    shares = bilinear_shares(torch.tensor([[0.0, 0.0], [1.25, 0.5], [9.0, -3.0]]), 2, 3)
    assert shares.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 0.375, 0.125, 0, 0.375, 0.125],
        [0, 0, 1, 0, 0, 0],  # beyond the corner: its cell
    ]


def test_matches_of_a_wall() -> None:
    # The middle of a patch of 4 is taken at pixel 2, whose centre is 2.5 = half a pixel beyond the patch's middle; the
    # wall moves by 3.5 to the right in the second view: patch 0 lands at (2.5 + 3.5) / 4 - 0.5 = 1 in x, and at
    # 2.5 / 4 - 0.5 = 0.125 in y.
    matches = true_matches(wall(3.5), 4)
    assert matches.shares.shape == (1, 2, 4, 4)
    torch.testing.assert_close(matches.shares[0, 0, 0], torch.tensor([0, 0.875, 0, 0.125]))
    torch.testing.assert_close(matches.moved[0, 0, 0], torch.tensor([4.0, 0.5]))  # (1, 0.125) patches of half a side
    # The right column leaves the picture to the right, and in the way back the left one to the left.
    assert matches.seen.tolist() == [[[True, False, True, False], [False, True, False, True]]]


def test_hidden_and_unknown_points_are_not_seen() -> None:
    truth = wall(0.0)
    depth = truth.depth.clone()
    depth[0, 1, :4, :4] = 2.0  # something stands before the wall in the second view
    depth[0, 0, 4:, 4:] = 0.0  # sky in the first
    matches = true_matches(Truth(depth=depth, cameras=truth.cameras), 4)
    assert matches.seen[0, 0].tolist() == [False, True, True, False]
    assert matches.seen[0, 1].tolist() == [False, True, True, False]
    behind = truth.cameras.world_to_cam.clone()
    behind[0, 1, 2, 3] = -9.0  # the second camera stands behind the wall
    moved = dataclasses.replace(truth.cameras, world_to_cam=behind)
    assert not true_matches(Truth(depth=truth.depth, cameras=moved), 4).seen[0, 0].any()


def test_pairs_are_those_with_the_first_view() -> None:
    matches = true_matches(wall(2.0, views=3), 4)
    pairs = [true_matches(wall(2.0 * k), 4) for k in (1, 2)]
    for k in (0, 1):
        torch.testing.assert_close(matches.shares[:, k], pairs[k].shares[:, 0])
        torch.testing.assert_close(matches.shares[:, 2 + k], pairs[k].shares[:, 1])
        torch.testing.assert_close(matches.moved[:, 2 + k], pairs[k].moved[:, 1])


def test_loss_is_the_cross_entropy_of_the_other_view() -> None:
    matches = true_matches(wall(0.5), 4)  # middles: 3 / 4 - 0.5 = 0.25 in x, 0.125 in y
    query, key = torch.zeros(1, 10, 4), torch.zeros(1, 10, 4)  # two views of a first token and four patches
    assert matching_loss(query, key, matches, 2).item() == pytest.approx(math.log(4))
    key[:, 0] = key[:, 5] = 100.0  # first tokens count nothing
    query[:] = 1.0
    assert matching_loss(query, key, matches, 2).item() == pytest.approx(math.log(4))
    key[:, 6:] = torch.tensor([2.0, 0, 0, 0])[:, None] / 4  # (1·2/4)·4 / √4 = 1 for the second view's first patch
    first = matching_loss(query, key, matches, 2)
    shares = matches.shares[0, 0, :, 0] * matches.seen[0, 0]
    there = math.log(math.e + 3) - shares.sum() / matches.seen[0, 0].sum()
    counts = matches.seen[0].sum(-1)
    expected = (there * counts[0] + math.log(4) * counts[1]) / counts.sum()
    assert first.item() == pytest.approx(float(expected), rel=1e-6)


def test_motion_is_read_from_tokens() -> None:
    matches = true_matches(wall(1.5), 4)  # (0.5, 0.125) patches in the first view, (-0.25, 0.125) in the second
    readout = torch.tensor([[1.0, 0], [0, 1.0]])
    tokens = torch.tensor([1.0, -1.0]).repeat(1, 10, 1)  # which normalisation leaves as it is
    tokens[:, (0, 5)] = 50.0  # first tokens tell nothing
    told = matches.seen[0].sum(-1).tolist()
    assert told == [2, 4]
    expected = (2 * (abs(1 - 2.0) + 1.5) + 4 * (2.0 + 1.5)) / 6
    assert motion_loss(tokens, readout, matches, 2).item() == pytest.approx(expected, rel=1e-4)  # 1e-5 in the norm


def test_the_first_of_three_views_tells_no_motion() -> None:
    matches = true_matches(wall(1.0, views=3), 4)
    readout = torch.eye(2)
    tokens = torch.tensor([1.0, -1.0]).repeat(1, 15, 1)
    before = motion_loss(tokens, readout, matches, 3)
    tokens[:, 1:5] = torch.tensor([-1.0, 1.0])
    assert motion_loss(tokens, readout, matches, 3) == before
    tokens[:, 6:10] = torch.tensor([-1.0, 1.0])
    assert motion_loss(tokens, readout, matches, 3) != before


def test_gradient_of_the_loss() -> None:
    matches = true_matches(wall(1.5), 4)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 10, 4, generator=generator).requires_grad_() for _ in range(2))
    matching_loss(query, key, matches, 2).backward()
    assert query.grad is not None
    for place in ((0, 1, 2), (0, 7, 0)):
        ends = []
        for step in (1e-2, -1e-2):
            moved = query.detach().clone()
            moved[place] += step
            ends.append(float(matching_loss(moved, key.detach(), matches, 2)))
        # float32 leaves some 1e-7 / 1e-2 in the difference, the third derivative some 1e-5
        assert float(query.grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=5e-5)


def test_a_network_learns_to_match() -> None:
    """Thirty steps on one batch teach it something of what can be known there."""
    config = load_config("smoke", settings=("weights.matching=1.0", "weights.motion=0.1", "bfloat16=false"))
    torch.manual_seed(0)
    objective = Objective(DepthAnything3(config.network()), config)
    assert objective.probe is not None
    with Batches(config) as batches:
        batch = batches.batch(0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        total, parts = objective(batch)
        total.backward()
        optimizer.step()
        values.append(float(parts["matching"].detach()))
    assert set(objective.probe.attended) == {5, 7, 9}
    assert set(objective.probe.tokens) == {7, 9}
    assert values[-1] < values[0] - 0.5


def test_one_view_has_nothing_to_match() -> None:
    config = load_config("smoke", settings=("weights.matching=1.0",))
    probe = Probe(DepthAnything3(config.network()).backbone)
    assert probe.losses(wall(0.0, views=1), 4) == {"matching": 0, "motion": 0}
    assert Objective(DepthAnything3(config.network()), dataclasses.replace(config, weights=LossWeights())).probe is None


def test_truth_of_real_batches_matches_their_pictures() -> None:
    """Where photographs are plain, patches that match have much the same colour, and others have not."""
    config = load_config("smoke")
    with Batches(config) as batches:
        batch = batches.batch(3)
    truth = scene_truth(batch.depth, batch.cameras)
    matches = true_matches(truth, 14)
    colors = torch.nn.functional.avg_pool2d(batch.images.flatten(0, 1), 14).flatten(2).mT
    colors = colors.unflatten(0, batch.images.shape[:2])
    found = matches.shares @ colors[:, [1, 0]]
    mine = colors[:, [0, 1]]
    apart = (found - mine).abs().mean(-1)[matches.seen].mean()
    anyhow = (mine - mine.mean(2, keepdim=True)).abs().mean(-1)[matches.seen].mean()
    assert matches.seen.float().mean() > 0.3
    assert apart < 0.6 * anyhow


def test_matching_refuses_spread_weights() -> None:
    with pytest.raises(InputError, match=r"weights\.matching"):
        load_config("smoke", settings=("weights.matching=1.0", "parallel='fsdp'"))
