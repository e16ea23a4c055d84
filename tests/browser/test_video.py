"""A rendered video in a real browser: it opens, says how long and large it is, and plays."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from da3gs.pipeline.render_path import render_path
from tests.small_scene import small_scene

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of ``tmp_path``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: _Quiet(*a, directory=str(tmp_path), **k))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("depth", [False, True])
def test_a_rendered_video_plays(page: Any, served: str, tmp_path: Path, depth: bool) -> None:
    """Odd sides were made even; the time advances; a frame that is drawn has colours in it."""
    render_path(small_scene(), tmp_path / "a.mp4", size=(321, 241), fps=12.0, seconds=2.0, depth=depth)
    (tmp_path / "index.html").write_text('<link rel="icon" href="data:,"><video id="v" src="a.mp4" muted></video>')
    page.goto(f"{served}/index.html")
    facts = page.evaluate("""async () => {
        const v = document.getElementById('v');
        if (v.readyState < 2) await new Promise((good, bad) => {
            v.onloadeddata = good; v.onerror = () => bad(new Error(v.error.message));
        });
        await v.play();
        const start = v.currentTime;
        await new Promise(done => { v.ontimeupdate = () => { if (v.currentTime > start + 0.3) done(); }; });
        const canvas = document.createElement('canvas');
        canvas.width = v.videoWidth; canvas.height = v.videoHeight;
        const context = canvas.getContext('2d');
        context.drawImage(v, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let most = 0;
        for (let i = 0; i < data.length; i += 4) {
            const pixel = [data[i], data[i + 1], data[i + 2]];
            most = Math.max(most, Math.max(...pixel) - Math.min(...pixel));
        }
        await new Promise(done => { if (v.ended) done(); v.onended = done; });
        return {width: v.videoWidth, height: v.videoHeight, duration: v.duration, time: v.currentTime,
                error: v.error && v.error.message, colours: most, ended: v.ended};
    }""")
    assert facts["error"] is None
    assert (facts["width"], facts["height"]) == (320, 240)
    assert facts["duration"] == pytest.approx(2.0, abs=0.1)
    assert facts["ended"]
    assert facts["time"] == pytest.approx(2.0, abs=0.1)
    assert facts["colours"] > 80
    assert page.strangers == []
    assert page.complaints == []
