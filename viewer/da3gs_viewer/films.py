"""Videos, screenshots and depth, drawn off-screen at any size, with progress, and an end when somebody wants one."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.errors import Da3gsError, InputError
from da3gs.keyframes import CameraPath
from da3gs_viewer.pictures import Artist, Look

MOST_SIDE = 8192
SUFFIXES = (".mp4", ".gif", ".webp")


class FilmCancelledError(Da3gsError):
    """Somebody ended the film."""


def film(
    artist: Artist,
    look: Look,
    path: CameraPath,
    *,
    suffix: str = ".mp4",
    told: Callable[[int, int], None],
    stop: threading.Event,
) -> bytes:
    """A video of the path as a file's content.

    Args:
        told: the frames done, and all of them.
        stop: set it to end the work.

    Raises:
        InputError: a size, length or suffix that cannot be.
        FilmCancelledError: ``stop`` was set.
    """
    from da3gs.formats.media.video import save_video

    check_size(path.width, path.height)
    cameras = path.cameras().to(dtype=torch.float32)

    def frames() -> Iterator[np.ndarray]:
        """The frames until somebody cancels."""
        for index in range(len(cameras)):
            if stop.is_set():
                raise FilmCancelledError("cancelled")
            yield artist.paint(cameras[index], look)
            told(index + 1, len(cameras))

    with tempfile.TemporaryDirectory(prefix="da3gs-film-") as folder:
        file = Path(folder) / f"flight{suffix}"
        save_video(file, frames(), fps=path.fps)
        return file.read_bytes()


def screenshot(artist: Artist, look: Look, camera: Cameras) -> bytes:
    """One picture as PNG.

    Raises:
        InputError: a size that cannot be.
    """
    check_size(camera.width, camera.height)
    buffer = io.BytesIO()
    Image.fromarray(artist.paint(camera, look)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def depth_array(artist: Artist, look: Look, camera: Cameras) -> bytes:
    """The depth as float32 .npy, 0 where nothing is.

    Raises:
        InputError: a size that cannot be.
    """
    check_size(camera.width, camera.height)
    with torch.inference_mode():
        depth = artist.render(camera, look).depth.float().cpu().numpy()
    buffer = io.BytesIO()
    np.save(buffer, depth)
    return buffer.getvalue()


def check_size(width: int, height: int) -> None:
    """Refuse pictures that cannot be.

    Raises:
        InputError: a side is below 2 or above 8192.
    """
    if not (2 <= width <= MOST_SIDE and 2 <= height <= MOST_SIDE):
        raise InputError(f"a picture of {width}x{height} pixels; both sides must be from 2 to {MOST_SIDE}")
