"""The report of ``da3gs evaluate`` in a real browser: pictures, wipe, no network, no script but its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs.evaluation.evaluate import evaluate
from tests.evaluation_scenes import scene_folders, split_file

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, one of them failed."""
    folder = tmp_path_factory.mktemp("report")
    root = scene_folders(folder / "data", 2)
    for photo in (root / "scene-001" / "nerfstudio" / "images").iterdir():
        photo.write_bytes(b"broken")
    split = split_file(folder / "split.json", ["scene-000", "scene-001"])
    evaluate(root, split=split, baseline="constant-depth", resolution=112, output=folder / "out")
    return folder / "out" / "report.html"


def test_the_page_shows_pictures_and_wipes(page: Any, report: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert page.locator("h1").inner_text().startswith("constant-depth on data")
    assert page.locator("tr.bad").count() == 1
    sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == 10
    assert min(sizes) > 0
    wipe = page.locator(".wipe").first
    wipe.scroll_into_view_if_needed()
    shots = []
    for value in (0, 100):
        page.locator("input[type=range]").first.evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
        )
        shots.append(np.asarray(Image.open(io.BytesIO(wipe.screenshot())).convert("RGB")).astype(float))
    assert np.abs(shots[0] - shots[1]).mean() > 2, "the wipe goes from the render to the photo"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.complaints == []


def test_a_script_that_slipped_in_does_not_run(page: Any, report: Path, tmp_path: Path) -> None:
    """Should escaping ever fail, the policy still stands."""
    text = report.read_text().replace("<h1>", "<script>document.title='owned'</script><h1>")
    (tmp_path / "evil.html").write_text(text)
    page.goto((tmp_path / "evil.html").as_uri())
    assert page.title() != "owned"
