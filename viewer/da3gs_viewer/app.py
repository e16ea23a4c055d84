"""Viewer: a scene on one server, for as many browsers as come."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from da3gs._memory import release_unused
from da3gs._tensors import Device
from da3gs.errors import Da3gsError, InputError
from da3gs.exports.splat_file import BareSplats
from da3gs.gaussians import Gaussians
from da3gs.rendering import Backend
from da3gs_viewer.editor import Editor
from da3gs_viewer.frustums import Frustums
from da3gs_viewer.painter import camera_at
from da3gs_viewer.panels.panel import Panel
from da3gs_viewer.pictures import Look
from da3gs_viewer.serving.guard import Guard
from da3gs_viewer.serving.server import require_viser, start_server
from da3gs_viewer.stage import Stage
from da3gs_viewer.window import HARDWARE_SPLATS, Window

if TYPE_CHECKING:
    import viser

    from da3gs.scene import Scene

RESTED = 0.3
"""Seconds without a change after which browsers get the splats anew."""


class Viewer(Stage):
    """A scene, served to browsers until it is closed.

    Example::

        with Viewer(scene, port=0) as viewer:
            print(viewer.url)
            viewer.wait()
    """

    def __init__(
        self,
        scene: Scene | BareSplats | Gaussians,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        max_splats: int = HARDWARE_SPLATS,
        guard: Guard | None = None,
        device: Device = "auto",
        backend: Backend = "auto",
    ) -> None:
        """Prepare; nothing is served before ``start``.

        Args:
            max_splats: as many as a browser draws by itself, at most.
            guard: who may look in; None makes one.
            device: where the server draws; ``auto`` takes CUDA where there is any.
            backend: draws the splats.

        Raises:
            InputError: there is no splat to show.
            MissingDependencyError: viser is missing or too old.
        """
        editor = Editor(scene, device=device, backend=backend)
        if not len(editor.gaussians):
            raise InputError("there is no splat to show")
        super().__init__(
            editor,
            max_splats=max_splats,
            host=host,
            port=port,
            guard=Guard.of(host) if guard is None else guard,
        )
        self._windows: dict[int, Window] = {}
        self._warmer = threading.Thread(target=self._warm, name="warmer", daemon=True)
        self.editor.on_change(self._edited)
        self.on_look.append(self._redraw)
        self.on_limit.append(self._resend)

    def start(self) -> Viewer:
        """Listen, and put everything into the scene.

        Raises:
            InputError: the host or the port cannot be had.
        """
        self.server = start_server(self._host, self._port, self.guard)
        self._port = self.server.get_port()
        self._aim()
        thumbnails = [self.thumbnail(i) for i in range(len(self.viewpoints))]
        self.frustums = Frustums(self.viewpoints, thumbnails, self.stand_at, self.placed)
        self.panel = Panel(self)
        self.on_choice.append(self.panel.photos.choose)
        self._warmer.start()
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(self._farewell)
        return self

    def _warm(self) -> None:
        """Load the kernels before anybody comes."""
        home = self.home
        with contextlib.suppress(Da3gsError):
            self.artist.paint(camera_at(home.position, home.wxyz, home.fov, 16, 16), Look())

    def _aim(self) -> None:
        home = self.home
        self.server.scene.set_up_direction((float(self.up[0]), float(self.up[1]), float(self.up[2])))
        camera = self.server.initial_camera
        camera.position, camera.look_at = home.position, home.look_at
        camera.up, camera.fov = self.up, home.fov
        camera.near, camera.far = home.distance / 200, home.distance * 2000

    def _welcome(self, client: viser.ClientHandle) -> None:
        window = Window(self, client)
        with self._lock:
            self._windows[client.client_id] = window
        window.open()

    def _farewell(self, client: viser.ClientHandle) -> None:
        self.stop_flight(client)
        self.frustums.remove(client)
        with self._lock:
            window = self._windows.pop(client.client_id, None)
        if window is not None:
            window.close()

    @property
    def windows(self) -> list[Window]:
        """Windows of all browsers that are there."""
        with self._lock:
            return list(self._windows.values())

    def _edited(self, moved: bool) -> None:
        """Everybody sees the change at once; the browsers' own splats follow."""
        if moved:
            self.look_around()
            self._aim()
            self.frustums.replace(self.viewpoints, [window.client for window in self.windows])
            assert self.editor.last_move is not None
            self.panel.path.moved(self.editor.last_move)
            self.panel.ruler.moved(self.editor.last_move)
            for window in self.windows:
                window.move(self.editor.last_move, self.up)
        self._redraw()
        self.panel.refresh()
        timer = threading.Timer(RESTED, self._send_if_still, args=[self.editor.version])
        timer.daemon = True
        timer.start()

    def _redraw(self) -> None:
        for window in self.windows:
            window.painter.changed()

    def _resend(self) -> None:
        for window in self.windows:
            window.send_splats()

    def _send_if_still(self, version: int) -> None:
        """While a slider moves, only where it comes to rest is sent."""
        if version == self.editor.version and not self.closed.is_set():
            self._resend()
        release_unused()  # else what every change frees piles up in pieces

    def wait(self) -> None:
        """Serve until it is closed or interrupted."""
        while not self.closed.wait(0.5):
            pass

    def close(self) -> None:
        """Stop serving."""
        self.closed.set()
        windows = self.windows
        for window in windows:
            window.close()
        for window in windows:
            window.painter.join()
        if self._warmer.is_alive():  # a process that ends inside a native call of a daemon thread aborts
            self._warmer.join()
        if hasattr(self, "server"):
            with contextlib.redirect_stdout(io.StringIO()):  # viser says that it stops
                self.server.stop()

    def __enter__(self) -> Viewer:
        try:
            return self.start()
        except BaseException:  # an interruption too
            self.close()
            raise

    def __exit__(self, *error: object) -> None:
        self.close()


def view(
    scene: Scene | BareSplats | Gaussians,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_browser: bool = True,
    device: Device = "auto",
    backend: Backend = "auto",
    ready: Callable[[str], Any] | None = None,
    guard: Guard | None = None,
) -> None:
    """Show a scene in the browser until interrupted.

    Args:
        host: address to listen on; 0.0.0.0 lets others on the network in who have the link.
        port: 0 takes any free one.
        device: where the server draws.
        backend: draws the splats.
        ready: called with the page's address once it can be opened.
        guard: who may look in; None makes one.

    Raises:
        InputError: the host or the port cannot be had.
    """
    require_viser()
    with Viewer(scene, host=host, port=port, device=device, backend=backend, guard=guard) as viewer:
        if ready is not None:
            ready(viewer.url)
        if open_browser and has_display():
            webbrowser.open(viewer.url)
        viewer.wait()


def has_display() -> bool:
    """Whether a browser window can open; elsewhere a text browser could start in the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
