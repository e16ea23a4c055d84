"""The viewer in a real browser: what it shows, and what clicks do."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs_viewer import Viewer
from tests.browser.wall import wall_scene

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

KNOWN = "computeBoundingSphere"  # viser's own, once at the start
STRANGE = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer(wall_scene(("left", "middle", STRANGE)), port=0) as viewer:
        yield viewer


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The condition's value once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    pytest.fail(f"waited {seconds} s in vain for {what}")


def screenshot(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def coloured(picture: np.ndarray) -> np.ndarray:
    return picture.max(-1) - picture.min(-1) > 60


def opened(page: Any, viewer: Viewer) -> tuple[Any, np.ndarray]:
    """The browser's handle and a screenshot, once two shots of a coloured picture agree."""
    page.goto(viewer.url)
    client = wait_for(lambda: next(iter(viewer.server.get_clients().values()), None), "the browser to connect")
    before = screenshot(page)

    def settled() -> bool:
        nonlocal before
        time.sleep(0.5)
        now = screenshot(page)
        same, before = np.array_equal(now, before), now
        return same and bool(coloured(now[:, :300]).mean() > 0.1)

    wait_for(settled, "coloured pixels")
    return client, before


def test_opens_upright_at_the_first_photo(page: Any, viewer: Viewer, tmp_path: Path) -> None:
    client, picture = opened(page, viewer)
    keep = os.environ.get("DA3GS_SCREENSHOTS")
    if keep:
        page.screenshot(path=str(Path(keep) / "opened.png"))
    home = viewer.home
    np.testing.assert_allclose(client.camera.position, home.position, atol=1e-4)
    assert abs(abs(np.dot(client.camera.wxyz, home.wxyz)) - 1) < 1e-5
    assert client.camera.fov == pytest.approx(home.fov, abs=1e-4)
    left = picture[150:, :300]  # beside the panel, under viser's card
    red = (left[..., 0] > 150) & (left[..., 2] < 100)
    blue = (left[..., 2] > 150) & (left[..., 0] < 100)
    assert red.sum() > 500
    assert blue.sum() > 500
    assert np.argwhere(red)[:, 0].mean() + 40 < np.argwhere(blue)[:, 0].mean(), "red is above blue"
    assert page.strangers == []
    assert [said for said in page.complaints if KNOWN not in said] == []


def test_the_list_moves_the_camera(page: Any, viewer: Viewer) -> None:
    client, before = opened(page, viewer)
    page.get_by_role("button", name="Next").click()
    goal = viewer.cameras.centers[1].numpy()  # type: ignore[union-attr]
    wait_for(lambda: np.allclose(client.camera.position, goal, atol=1e-3), "the flight to end")
    wait_for(lambda: not np.array_equal(screenshot(page), before), "another picture")
    page.get_by_role("button", name="Previous").click()
    wait_for(lambda: np.allclose(client.camera.position, viewer.home.position, atol=1e-3), "the flight back")


def test_a_click_on_a_frustum_moves_the_camera(page: Any, viewer: Viewer) -> None:
    client, _ = opened(page, viewer)
    goal, look = viewer.cameras.centers[1].numpy(), np.array([0.0, -0.2, 0.2])  # type: ignore[union-attr]
    client.camera.position = goal + np.array(
        [-0.6, 0, -1.2]
    )  # behind the middle camera, which is left of the panel then
    client.camera.look_at = look + np.array([0.25, 0, 0])
    time.sleep(3)
    local = np.linalg.inv(_matrix(client)) @ np.array([*goal, 1.0])
    local[2] += 0.1
    focal = 400 / (2 * np.tan(client.camera.fov / 2))
    page.mouse.click(320 + focal * local[0] / local[2], 200 + focal * local[1] / local[2])
    wait_for(lambda: np.allclose(client.camera.position, goal, atol=1e-3), "the flight to end", 20)


def _matrix(client: Any) -> np.ndarray:
    import viser.transforms as tf

    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = tf.SO3(client.camera.wxyz).as_matrix(), client.camera.position
    return matrix


def test_frustums_can_be_hidden_and_names_are_only_text(page: Any, viewer: Viewer) -> None:
    client, _ = opened(page, viewer)
    handles = viewer.frustums._handles[client.client_id]
    assert [handle.visible for handle in handles] == [False, True, True], "the one that the camera stands in is hidden"
    page.get_by_label("Photo frustums").click()
    wait_for(lambda: not any(handle.visible for handle in handles), "all frustums to be hidden")
    page.get_by_role("button", name="Previous").click()  # from the first photo to the last, with the strange name
    wait_for(lambda: viewer.panel.photos.photo.value.endswith(STRANGE), "the last photo")
    time.sleep(1)
    assert page.title() != "owned"
    assert page.locator("img[src='x']").count() == 0
