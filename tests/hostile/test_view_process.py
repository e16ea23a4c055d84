"""The real ``da3gs view``, with its real worker: hostile uploads, strangers, lost connections, a taken port, Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.hostile.runner import Place, run_truly, snapshot
from tests.hostile.test_hostile import LINE
from tests.unit.test_viewer_guard import status
from tests.unit.test_viewer_uploads import Page

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
SECONDS = 180


class Serving:
    """The upload page in a process of its own."""

    def __init__(self, place: Place, *flags: str) -> None:
        """Start it and wait for its address."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTEST_"))}
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, "-m", "da3gs", "view", "--port", "0", "--no-browser", *flags],
            cwd=place.folder, env={**kept, **place.environment}, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(SECONDS), "it says where it can be reached"
        self.url = self.process.stdout.readline().split()[0]
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def interrupted(self) -> tuple[int, str]:
        """Ctrl-C: the exit status, and what stands on stderr."""
        self.process.send_signal(signal.SIGINT)
        _, complaint = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, complaint


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all tests; its end is a test of its own."""
    serving = Serving(Place.below(tmp_path_factory.mktemp("view")))
    yield serving
    if serving.process.poll() is None:
        serving.process.kill()


def zipped(entries: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def picture() -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(data, "PNG")
    return data.getvalue()


UPLOADS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "bomb": ("bomb.zip", lambda: zipped({"bomb.bmp": bytes(40 << 20)}), "suspiciously tight"),
    "broken-zip": ("cut.zip", lambda: zipped({"a.png": picture()})[:-30], "not a zip that can be read"),
    "many-files": ("many.zip", lambda: zipped({f"{i}.png": b"" for i in range(10_000)}), "at most 2000"),
    "climbing-zip": ("up.zip", lambda: zipped({"../../evil.png": picture()}), "leads out of the archive"),
    "wrong-type": ("page.jpg", lambda: b"<html><script>alert(1)</script>", "page.jpg"),
    "playlist": ("list.mp4", lambda: b"#EXTM3U\n/etc/passwd\n", "not a video"),
    "huge-picture": (
        "wide.png", lambda: picture()[:16] + (60000).to_bytes(4, "big") * 2 + picture()[24:], "wide.png"
    ),
    "script": ("</script><img src=x onerror=alert(1)>.jpg", lambda: b"x" * 99, "script-img-src-x-onerror-alert-1"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", UPLOADS)
def test_hostile_uploads_are_told_in_a_line_and_go(serving: Serving, name: str) -> None:
    file, content, expected = UPLOADS[name]
    with connect(serving.url.replace("http", "ws"), proxy=None, max_size=None) as wire:
        page = Page(wire)
        assert page.send(file, content())["state"] == "got"
        page.ask(do="start")
        message = page.hear("failed", "done", seconds=SECONDS)  # the first waits until the worker is warm
    assert message["state"] == "failed"
    assert re.search(expected, message["message"]), message
    assert "\n" not in message["message"]
    assert str(serving.place.temporary) not in message["message"]
    assert "/etc" not in message["message"]


def test_strangers_stay_out(serving: Serving) -> None:
    assert status(serving.port, "Host: evil.example") == 403
    assert status(serving.port, f"Host: 127.0.0.1:{serving.port}", "Origin: http://evil.example") == 403
    assert status(serving.port, f"Host: 127.0.0.1:{serving.port}", path="/../../etc/passwd") == 404
    with pytest.raises(InvalidStatus), connect(serving.url.replace("http", "ws"), origin=Origin("http://evil.example")):
        pass


def test_a_port_in_use(serving: Serving, tmp_path: Path) -> None:
    outcome = run_truly(["view", "--port", str(serving.port), "--no-browser"], Place.below(tmp_path))
    assert outcome.code == 2
    assert LINE.fullmatch(outcome.stderr)
    assert str(serving.port) in outcome.stderr
    assert outcome.stdout == ""


def test_ctrl_c_in_the_middle_of_an_upload_leaves_nothing(serving: Serving) -> None:
    """With a client that went without a word, one that stopped in the middle of a file, and one that waits."""
    gone = connect(serving.url.replace("http", "ws"), proxy=None)
    Page(gone).ask(do="file", name="half.jpg", size=1_000_000)
    gone.send(b"x" * 1000)
    gone.socket.shutdown(socket.SHUT_RDWR)
    half = connect(serving.url.replace("http", "ws"), proxy=None)
    page = Page(half)
    page.ask(do="file", name="half.jpg", size=1_000_000)
    page.hear("send")
    half.send(b"x" * 1000)
    idle = connect(serving.url.replace("http", "ws"), proxy=None)
    assert snapshot(serving.place.temporary), "something is there"
    code, complaint = serving.interrupted()
    assert code == 130
    assert "Traceback" not in complaint
    for wire in (gone, half, idle):
        wire.close()
    assert snapshot(serving.place.temporary) == {}
    assert snapshot(serving.place.folder) == {}
