"""The exported page with a headset on, which is emulated, and with its ruler."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.formats.records import WriteOptions
from da3gs.formats.registry import written_format
from da3gs.formats.splats.html import save_html
from da3gs.gaussians import Gaussians
from da3gs.rendering import render
from tests.browser.test_player import HEIGHT, WIDTH, Player, page_views, psnr
from tests.small_scene import small_cameras, small_gaussians

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

IWER = Path(__file__).parents[1] / "readers" / "node_modules" / "iwer" / "build" / "iwer.min.js"
DEVICE = """
  const device = new IWER.XRDevice(IWER.metaQuest3, { stereoEnabled: %s });
  device.installRuntime({ forceInstall: true });
  device.position.set(0, 0, 0);
  device.ipd = 0.06;
  window.device = device;
"""
NO_DEVICE = "Object.defineProperty(navigator, 'xr', { value: undefined })"


def marked() -> Gaussians:
    """Two small opaque splats: a red one 0.5 to the left of the origin, a green one 0.5 to its right and 0.2 above."""
    splats = small_gaussians(2, 1)
    splats.means[:] = torch.tensor([[-0.5, 0, 0], [0.5, -0.2, 0]])
    splats.scales[:], splats.opacities[:] = 0.04, 0.99
    splats.harmonics[:] = torch.tensor([[[1.5, -1.7, -1.7]], [[-1.7, 1.5, -1.7]]])
    return splats


def front() -> Cameras:
    """A camera 2 before the origin, level, looking along z."""
    pose = torch.eye(4)
    pose[2, 3] = 2
    intrinsics = torch.tensor([[300.0, 0, WIDTH / 2], [0, 300, HEIGHT / 2], [0, 0, 1]])
    return Cameras(world_to_cam=pose[None], intrinsics=intrinsics[None], height=HEIGHT, width=WIDTH)


def write(path: Path, splats: Gaussians, unit: str) -> None:
    """A page of splats in this unit, seen from the front."""
    row = written_format(".html")
    assert row.encode is not None
    [view] = page_views(front(), ("front",))
    blocks = row.encode(splats, path.name, WriteOptions(views=[view], unit=unit))
    path.write_bytes(b"".join(bytes(block) for block in blocks))


@pytest.fixture
def headset(chromium: Any) -> Any:
    """A window with an emulated headset."""
    if not IWER.is_file():
        pytest.skip("the WebXR emulator is not installed; make test-readers installs it (needs node)")
    player = Player(chromium, WIDTH, HEIGHT)
    player.context.add_init_script(IWER.read_text("utf-8"))
    yield player
    player.context.close()


def shot(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def entered(player: Player, path: Path, button: str, stereo: bool) -> np.ndarray:
    """What the headset shows after the button was pressed."""
    player.context.add_init_script(DEVICE % str(stereo).lower())
    player.open(path)
    page = player.page
    page.get_by_role("button", name=button).click()
    page.wait_for_function("device.activeSession !== undefined")
    page.wait_for_timeout(1500)
    return shot(page)


def middles(picture: np.ndarray, channel: int) -> list[np.ndarray]:
    """Where splats of one colour are seen: in each half of the picture that shows one."""
    found = []
    for half in np.array_split(picture.astype(int), 2, axis=1):
        others = [c for c in range(3) if c != channel]
        rows, columns = np.nonzero((half[..., channel] > 120) & (half[..., others].max(-1) < 80))
        if len(rows):
            found.append(np.array([columns.mean() / half.shape[1], rows.mean() / half.shape[0]]))
    return found


def test_a_page_in_a_headset(headset: Player, tmp_path: Path) -> None:
    """Upright, left and right where they are, each eye from its own place."""
    write(tmp_path / "a.html", marked(), "metre")
    seen = entered(headset, tmp_path / "a.html", "Enter VR", stereo=True)
    red, green = middles(seen, 0), middles(seen, 1)
    assert len(red) == len(green) == 2, "both eyes see both splats"
    for left, right in zip(red, green, strict=True):
        assert left[0] < right[0] - 0.05
        assert right[1] < left[1] - 0.01, "green is the higher one"
    # the left eye stands further left, so that it sees the splats further right
    assert red[0][0] > red[1][0] + 0.005
    assert headset.complaints() == []
    page = headset.page
    page.evaluate("device.activeSession.end()")
    page.wait_for_timeout(300)
    headset.settle()
    after = headset.picture()
    ours = (render(marked(), front()[0], backend="cpu").color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    assert psnr(after, ours) > 40, "the page is as it was"


def test_the_head_moves(headset: Player, tmp_path: Path) -> None:
    write(tmp_path / "a.html", marked(), "metre")
    before = middles(entered(headset, tmp_path / "a.html", "Enter VR", stereo=False), 0)
    headset.page.evaluate("device.position.set(0, 0.3, 0)")
    headset.page.wait_for_timeout(1000)
    after = middles(shot(headset.page), 0)
    assert after[0][1] > before[0][1] + 0.02, "who rises sees things lower"


def test_augmented_reality_lets_the_world_through(headset: Player, tmp_path: Path) -> None:
    write(tmp_path / "a.html", marked(), "arbitrary")
    seen = entered(headset, tmp_path / "a.html", "Enter AR", stereo=False)
    assert middles(seen, 0)
    blending = headset.page.evaluate("device.activeSession.environmentBlendMode")
    assert blending in ("alpha-blend", "additive", "opaque")
    assert headset.complaints() == []


def test_without_a_headset_nothing_is_offered(chromium: Any, tmp_path: Path) -> None:
    player = Player(chromium, WIDTH, HEIGHT)
    try:
        player.context.add_init_script(NO_DEVICE)
        write(tmp_path / "a.html", marked(), "metre")
        player.open(tmp_path / "a.html")
        for name in ("Enter VR", "Enter AR"):
            assert not player.page.get_by_role("button", name=name).is_visible()
        player.page.keyboard.press("v")
        player.settle()
        assert player.complaints() == []
    finally:
        player.context.close()


@pytest.mark.parametrize(("unit", "word"), [("metre", "m"), ("arbitrary", "units"), ("", "units")])
def test_the_ruler_measures_in_the_scenes_unit(chromium: Any, tmp_path: Path, unit: str, word: str) -> None:
    player = Player(chromium, WIDTH, HEIGHT)
    try:
        write(tmp_path / "a.html", marked(), unit)
        player.open(tmp_path / "a.html")
        page = player.page
        page.get_by_role("button", name="Measure").click()
        assert page.locator("#length").text_content() == "click one end"
        for x, y in ((-0.5, 0.0), (0.5, -0.2)):
            page.mouse.click(WIDTH / 2 + 300 * x / 2, HEIGHT / 2 + 300 * y / 2)
            page.wait_for_timeout(300)
        player.settle()
        said = page.locator("#length").text_content()
        number = re.fullmatch(rf"([\d.]+) {word}", said)
        assert number is not None, said
        assert float(number[1]) == pytest.approx((1 + 0.2**2) ** 0.5, rel=0.03)
        ends = [page.locator(f"#{end}") for end in ("from", "to")]
        places = [[float(end.get_attribute(axis)) for axis in ("cx", "cy")] for end in ends]
        np.testing.assert_allclose(places, [[WIDTH / 2 - 75, HEIGHT / 2], [WIDTH / 2 + 75, HEIGHT / 2 - 30]], atol=2)
        page.keyboard.press("m")
        assert not page.locator("#ruler").is_visible()
        assert player.complaints() == []
    finally:
        player.context.close()


def test_a_finger_measures(chromium: Any, tmp_path: Path) -> None:
    player = Player(chromium, 390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    try:
        save_html(small_gaussians(2000), tmp_path / "a.html", views=page_views(small_cameras(3), ("a", "b", "c")))
        player.open(tmp_path / "a.html")
        page = player.page
        page.get_by_role("button", name="Measure").tap()
        for x, y in ((170, 420), (230, 440)):
            page.touchscreen.tap(x, y)
            page.wait_for_timeout(500)
        player.settle()
        assert re.fullmatch(r"[\d.]+ units", page.locator("#length").text_content())
        assert player.complaints() == []
    finally:
        player.context.close()
