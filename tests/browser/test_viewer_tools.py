"""The viewer's tools in a real browser: modes, sliders, wipe, camera path, exports, uploads, reload, a phone."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import da3gs
from da3gs.formats.media.video import open_video
from da3gs.splats.pruning import NO_LIMITS
from da3gs_viewer import Viewer
from da3gs_viewer.uploads import Uploads
from tests.browser.test_viewer import KNOWN, coloured, opened, screenshot, wait_for
from tests.browser.wall import wall_scene
from tests.small_scene import small_scene

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]
STRANGE = "</script><img src=x onerror=document.title='owned'>.jpg"


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer(small_scene(), port=0) as viewer:
        yield viewer


def kept(page: Any, name: str) -> None:
    """A screenshot for people, where they ask for it."""
    folder = os.environ.get("DA3GS_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def choose(page: Any, label: str, option: str) -> None:
    """One of a dropdown's options."""
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def folder(page: Any, name: str) -> None:
    """Open or close one of the panel's parts; a button of the same name is none."""
    page.locator(f"xpath=//*[normalize-space(text())='{name}' and not(ancestor-or-self::button)]").first.click()
    time.sleep(0.5)


def whole(viewer: Viewer) -> None:
    """Wait until every browser has its whole picture."""
    wait_for(lambda: all(w.painter._painted == (w.painter._stamp, "whole") for w in viewer.windows), "a whole picture")
    time.sleep(0.7)


def test_orbiting_moves_the_picture(page: Any, viewer: Viewer) -> None:
    client, before = opened(page, viewer)
    start = np.array(client.camera.position)
    page.mouse.move(150, 250)
    page.mouse.down()
    for step in range(10):
        page.mouse.move(150 + 8 * step, 250)
        time.sleep(0.05)
    page.mouse.up()
    wait_for(lambda: np.linalg.norm(client.camera.position - start) > 0.05, "the camera to move")
    whole(viewer)
    assert (np.abs(screenshot(page) - before)[150:, :300].max(-1) > 40).mean() > 0.05
    assert viewer.windows[0].painter.frames > 2


def test_every_mode(page: Any, viewer: Viewer) -> None:
    _, before = opened(page, viewer)
    for mode in viewer.artist.modes[1:]:
        choose(page, "Mode", mode)
        wait_for(lambda mode=mode: viewer.look.mode == mode, mode)
        whole(viewer)
        now = screenshot(page)
        assert (np.abs(now - before)[150:, :300].max(-1) > 20).mean() > 0.02, mode
        kept(page, f"mode-{mode}")
        before = now


def test_the_wipe_shows_the_photo(page: Any, viewer: Viewer) -> None:
    _, before = opened(page, viewer)
    choose(page, "Compare", "wipe")
    wait_for(lambda: viewer.look.compare == "wipe", "the wipe")
    whole(viewer)
    kept(page, "wipe")
    changed = np.abs(screenshot(page) - before)[150:].max(-1) > 40
    assert changed[:, :240].mean() > 0.2, "the photo is left"
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    wait_for(lambda: viewer.look.wipe > 0.52, "the slider")


def test_the_cleaning_sliders_and_undo(page: Any, viewer: Viewer) -> None:
    opened(page, viewer)
    folder(page, "View")  # closed, so that the others are in sight
    folder(page, "Photos")
    folder(page, "Clean")
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(10):
        slider.press("PageUp")
        slider.press("ArrowRight")
    wait_for(lambda: len(viewer.editor.gaussians) < 300, "fewer splats")
    whole(viewer)
    left = len(viewer.editor.gaussians)
    limits = viewer.editor.state.limits
    assert limits.min_opacity is not None
    assert left == int((viewer.editor.state.gaussians.opacities >= limits.min_opacity).sum())
    page.get_by_text(f"{left:,}").first.wait_for()
    kept(page, "clean")
    while viewer.editor.state.limits != NO_LIMITS:
        page.get_by_role("button", name="Undo").click()
        time.sleep(0.5)
    wait_for(lambda: viewer.panel.clean.handles["opacity"].value == 0, "the slider to come back")


def test_the_exported_file_is_downloaded(page: Any, viewer: Viewer, tmp_path: Path) -> None:
    opened(page, viewer)
    for name in ("View", "Photos", "Export"):
        folder(page, name)
    with page.expect_download() as got:
        page.get_by_role("button", name="Download what is shown").click()
    got.value.save_as(tmp_path / "got.ply")
    assert len(da3gs.load_gaussians(tmp_path / "got.ply")) == 300


def test_keyframes_become_a_video(page: Any, viewer: Viewer, tmp_path: Path) -> None:
    client, _ = opened(page, viewer)
    for name in ("View", "Photos", "Camera path"):
        folder(page, name)
    panel = viewer.panel.path
    page.get_by_role("button", name="Add keyframe here").click()
    wait_for(lambda: len(panel.flight) == 1, "a keyframe")
    client.camera.position = np.array(client.camera.position) + np.array([0.3, 0.0, 0.1])
    time.sleep(1)
    page.mouse.click(100, 300)
    page.keyboard.press("k")
    wait_for(lambda: len(panel.flight) == 2, "a second one, by key")
    panel.width.value, panel.height.value, panel.fps.value = 64, 48, 6.0
    kept(page, "path")
    with page.expect_download() as got:
        page.get_by_role("button", name="Make video").click()
    got.value.save_as(tmp_path / "flight.mp4")
    with open_video(tmp_path / "flight.mp4") as video:
        assert len(list(video.frames())) == 12
    with page.expect_download() as got:
        page.get_by_role("button", name="Screenshot").click()
    got.value.save_as(tmp_path / "view.png")
    assert Image.open(tmp_path / "view.png").size == (64, 48)
    with page.expect_download() as got:
        page.get_by_role("button", name="Save path").click()
    got.value.save_as(tmp_path / "path.json")
    page.get_by_role("button", name="Delete").click()
    wait_for(lambda: len(panel.flight) == 1, "one keyframe less")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Load path").click()
    chooser.value.set_files(str(tmp_path / "path.json"))
    wait_for(lambda: len(panel.flight) == 2, "the keyframes of the file")


def test_three_clicks_level_the_scene(page: Any) -> None:
    with Viewer(wall_scene(), port=0) as viewer:
        client, _ = opened(page, viewer)
        for name in ("View", "Photos", "Level and scale"):
            folder(page, name)
        page.get_by_role("button", name="Level: click 3").click()
        for count, (x, y) in enumerate(((130, 220), (220, 200), (160, 300))):
            time.sleep(1)
            page.mouse.click(x, y)
            if count < 2:
                page.get_by_text(f"{count + 1} of 3 points").wait_for()
        wait_for(lambda: viewer.editor.state.placement is not None, "the world to turn")
        heights = viewer.editor.gaussians.means[:, 1]
        assert float(heights.max() - heights.min()) < 0.2, "the wall lies flat"
        whole(viewer)
        kept(page, "levelled")
        page.get_by_role("button", name="Upside down").click()
        wait_for(lambda: len(viewer.editor._history) == 3, "another turn")
        viewer.editor.undo()
        viewer.editor.undo()
        wait_for(lambda: np.allclose(client.camera.position, viewer.home.position, atol=1e-2), "the way back")


def test_a_film_can_be_cancelled(page: Any, viewer: Viewer) -> None:
    opened(page, viewer)
    for name in ("View", "Photos", "Camera path"):
        folder(page, name)
    page.get_by_role("button", name="Add keyframe here").click()
    page.get_by_role("button", name="Add keyframe here").click()
    wait_for(lambda: len(viewer.panel.path.flight) == 2, "keyframes")
    viewer.panel.path.flight.replace(0, seconds=500.0)
    page.get_by_role("button", name="Make video").click()
    page.get_by_role("button", name="Cancel video").click()
    wait_for(lambda: not viewer.panel.path._filming.locked(), "the end")
    page.get_by_text("No video was made.").wait_for()


def test_a_reload_begins_again_and_leaves_nothing(page: Any, viewer: Viewer) -> None:
    opened(page, viewer)
    for _ in range(3):
        page.reload()
        wait_for(lambda: len(viewer.server.get_clients()) == 1, "one browser")
        time.sleep(1)
    _, picture = opened(page, viewer)
    assert coloured(picture[:, :300]).mean() > 0.05
    wait_for(lambda: len(viewer.windows) == 1, "the windows of before to go")
    assert [said for said in page.complaints if KNOWN not in said] == []


def test_a_phone(chromium: Any, viewer: Viewer) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 640})
    try:
        page.goto(viewer.url)
        client = wait_for(lambda: next(iter(viewer.server.get_clients().values()), None), "the browser")
        home = viewer.home
        wait_for(lambda: client.camera.fov > home.fov * 1.1, "the whole photo to be in sight")
        whole(viewer)
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        assert coloured(picture[150:300]).mean() > 0.02
        kept(page, "phone")
    finally:
        page.close()


def test_two_browsers_have_their_own_cameras(chromium: Any, page: Any, viewer: Viewer) -> None:
    client, _ = opened(page, viewer)
    start = np.array(client.camera.position)
    other = chromium.new_page(viewport={"width": 400, "height": 300})
    try:
        other.goto(viewer.url)
        wait_for(lambda: len(viewer.windows) == 2, "the second browser")
        second = max(viewer.server.get_clients().items())[1]
        second.camera.position = start + 1.0
        wait_for(lambda: np.allclose(second.camera.position, start + 1.0, atol=1e-3), "it to move")
        time.sleep(0.5)
        np.testing.assert_allclose(client.camera.position, start, atol=1e-4)
    finally:
        other.close()


def photos(folder: Path) -> list[str]:
    scene = small_scene()
    names = ["a.png", STRANGE.replace("/", "_").replace(".jpg", ".png")]
    for index, name in enumerate(names):
        pixels = (scene.views.images[index].movedim(0, -1).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((112, 84)).save(folder / name)
    return [str(folder / name) for name in names]


def test_photos_are_uploaded_and_become_a_scene(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from da3gs_viewer import uploads as module
    from tests.unit.test_viewer_uploads import QuickWorker

    monkeypatch.setattr(module, "Worker", QuickWorker)
    with Uploads(port=0) as uploads:
        page.goto(uploads.url)
        page.get_by_text("Ready.").wait_for()
        page.set_input_files("#files", photos(tmp_path))
        page.get_by_text("2 files").wait_for()
        kept(page, "upload")
        assert page.title() != "owned"
        assert page.locator("img").count() == 0
        page.get_by_role("button", name="Reconstruct").click()
        link = page.get_by_role("link", name="Open the scene")
        link.wait_for()
        with page.context.expect_page() as opening:
            link.click()
        scene = opening.value
        wait_for(lambda: uploads._viewers[0][1].server.get_clients(), "the scene's page to connect")
        scene.close()
        assert page.strangers == []
        assert page.complaints == []


def test_an_upload_can_be_cancelled_and_refused(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from da3gs_viewer import uploads as module
    from tests.unit.test_viewer_uploads import QuickWorker

    monkeypatch.setattr(module, "Worker", QuickWorker)
    (tmp_path / "slow.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    with Uploads(port=0) as uploads:
        page.goto(uploads.url)
        page.get_by_text("Ready.").wait_for()
        page.set_input_files("#files", [str(tmp_path / "notes.txt")])
        page.get_by_text("is no photo, zip or video").first.wait_for()
        page.set_input_files("#files", [str(tmp_path / "slow.png")])
        page.get_by_text("1 files").wait_for()
        page.get_by_role("button", name="Reconstruct").click()
        page.get_by_text("predicting").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled.").wait_for()
        assert uploads._worker.stop.is_set()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_real_photos_become_a_real_scene(page: Any) -> None:
    demo = Path(da3gs.__file__).parent / "demo_photos"
    with Uploads(port=0) as uploads:
        page.goto(uploads.url)
        page.get_by_text("Ready.").wait_for()
        page.set_input_files("#files", [str(path) for path in sorted(demo.iterdir())[:2]])
        page.get_by_text("2 files").wait_for()
        page.get_by_role("button", name="Reconstruct").click()
        page.get_by_role("link", name="Open the scene").wait_for(timeout=240_000)
