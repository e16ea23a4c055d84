"""The upload page: photos, a zip or a video in, a scene on show out.

The page talks over one WebSocket: a browser announces each file, waits for the word to send it, and sends it in pieces,
which go straight to disk. Closing the page ends what it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import secrets
import shutil
import tempfile
import threading
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from da3gs._optional import require
from da3gs.checkpoints import MODELS
from da3gs.checkpoints.choice import resolved_model
from da3gs.errors import InputError
from da3gs_viewer.jobs import Job, Worker
from da3gs_viewer.serving.address import check_address, is_loopback, page_url
from da3gs_viewer.serving.guard import Guard, quiet_logger
from da3gs_viewer.serving.relay import PREFIX, Relay, Target, spoken
from da3gs_viewer.upload_session import PIECE, WAITING, Refused, Session, UploadLimits

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from da3gs_viewer.app import Viewer

logger = logging.getLogger(__name__)

MOST_SCENES = 4
"""So many finished scenes are on show at once; the oldest goes."""
_PAGES = {"/": "upload.html", "/upload.js": "upload.js", "/upload.css": "upload.css"}
_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; "
)
"""The Content-Security-Policy of the page, before the guard's word on frames."""


class Uploads:
    """The page and what comes of it, until it is closed.

    Example::

        with Uploads(port=0) as uploads:
            print(uploads.url)
            uploads.wait()
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        model: str = "auto",
        limits: UploadLimits | None = None,
        keep: Path | None = None,
        options: dict[str, Any] | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Prepare; nothing is served before ``start``.

        Args:
            model: chosen unless the browser names another one of ``da3gs models``.
            keep: where uploads and scenes stay; None: they go with the page.
            options: further keywords of ``reconstruct``.
            guard: who may use it; None makes one.
        """
        self._host, self._port, self._model = host, port, str(resolved_model(model))
        self._limits = UploadLimits() if limits is None else limits
        self._keep, self._options = keep, dict(options or {})
        self.guard = Guard.of(host) if guard is None else guard
        self._closed, self._busy = threading.Event(), asyncio.Lock()
        self._relay = Relay()
        self._viewers: list[tuple[str, Viewer]] = []
        self._count, self._lock = 0, threading.Lock()

    @property
    def url(self) -> str:
        """The page's address, with the token where one is needed; known once it is started."""
        return self.guard.link(self._base)

    @property
    def _base(self) -> str:
        return self.guard.url or page_url(self._host, self._port)

    def start(self) -> Uploads:
        """Listen, and warm the process up that will reconstruct.

        Raises:
            InputError: the host or the port cannot be had, or the folder to keep things in cannot be made.
        """
        require("websockets", why="the upload page")
        check_address(self._host, self._port)
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="da3gs-uploads-"))
        ready: list[BaseException | None] = []
        started = threading.Event()

        def serve() -> None:
            """The thread of the server."""
            asyncio.run(self._serve(started, ready))

        self._thread = threading.Thread(target=serve, name="uploads", daemon=True)
        self._thread.start()
        started.wait()
        if ready[0] is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise InputError(f"port {self._port} on {self._host} is in use; choose another with --port")
        if not is_loopback(self._host):
            logger.warning("--host %s: everybody who reaches this machine and has the link can use it", self._host)
        self._worker = Worker(self._folder / "worker")
        return self

    async def _serve(self, started: threading.Event, ready: list[BaseException | None]) -> None:
        from websockets.asyncio.server import serve

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await serve(
                self._talk,
                self._host,
                self._port,
                process_request=self.guard.checked(self._page),
                select_subprotocol=spoken,
                max_size=PIECE + 1024,
                max_queue=2,
                compression=None,
                logger=quiet_logger(),
            )
        except OSError as error:
            ready.append(error)
            started.set()
            return
        self._port = next(iter(server.sockets)).getsockname()[1]
        ready.append(None)
        started.set()
        async with server:
            await self._stop.wait()

    async def _page(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page's three files, and scenes; WebSockets go on to ``_talk``."""
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        if request.path.startswith(PREFIX):
            return await self._relay.page(connection, request)
        name = _PAGES.get(request.path.partition("?")[0])
        if name is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "404: there is nothing here\n")
        body = (resources.files("da3gs_viewer") / "page" / name).read_bytes()
        headers = Headers()
        headers["Content-Type"] = _TYPES[name.rpartition(".")[2]]
        headers["Content-Length"] = str(len(body))
        headers["Content-Security-Policy"] = POLICY + self.guard.framing
        return Response(200, "OK", headers, body)

    async def _talk(self, connection: ServerConnection) -> None:
        """One page, from its first word until it is closed."""
        from websockets.exceptions import ConnectionClosed

        if connection.request is not None and connection.request.path.startswith(PREFIX):
            await self._relay.talk(connection)
            return
        session = Session(self, connection)
        try:
            await session.run()
        except ConnectionClosed:
            pass
        except OSError as error:
            logger.warning("an upload failed: %s", error.strerror)
            with contextlib.suppress(ConnectionClosed):
                await session.say(state="failed", message="the disk is full or cannot be written")
        finally:
            await session.end()

    def new_folder(self) -> Path:
        """For one upload and its scene."""
        with self._lock:
            while True:
                self._count += 1
                path = (self._keep or self._folder) / f"upload-{self._count}"
                if not path.exists():
                    path.mkdir()
                    return path

    def chosen_model(self, name: object) -> str:
        """The model that a browser may ask for by name.

        Raises:
            Refused: there is none of this name.
        """
        if name in (None, "", self.model_label):
            return self._model
        if not isinstance(name, str) or name not in MODELS:
            raise Refused("there is no model of this name")
        return name

    @property
    def model_label(self) -> str:
        """Name of the command line's model on the page: its name, never where it lies."""
        return self._model if self._model in MODELS else f"{Path(self._model).name} (as da3gs was started)"

    @property
    def limits(self) -> UploadLimits:
        """Limits of what one browser may send."""
        return self._limits

    async def reconstruct(self, source: Path, scene: Path, model: str, poses: str, told: Any) -> tuple[str, Viewer]:
        """The scene of an upload, on show: the path below this page's address, and the viewer.

        Raises:
            JobFailedError: see ``Worker.run``; also where the scene cannot be opened.
        """
        job = Job(
            source=str(source), scene=str(scene), model=model, poses=poses,
            most_video_seconds=60 * self._limits.video_minutes, options=self._options,
        )  # fmt: skip
        if self._busy.locked():
            told(WAITING, 0, 0)
        async with self._busy:
            await asyncio.to_thread(self._worker.run, job, told)
        return await asyncio.to_thread(self._show, scene)

    def cancel(self) -> None:
        """End the job that is running."""
        self._worker.cancel()

    def _show(self, folder: Path) -> tuple[str, Viewer]:
        from da3gs.scene import load_scene
        from da3gs_viewer.app import Viewer

        inner = Guard(host="127.0.0.1", token=secrets.token_urlsafe(24))  # others may work on this machine
        viewer = Viewer(
            load_scene(folder), host="127.0.0.1", port=0, guard=inner,
            device=self._options.get("device", "auto"), backend=self._options.get("backend", "auto"),
        ).start()  # fmt: skip
        path = self._relay.add(Target(port=viewer.server.get_port(), token=inner.token))
        viewer.address = self.guard.link(self._base + path)
        with self._lock:
            self._viewers.append((path, viewer))
            old = self._viewers[:-MOST_SCENES]
            del self._viewers[:-MOST_SCENES]
        for gone, one in old:
            self._relay.remove(gone)
            one.close()
        return path, viewer

    @property
    def keeps(self) -> bool:
        """Whether uploads and scenes stay."""
        return self._keep is not None

    def wait(self) -> None:
        """Serve until it is closed or interrupted."""
        while not self._closed.wait(0.5):
            pass

    def close(self) -> None:
        """Stop, and leave nothing behind but what is to be kept."""
        self._closed.set()
        if not hasattr(self, "_loop"):
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        if hasattr(self, "_worker"):
            self._worker.close()
        self._thread.join(10)
        for _, viewer in self._viewers:
            viewer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Uploads:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()
