"""A Hugging Face hub on loopback that knows one repository, and just enough of the protocol to download from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """The content of the hub, how it misbehaves, and what was asked of it."""

    repository: str
    """Such as ``org/NAME``."""
    files: dict[str, bytes]
    """By name; .safetensors count as large files."""
    cut: dict[str, int] = field(default_factory=dict)
    """Files whose first answer ends after so many bytes."""
    lie: dict[str, bytes] = field(default_factory=dict)
    """Files that arrive with other content than is stated."""
    status: int = 200
    """Of every answer."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of every request."""
    url: str = ""
    """Where it listens."""

    def information(self) -> bytes:
        """What the hub tells about the repository."""
        siblings = []
        for name, content in self.files.items():
            header = f"blob {len(content)}\0".encode()
            entry = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(header + content).hexdigest()}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return json.dumps({"id": self.repository, "sha": REVISION, "siblings": siblings}).encode()

    def answer(self, path: str) -> bytes | None:
        """The content behind a path, or None."""
        if path.startswith(f"/api/models/{self.repository}"):
            return self.information()
        prefix = f"/{self.repository}/resolve/{REVISION}/"
        if not path.startswith(prefix):
            return None
        name = path.removeprefix(prefix)
        return self.lie.get(name, self.files.get(name))


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range")
            hub.asked.append((self.command, path, wanted))
            content = hub.answer(path)
            if hub.status != 200 or content is None:
                self.reply(hub.status if hub.status != 200 else 404, b'{"error": "no"}')
                return
            if wanted is None:
                self.reply(200, content, cut=hub.cut.pop(path.rpartition("/")[2], None))
                return
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.reply(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})

        def reply(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub, listening on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
