"""Camera paths: where they start, how far they go, that they are smooth and upright; and the official ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse
from da3gs.rendering.paths.trajectories import camera_path, focus_of
from da3gs.rendering.paths.upstream_trajectories import UpstreamMode, interpolated_poses, stabilised, upstream_path

OWN = ["wander", "orbit", "spiral", "ellipse", "interpolate"]
FOCUS = torch.tensor([0.5, 0.2, 6.0])


def _arc(count: int = 7, degrees: float = 40.0) -> Cameras:
    """Photos on an arc of radius 6 round the focus, slightly up and down, y pointing down."""
    angle = torch.linspace(-degrees / 2, degrees / 2, count).deg2rad()
    rise = 0.1 * torch.sin(torch.arange(count) * 2.0)
    eyes = FOCUS + torch.stack((6 * angle.sin(), rise, -6 * angle.cos()), -1)
    poses = look_at(eyes, FOCUS.expand(count, 3), torch.tensor([0.0, -1.0, 0.0]).expand(count, 3))
    intrinsics = torch.tensor([[80.0, 0, 40], [0, 82.0, 30], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world_to_cam=poses, intrinsics=intrinsics, height=60, width=80)


def _assert_rotations(cameras: Cameras) -> None:
    rotation = cameras.world_to_cam[:, :3, :3].double()
    assert (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-5
    assert torch.linalg.det(rotation).min() > 0


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_paths_are_smooth_upright_and_near(name: str, count: int) -> None:
    photos = _arc(count, degrees={1: 0.0, 2: 15.0, 7: 40.0}[count])
    path = camera_path(name, photos, frames=60, focus=FOCUS)
    assert len(path) == 60
    _assert_rotations(path)
    nearest = torch.cdist(path.centers, photos.centers).min(1).values
    assert nearest.max() < 0.25 * 6, "a quarter of the distance to what is seen"
    assert (path.world_to_cam[:, 1, 1] > 0.9).all(), "the image's down side is the world's"
    aim = torch.nn.functional.normalize(FOCUS - path.centers, dim=-1)
    assert ((aim * path.forward).sum(-1) > math.cos(math.radians(4))).all()
    speed = (path.centers[1:] - path.centers[:-1]).norm(dim=-1)
    assert (speed[1:] - speed[:-1]).abs().max() < 0.2 * max(speed.max().item(), 1e-6)


@pytest.mark.parametrize("name", ["wander", "spiral"])
def test_loops_start_at_the_central_photo_and_close(name: str) -> None:
    photos = _arc(7)
    path = camera_path(name, photos, frames=100, focus=FOCUS + 0.3)
    assert torch.allclose(path.world_to_cam[0], photos.world_to_cam[3], atol=1e-5)
    step = (path.centers[1:] - path.centers[:-1]).norm(dim=-1)
    assert (path.centers[-1] - path.centers[0]).norm() < 1.5 * step.max()


def test_orbit_goes_all_the_way_round_where_the_photos_do() -> None:
    around = _arc(9, degrees=320)
    path = camera_path("orbit", around, frames=72, focus=FOCUS)
    offset = path.centers - FOCUS
    angle = torch.atan2(offset[:, 0], offset[:, 2])
    assert angle.sort().values.diff().max() < math.radians(6)
    assert (offset.norm(dim=-1) - 6).abs().max() < 0.2


def test_orbit_keeps_to_the_arc_of_the_photos() -> None:
    path = camera_path("orbit", _arc(7, degrees=40), frames=80, focus=FOCUS)
    offset = path.centers - FOCUS
    angle = torch.atan2(offset[:, 0], -offset[:, 2]).rad2deg()
    assert angle.min() == pytest.approx(-20, abs=0.5)
    assert angle.max() == pytest.approx(20, abs=0.5)


def test_interpolate_passes_through_every_photo_and_untangles_their_order() -> None:
    photos = _arc(6)
    mixed = photos[[0, 3, 1, 5, 2, 4]]
    path = camera_path("interpolate", mixed, frames=2000, focus=FOCUS)
    apart = torch.cdist(mixed.centers, path.centers)
    assert apart.min(1).values.max() < 5e-3
    at = apart.argmin(1)
    assert (path.world_to_cam[at] - mixed.world_to_cam).abs().max() < 5e-3
    length = (path.centers[1:] - path.centers[:-1]).norm(dim=-1).sum()
    assert length < 1.05 * (photos.centers[1:] - photos.centers[:-1]).norm(dim=-1).sum()
    assert torch.allclose(path.world_to_cam[0], mixed.world_to_cam[0], atol=1e-5)


def test_inputs_holds_each_photo_for_its_share() -> None:
    photos = _arc(3)
    path = camera_path("inputs", photos, frames=6)
    assert torch.equal(path.world_to_cam, photos.world_to_cam[[0, 0, 1, 1, 2, 2]])


def test_focus_of_cameras() -> None:
    assert torch.allclose(focus_of(_arc(5)).float(), FOCUS, atol=1e-4)
    one = _arc(1)
    assert torch.allclose(focus_of(one).float(), one.centers[0] + one.forward[0], atol=1e-5)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="at least 1"):
        camera_path("wander", _arc(2), frames=0)
    none = Cameras(world_to_cam=torch.zeros(0, 4, 4), intrinsics=torch.zeros(0, 3, 3), height=4, width=4)
    with pytest.raises(InputError, match="has none"):
        camera_path("orbit", none, frames=3)


def test_stabilised_leaves_a_straight_path_alone() -> None:
    poses = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    poses[:, 0, 3] = torch.arange(9.0)
    smooth = stabilised(poses, 5)
    assert torch.allclose(smooth[2:-2], poses[2:-2])
    assert torch.equal(stabilised(poses[:2], 5), poses[:2])


def test_interpolated_poses_end_at_both_cameras() -> None:
    poses = rigid_inverse(_arc(2).world_to_cam.double())
    path = interpolated_poses(poses[0], poses[1], torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.allclose(path[[0, 2]], poses, atol=1e-6)
    assert abs(float((path[1, :3, 3] - FOCUS).norm()) - 6) < 0.05, "halfway it is still on the circle"


def _close(value: Tensor, expected: np.ndarray, bound: dict[str, float]) -> bool:
    assert value.shape == expected.shape
    error = (value.double().numpy() - expected.astype(np.float64)).ravel()
    return bool(np.abs(error).max() <= bound["abs"] and np.sqrt((error**2).mean()) <= bound["rms"])


@pytest.mark.parametrize("length", ["long", "short"])
@pytest.mark.parametrize("mode", UpstreamMode.__args__)
def test_official_modes(length: str, mode: str, test_data: Callable[[str], Path]) -> None:
    """To the fixture's own tolerance: twenty times the difference between its float32 and its float64 run."""
    with np.load(test_data("spec/fixtures_public/fn_trajectory.npz")) as data:
        if f"out/{length}/{mode}/extrinsics" not in data.files:
            pytest.skip("the fixture has no such case")
        height, width = data["in/image_hw"].tolist()
        photos = Cameras(
            world_to_cam=torch.from_numpy(data[f"in/extrinsics_{length}"][0]),
            intrinsics=torch.from_numpy(data[f"in/intrinsics_{length}"][0]),
            height=height,
            width=width,
        )
        path = upstream_path(mode, photos)
        bounds = json.loads(str(data["meta"]))["tolerances"]
        name = f"out/{length}/{mode}/extrinsics"
        assert _close(path.world_to_cam, data[name], bounds[name])
        name = f"out/{length}/{mode}/intrinsics_normalised"
        size = torch.tensor([[width], [height], [1.0]])
        assert _close(path.intrinsics / size, data[name], bounds[name])
