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
from da3gs.formats.html import PageView, save_html
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
