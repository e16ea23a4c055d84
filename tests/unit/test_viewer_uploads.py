"""The upload page: what a browser may send, what comes of it, what is left."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from da3gs_viewer import uploads as module
from da3gs_viewer.jobs import Job, JobCancelledError, JobFailedError, Worker, check_video
from da3gs_viewer.serving.guard import Guard
from da3gs_viewer.upload_session import PIECE, UploadLimits
from da3gs_viewer.uploads import Uploads
from tests.small_scene import small_scene
from tests.unit.test_viewer_guard import WORD, ask, status

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
STRANGE = "</script><img src=x onerror=alert(1)>.jpg"


class QuickWorker:
    """Makes a small scene at once, or waits for the end where the first photo's name begins with ``slow``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stop, self.jobs = folder, threading.Event(), list[Job]()
        folder.mkdir()

    def run(self, job: Job, told: Callable[[str, int, int], None]) -> dict[str, Any]:
        self.jobs.append(job)
        self.stop.clear()
        told("predicting", 0, 1)
        names = sorted(path.name for path in Path(job.source).parent.rglob("*") if path.is_file())
        if names[0].startswith("slow"):
            self.stop.wait(30)
            raise JobCancelledError("cancelled")
        if names[0].startswith("broken"):
            raise JobFailedError(f"{names[0]} is broken <b>")
        scene = small_scene()
        dropped = [{"name": name, "reason": "is a depth map"} for name in ("d.png", "e.png")]
        views = {**(scene.record.get("views") or {}), "dropped": dropped}
        dataclasses.replace(scene, record={**scene.record, "views": views}).save(job.scene)
        return {}

    def cancel(self) -> None:
        self.stop.set()

    def close(self) -> None:
        self.stop.set()


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Uploads]:
    monkeypatch.setattr(module, "Worker", QuickWorker)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    limits = UploadLimits(files=3, megabytes=1.0)
    with Uploads(port=0, limits=limits) as uploads:
        yield uploads
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


class Page:
    """A browser's side of the talk."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.first = self.hear("ready")

    def hear(self, *states: str, seconds: float = 240) -> dict[str, Any]:
        while True:
            message = json.loads(self.wire.recv(timeout=seconds))
            if message["state"] in states:
                return message  # type: ignore[no-any-return]

    def ask(self, **message: Any) -> None:
        self.wire.send(json.dumps(message))

    def send(self, name: str, content: bytes = b"x" * 100) -> dict[str, Any]:
        self.ask(do="file", name=name, size=len(content))
        answer = self.hear("send", "refused")
        if answer["state"] == "refused":
            return answer
        for start in range(0, len(content), PIECE):
            self.wire.send(content[start : start + PIECE])
        return self.hear("got", "refused")


@pytest.fixture
def page(uploads: Uploads) -> Iterator[Page]:
    with connect(uploads.url.replace("http", "ws"), proxy=None) as wire:
        yield Page(wire)


def photos_of(uploads: Uploads) -> list[str]:
    return sorted(path.name for path in uploads._folder.glob("upload-*/photos/*"))


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_photos_become_a_scene_on_show(uploads: Uploads, page: Page) -> None:
    assert page.first["models"][0] == "da3gs-nano"
    assert "/" not in "".join(page.first["models"])
    content = bytes(range(256)) * 1000
    assert page.send("a b.JPG", content) == {"state": "got", "name": "a b.JPG", "files": 1, "bytes": 256_000}
    assert page.send("../../c.png")["files"] == 2
    assert photos_of(uploads) == ["a-b.jpg", "c.png"]
    assert (uploads._folder / "upload-1" / "photos" / "a-b.jpg").read_bytes() == content
    page.ask(do="start", model="da3-small", poses="predicted")
    done = page.hear("done", "failed")
    assert done["photos"] == 4
    assert done["passed"] == ["2: is a depth map (d.png, e.png)"]
    assert uploads._worker.jobs[0].model == "da3-small"
    assert uploads._worker.jobs[0].poses == "predicted"
    port = int(uploads.url.rpartition(":")[2])
    assert status(port, f"Host: 127.0.0.1:{port}", path=done["path"]) == 200
    assert status(port, f"Host: 127.0.0.1:{port}", path="/scene/another/") == 404
    inner = uploads._viewers[0][1]
    assert inner.url == uploads.url + done["path"]
    assert status(inner.server.get_port(), f"Host: 127.0.0.1:{inner.server.get_port()}") == 403, "not past this page"


def test_scenes_are_reached_through_the_one_port_and_the_address_that_people_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As behind a container's port: the browser knows one name, and neither ours nor the scene's own port."""
    monkeypatch.setattr(module, "Worker", QuickWorker)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    guard = Guard.of("127.0.0.1", url="http://photos.example:8443")
    with Uploads(port=0, guard=guard) as uploads:
        assert uploads.url == f"http://photos.example:8443/?token={guard.token}"
        port, there = uploads._port, ("Host: photos.example:8443", f"Cookie: da3gs_{uploads._port}={guard.token}")
        assert status(port, *there) == 200
        assert status(port, "Host: photos.example:8443") == 403, "no token"
        assert status(port, "Host: photos.example", there[1]) == 403

        def opened(path: str, **keywords: Any) -> ClientConnection:
            """A WebSocket of a page of that name."""
            wire = socket.create_connection(("127.0.0.1", port), timeout=10)
            uri, origin = f"ws://photos.example:8443{path}?token={guard.token}", Origin("http://photos.example:8443")
            return connect(uri, sock=wire, origin=origin, proxy=None, **keywords)

        with opened("/") as wire:
            page = Page(wire)
            page.send("a.jpg")
            page.ask(do="start")
            path = page.hear("done", "failed")["path"]
        assert status(port, *there, path=path) == 200
        assert "text/html" in ask(port, *there, path=path)
        assert status(port, "Host: photos.example:8443", path=path) == 403
        assert uploads._viewers[0][1].url == f"http://photos.example:8443{path}?token={guard.token}"
        with opened(path.rstrip("/"), subprotocols=[WORD]) as wire:
            assert wire.subprotocol == WORD
            assert len(wire.recv(timeout=30)) > 100, "the scene"
        with opened("/scene/another/") as wire, pytest.raises(ConnectionClosed):
            wire.recv(timeout=10)


def test_names_never_reach_the_disk_as_they_are(uploads: Uploads, page: Page) -> None:
    assert page.send(STRANGE)["state"] == "got"
    assert page.send("..\\..\\con/" + STRANGE)["state"] == "got"
    assert page.send("x" * 5000 + ".png")["state"] == "got"
    stem = "script-img-src-x-onerror-alert-1"
    assert photos_of(uploads) == [f"{stem}{end}.jpg" for end in ("-2", "")] + ["x" * 80 + ".png"]


def test_what_is_too_much_or_of_the_wrong_kind_is_refused(uploads: Uploads, page: Page) -> None:
    for name in ("notes.txt", "photo", "page.html", "list.m3u8", "a.jpg.exe", ".jpg", ""):
        assert "no photo, zip or video" in page.send(name)["message"], name
    assert "1 MB" in page.send("large.jpg", b"x" * 1_000_001)["message"]
    for number in range(3):
        assert page.send(f"{number}.jpg")["state"] == "got"
    assert "more than 3 files" in page.send("3.jpg")["message"]
    for wrong in (
        {"do": "file"},
        {"do": "file", "name": 3, "size": 1},
        {"do": "file", "name": "a.jpg", "size": -1},
        {},
    ):
        page.ask(**wrong)
        assert "load it again" in page.hear("refused")["message"]
    page.wire.send("[" * 60_000)
    assert page.hear("refused")
    page.wire.send(b"\x00")
    assert page.hear("refused")


def test_models_are_names(page: Page) -> None:
    page.send("a.jpg")
    for name in ("/etc/passwd", "../model.safetensors", "no-such-model", 7, ["da3-small"]):
        page.ask(do="start", model=name)
        assert page.hear("refused")["message"] == "there is no model of this name"
    page.ask(do="start", poses="guessed")
    assert "cameras" in page.hear("refused")["message"]


def test_a_model_of_the_command_line_is_called_by_its_name_only() -> None:
    uploads = Uploads(model="/secret/place/best.safetensors")
    assert uploads.model_label == "best.safetensors (as da3gs was started)"
    assert uploads.chosen_model(uploads.model_label) == "/secret/place/best.safetensors"


def test_a_zip_comes_alone(page: Page) -> None:
    page.ask(do="start")
    assert "nothing to reconstruct" in page.hear("refused")["message"]
    page.send("a.zip")
    page.send("b.jpg")
    page.ask(do="start")
    assert "one zip" in page.hear("refused")["message"]


def test_errors_are_told_and_one_can_try_again(uploads: Uploads, page: Page) -> None:
    page.send("broken.jpg")
    page.ask(do="start")
    assert page.hear("failed")["message"] == "broken.jpg is broken <b>"
    page.ask(do="cancel")
    page.hear("cancelled")
    assert photos_of(uploads) == []
    page.send("fine.jpg")
    page.ask(do="start")
    assert page.hear("done")


def test_cancelling(uploads: Uploads, page: Page) -> None:
    page.send("slow.jpg")
    page.ask(do="start")
    page.hear("working")
    assert "running" in page.send("more.jpg")["message"]
    page.ask(do="cancel")
    page.hear("cancelled")
    assert photos_of(uploads) == ["slow.jpg"], "one may start again with what was sent"


def test_closing_the_page_ends_the_job_and_deletes_the_upload(uploads: Uploads) -> None:
    with connect(uploads.url.replace("http", "ws"), proxy=None) as wire:
        page = Page(wire)
        page.send("slow.jpg")
        page.ask(do="start")
        page.hear("working")
    wait_until(lambda: uploads._worker.stop.is_set())
    wait_until(lambda: photos_of(uploads) == [])


def test_a_connection_lost_in_the_middle_of_a_file(uploads: Uploads) -> None:
    wire = connect(uploads.url.replace("http", "ws"), proxy=None)
    page = Page(wire)
    page.ask(do="file", name="half.jpg", size=100_000)
    page.hear("send")
    wire.send(b"x" * 50_000)
    wait_until(lambda: photos_of(uploads) == ["half.jpg"])
    wire.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: photos_of(uploads) == [])
    wire.close()


@pytest.mark.parametrize("piece", [b"x" * 11, "text", b""])
def test_a_file_that_is_not_what_was_announced(uploads: Uploads, page: Page, piece: bytes | str) -> None:
    page.ask(do="file", name="a.jpg", size=10)
    page.hear("send")
    page.wire.send(piece)
    with pytest.raises(ConnectionClosed):
        page.hear("got")
    wait_until(lambda: photos_of(uploads) == [])


def test_two_pages_wait_for_each_other(uploads: Uploads, page: Page) -> None:
    page.send("slow.jpg")
    page.ask(do="start")
    page.hear("working")
    with connect(uploads.url.replace("http", "ws"), proxy=None) as wire:
        other = Page(wire)
        other.send("fine.jpg")
        other.ask(do="start")
        assert other.hear("waiting")["stage"] == "waiting for another upload"
        page.ask(do="cancel")
        assert other.hear("done", "failed")["state"] == "done"


def test_the_page_is_guarded_and_has_a_policy(uploads: Uploads) -> None:
    port = uploads._port
    head = ask(port, f"Host: 127.0.0.1:{port}")
    assert "200 OK" in head
    policy = next(line for line in head.splitlines() if line.startswith("Content-Security-Policy: "))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert status(port, f"Host: 127.0.0.1:{port}", path="/upload.js") == 200
    for path in ("/../uploads.py", "/page/upload.html", "/etc/passwd", "//", "/upload.js/.."):
        assert status(port, f"Host: 127.0.0.1:{port}", path=path) == 404
    assert status(port, "Host: evil.example") == 403
    with pytest.raises(InvalidStatus), connect(uploads.url.replace("http", "ws"), origin=Origin("http://evil.example")):
        pass


def test_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "Worker", QuickWorker)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    with Uploads(port=0, keep=tmp_path / "kept") as uploads, connect(uploads.url.replace("http", "ws")) as wire:
        page = Page(wire)
        page.send("a.jpg")
        page.ask(do="start")
        page.hear("done")
    left = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.name in ("a.jpg", "scene.ply")
    )
    assert left == ["kept/upload-1/photos.scene/scene.ply", "kept/upload-1/photos/a.jpg"]


def test_a_video_that_is_too_long(tmp_path: Path) -> None:
    import numpy as np

    from da3gs.errors import InputError
    from da3gs.formats.media.video import save_video

    frames = (np.full((64, 64, 3), 40 * i, np.uint8) for i in range(5))
    save_video(tmp_path / "v.mp4", frames, fps=1.0)
    check_video(tmp_path / "v.mp4", 6.0)
    with pytest.raises(InputError, match="minutes long"):
        check_video(tmp_path / "v.mp4", 3.0)
    check_video(tmp_path, 1.0)
    (tmp_path / "no.mp4").write_bytes(b"text")
    check_video(tmp_path / "no.mp4", 1.0)


@pytest.mark.process
@pytest.mark.slow
def test_the_real_process(tmp_path: Path) -> None:
    """Bad input is one line, a job is cancelled with its process, and nothing is left."""
    worker = Worker(tmp_path / "worker")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 broken")
    job = Job(source=str(tmp_path / "bad.zip"), scene=str(tmp_path / "s.scene"), model="da3gs-nano")
    with pytest.raises(JobFailedError, match=r"bad\.zip"):
        worker.run(job, lambda *_: None)
    photos = Path(__file__).parents[2] / "da3gs" / "demo_photos"
    job = Job(source=str(photos), scene=str(tmp_path / "s.scene"), model="da3gs-nano")
    before, heard = worker.pid, threading.Event()
    threading.Thread(target=lambda: (heard.wait(60), worker.cancel())).start()
    with pytest.raises(JobCancelledError):
        worker.run(job, lambda stage, *_: heard.set())
    assert worker.pid != before
    worker.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]
