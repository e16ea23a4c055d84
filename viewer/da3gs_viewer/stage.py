"""Stage: the scene on show, the places to stand at, and the flights between them; what panels and browsers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from numpy import ndarray

from da3gs.cameras import Cameras
from da3gs_viewer.editor import Editor
from da3gs_viewer.frustums import Frustums
from da3gs_viewer.pictures import Artist, Look, eight_bits
from da3gs_viewer.serving.address import page_url
from da3gs_viewer.serving.guard import Guard
from da3gs_viewer.splats import BrowserSplats, browser_splats
from da3gs_viewer.viewpoint import Viewpoint, between, outside_viewpoint, photo_viewpoint, up_direction

if TYPE_CHECKING:
    import viser

THUMBNAIL = 192
FLIGHT_SECONDS = 0.7
FRAMES_A_SECOND = 30

Moving = Literal["auto", "browser", "server"]
"""Who draws while the camera moves: the browser its own splats, the server small pictures; auto: the browser if it has
a graphics card."""


class Stage:
    """One scene for all browsers of a server: panels change it, browsers draw it, and neither knows the other."""

    server: viser.ViserServer
    """There from the start of serving on."""
    frustums: Frustums
    """There from the start of serving on."""

    def __init__(self, editor: Editor, *, max_splats: int, host: str, port: int, guard: Guard) -> None:
        """Prepare.

        Args:
            max_splats: as many as a browser draws by itself, at most.
        """
        self.editor, self.max_splats, self.guard = editor, max_splats, guard
        self._host, self._port = host, port
        self.address: str | None = None
        self.artist, self.look = Artist(editor), Look()
        self.moving: Moving = "auto"
        self.on_look: list[Callable[[], object]] = []
        self.on_limit: list[Callable[[], object]] = []
        self.on_choice: list[Callable[[int], object]] = []
        self.closed = threading.Event()
        self._lock, self._flights = threading.Lock(), dict[int, int]()
        self._sent: tuple[object, int, BrowserSplats] | None = None
        self.look_around()

    def look_around(self) -> None:
        """Find the places where people may stand, in the world of now."""
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
        """Ways by which photos came by their cameras; empty where the scene does not say."""
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
        return self.address or self.guard.link(self.guard.url or page_url(self._host, self._port))

    def browser_splats(self, limit: int) -> BrowserSplats:
        """Splats for a browser that bears ``limit`` of them; the same for all of them."""
        with self._lock:
            shown = self.editor.gaussians
            if self._sent is None or self._sent[0] is not shown or self._sent[1] != limit:
                eyes = self.home.position[None] if self.cameras is None else self.cameras.centers.reshape(-1, 3).numpy()
                self._sent = (shown, limit, browser_splats(shown, torch.as_tensor(eyes).float(), limit=limit))
            return self._sent[2]

    def counts(self) -> str:
        """Number of splats on show, for people."""
        shown, total = len(self.editor.gaussians), len(self.editor.state.gaussians)
        return f"**{shown:,}** of {total:,} splats, {self.editor.megabytes:.1f} MB as .ply"

    def change_look(self, look: Look) -> None:
        """Draw something else, for everybody."""
        self.look = look
        for told in self.on_look:
            told()

    def change_limit(self, limit: int) -> None:
        """Let browsers draw other numbers of splats."""
        self.max_splats = limit
        for told in self.on_limit:
            told()

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
        for told in self.on_choice:
            told(index)
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
            if self._flights.get(client.client_id) != flight or self.closed.is_set():
                return
            position, wxyz = between(start, end, step / steps)
            with client.atomic():
                camera.wxyz, camera.position = wxyz, position
                camera.fov = start.fov + (fov - start.fov) * step / steps
            client.flush()
            time.sleep(1 / FRAMES_A_SECOND)
        camera.look_at = end.look_at

    def stop_flight(self, client: viser.ClientHandle) -> None:
        """End a browser's flight, where it is on one."""
        self._flights.pop(client.client_id, None)
