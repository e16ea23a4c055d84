"""The camera path: keyframes where one stands, their order and timing, a preview, files and films."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da3gs.errors import Da3gsError, InputError
from da3gs.formats.cameras.camera_paths import load_camera_path, save_camera_path
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.geometry.similarity import Similarity
from da3gs_viewer.films import SUFFIXES, FilmCancelledError, depth_array, film, screenshot
from da3gs_viewer.flight import Flight, Key, degrees
from da3gs_viewer.painter import camera_at
from da3gs_viewer.panels.clean_panel import notify
from da3gs_viewer.stage import Stage
from da3gs_viewer.viewpoint import Viewpoint

FORMATS = ("nerfstudio", "supersplat", "inria", "transforms")
COLOR = (80, 200, 255)
PREVIEW_RATE = 30.0
MOST_FILE = 50_000_000


class PathPanel:
    """The controls of the one camera path that all browsers share."""

    def __init__(self, stage: Stage) -> None:
        """Add them."""
        self._stage, self.flight = stage, Flight()
        self._drawn: list[Any] = []
        self._lock, self._filming = threading.Lock(), threading.Lock()
        self._stop, self._play = threading.Event(), 0
        self._syncing = False
        gui = stage.server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            self._add_keys(gui)
            self._add_files(gui)
            self._add_films(gui)
        gui.add_command("Keyframe here", hotkey="K").on_trigger(lambda event: self.add(event.client))
        gui.add_command("Play the camera path", hotkey="P").on_trigger(lambda event: self.play(event.client))

    def _add_keys(self, gui: Any) -> None:
        self.add_button = gui.add_button("Add keyframe here", hint="Or press K")
        self.add_button.on_click(lambda event: self.add(event.client))
        self.chosen = gui.add_dropdown("Keyframe", ("none",), initial_value="none")
        self.steps = gui.add_button_group("", ("Go", "Set", "Earlier", "Later", "Delete"))
        self.seconds = gui.add_number("Seconds to next", 2.0, min=0.05, max=600.0, step=0.05)
        self.fov = gui.add_number("Field of view °", 50.0, min=5.0, max=150.0, step=0.5)
        self.loop = gui.add_checkbox("Loop", initial_value=False)
        self.smoothness = gui.add_slider("Smoothness", min=0.0, max=1.0, step=0.05, initial_value=1.0)
        self.player = gui.add_button("Play", hint="Or press P; once more to stop")
        self.chosen.on_update(lambda _: self._show_key())
        self.steps.on_click(lambda event: self._step(self.steps.value, event.client))
        self.seconds.on_update(lambda _: self._edit(seconds=float(self.seconds.value)))
        self.fov.on_update(lambda _: self._edit(fov=math.radians(float(self.fov.value))))
        for handle in (self.loop, self.smoothness):
            handle.on_update(lambda _: self._shape())
        self.player.on_click(lambda event: self.play(event.client))

    def _add_files(self, gui: Any) -> None:
        self.format = gui.add_dropdown("Format", FORMATS, initial_value="nerfstudio")
        self.save = gui.add_button("Save path", hint="da3gs render --path FILE flies the same")
        self.load = gui.add_upload_button("Load path", mime_type="application/json")
        self.save.on_click(lambda event: self._saved(event.client))
        self.load.on_upload(lambda event: self._loaded(event.client, self.load.value))

    def _add_films(self, gui: Any) -> None:
        self.width = gui.add_number("Width", 1280, min=2, max=8192, step=2)
        self.height = gui.add_number("Height", 720, min=2, max=8192, step=2)
        self.fps = gui.add_number("Frames a second", 24.0, min=1.0, max=120.0, step=1.0)
        self.kind = gui.add_dropdown("Video", SUFFIXES, initial_value=".mp4")
        self.film_button = gui.add_button("Make video", hint="In the mode that is on show")
        self.bar = gui.add_progress_bar(0.0, visible=False)
        self.cancel = gui.add_button("Cancel video", visible=False)
        self.shots = gui.add_button_group("", ("Screenshot", "Depth .npy"))
        self.film_button.on_click(lambda event: self._film(event.client))
        self.cancel.on_click(lambda _: self._stop.set())
        self.shots.on_click(lambda event: self._shoot(event.client, self.shots.value))

    @property
    def place(self) -> int:
        """Index of the keyframe that is chosen; -1 where there is none."""
        value = str(self.chosen.value)
        return int(value) - 1 if value.isdigit() else -1

    def add(self, client: Any) -> None:
        """A keyframe where this browser stands, after the one that is chosen."""
        if client is None:
            return
        camera, before = client.camera, self.place
        key = Key(position=np.array(camera.position), wxyz=np.array(camera.wxyz), fov=float(camera.fov))
        try:
            place = self.flight.add(key, None if before < 0 else before)
        except InputError as error:
            notify(client, "No keyframe", str(error))
            return
        self._refresh(place)

    def show(self) -> None:
        """After keyframes have come from elsewhere."""
        self._refresh(len(self.flight) - 1)

    def _step(self, what: str, client: Any) -> None:
        place = self.place
        if place < 0 or place >= len(self.flight):
            return
        match what:
            case "Go" if client is not None:
                self._stage.fly(client, self._viewpoint(self.flight.keys[place]))
                return
            case "Set" if client is not None:
                camera = client.camera
                self.flight.replace(
                    place,
                    position=np.array(camera.position),
                    wxyz=np.array(camera.wxyz),
                    fov=float(camera.fov),
                )
            case "Earlier" | "Later":
                place = self.flight.move(place, -1 if what == "Earlier" else 1)
            case "Delete":
                self.flight.remove(place)
                place = min(place, len(self.flight) - 1)
        self._refresh(place)

    def _viewpoint(self, key: Key) -> Viewpoint:
        home = self._stage.home
        return Viewpoint(position=key.position, wxyz=key.wxyz, distance=home.distance, fov=key.fov, aspect=1e-3)

    def _edit(self, **changes: float) -> None:
        """Numbers of the chosen keyframe, typed by hand."""
        place = self.place
        if self._syncing or not 0 <= place < len(self.flight):
            return
        key = self.flight.keys[place]
        if "fov" in changes and degrees(key.fov) == round(float(self.fov.value), 1):
            return
        if changes.get("seconds") == key.seconds:
            return
        self.flight.replace(place, **changes)
        self._draw()

    def _shape(self) -> None:
        if not self._syncing:
            self.flight.change(loop=bool(self.loop.value), smoothness=float(self.smoothness.value))
            self._draw()

    def _refresh(self, place: int) -> None:
        """The list again, with one of its keyframes chosen."""
        names = tuple(str(number + 1) for number in range(len(self.flight))) or ("none",)
        with self._lock:
            self._syncing = True
            try:
                self.chosen.options = names
                self.chosen.value = names[max(place, 0)]
                self.loop.value, self.smoothness.value = self.flight.loop, self.flight.smoothness
            finally:
                self._syncing = False
        self._show_key()
        self._draw()

    def _show_key(self) -> None:
        place = self.place
        if 0 <= place < len(self.flight):
            key = self.flight.keys[place]
            self.seconds.value, self.fov.value = min(max(key.seconds, 0.05), 600.0), degrees(key.fov)

    def _draw(self) -> None:
        """Small balls, so small that one does not see that in which one stands, and the line between them."""
        scene, size = self._stage.server.scene, self._stage.home.distance / 250
        with self._lock:
            for handle in self._drawn:
                handle.remove()
            self._drawn = []
            for place, key in enumerate(self.flight.keys):
                handle = scene.add_icosphere(f"/path/{place}", radius=size, color=COLOR, position=key.position)
                handle.on_click(lambda _, place=place: self._choose(place))
                self._drawn.append(handle)
            if len(self.flight) > 1:
                path = self.flight.path(height=90, width=160, fps=24.0)
                moments = torch.linspace(0, path.duration, min(30 * len(self.flight), 1000), dtype=torch.float64)
                line = path.at(moments).centers.numpy()
                points = np.stack((line[:-1], line[1:]), 1)
                self._drawn.append(scene.add_line_segments("/path/line", points=points, colors=COLOR, line_width=2.0))

    def _choose(self, place: int) -> None:
        if place < len(self.flight):
            self.chosen.value = str(place + 1)

    def moved(self, similarity: Similarity) -> None:
        """After the world has moved."""
        self.flight.moved(similarity)
        self._draw()

    def _path(self) -> Any:
        return self.flight.path(height=int(self.height.value), width=int(self.width.value), fps=float(self.fps.value))

    def play(self, client: Any) -> None:
        """Fly a browser along the path, or stop where it is flying."""
        if client is None:
            return
        if self._play == client.client_id + 1:
            self._play = 0
            return
        try:
            path = self._path()
        except Da3gsError as error:
            notify(client, "Nothing to play", str(error))
            return
        self._play = client.client_id + 1
        began, count = time.monotonic(), max(2, int(path.duration * PREVIEW_RATE))
        cameras = path.at(torch.linspace(0, path.duration, count, dtype=torch.float64))
        poses, lenses = cameras.cam_to_world, cameras.intrinsics[:, 1, 1]
        turns = matrix_to_quaternion(poses[:, :3, :3])
        while self._play == client.client_id + 1 and client.client_id in self._stage.server.get_clients():
            share = (time.monotonic() - began) / max(path.duration, 1e-3)
            if share >= 1 and not path.loop:
                break
            index = min(int((share % 1.0) * count), count - 1)
            with client.atomic():
                client.camera.wxyz = turns[index].numpy()
                client.camera.position = poses[index, :3, 3].numpy()
                client.camera.fov = 2 * math.atan(path.height / (2 * float(lenses[index])))
            client.flush()
            time.sleep(1 / PREVIEW_RATE)
        self._play = 0

    def _saved(self, client: Any) -> None:
        if client is None:
            return
        try:
            with tempfile.TemporaryDirectory(prefix="da3gs-path-") as folder:
                file = Path(folder) / "path.json"
                path = self._path()
                nerf = self.format.value in ("nerfstudio", "supersplat")
                save_camera_path(path if nerf else path.cameras(), file, format=self.format.value)
                client.send_file_download("camera_path.json", file.read_bytes(), save_immediately=True)
        except Da3gsError as error:
            notify(client, "Cannot save", str(error))

    def _loaded(self, client: Any, file: Any) -> None:
        try:
            if len(file.content) > MOST_FILE:
                raise InputError("the file is larger than 50 MB; it is no camera path")
            with tempfile.TemporaryDirectory(prefix="da3gs-path-") as folder:
                place = Path(folder) / "path.json"
                place.write_bytes(file.content)
                path = load_camera_path(place, size=(int(self.height.value), int(self.width.value)))
            self.flight.load(path)
        except Da3gsError as error:
            notify(client, "Cannot load", str(error))
            return
        self.height.value, self.width.value, self.fps.value = path.height, path.width, path.fps
        self._refresh(0)

    def _film(self, client: Any) -> None:
        """The path as a video, to the browser that asked; one at a time."""
        if client is None:
            return
        if not self._filming.acquire(blocking=False):
            notify(client, "A video is being made", "Wait for it, or cancel it.")
            return
        try:
            self._stop.clear()
            self.bar.value, self.bar.visible, self.cancel.visible = 0.0, True, True
            look = dataclasses.replace(self._stage.look, compare="off")

            def told(done: int, total: int) -> None:
                """Show progress; stop where nobody waits any more."""
                if client.client_id not in self._stage.server.get_clients():
                    self._stop.set()  # nobody would get it
                self.bar.value = 100.0 * done / total

            content = film(self._stage.artist, look, self._path(), suffix=self.kind.value, told=told, stop=self._stop)
            client.send_file_download(f"flight{self.kind.value}", content, save_immediately=True)
        except FilmCancelledError:
            with contextlib.suppress(Warning):
                notify(client, "Cancelled", "No video was made.", "gray")
        except Da3gsError as error:
            notify(client, "No video", str(error))
        finally:
            self.bar.visible = self.cancel.visible = False
            self._filming.release()

    def _shoot(self, client: Any, what: str) -> None:
        """What this browser sees, at the size that is chosen."""
        if client is None:
            return
        stage, camera = self._stage, client.camera
        own = camera_at(camera.position, camera.wxyz, camera.fov, int(self.width.value), int(self.height.value))
        try:
            if what == "Screenshot":
                client.send_file_download("view.png", screenshot(stage.artist, stage.look, own), save_immediately=True)
            else:
                client.send_file_download(
                    "depth.npy", depth_array(stage.artist, stage.look, own), save_immediately=True
                )
        except Da3gsError as error:
            notify(client, "No picture", str(error))
