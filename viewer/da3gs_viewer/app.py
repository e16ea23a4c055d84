"""One scene on one server: splats, photo frustums, a panel."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import ndarray

from da3gs._optional import require
from da3gs.cameras import Cameras
from da3gs.errors import InputError, MissingDependencyError
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs_viewer.address import check_address, is_loopback, page_url
from da3gs_viewer.frustums import Frustums
from da3gs_viewer.panel import Panel
from da3gs_viewer.splats import browser_splats
from da3gs_viewer.viewpoint import Viewpoint, between, outside_viewpoint, photo_viewpoint, up_direction

if TYPE_CHECKING:
    import viser

    from da3gs.scene import Scene

logger = logging.getLogger(__name__)

MAX_SPLATS = 300_000
"""As many splats as a browser with a graphics card moves smoothly."""
FEW_SPLATS = 20_000
"""As many as one without can bear; the slider goes down to less."""
THUMBNAIL = 192
FLIGHT_SECONDS = 0.7
FRAMES_A_SECOND = 30
RENDER_SIDE = 960


class Viewer:
    """A scene, served to browsers until it is closed.

    Example::

        with Viewer(scene, port=0) as viewer:
            print(viewer.url)
            viewer.wait()
    """

    def __init__(
        self, scene: Scene | Gaussians, *, host: str = "127.0.0.1", port: int = 8080, max_splats: int = MAX_SPLATS
    ) -> None:
        """Prepare; nothing is served before ``start``.

        Raises:
            InputError: there is no splat to show.
            MissingDependencyError: viser is missing or too old.
        """
        self.gaussians: Gaussians = scene if isinstance(scene, Gaussians) else scene.gaussians
        self._scene: Scene | None = None if isinstance(scene, Gaussians) else scene
        if not len(self.gaussians):
            raise InputError("there is no splat to show")
        self._host, self._port, self.max_splats = host, port, max_splats
        self._up = up_direction(self._scene)
        self._viewpoints = [self._photo(i) for i in range(len(self.names))]
        self._flights: dict[int, int] = {}
        self._closed = threading.Event()
        self._drawing = threading.Lock()
        self.shown = 0
        self.background = (0.0, 0.0, 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the photos, in the scene's order; none for bare splats."""
        return () if self._scene is None else self._scene.views.names

    @property
    def cameras(self) -> Cameras | None:
        """Cameras of the photos."""
        return None if self._scene is None else self._scene.cameras

    @property
    def home(self) -> Viewpoint:
        """Where everybody starts: the first photo's camera."""
        return self._viewpoints[0] if self._viewpoints else outside_viewpoint(self.gaussians, self._up)

    @property
    def url(self) -> str:
        """The page's address, known once it is started."""
        return page_url(self._host, self._port)

    def start(self) -> Viewer:
        """Listen, and put everything into the scene.

        Raises:
            InputError: the host or the port cannot be had.
        """
        _require_viser()
        check_address(self._host, self._port)
        import viser

        self.server = viser.ViserServer(host=self._host, port=self._port, label="da3gs", verbose=False)
        if self._port and self.server.get_port() != self._port:
            self.server.stop()
            raise InputError(f"port {self._port} on {self._host} is in use; choose another with --port")
        self._port = self.server.get_port()
        if not is_loopback(self._host):
            logger.warning("--host %s: everybody who can reach this machine can see the scene", self._host)
        self._furnish()
        return self

    def _furnish(self) -> None:
        home = self.home
        self.server.scene.set_up_direction(tuple(float(x) for x in self._up))
        camera = self.server.initial_camera
        camera.position, camera.look_at = home.position, home.look_at
        camera.up, camera.fov = self._up, home.fov
        camera.near, camera.far = home.distance / 200, home.distance * 2000
        self.set_background(self.background)
        photos = range(len(self._viewpoints))
        self.frustums = Frustums(self._viewpoints, [self.thumbnail(i) for i in photos], self.stand_at)
        self.panel = Panel(self)
        self.draw(self.max_splats)
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(self._farewell)

    def draw(self, limit: int) -> None:
        """Send at most ``limit`` splats to all browsers; the newest call wins."""
        eyes = self.home.position[None] if self.cameras is None else self.cameras.centers.reshape(-1, 3).cpu().numpy()
        with self._drawing:
            splats = browser_splats(self.gaussians, torch.as_tensor(eyes, dtype=torch.float32), limit=limit)
            self.server.scene.add_gaussian_splats(
                "/splats",
                centers=splats.centers,
                covariances=splats.covariances,
                rgbs=splats.rgbs,
                opacities=splats.opacities,
            )
            self.shown = len(splats)
        self.panel.show_counts()

    def _welcome(self, client: viser.ClientHandle) -> None:
        """Let a window of any shape show the whole first photo, and let people come close."""
        client.camera.fov = self.home.fitted(client.camera.aspect)
        client.camera.min_orbit_distance = self.home.distance / 500
        self.frustums.add(client)

    def _farewell(self, client: viser.ClientHandle) -> None:
        self._flights.pop(client.client_id, None)
        self.frustums.remove(client)

    def _photo(self, index: int) -> Viewpoint:
        assert self._scene is not None
        return photo_viewpoint(self._scene.cameras, index, self._scene.views.sizes[index], self._scene.gaussians.means)

    def thumbnail(self, index: int) -> ndarray:
        """The photo, small, as bytes."""
        assert self._scene is not None
        height, width = self._scene.views.sizes[index]
        image = self._scene.views.images[index][None, :, :height, :width]
        factor = min(1.0, THUMBNAIL / max(height, width))
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        small = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)[0]
        return to_bytes(small.movedim(0, -1))

    def set_background(self, color: tuple[float, float, float]) -> None:
        """Colour behind the splats, in the browser and in exact pictures; each 0 to 1."""
        self.background = color
        self.server.scene.set_background_image(np.full((1, 1, 3), np.round(np.array(color) * 255), dtype=np.uint8))

    def stand_at(self, client: viser.ClientHandle, index: int) -> None:
        """Move a browser's camera smoothly to a photo's; a newer move ends an older one."""
        flight = self._flights[client.client_id] = self._flights.get(client.client_id, 0) + 1
        camera, end = client.camera, self._viewpoints[index]
        start = Viewpoint(
            position=camera.position, wxyz=camera.wxyz, distance=1.0, fov=camera.fov, aspect=camera.aspect
        )
        steps = round(FLIGHT_SECONDS * FRAMES_A_SECOND)
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

    def render(self, client: viser.ClientHandle) -> ndarray:
        """The exact picture from where a browser's camera is, all splats and all harmonics, as bytes."""
        from da3gs.rendering import render

        rendering = render(self.gaussians, client_camera(client.camera), background=torch.tensor(self.background))
        return to_bytes(rendering.color.cpu())

    def wait(self) -> None:
        """Serve until it is closed or interrupted."""
        while not self._closed.wait(0.5):
            pass

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        self.server.stop()

    def __enter__(self) -> Viewer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()


def view(
    scene: Scene | Gaussians,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_browser: bool = True,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Show a scene in the browser until interrupted.

    Args:
        host: address to listen on; 0.0.0.0 lets others on the network in.
        port: 0 takes any free one.
        ready: called with the page's address once it can be opened.

    Raises:
        InputError: the host or the port cannot be had.
    """
    with Viewer(scene, host=host, port=port) as viewer:
        if ready is not None:
            ready(viewer.url)
        if open_browser and has_display():
            webbrowser.open(viewer.url)
        viewer.wait()


def has_display() -> bool:
    """Whether a browser window can open; elsewhere a text browser could start in the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def client_camera(camera: viser.CameraHandle, side: int = RENDER_SIDE) -> Cameras:
    """A browser's camera as a record, the picture's long side being ``side``."""
    aspect = camera.aspect
    width, height = (side, max(1, round(side / aspect))) if aspect >= 1 else (max(1, round(side * aspect)), side)
    cam_to_world = torch.eye(4, dtype=torch.float64)
    cam_to_world[:3, :3] = quaternion_to_matrix(torch.as_tensor(camera.wxyz, dtype=torch.float64))
    cam_to_world[:3, 3] = torch.as_tensor(camera.position, dtype=torch.float64)
    focal = height / (2 * np.tan(camera.fov / 2))
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float32)
    return Cameras(world_to_cam=rigid_inverse(cam_to_world).float(), intrinsics=intrinsics, height=height, width=width)


def to_bytes(image: torch.Tensor) -> ndarray:
    """0 to 1 as 0 to 255."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _require_viser() -> None:
    version = require("viser", why="the viewer").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < (1, 1):
        raise MissingDependencyError(
            f"the viewer needs viser 1.1 or newer, found {version}; pip install -U viser, outside of nerfstudio's "
            "environment, which pins an older one"
        )
