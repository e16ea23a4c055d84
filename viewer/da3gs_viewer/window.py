"""Window of one browser: its camera, pictures, splats and frustums."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from da3gs.cameras import Cameras
from da3gs.geometry.similarity import Similarity
from da3gs_viewer.flight import Key
from da3gs_viewer.painter import Painter, Quality
from da3gs_viewer.stage import Stage
from da3gs_viewer.viewpoint import Viewpoint

if TYPE_CHECKING:
    import viser


SOFTWARE_SPLATS = 20_000
"""As many splats as a browser without a graphics card can bear."""
HARDWARE_SPLATS = 300_000
"""As many as one with a graphics card moves smoothly."""
_ASK_SECONDS = 6.0
_FIT_TRIES = 30
_KEY = "da3gs-renderer"
_ASK = """(() => { try {
  const gl = document.createElement("canvas").getContext("webgl2");
  const info = gl && gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl ? String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "none";
  for (const key of Object.keys(localStorage)) if (key.endsWith("da3gs-renderer")) localStorage.setItem(key, name);
} catch (error) {} })()"""
_SOFTWARE = ("swiftshader", "llvmpipe", "software", "softpipe", "basic render", "none")


class Window:
    """Share of one browser in the server. It goes when the browser does; a slow one holds nobody else up."""

    def __init__(self, stage: Stage, client: viser.ClientHandle) -> None:
        """Prepare; ``open`` fills it."""
        self._stage, self.client = stage, client
        self._splats: Any = None
        self._closed, self._lock = threading.Event(), threading.Lock()
        self.software: bool | None = None
        self.count = 0
        self.painter = Painter(client, self._paint, at_rest_only=self._splats_move, shown=self._show)
        self._said, self._status = 0.0, None

    def open(self) -> None:
        """Let a window of any shape show the whole first photo, and people come close; then send everything."""
        home, client = self._stage.home, self.client
        with contextlib.suppress(Warning):
            client.camera.min_orbit_distance = home.distance / 500
            self._status = client.gui.add_markdown("", order=-1.0)
            self.painter.start()
            self._stage.frustums.add(client)
            self.software = self._is_software()
            self.send_splats()
            self._fit(home)

    def _fit(self, home: Viewpoint) -> None:
        """Widen the view of a narrow window, once the browser is where all of them begin; one that came by a link
        begins elsewhere."""
        for _ in range(_FIT_TRIES):
            if not _came_by_link(self.client, home):
                self.client.camera.fov = home.fitted(self.client.camera.aspect)
                return
            if self._closed.wait(0.1):
                return

    def move(self, similarity: Similarity, up: ndarray) -> None:
        """Go along when the world moves, and stand upright in it."""
        camera = self.client.camera
        here = Key(position=np.array(camera.position), wxyz=np.array(camera.wxyz), fov=camera.fov)
        there = here.moved(similarity)
        with contextlib.suppress(Warning), self.client.atomic():
            camera.wxyz, camera.position = there.wxyz, there.position
            camera.up_direction = up
        self.client.flush()

    def close(self) -> None:
        """The browser has gone."""
        self._closed.set()
        self.painter.close()

    @property
    def limit(self) -> int:
        """Number of splats that this browser gets, at most."""
        most = HARDWARE_SPLATS if self.software is False else SOFTWARE_SPLATS
        return min(most, self._stage.max_splats)

    def send_splats(self) -> None:
        """The splats that the browser draws itself, anew."""
        with self._lock:
            if self._closed.is_set():
                return
            splats = self._stage.browser_splats(self.limit)
            if self._splats is not None:
                self._splats.remove()
                self._splats = None
            self.count = len(splats)
            if self.count:
                self._splats = self.client.scene.add_gaussian_splats(
                    "/splats",
                    centers=splats.centers,
                    covariances=splats.covariances,
                    rgbs=splats.rgbs,
                    opacities=splats.opacities,
                    visible=False,
                )
        self.painter.changed()

    def _paint(self, camera: Cameras) -> np.ndarray:
        return self._stage.artist.paint(camera, self._stage.look)

    def _splats_move(self) -> bool:
        """Whether the browser's own splats are shown while the camera moves."""
        stage = self._stage
        if self._splats is None or stage.look.mode != "colour" or stage.look.compare != "off":
            return False
        return stage.moving == "browser" or (stage.moving == "auto" and self.software is False)

    def _show(self, quality: Quality | None) -> None:
        """Splats while the camera moves, the picture afterwards."""
        with contextlib.suppress(Warning):
            if self._splats is not None and self._splats.visible != (quality is None):
                self._splats.visible = quality is None
            if quality is None:
                color = np.round(np.array(self._stage.look.background) * 255).astype(np.uint8)
                self.client.scene.set_background_image(color.reshape(1, 1, 3))
                self.client.flush()
            elif quality == "whole" or time.monotonic() - self._said > 0.5:
                self._say(quality)

    def _say(self, quality: Quality) -> None:
        if self._status is None:
            return
        self._said = time.monotonic()
        painter = self.painter
        width, height = painter.size
        fps = f", {painter.rate:.0f} frames/s while moving" if painter.rate else ""
        took = f"{width} x {height} in {painter.seconds:.2f} s{fps}" if width else ""
        self._status.content = f"{self._stage.counts()}  \n{took}"

    def _is_software(self) -> bool | None:
        """Whether the browser draws without a graphics card; None where it does not tell."""
        from viser._messages import RunJavascriptMessage

        storage = self.client.local_storage
        try:
            storage.set_item(_KEY, "?")
            self.client._websock_connection.queue_message(RunJavascriptMessage(source=_ASK))
            self.client.flush()
            name = storage.get_item(_KEY, timeout=_ASK_SECONDS)
        except (RuntimeError, TimeoutError):
            return None
        if name is None or name == "?":
            return None
        return any(word in name.lower() for word in _SOFTWARE)


def _came_by_link(client: viser.ClientHandle, home: Viewpoint) -> bool:
    """Whether a browser begins elsewhere than at the first photo."""
    away = float(np.linalg.norm(client.camera.position - home.position))
    return away > 1e-3 * home.distance or abs(client.camera.fov - home.fov) > 1e-3
