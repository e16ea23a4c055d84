"""The exported page in a real browser: from disk, without a network, the same picture as our renderer's."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.formats import load_gaussians
from da3gs.formats.splats.html import PageView, save_html
from da3gs.rendering import render
from tests.small_scene import small_cameras, small_gaussians

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

STRANGE = "</script><img src=x onerror=document.title='owned'>\"'&amp;"
WIDTH, HEIGHT = 560, 420


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(1e-10, np.mean((a.astype(float) / 255 - b.astype(float) / 255) ** 2))))


def page_views(cameras: Cameras, names: tuple[str, ...]) -> list[PageView]:
    return [
        PageView(
            name=name,
            height=cameras.height,
            width=cameras.width,
            intrinsics=cameras.intrinsics[i].double().numpy(),
            cam_to_world=cameras.cam_to_world[i].double().numpy(),
            distance=2.5,
        )
        for i, name in enumerate(names)
    ]


def our_picture(path: Path, camera: Cameras, background: float = 0.0) -> np.ndarray:
    color = render(load_gaussians(path), camera, background=(background,) * 3, backend="cpu").color
    return (color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


class Player:
    """A browser window without a network."""

    def __init__(self, chromium: Any, width: int, height: int, **options: Any) -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.said.append(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda asked: self.asked.append(asked.url))

    def open(self, path: Path, view: int = 1) -> None:
        self.page.goto(f"{path.as_uri()}#{view}")
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(50)
        self.page.wait_for_selector("html[data-state=settled], html[data-state=failed]", state="attached")
        assert self.page.locator("html").get_attribute("data-state") == "settled", self.page.inner_text("#message")

    def picture(self) -> np.ndarray:
        """The canvas alone."""
        if "bare" not in (self.page.locator("body").get_attribute("class") or ""):
            self.page.keyboard.press("h")
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def complaints(self) -> list[str]:
        """What the page says, but for the driver's remarks about its own speed."""
        return [said for said in self.said if "GPU stall due to ReadPixels" not in said]


@pytest.fixture
def player(chromium: Any) -> Iterator[Player]:
    player = Player(chromium, WIDTH, HEIGHT)
    yield player
    player.context.close()


def keep(name: str, *pictures: np.ndarray) -> None:
    folder = os.environ.get("DA3GS_SCREENSHOTS")
    if folder:
        Image.fromarray(np.concatenate(pictures, 1)).save(Path(folder) / f"{name}.png")


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_the_page_draws_what_our_renderer_draws(player: Player, tmp_path: Path, bands: int) -> None:
    cameras = small_cameras(3)
    splats = small_gaussians(3000, bands)
    path = tmp_path / "a page.html"
    save_html(splats, path, views=page_views(cameras, ("a", "b", "c")), up=(0.0, -1.0, 0.0))
    player.open(path, 2)
    seen, ours = player.picture(), our_picture(path, cameras[1].resized(HEIGHT, WIDTH))
    keep(f"player{bands}", seen, ours)
    found = psnr(seen, ours)
    print(f"page against our renderer, {bands} harmonics: {found:.2f} dB")
    assert seen.max() > 200
    assert found >= 40  # half floats and 8 bits of the screen; the sorting is exact
    assert player.complaints() == []
    assert all(url.startswith(("file:", "blob:")) for url in player.asked)


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """A page with three photos, the last of which has a hostile name."""
    path = tmp_path / "ball.html"
    cameras = small_cameras(3)
    save_html(small_gaussians(2000), path, views=page_views(cameras, ("first", "second", STRANGE)), title=STRANGE)
    return path


def test_names_are_only_text(player: Player, ball: Path) -> None:
    player.open(ball, 3)
    assert player.page.locator("img").count() == 0
    assert player.page.inner_text("h1") == STRANGE
    assert player.page.title() == STRANGE
    assert player.page.locator("#views option:checked").inner_text() == STRANGE
    assert player.page.locator("#count").inner_text() == "2,000 splats"
    assert player.complaints() == []


def test_the_controls_move_and_home_comes_back_exactly(player: Player, ball: Path) -> None:
    player.open(ball)
    page = player.page
    first = player.picture()
    seen = [first]

    def moved(name: str) -> None:
        player.settle()
        now = player.picture()
        nearest = max(psnr(now, other) for other in seen)
        assert nearest < 45, f"{name} shows something new, not {nearest:.1f} dB from what was there"
        seen.append(now)

    page.mouse.move(280, 200)
    page.mouse.down()
    page.mouse.move(330, 230, steps=4)
    page.mouse.up()
    moved("orbiting")
    page.mouse.wheel(0, -100)
    moved("coming nearer")
    page.keyboard.press("o")
    page.mouse.down()
    page.mouse.move(300, 180, steps=3)
    page.mouse.up()
    moved("looking round")
    page.keyboard.down("KeyW")
    page.wait_for_timeout(800)
    page.keyboard.up("KeyW")
    moved("walking")
    page.mouse.down(button="right")
    page.mouse.move(240, 200, steps=3)
    page.mouse.up(button="right")
    moved("shifting")
    page.mouse.dblclick(280, 210)
    page.wait_for_timeout(900)
    moved("turning to what was clicked")
    page.keyboard.press("n")
    page.wait_for_timeout(900)
    moved("the next photo")
    assert psnr(player.picture(), our_picture(ball, small_cameras(3)[1].resized(HEIGHT, WIDTH))) > 40
    page.keyboard.press("p")
    page.wait_for_timeout(900)
    player.settle()
    assert psnr(player.picture(), first) > 60
    assert player.complaints() == []


def test_the_right_way_round(player: Player, ball: Path) -> None:
    """What is in front of the middle follows the pointer, when orbiting and when looking round."""
    cameras = small_cameras(3)
    splats = small_gaussians(1)
    splats.means[0] = torch.tensor([0.0, 0.0, -0.5])  # before the middle, as the first camera sees it
    splats.scales[:], splats.opacities[:], splats.harmonics[:] = 0.1, 0.95, 0.0
    splats.harmonics[:, 0] = 1.0
    save_html(splats, ball, views=page_views(cameras, ("first",)), overwrite=True)
    player.open(ball)

    def place() -> np.ndarray:
        rows, columns = np.nonzero(player.picture().max(-1) > 40)
        return np.array([columns.mean(), rows.mean()])

    before = place()
    player.page.mouse.move(280, 200)
    player.page.mouse.down()
    player.page.mouse.move(320, 230, steps=4)
    player.page.mouse.up()
    player.settle()
    after = place()
    assert after[0] > before[0] + 10
    assert after[1] > before[1] + 8
    player.page.keyboard.press("o")  # and when looking round, too
    player.page.mouse.down()
    player.page.mouse.move(340, 250, steps=4)
    player.page.mouse.up()
    player.settle()
    assert np.abs(place() - after - 20).max() < 8


def test_backgrounds(player: Player, ball: Path) -> None:
    player.open(ball)
    for value in (0.5, 1.0, 0.0):
        player.page.keyboard.press("b")
        player.settle()
        camera = small_cameras(3)[0].resized(HEIGHT, WIDTH)
        assert psnr(player.picture(), our_picture(ball, camera, value)) > 40


def test_a_phone(chromium: Any, ball: Path) -> None:
    """390 x 844, two device pixels to one, a finger: the whole photo is shown, buttons are within reach and work."""
    player = Player(chromium, 390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    try:
        player.open(ball)
        page = player.page
        page.wait_for_timeout(300)
        folder = os.environ.get("DA3GS_SCREENSHOTS")
        if folder:
            page.screenshot(path=str(Path(folder) / "phone.png"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for button in page.locator("nav button, nav select").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 40
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            assert box["y"] + box["height"] <= 844
        page.get_by_label("Help").tap()
        assert page.locator("#help").is_visible()
        page.get_by_role("button", name="Close").tap()
        page.get_by_label("Next photo").tap()
        page.wait_for_timeout(900)
        player.settle()
        assert page.locator("#views").input_value() == "1"
        seen = player.picture()
        assert seen.shape == (1688, 780, 3)
        cameras = small_cameras(3)
        factor = 780 / cameras.width
        camera = cameras[1].cropped(0, 0, cameras.height, cameras.width).resized(round(cameras.height * factor), 780)
        top = (1688 - round(cameras.height * factor)) // 2
        ours = our_picture(ball, camera)
        assert psnr(seen[top : top + len(ours)], ours) > 35
        before = player.picture()
        page.evaluate(
            """() => {
              const canvas = document.getElementById("canvas");
              const touch = (type, id, x, y) => canvas.dispatchEvent(new PointerEvent(type, {
                pointerId: id, pointerType: "touch", clientX: x, clientY: y, bubbles: true, buttons: 1 }));
              canvas.setPointerCapture = () => {};
              touch("pointerdown", 1, 150, 400); touch("pointerdown", 2, 250, 400);
              touch("pointermove", 1, 130, 400); touch("pointermove", 2, 290, 400);
              touch("pointerup", 1, 130, 400); touch("pointerup", 2, 290, 400);
            }"""
        )
        player.settle()
        assert psnr(player.picture(), before) < 40, "two fingers come nearer"
        assert player.complaints() == []
    finally:
        player.context.close()


@pytest.mark.parametrize(
    "hindrance",
    ["window.Worker = class { constructor() { throw new Error('no workers here'); } }", "delete window.Worker"],
)
def test_without_workers(player: Player, ball: Path, hindrance: str) -> None:
    player.context.add_init_script(hindrance)
    player.open(ball, 2)
    assert psnr(player.picture(), our_picture(ball, small_cameras(3)[1].resized(HEIGHT, WIDTH))) > 40


def test_what_cannot_be_shown_is_said(player: Player, ball: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = ball.read_text("utf-8")
    at = text.index('id="splats">\n') + 200
    broken.write_text(text[:at] + "AAAA" + text[at + 4 :], "utf-8")
    player.page.goto(broken.as_uri())
    player.page.wait_for_selector("html[data-state=failed]", state="attached")
    assert player.page.locator("#message").is_visible()
    player.context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    player.page.goto(ball.as_uri())
    player.page.wait_for_selector("html[data-state=failed]", state="attached")
    assert "WebGL 2" in player.page.inner_text("#message")
