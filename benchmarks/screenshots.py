"""Pictures of the viewer in a real Chromium: the README's, of a scene at large and while it is cleaned, or the first
seconds; or of an exported page.

Run: ``python -m benchmarks.screenshots SCENE|PAGE.html [-o assets/docs] [--photos N M] [--loading 1 5 20]``. Needs
Chromium and playwright, as ``make test-browser`` does.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import da3gs
from da3gs.splats.pruning import parse_crop
from da3gs_viewer import Viewer

MOST_BYTES = 150_000
SIZE = (1280, 760)


def whole(viewer: Viewer) -> None:
    """Wait until every browser shows its whole picture."""
    time.sleep(1.5)
    while any(window.painter._painted != (window.painter._stamp, "whole") for window in viewer.windows):
        time.sleep(0.2)
    time.sleep(2.0)


def fold(page: Any, *names: str) -> None:
    """Open or close parts of the panel; buttons of the same names are none."""
    for name in names:
        page.locator(f"xpath=//*[normalize-space(text())='{name}' and not(ancestor-or-self::button)]").first.click()
        time.sleep(0.6)


def saved(page: Any, path: Path) -> None:
    """A JPEG as good as its size allows."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for quality in range(92, 30, -2):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() < MOST_BYTES:
            break
    path.write_bytes(data.getvalue())
    print(f"{path}: {data.tell() / 1000:.0f} kB, quality {quality}")


def stand(
    viewer: Viewer, client: Any, photo: int, *, back: float, right: float, up: float, aside: float, below: float = 0.0
) -> None:
    """Put a camera near a photo's, in shares of the distance to what it looks at, which comes to stand left of the
    panel by ``aside``."""
    view = viewer.viewpoints[photo]
    goal, distance = np.asarray(view.look_at), float(view.distance)
    ahead = (goal - np.asarray(view.position)) / distance
    side = np.cross(ahead, viewer.up)
    side /= np.linalg.norm(side)
    client.camera.position = goal + distance * (-(1 + back) * ahead + right * side + up * viewer.up)
    client.camera.look_at = goal + distance * (aside * side - below * viewer.up)
    client.camera.fov = view.fov


def loading(page: Any, url: str, seconds: list[float], folder: Path) -> None:
    """What a person sees so many seconds after the page was asked for."""
    start = time.monotonic()
    page.goto(url, wait_until="commit")
    for moment in sorted(seconds):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        page.screenshot(path=str(folder / f"loading-{moment:g}s.png"))
        print(f"{moment:g} s asked for, {time.monotonic() - start:.1f} s when it was taken")


def exported_page(page: Any, path: Path, folder: Path) -> None:
    """An exported page once its picture stands still."""
    page.set_default_timeout(300_000)
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-state=settled]", state="attached")
    saved(page, folder / "page.jpg")


def at_large_and_cleaned(page: Any, viewer: Viewer, options: argparse.Namespace) -> None:
    """The README's pictures."""
    page.goto(viewer.url)
    while not viewer.server.get_clients():
        time.sleep(0.2)
    client = next(iter(viewer.server.get_clients().values()))
    time.sleep(8.0)
    page.locator(".mantine-Notification-closeButton").first.click()  # that this machine has no graphics card
    stand(viewer, client, options.photos[0], back=0.3, right=-0.02, up=0.02, aside=0.08, below=0.07)
    whole(viewer)
    saved(page, options.output / "viewer.jpg")
    fold(page, "Photos", "Clean")
    viewer.panel.background.value = (225, 228, 232)
    viewer.panel.frustums.value = False
    fold(page, "View")
    clean = viewer.panel.clean
    clean.handles["outliers"].value = 12
    if options.crop is not None:
        clean.low.value, clean.high.value = options.crop[:3], options.crop[3:]
        clean.handles["crop"].value = True
    stand(viewer, client, options.photos[1], back=0.5, right=-0.12, up=0.14, aside=0.14)
    whole(viewer)
    saved(page, options.output / "viewer-clean.jpg")
    print(viewer.counts(), viewer.editor.dropped)


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM, FLAGS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene")
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/docs"))
    parser.add_argument("--photos", type=int, nargs=2, default=(0, 0), help="the photos near which to stand")
    parser.add_argument("--crop", type=parse_crop, help="what is left of the scene in the second picture")
    parser.add_argument("--loading", type=float, nargs="+", help="seconds after which to look, and nothing else")
    options = parser.parse_args()
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        if options.scene.endswith(".html"):
            return exported_page(page, Path(options.scene), options.output)
        with Viewer(da3gs.load_scene(options.scene), port=0) as viewer:
            if options.loading:
                return loading(page, viewer.url, options.loading, options.output)
            at_large_and_cleaned(page, viewer, options)


if __name__ == "__main__":
    main()
