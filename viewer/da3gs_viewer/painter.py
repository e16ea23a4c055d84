"""Painter of one browser's pictures: small while its camera moves, whole once it rests; the newest camera wins."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from da3gs.cameras import Cameras
from da3gs.errors import Da3gsError
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import quaternion_to_matrix

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)

REST = 0.25
"""Seconds without a new camera after which it counts as resting."""
MOVING_SIDE = 480
LEAST_SIDE = 240
FULL_SIDE = 1280
FRAME_SECONDS = 0.1
"""So long may a picture take while the camera moves: they shrink until it does."""
MOST_FRAMES = 30.0
"""A second, at most."""

Quality = Literal["moving", "whole"]


class Painter:
    """Draws for one browser, in a thread of its own.

    There is no queue: the thread looks where the camera is when it is free, and what has changed meanwhile is drawn
    once. A picture that a browser has not fetched yet is replaced by the next.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        paint: Callable[[Cameras], np.ndarray],
        *,
        at_rest_only: Callable[[], bool],
        shown: Callable[[Quality | None], None],
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            paint: the picture from a camera.
            at_rest_only: whether something else is shown while the camera moves.
            shown: called before a picture goes out, with its quality, and with None when the camera begins to move and
                pictures would be late.
        """
        self._client, self._paint, self._shown = client, paint, shown
        self._at_rest_only = at_rest_only
        self._news, self._closed = threading.Condition(), False
        self._stamp, self._painted = 1, (0, "moving")
        self._moved_at, self._moving_side = 0.0, float(MOVING_SIDE)
        self.seconds, self.size, self.frames = 0.0, (0, 0), 0
        self.rate = 0.0
        self._thread = threading.Thread(target=self._run, name=f"painter-{client.client_id}", daemon=True)

    def start(self) -> None:
        """Draw the first picture, and follow the camera from now on."""
        self._moved_at = time.monotonic()  # a small picture comes first
        self._client.camera.on_update(lambda _: self.moved())
        self._thread.start()

    def moved(self) -> None:
        """The camera has moved."""
        with self._news:
            self._stamp += 1
            self._moved_at = time.monotonic()
            self._news.notify()

    def changed(self) -> None:
        """Something else has changed: draw again, whole."""
        with self._news:
            self._stamp += 1
            self._news.notify()

    def close(self) -> None:
        """No more pictures."""
        with self._news:
            self._closed = True
            self._news.notify()

    def join(self) -> None:
        """Wait, after ``close``, for the picture that is being drawn: a process may not end inside a kernel."""
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        away = False
        while True:
            with self._news:
                while not self._closed and self._painted == (self._stamp, "whole"):
                    self._news.wait()
                if self._closed:
                    return
                stamp, since = self._stamp, time.monotonic() - self._moved_at
            moving = since < REST
            if moving and self._at_rest_only():
                if not away:
                    away = True
                    self._shown(None)
                self._rest(REST - since)
                continue
            if moving and self._painted == (stamp, "moving"):
                self._rest(REST - since)
                continue
            away = False
            try:
                self._draw(stamp, "moving" if moving else "whole")
            except Da3gsError as error:
                logger.warning("%s", error)
                self._painted = (stamp, "whole")
            except Exception:
                if self._closed:
                    return
                logger.exception("a picture could not be drawn")
                self._painted = (stamp, "whole")

    def _rest(self, seconds: float) -> None:
        with self._news:
            if not self._closed:
                self._news.wait(max(seconds, 0.005))

    def _draw(self, stamp: int, quality: Quality) -> None:
        begin = time.perf_counter()
        camera = self._client.camera
        canvas = max(camera.image_width, camera.image_height, 1)
        side = min(canvas, round(self._moving_side) if quality == "moving" else FULL_SIDE)
        record = client_camera(camera, side)
        picture = self._paint(record)
        if quality == "whole" and stamp != self._stamp and time.monotonic() - self._moved_at < REST:
            return  # the camera has moved on: this one would jump back
        if self._closed:
            return
        self.seconds, self.size, self.frames = (
            time.perf_counter() - begin,
            (record.width, record.height),
            self.frames + 1,
        )
        self._shown(quality)
        with contextlib.suppress(Warning):
            self._client.scene.set_background_image(
                picture, format="jpeg", jpeg_quality=75 if quality == "moving" else 90
            )
            self._client.flush()
        self._painted = (stamp, quality)
        elapsed = time.perf_counter() - begin
        if quality == "moving":
            rate = 1 / max(elapsed, 1 / MOST_FRAMES)
            self.rate = 0.8 * self.rate + 0.2 * rate if self.rate else rate
            better = self._moving_side * (FRAME_SECONDS / max(elapsed, 1e-3)) ** 0.5
            self._moving_side = min(max(0.5 * (self._moving_side + better), LEAST_SIDE), MOVING_SIDE)
            self._rest(1 / MOST_FRAMES - elapsed)


def client_camera(camera: viser.CameraHandle, side: int) -> Cameras:
    """A browser's camera as a record, the picture's long side being ``side``."""
    aspect = camera.aspect
    if not (np.isfinite(aspect) and 1 / 50 < aspect < 50):
        aspect = 1.0
    width, height = (side, max(1, round(side / aspect))) if aspect >= 1 else (max(1, round(side * aspect)), side)
    return camera_at(camera.position, camera.wxyz, camera.fov, width, height)


def camera_at(position: np.ndarray, wxyz: np.ndarray, fov: float, width: int, height: int) -> Cameras:
    """The record of a camera with its principal point in the middle.

    Args:
        wxyz: camera-to-world rotation, OpenCV axes.
        fov: vertical, radians.
    """
    cam_to_world = torch.eye(4, dtype=torch.float64)
    cam_to_world[:3, :3] = quaternion_to_matrix(torch.as_tensor(wxyz, dtype=torch.float64))
    cam_to_world[:3, 3] = torch.as_tensor(position, dtype=torch.float64)
    focal = height / (2 * np.tan(fov / 2))
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float32)
    return Cameras(world_to_cam=rigid_inverse(cam_to_world).float(), intrinsics=intrinsics, height=height, width=width)
