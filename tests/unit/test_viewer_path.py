"""Camera paths while they are edited, and films of them."""

from __future__ import annotations

import io
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.cameras.camera_paths import load_camera_path, save_camera_path
from da3gs.formats.media.video import open_video
from da3gs.keyframes import stated_frames
from da3gs_viewer.editor import Editor
from da3gs_viewer.films import FilmCancelledError, depth_array, film, screenshot
from da3gs_viewer.flight import Flight, Key
from da3gs_viewer.pictures import Artist, Look
from tests.small_scene import small_cameras, small_scene


def key(x: float, seconds: float = 2.0) -> Key:
    return Key(position=np.array([x, 0.0, -3.0]), wxyz=np.array([1.0, 0, 0, 0]), fov=0.9, seconds=seconds)


def xs(flight: Flight) -> list[float]:
    return [float(one.position[0]) for one in flight.keys]


def test_keys_are_ordered_by_hand() -> None:
    flight = Flight()
    assert [flight.add(key(0.0)), flight.add(key(1.0)), flight.add(key(2.0), after=0)] == [0, 1, 1]
    assert xs(flight) == [0, 2, 1]
    assert flight.move(1, 1) == 2
    assert flight.move(2, 1) == 2, "the last stays the last"
    assert xs(flight) == [0, 1, 2]
    flight.replace(1, seconds=5.0)
    flight.remove(0)
    flight.remove(7)
    assert xs(flight) == [1, 2]
    path = flight.path(height=90, width=160, fps=10.0)
    assert path.seconds.tolist() == [0, 5]
    assert path.duration == 5
    flight.change(loop=True, smoothness=0.5)
    assert flight.path(height=90, width=160, fps=10.0).duration == 7
    flight.clear()
    with pytest.raises(InputError, match="no keyframe"):
        flight.path(height=90, width=160, fps=10.0)


@pytest.mark.parametrize("format", ["nerfstudio", "supersplat"])
def test_a_saved_path_comes_back_and_flies_the_same(format: str, tmp_path: Path) -> None:
    flight = Flight()
    for x, seconds in ((0.0, 1.0), (1.0, 2.5), (0.5, 1.0)):
        flight.add(key(x, seconds))
    path = flight.path(height=90, width=160, fps=8.0)
    save_camera_path(path, tmp_path / "path.json", format=format)  # type: ignore[arg-type]
    again = Flight()
    again.load(load_camera_path(tmp_path / "path.json", size=(90, 160)))
    assert xs(again) == pytest.approx(xs(flight), abs=1e-6)
    assert [one.seconds for one in again.keys][:2] == pytest.approx([1.0, 2.5], abs=0.13)
    mine, theirs = path.cameras(), again.path(height=90, width=160, fps=8.0).cameras()
    torch.testing.assert_close(mine.world_to_cam, theirs.world_to_cam, atol=1e-4, rtol=0)


def test_stated_frames_stay_until_something_is_edited() -> None:
    flight, cameras = Flight(), small_cameras(4)
    flight.load(stated_frames(cameras, fps=2.0))
    path = flight.path(height=cameras.height, width=cameras.width, fps=24.0)
    torch.testing.assert_close(path.cameras().world_to_cam, cameras.world_to_cam.double())
    flight.remove(0)
    assert flight.path(height=cameras.height, width=cameras.width, fps=24.0).frames is None


def test_a_film_has_all_frames_or_none() -> None:
    artist, flight = Artist(Editor(small_scene())), Flight()
    flight.add(key(0.0, 1.0))
    flight.add(key(0.5))
    path = flight.path(height=48, width=64, fps=6.0)
    heard: list[tuple[int, int]] = []
    content = film(artist, Look(), path, told=lambda *n: heard.append(n), stop=threading.Event())
    assert heard[-1] == (6, 6)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "f.mp4"
        file.write_bytes(content)
        with open_video(file) as video:
            assert len(list(video.frames())) == 6
    stop = threading.Event()
    with pytest.raises(FilmCancelledError):
        film(artist, Look(), path, told=lambda done, _: stop.set() if done == 2 else None, stop=stop)
    with pytest.raises(InputError, match="20000"):
        film(
            artist, Look(), flight.path(height=48, width=20_000, fps=6.0), told=lambda *_: None, stop=threading.Event()
        )


def test_pictures_of_any_size() -> None:
    artist, camera = Artist(Editor(small_scene())), small_cameras(1)[0].resized(60, 80)
    picture = np.asarray(Image.open(io.BytesIO(screenshot(artist, Look(), camera))))
    assert np.array_equal(picture, artist.paint(camera, Look()))
    depth = np.load(io.BytesIO(depth_array(artist, Look(), camera)))
    assert depth.dtype == np.float32
    assert depth.shape == (60, 80)
    assert math.isfinite(float(depth.max()))
    assert float(depth.max()) > 1
