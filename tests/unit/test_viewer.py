"""The viewer without a browser: what it sends, where one stands, where it listens."""

from __future__ import annotations

import dataclasses
import math
import socket
import threading
import time
import types

import numpy as np
import pytest
import torch

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs_viewer import Viewer
from da3gs_viewer.painter import client_camera
from da3gs_viewer.serving.address import check_address, is_loopback, page_url
from da3gs_viewer.splats import CHANCE, MAX_GROWTH, browser_splats
from da3gs_viewer.viewpoint import Viewpoint, between, outside_viewpoint, photo_viewpoint, up_direction
from tests.browser.wall import HEIGHT, WIDTH, wall_scene

EYES = torch.zeros(1, 3)


def one_splat(**changes: torch.Tensor) -> Gaussians:
    values = {
        "means": torch.tensor([[0.0, 0, 2]]),
        "scales": torch.tensor([[1.0, 2, 3]]),
        "quaternions": torch.tensor([[math.sqrt(0.5), 0, 0, math.sqrt(0.5)]]),  # 90 degrees about z: x becomes y
        "opacities": torch.tensor([0.5]),
        "harmonics": torch.zeros(1, 1, 3),
    }
    return Gaussians(**{**values, **changes})


def test_covariances_and_colours() -> None:
    color = torch.tensor([1.0, 0.25, 0.0])
    splats = browser_splats(one_splat(harmonics=((color - 0.5) / C0)[None, None]), EYES, limit=10)
    np.testing.assert_allclose(splats.covariances[0], np.diag([4.0, 1.0, 9.0]), atol=1e-5)
    np.testing.assert_allclose(splats.rgbs[0], color.numpy(), atol=1e-6)
    assert splats.opacities.shape == (1, 1)


def test_colours_are_those_that_the_nearest_camera_sees() -> None:
    harmonics = torch.zeros(1, 4, 3)
    harmonics[0, 2] = 0.3  # grows with the z of the direction from the camera
    ahead = browser_splats(one_splat(harmonics=harmonics), torch.tensor([[0.0, 0, 0], [0, 0, 9]]), limit=1)
    behind = browser_splats(one_splat(harmonics=harmonics), torch.tensor([[0.0, 0, -9], [0, 0, 3]]), limit=1)
    assert ahead.rgbs[0, 0] > 0.5 > behind.rgbs[0, 0]


def test_fewer_splats_cover_as_much() -> None:
    scene = wall_scene()
    splats = browser_splats(scene.gaussians, EYES, limit=400)
    assert len(splats) == 400
    whole = browser_splats(scene.gaussians, EYES, limit=10**6)
    assert len(whole) == 1600
    grown = splats.covariances[0, 0, 0] / whole.covariances[0, 0, 0]
    wide = 2 * (1 + 0.75 * CHANCE)  # a quarter of equal splats: twice as wide and a little more
    assert grown == pytest.approx(wide**2, rel=0.2)
    assert grown <= MAX_GROWTH**2
    np.testing.assert_array_equal(splats.centers, browser_splats(scene.gaussians, EYES, limit=400).centers)


def test_what_contributes_nothing_goes_first_and_what_is_not_finite_at_once() -> None:
    scene = wall_scene()
    opacities = scene.gaussians.opacities.clone()
    opacities[::2] = 1e-4
    gaussians = dataclasses.replace(scene.gaussians, opacities=opacities)
    assert (browser_splats(gaussians, EYES, limit=400).opacities > 0.5).mean() > 0.95
    means = gaussians.means.clone()
    means[0] = torch.nan
    assert len(browser_splats(dataclasses.replace(gaussians, means=means), EYES, limit=10**6)) == 1599


def test_a_photo_is_where_it_was_taken() -> None:
    scene = wall_scene()
    view = photo_viewpoint(scene.cameras, 1, (HEIGHT, WIDTH), scene.gaussians.means)
    np.testing.assert_allclose(view.position, scene.cameras.centers[1].numpy(), atol=1e-6)
    np.testing.assert_allclose(view.look_at, [0, 0, 4], atol=0.1)  # the wall's middle
    assert view.aspect == pytest.approx(WIDTH / HEIGHT)
    horizontal = 2 * math.atan(math.tan(view.fov / 2) * view.aspect)
    assert horizontal == pytest.approx(math.radians(60))


def test_a_narrow_window_shows_the_whole_photo() -> None:
    view = Viewpoint(position=np.zeros(3), wxyz=np.array([1.0, 0, 0, 0]), distance=1, fov=1.0, aspect=2.0)
    assert view.fitted(3.0) == 1.0
    assert math.tan(view.fitted(0.5) / 2) * 0.5 == pytest.approx(math.tan(0.5) * 2.0)  # the same width


def test_up() -> None:
    scene = wall_scene()
    np.testing.assert_array_equal(up_direction(None), [0, -1, 0])
    np.testing.assert_array_equal(up_direction(scene), [0, -1, 0])

    def given(up: list[float]) -> np.ndarray:
        eyes = torch.tensor([[1.0, 0.2, 0.3], [-1.0, 0.1, 0.2]])
        cameras = dataclasses.replace(
            scene.cameras[:2], world_to_cam=look_at(eyes, torch.zeros(2, 3), torch.tensor(up))
        )
        return up_direction(dataclasses.replace(scene, cameras=cameras, record={"frame": {"up": "given"}}))

    np.testing.assert_allclose(given([0.0, 0, 1]), [0, 0, 1])  # near an axis: that axis
    slanted = np.array([0.0, 0.7, 0.7]) / math.hypot(0.7, 0.7)
    assert float(given([0.0, 0.7, 0.7]) @ slanted) > 0.9


def test_bare_splats_are_seen_from_outside() -> None:
    view = outside_viewpoint(wall_scene().gaussians, np.array([0.0, -1, 0]))
    assert view.position[2] < 0
    np.testing.assert_allclose(view.look_at, [0, 0, 4], atol=0.2)


def test_a_flight_begins_and_ends_where_it_should() -> None:
    start, end = (wall_scene().cameras[i] for i in (0, 2))
    views = [
        photo_viewpoint(_stack(camera), 0, (HEIGHT, WIDTH), wall_scene().gaussians.means) for camera in (start, end)
    ]
    for t, view in ((0.0, views[0]), (1.0, views[1])):
        position, wxyz = between(*views, t)
        np.testing.assert_allclose(position, view.position)
        assert abs(float(wxyz @ view.wxyz)) == pytest.approx(1, abs=1e-6)


def _stack(camera: Cameras) -> Cameras:
    return camera.map(lambda t: t[None])


def test_a_browsers_camera_is_the_photos_camera() -> None:
    scene = wall_scene()
    view = photo_viewpoint(scene.cameras, 0, (HEIGHT, WIDTH), scene.gaussians.means)
    browser = types.SimpleNamespace(position=view.position, wxyz=view.wxyz, fov=view.fov, aspect=view.aspect)
    camera = client_camera(browser, side=WIDTH)  # type: ignore[arg-type]
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    torch.testing.assert_close(camera.world_to_cam, scene.cameras.world_to_cam[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(camera.intrinsics, scene.cameras.intrinsics[0], atol=1e-3, rtol=0)


def test_addresses() -> None:
    check_address("127.0.0.1", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="in use"):
            check_address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(InputError, match="in use"):
            check_address("0.0.0.0", taken.getsockname()[1])
    with pytest.raises(InputError, match="no address of this machine"):
        check_address("192.0.2.1", 0)
    with pytest.raises(InputError, match="out of range"):
        check_address("127.0.0.1", 65536)
    with pytest.raises(InputError, match="no address of this machine"):
        check_address("no such host", 0)
    assert page_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert [is_loopback(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example")] == [True] * 3 + [False] * 2


def test_nothing_to_show() -> None:
    with pytest.raises(InputError, match="no splat"):
        Viewer(one_splat().masked(torch.tensor([False])))


def test_closing_waits_for_what_is_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends while a daemon thread is inside torch or a kernel aborts."""
    viewer = Viewer(wall_scene(), port=0)
    begun, drawn = threading.Event(), threading.Event()

    def paint(*_: object) -> None:
        begun.set()
        time.sleep(0.5)
        drawn.set()

    monkeypatch.setattr(viewer.artist, "paint", paint)
    with viewer:
        assert begun.wait(20)
    assert drawn.is_set()


def test_a_start_that_fails_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Viewer(wall_scene(), port=0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer, "thumbnail", interrupted)
    with pytest.raises(KeyboardInterrupt), viewer:
        pass
    host, port = viewer.url.split("/")[2].split(":")
    with socket.socket() as free:
        assert free.connect_ex((host, int(port))) != 0
