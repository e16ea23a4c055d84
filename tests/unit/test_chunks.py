"""Chunks of long input: ranges, joints, loops and what is kept of a killed run."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from da3gs._progress import silent
from da3gs.cameras import Cameras, look_at
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.geometry.rotations import angle_between, quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.network import DepthAnything3
from da3gs.pipeline.chunk_store import ChunkStore
from da3gs.pipeline.chunked_prediction import _in_chunks, chunk_ranges, shared_views
from da3gs.pipeline.settings import Settings
from da3gs.poses.chunk_joining import joint, loop_between, portion, rows
from da3gs.poses.pose_alignment import similarity_between
from da3gs.prediction import Placed
from da3gs.views import Views
from tests.unit.test_checkpoints import tiny_config

HEIGHT, WIDTH, COUNT = 24, 32, 48


def truth(count: int = COUNT) -> Placed:
    """Cameras on a ring that look outwards at a ball's inside, round to where they began."""
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    eyes = torch.stack((angles.cos(), 0.1 * (3 * angles).sin(), angles.sin()), -1)
    forward = torch.stack((angles.cos(), 0 * angles, angles.sin()), -1)
    world_to_cam = look_at(eyes, eyes + forward, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64).expand(count, 3))
    intrinsics = torch.tensor([[20.0, 0, WIDTH / 2], [0, 20.0, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    cameras = Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics.repeat(count, 1, 1), height=HEIGHT, width=WIDTH)
    rays = camera_directions(cameras.intrinsics, pixel_centers(HEIGHT, WIDTH, dtype=torch.float64))
    turned = torch.einsum("vij,vhwj->vhwi", cameras.cam_to_world[:, :3, :3], rays)
    along = torch.einsum("vhwi,vi->vhw", turned, eyes)
    square = turned.square().sum(-1)
    inside = 4.0**2 - eyes.square().sum(-1)[:, None, None]
    depth = (-along + (along.square() + square * inside).sqrt()) / square
    return Placed(depth=depth, cameras=cameras)


def similarity(seed: int) -> Similarity:
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    return Similarity(
        scale=0.3 + 2 * torch.rand((), generator=generator, dtype=torch.float64),
        rotation=quaternion_to_matrix(quaternion),
        translation=torch.randn(3, generator=generator, dtype=torch.float64),
    )


def views(count: int = COUNT) -> Views:
    images = torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return Views(images=images, names=tuple(f"{i:03d}" for i in range(count)))


class Predictor:
    """What a network would say: the truth in a frame of its own each time, bent by some degrees a view."""

    def __init__(self, bend: float = 0.0, poses: str = "predicted") -> None:
        self.whole, self.bend, self.poses, self.calls = truth(), bend, poses, 0

    def __call__(self, part: Views) -> Placed:
        self.calls += 1
        places = [int(name) for name in part.names]
        chosen = self.whole.depth[places], self.whole.cameras[places]
        result = Placed(depth=chosen[0], cameras=chosen[1], poses=self.poses)
        if self.poses == "given":
            return result
        bent = []
        for i, place in enumerate(places):
            away = (place - places[0] + COUNT // 2) % COUNT - COUNT // 2
            half = math.radians(self.bend * away) / 2
            turn = quaternion_to_matrix(torch.tensor([math.cos(half), 0, math.sin(half), 0], dtype=torch.float64))
            one, none = torch.ones((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
            still = Similarity(scale=one, rotation=turn, translation=none)
            bent.append(result.cameras[i : i + 1].transformed(still).world_to_cam)
        cameras = dataclasses.replace(result.cameras, world_to_cam=torch.cat(bent))
        return dataclasses.replace(result, cameras=cameras).transformed(similarity(self.calls))


def worst(found: Placed) -> float:
    """The largest distance of a camera from its true place, after the best similarity; the ring's radius is 1."""
    cameras = truth().cameras
    moved = found.cameras.transformed(similarity_between(found.cameras, cameras))
    return float((moved.centers - cameras.centers).norm(dim=-1).max())


@pytest.mark.parametrize(("count", "size"), [(1, 8), (8, 8), (9, 8), (14, 8), (15, 8), (600, 32), (33, 32), (7, 4)])
def test_chunks_overlap_and_miss_no_view(count: int, size: int) -> None:
    ranges = chunk_ranges(count, size)
    assert sorted({i for part in ranges for i in part}) == list(range(count))
    assert all(len(part) <= size for part in ranges)
    for before, part in itertools.pairwise(ranges):
        assert before.stop - part.start == shared_views(size)
        assert part.stop > before.stop


def test_joint_of_two_predictions_is_their_similarity_whatever_a_few_pixels_and_views_say() -> None:
    first, move = rows(truth(), slice(0, 8)), similarity(5)
    second = first.transformed(move)
    depth = second.depth.clone()
    depth[:, :5] *= 7
    wrong = second.cameras[:1].transformed(similarity(9))
    world_to_cam = torch.cat((wrong.world_to_cam, second.cameras.world_to_cam[1:]))
    second = dataclasses.replace(
        second, depth=depth, cameras=dataclasses.replace(second.cameras, world_to_cam=world_to_cam)
    )
    found = joint(first, second)
    assert float(found.scale) == pytest.approx(float(move.scale), rel=1e-6)
    assert float(angle_between(found.rotation, move.rotation)) < 0.02
    one = found.after(found.inverse())
    torch.testing.assert_close(one.rotation, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(one.translation, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_portions_of_a_similarity_are_nothing_at_first_and_all_at_last() -> None:
    whole, points = similarity(3), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(portion(whole, 0.0, points[0]).apply(points), points)
    torch.testing.assert_close(portion(whole, 1.0, points[0]).apply(points), whole.apply(points))


def test_chunks_in_frames_of_their_own_become_one_world() -> None:
    predictor = Predictor()
    found, record = _in_chunks(predictor, views(), 12, silent, None)
    assert record is not None
    assert record["count"] == len(chunk_ranges(COUNT, 12)) == predictor.calls - 1
    assert worst(found) < 1e-6
    assert record["loop_closed"]
    assert record["drift"]["share_of_way"] < 1e-6
    onto = similarity_between(found.cameras, truth().cameras)
    torch.testing.assert_close(found.depth * onto.scale, truth().depth, rtol=1e-6, atol=0)


def test_a_closed_loop_takes_most_of_the_drift_away() -> None:
    _found, record = _in_chunks(Predictor(bend=0.15), views(), 12, silent, None)
    assert record is not None
    assert record["loop_closed"]
    assert record["drift"]["degrees"] > 4
    assert record["drift_left"]["share_of_way"] < record["drift"]["share_of_way"] / 4
    assert record["drift_left"]["degrees"] < record["drift"]["degrees"] / 4
    open_, _ = _in_chunks(Predictor(bend=0.15), views(COUNT - 12), 12, silent, None)
    assert len(open_.depth) == COUNT - 12


def test_ends_that_see_different_places_close_no_loop() -> None:
    whole = truth()
    first, last = rows(whole, slice(0, 4)), rows(whole, slice(COUNT // 2, COUNT // 2 + 4))
    ends = dataclasses.replace(
        first,
        depth=torch.cat((first.depth, last.depth)),
        cameras=whole.cameras[[*range(4), *range(COUNT // 2, COUNT // 2 + 4)]],
    )
    assert not loop_between(first, last, ends).closed


def test_given_cameras_are_left_as_they_are() -> None:
    found, record = _in_chunks(Predictor(poses="given"), views(), 12, silent, None)
    torch.testing.assert_close(found.cameras.world_to_cam, truth().cameras.world_to_cam)
    torch.testing.assert_close(found.depth, truth().depth)
    assert record is not None
    assert "loop_closed" not in record


def test_a_second_run_takes_finished_chunks_and_makes_broken_ones_again(tmp_path) -> None:
    network = DepthAnything3(tiny_config())
    store = ChunkStore(tmp_path / ".scene.partial", network, Settings())
    first = Predictor()
    whole, _ = _in_chunks(first, views(), 12, silent, store)
    files = sorted(store.folder.iterdir())
    assert len(files) == first.calls
    second = Predictor()
    again, _ = _in_chunks(second, views(), 12, silent, ChunkStore(store.folder, network, Settings()))
    assert second.calls == 0
    torch.testing.assert_close(again.depth, whole.depth)
    torch.testing.assert_close(again.cameras.world_to_cam, whole.cameras.world_to_cam)
    files[0].write_bytes(files[0].read_bytes()[:100])
    third = Predictor()
    _in_chunks(third, views(), 12, silent, store)
    assert third.calls == 1
    other = Predictor()
    _in_chunks(other, views(), 12, silent, ChunkStore(store.folder, network, Settings(dtype="bfloat16")))
    assert other.calls == first.calls  # other flags, other chunks
