"""One scene on one server, for as many browsers as come."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy import ndarray

from da3gs._tensors import Device
from da3gs.cameras import Cameras
from da3gs.errors import Da3gsError, InputError
from da3gs.exports.splat_file import BareSplats
from da3gs.gaussians import Gaussians
from da3gs.pipeline.memory_estimate import release_unused
from da3gs.rendering import Backend
from da3gs_viewer.editor import Editor
from da3gs_viewer.frustums import Frustums
from da3gs_viewer.painter import camera_at
from da3gs_viewer.panels.panel import Panel
from da3gs_viewer.pictures import Artist, Look, eight_bits
from da3gs_viewer.serving.address import page_url
from da3gs_viewer.serving.guard import Guard
from da3gs_viewer.serving.server import require_viser, start_server
from da3gs_viewer.splats import BrowserSplats, browser_splats
from da3gs_viewer.viewpoint import Viewpoint, between, outside_viewpoint, photo_viewpoint, up_direction
from da3gs_viewer.window import HARDWARE_SPLATS, Window

if TYPE_CHECKING:
    import viser

    from da3gs.scene import Scene

THUMBNAIL = 192
FLIGHT_SECONDS = 0.7
FRAMES_A_SECOND = 30
RESTED = 0.3
"""Seconds without a change after which browsers get the splats anew."""

Moving = Literal["auto", "browser", "server"]
"""Who draws while the camera moves: the browser its own splats, the server small pictures; auto: the browser if it has
a graphics card."""


class Viewer:
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
        self.editor = Editor(scene, device=device, backend=backend)
        if not len(self.editor.gaussians):
            raise InputError("there is no splat to show")
        self._host, self._port, self.max_splats = host, port, max_splats
        self.guard = Guard.of(host) if guard is None else guard
        self.artist, self.look = Artist(self.editor), Look()
        self.moving: Moving = "auto"
        self._windows: dict[int, Window] = {}
        self._flights: dict[int, int] = {}
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._sent: tuple[object, int, BrowserSplats] | None = None
        self._warmer = threading.Thread(target=self._warm, name="warmer", daemon=True)
        self._look_around()
        self.editor.on_change(self._edited)

    def _look_around(self) -> None:
        """Where people may stand, in the world of now."""
        scene, cameras = self.editor.scene, self.editor.cameras
        moved = self.editor.state.placement is not None
        self.up = up_direction(None if moved else scene, self.editor.bare.upward)
        self.viewpoints: list[Viewpoint] = []
        if scene is not None and cameras is not None:
            means = self.editor.state.gaussians.means
            self.viewpoints = [photo_viewpoint(cameras, i, scene.views.sizes[i], means) for i in range(len(cameras))]
        self.home = self.viewpoints[0] if self.viewpoints else outside_viewpoint(self.editor.state.gaussians, self.up)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the photos, in the scene's order; none for bare splats."""
        return () if self.editor.scene is None else self.editor.scene.views.names

    @property
    def placed(self) -> list[str]:
        """How each photo came by its camera; empty where the scene does not say."""
        record = {} if self.editor.scene is None else self.editor.scene.record.get("poses") or {}
        ways = {camera["photo"]: camera["placed"] for camera in record.get("cameras") or ()}
        return [ways.get(name, "given") for name in self.names] if ways else []

    @property
    def cameras(self) -> Cameras | None:
        """Cameras of the photos."""
        return self.editor.cameras

    @property
    def url(self) -> str:
        """The page's address, with the token where one is needed; known once it is started."""
        return self.guard.link(page_url(self._host, self._port))

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
        self._flights.pop(client.client_id, None)
        self.frustums.remove(client)
        with self._lock:
            window = self._windows.pop(client.client_id, None)
        if window is not None:
            window.close()

    @property
    def windows(self) -> list[Window]:
        """Of all browsers that are there."""
        with self._lock:
            return list(self._windows.values())

    def browser_splats(self, limit: int) -> BrowserSplats:
        """What a browser that bears ``limit`` splats gets; the same for all of them."""
        with self._lock:
            shown = self.editor.gaussians
            if self._sent is None or self._sent[0] is not shown or self._sent[1] != limit:
                eyes = self.home.position[None] if self.cameras is None else self.cameras.centers.reshape(-1, 3).numpy()
                self._sent = (shown, limit, browser_splats(shown, torch.as_tensor(eyes).float(), limit=limit))
            return self._sent[2]

    def counts(self) -> str:
        """How many splats are on show, for people."""
        shown, total = len(self.editor.gaussians), len(self.editor.state.gaussians)
        return f"**{shown:,}** of {total:,} splats, {self.editor.megabytes:.1f} MB as .ply"

    def _edited(self, moved: bool) -> None:
        """Everybody sees the change at once; the browsers' own splats follow."""
        if moved:
            self._look_around()
            self._aim()
            self.frustums.replace(self.viewpoints, [window.client for window in self.windows])
            assert self.editor.last_move is not None
            self.panel.path.moved(self.editor.last_move)
            for window in self.windows:
                window.move(self.editor.last_move, self.up)
        for window in self.windows:
            window.painter.changed()
        self.panel.refresh()
        timer = threading.Timer(RESTED, self._send_if_still, args=[self.editor.version])
        timer.daemon = True
        timer.start()

    def _send_if_still(self, version: int) -> None:
        """While a slider moves, only where it comes to rest is sent."""
        if version == self.editor.version and not self._closed.is_set():
            for window in self.windows:
                window.send_splats()
        release_unused()  # else what every change frees piles up in pieces

    def change_look(self, look: Look) -> None:
        """Draw something else, for everybody."""
        self.look = look
        for window in self.windows:
            window.painter.changed()

    def change_limit(self, limit: int) -> None:
        """Let browsers draw other numbers of splats."""
        self.max_splats = limit
        for window in self.windows:
            window.send_splats()

    def thumbnail(self, index: int) -> ndarray:
        """The photo, small, as bytes."""
        assert self.editor.scene is not None
        views = self.editor.scene.views
        height, width = views.sizes[index]
        image = views.images[index][None, :, :height, :width]
        factor = min(1.0, THUMBNAIL / max(height, width))
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        small = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)[0]
        return eight_bits(small.movedim(0, -1))

    def stand_at(self, client: viser.ClientHandle, index: int) -> None:
        """Move a browser's camera smoothly to a photo's, and choose that photo."""
        self.panel.photos.choose(index)
        self.fly(client, self.viewpoints[index])

    def fly(self, client: viser.ClientHandle, end: Viewpoint, seconds: float = FLIGHT_SECONDS) -> None:
        """Move a browser's camera smoothly; a newer move ends an older one."""
        flight = self._flights[client.client_id] = self._flights.get(client.client_id, 0) + 1
        camera = client.camera
        start = Viewpoint(
            position=camera.position, wxyz=camera.wxyz, distance=1.0, fov=camera.fov, aspect=camera.aspect
        )
        steps = max(1, round(seconds * FRAMES_A_SECOND))
        fov = end.fitted(camera.aspect)
        for step in range(1, steps + 1):
            if self._flights.get(client.client_id) != flight or self._closed.is_set():
                return
            position, wxyz = between(start, end, step / steps)
            with client.atomic():
                camera.wxyz, camera.position = wxyz, position
                camera.fov = start.fov + (fov - start.fov) * step / steps
            client.flush()
            time.sleep(1 / FRAMES_A_SECOND)
        camera.look_at = end.look_at

    def wait(self) -> None:
        """Serve until it is closed or interrupted."""
        while not self._closed.wait(0.5):
            pass

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
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
) -> None:
    """Show a scene in the browser until interrupted.

    Args:
        host: address to listen on; 0.0.0.0 lets others on the network in who have the link.
        port: 0 takes any free one.
        device: where the server draws.
        backend: draws the splats.
        ready: called with the page's address once it can be opened.

    Raises:
        InputError: the host or the port cannot be had.
    """
    require_viser()
    with Viewer(scene, host=host, port=port, device=device, backend=backend) as viewer:
        if ready is not None:
            ready(viewer.url)
        if open_browser and has_display():
            webbrowser.open(viewer.url)
        viewer.wait()


def has_display() -> bool:
    """Whether a browser window can open; elsewhere a text browser could start in the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
