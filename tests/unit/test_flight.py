"""Flights keep to what was seen: free of every surface, covered, smooth, upright, and they start at a photo."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.rendering import render
from da3gs.rendering.paths.free_paths import Guard, named_flight
from da3gs.rendering.paths.trajectories import home_of

SMOOTH = ["wander", "spiral", "orbit", "ellipse", "interpolate"]
CLOSED = SMOOTH[:-1]


def _sheet(corner: list[float], right: list[float], down: list[float], spacing: float = 0.12) -> Tensor:
    """Points of a rectangle."""
    a, b, c = (torch.tensor(v, dtype=torch.float32) for v in (corner, right, down))
    u = torch.arange(0, 1 + 1e-6, spacing / float(b.norm()))
    v = torch.arange(0, 1 + 1e-6, spacing / float(c.norm()))
    return (a + u[:, None, None] * b + v[:, None] * c).reshape(-1, 3)


def _solid(points: Tensor, size: float = 0.1) -> Gaussians:
    """Opaque round splats at these points, in the colours of their places."""
    count = len(points)
    return Gaussians(
        means=points,
        scales=torch.full((count, 3), size),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacities=torch.full((count,), 0.95),
        harmonics=points.remainder(1.0)[:, None] - 0.5,
    )


def _cameras(eyes: Tensor, targets: Tensor, focal: float = 40.0) -> Cameras:
    up = torch.tensor([0.0, -1.0, 0.0]).expand_as(eyes)
    intrinsics = torch.tensor([[focal, 0, 32], [0, focal, 24], [0, 0, 1]]).repeat(len(eyes), 1, 1)
    return Cameras(world_to_cam=look_at(eyes, targets, up), intrinsics=intrinsics, height=48, width=64)


def _wall_between() -> tuple[Gaussians, Cameras, Tensor]:
    """A back wall, and a wall edge-on between two groups of photos, open near the cameras' far side.

    The straight ways from the left group to the right one cross the dividing wall (x = 0, from z = -1.5 to 4), but
    not those between the photos that stand back at z = -2.5.
    """
    back = _sheet([-6, -4, 4], [12, 0, 0], [0, 8, 0])
    divider = _sheet([0, -4, -1.5], [0, 0, 5.5], [0, 8, 0])
    eyes = torch.tensor([[-1.5, 0, 0.0], [1.5, 0, 0], [-1.2, 0, -1.5], [1.2, 0, -1.5], [-0.8, 0, -2.9], [0.8, 0, -2.9]])
    targets = eyes + torch.tensor([0.0, 0.0, 4.0])
    return _solid(torch.cat((back, divider))), _cameras(eyes, targets), divider


def _thing_in_a_room(count: int, degrees: float) -> tuple[Gaussians, Cameras, Tensor]:
    """Photos on an arc round a ball in a closed round room."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(5000, 3, generator=generator), dim=-1)
    ball, room = 0.7 * directions[:1200], 5.0 * directions[1200:]
    angle = torch.linspace(-degrees / 2, degrees / 2, count).deg2rad()
    eyes = torch.stack((2.6 * angle.sin(), 0.2 * (3 * angle).cos(), -2.6 * angle.cos()), -1)
    gaussians = _solid(torch.cat((ball, room)), 0.08)
    grown = torch.cat((torch.full((1200, 3), 0.05), torch.full((3800, 3), 0.25)))
    return Gaussians(
        means=gaussians.means, scales=grown, quaternions=gaussians.quaternions, opacities=gaussians.opacities,
        harmonics=gaussians.harmonics,
    ), _cameras(eyes, torch.zeros(count, 3)), ball  # fmt: skip


def _assert_smooth_and_upright(path: Cameras, up: Tensor, least: float = 0.7) -> None:
    """Second differences stay small against the way of one frame; the top of the picture points up."""
    step = path.centers[1:] - path.centers[:-1]
    fastest = step.norm(dim=-1).max()
    assert (step[1:] - step[:-1]).norm(dim=-1).max() < 0.35 * fastest + 1e-6
    turns = (path.forward[1:] - path.forward[:-1]).norm(dim=-1)
    assert (turns[1:] - turns[:-1]).abs().max() < 0.35 * turns.max() + 1e-6
    assert (-path.world_to_cam[:, 1, :3] @ up).min() > least


@pytest.mark.parametrize("name", SMOOTH)
def test_no_flight_crosses_a_wall(name: str) -> None:
    gaussians, photos, divider = _wall_between()
    path = named_flight(gaussians, photos, name, frames=150, backend="cpu")
    assert len(path) == 150
    apart = torch.cdist(path.centers, divider).min(1).values
    assert apart.min() > 0.3, "0.4 times the room of the nearest photo, which is 0.8 or more"
    x, z = path.centers[:, 0], path.centers[:, 2]
    crossing = (x[1:] * x[:-1] <= 0) & (z[1:] > -1.5)
    assert not crossing.any()


def test_a_flight_through_photos_goes_round_the_wall() -> None:
    """The plain flight from left to right would go through it; this one visits all photos all the same."""
    gaussians, photos, _ = _wall_between()
    path = named_flight(gaussians, photos, "interpolate", frames=600, backend="cpu")
    nearest = torch.cdist(photos.centers, path.centers).min(1).values
    assert nearest.max() < 0.03
    _assert_smooth_and_upright(path, torch.tensor([0.0, -1.0, 0.0]))


def test_photos_that_no_free_way_leads_to_are_left_out() -> None:
    gaussians, photos, _ = _wall_between()
    wall = _sheet([0, -4, -6], [0, 0, 10], [0, 8, 0])
    closed = _solid(torch.cat((gaussians.means, wall)))
    photos = photos[[0, 1, 2, 4]]
    path = named_flight(closed, photos, "interpolate", frames=200, backend="cpu")
    assert (path.centers[:, 0] < -0.3).all(), "three of the four stand on the left"
    assert torch.cdist(path.centers, wall).min() > 0.3


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("count", "degrees"), [(1, 0.0), (2, 20.0), (6, 70.0), (12, 330.0)])
def test_flights_round_a_thing(name: str, count: int, degrees: float) -> None:
    """Free of the ball, covered as the photos are, smooth, upright, and in sight of the ball."""
    gaussians, photos, ball = _thing_in_a_room(count, degrees)
    path = named_flight(gaussians, photos, name, frames=96, backend="cpu")
    assert torch.cdist(path.centers, ball).min() > 0.4 * 1.9 * 0.9
    assert path.centers.norm(dim=-1).max() < 4.5, "inside the room"
    _assert_smooth_and_upright(path, torch.tensor([0.0, -1.0, 0.0]))
    to_ball = torch.nn.functional.normalize(-path.centers, dim=-1)
    assert ((to_ball * path.forward).sum(-1) > math.cos(math.radians(20))).all()
    covered = [float(render(gaussians, path[i], backend="cpu").alpha.mean()) for i in range(0, 96, 12)]
    least = min(float(render(gaussians, photos[i], backend="cpu").alpha.mean()) for i in range(count))
    assert min(covered) > least - 0.04


@pytest.mark.parametrize("name", ["wander", "spiral"])
def test_flights_start_at_the_central_photo(name: str) -> None:
    gaussians, photos, _ = _thing_in_a_room(6, 70.0)
    path = named_flight(gaussians, photos, name, frames=50, backend="cpu")
    assert torch.allclose(path.world_to_cam[0], photos.world_to_cam[home_of(photos)], atol=1e-5)


@pytest.mark.parametrize("name", CLOSED)
def test_flights_stay_inside_what_was_seen(name: str) -> None:
    """One photo of a wall that ends just outside the picture: the full path would look past its edge."""
    wall = _sheet([-1.75, -1.4, 2], [3.5, 0, 0], [0, 2.8, 0], 0.08)
    gaussians = _solid(wall, 0.07)
    photos = _cameras(torch.zeros(1, 3), torch.tensor([[0.0, 0, 2.0]]))
    home = float(render(gaussians, photos[0], backend="cpu").alpha.mean())
    path = named_flight(gaussians, photos, name, frames=48, backend="cpu")
    covered = [float(render(gaussians, path[i], backend="cpu").alpha.mean()) for i in range(0, 48, 4)]
    assert min(covered) > home - 0.04


@pytest.mark.parametrize("name", CLOSED)
def test_flights_among_views_of_one_panorama(name: str) -> None:
    """Six views from one place, out into a round room: there is nothing to go round, the room is seen all the same."""
    generator = torch.Generator().manual_seed(0)
    room = 3 * torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=-1)
    ahead = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    photos = _cameras(torch.zeros(4, 3), ahead, focal=25.0)
    gaussians = _solid(room, 0.2)
    path = named_flight(gaussians, photos, name, frames=96, backend="cpu")
    assert path.world_to_cam.isfinite().all()
    covered = [float(render(gaussians, path[i], backend="cpu").alpha.mean()) for i in range(0, 96, 12)]
    assert min(covered) > 0.95
    assert path.centers.norm(dim=-1).max() < 1.8
    _assert_smooth_and_upright(path, torch.tensor([0.0, -1.0, 0.0]))


def test_room_ignores_a_speck_in_the_air() -> None:
    wall = _sheet([-3, -3, 4], [6, 0, 0], [0, 6, 0])
    specks = torch.tensor([[0.0, 0.0, 0.1], [0.1, 0.0, 0.1]])
    photos = _cameras(torch.zeros(1, 3), torch.tensor([[0.0, 0, 4.0]]))
    guard = Guard(_solid(torch.cat((wall, specks))), photos, "cpu")
    assert float(guard.room(torch.zeros(1, 3))[0]) == pytest.approx(4.0, abs=0.1)
    assert guard.free(torch.zeros(3, 3))
    assert not guard.free(torch.tensor([[0.0, 0, 0], [0, 0, 3.0]]))
    assert not guard.free(torch.tensor([[0.0, 0, 0], [0, 0, 8.0]])), "jumping over the wall is flying through it"


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("scene", ["desk", "banana", "buddha", "berlin"])
def test_flights_among_real_photos(scene: str, name: str, test_data: Callable[[str], Path]) -> None:
    """Cameras of the shared data: smooth, upright to the photos, near where one was taken, looking as one did."""
    from da3gs.formats.cameras.camera_paths import load_camera_path
    from da3gs.rendering import camera_path

    photos = load_camera_path(test_data(f"data/{scene}")).cameras().to(dtype=torch.float32)
    path = camera_path(name, photos, frames=240)
    up = torch.nn.functional.normalize(-photos.world_to_cam[:, 1, :3].mean(0), dim=0)
    least = float((-photos.world_to_cam[:, 1, :3] @ up).min())
    _assert_smooth_and_upright(path, up, min(least, 0.9) - 0.15)
    extent = np.linalg.norm(np.ptp(photos.centers.numpy(), axis=0))
    assert torch.cdist(path.centers, photos.centers).min(1).values.max() < 0.5 * extent
    assert (path.forward @ photos.forward.T).max(1).values.min() > 0.6
