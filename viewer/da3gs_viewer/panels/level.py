"""Level and scale: points that people click, and the similarity that follows from them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity
from da3gs_viewer.panels.clean_panel import notify
from da3gs_viewer.pictures import Artist, Look
from da3gs_viewer.stage import Stage

UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
_PATCH = 9
_FOCAL = 600.0


def levelled(points: Float[Tensor, "3 3"], above: Float[Tensor, "3"]) -> Similarity:
    """The rotation about ``above`` that makes the plane through three points the ground, +y down.

    Args:
        points: on the ground.
        above: some point above it, such as a camera; it stays where it is.

    Raises:
        InputError: the points lie on one line.
    """
    a, b, c = points.double()
    normal = torch.linalg.cross(b - a, c - a)
    longest = torch.stack((b - a, c - a, c - b)).norm(dim=-1).max()
    if float(normal.norm()) < 1e-3 * float(longest) ** 2 or float(longest) == 0:
        raise InputError("the three points lie on one line; click points that span the ground")
    normal = torch.nn.functional.normalize(normal, dim=0)
    if float(normal @ (above.double() - a)) < 0:
        normal = -normal
    return about(_turn(normal, UP), above)


def measured(points: Float[Tensor, "2 3"], length: float) -> Similarity:
    """The scale about the origin at which two points are so far apart.

    Raises:
        InputError: they are one point, or the length is not above 0.
    """
    apart = float((points[1] - points[0]).double().norm())
    if not (0 < length < 1e9) or apart == 0:
        raise InputError(f"two points {apart:g} apart and a length of {length:g}; both must be above 0")
    eye = torch.eye(3, dtype=torch.float64)
    return Similarity(
        scale=torch.tensor(length / apart, dtype=torch.float64), rotation=eye, translation=torch.zeros(3).double()
    )


def flipped(center: Float[Tensor, "3"]) -> Similarity:
    """Upside down, about a point."""
    return about(torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)), center)


def about(rotation: Float[Tensor, "3 3"], center: Float[Tensor, "3"]) -> Similarity:
    """The rotation that leaves ``center`` where it is."""
    middle = center.double()
    return Similarity(
        scale=torch.ones((), dtype=torch.float64), rotation=rotation, translation=middle - rotation @ middle
    )


def _turn(start: Float[Tensor, "3"], end: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that brings one unit vector onto another (Rodrigues' formula)."""
    axis, cosine = torch.linalg.cross(start, end), float(start @ end)
    if cosine < -1 + 1e-9:
        return torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + cosine)


def hit(artist: Artist, origin: ndarray, direction: ndarray) -> Float[Tensor, "3"] | None:
    """Point where a ray meets what is on show; None where it meets nothing."""
    eye = torch.as_tensor(np.array(origin), dtype=torch.float64)
    ahead = torch.nn.functional.normalize(torch.as_tensor(np.array(direction), dtype=torch.float64), dim=0)
    middle = _PATCH / 2
    camera = Cameras(
        world_to_cam=look_at(eye, eye + ahead, UP).float(),
        intrinsics=torch.tensor([[_FOCAL, 0, middle], [0, _FOCAL, middle], [0, 0, 1]]),
        height=_PATCH,
        width=_PATCH,
    )
    with torch.inference_mode():
        picture = artist.render(camera, Look())
    place = _PATCH // 2
    if float(picture.alpha[place, place]) < 0.5:
        return None
    return eye + ahead * float(picture.depth[place, place])


class LevelPanel:
    """Buttons to level, to scale and to turn over; points are clicked in the picture."""

    def __init__(self, stage: Stage) -> None:
        """Add them."""
        self._stage, gui = stage, stage.server.gui
        self._points: list[Tensor] = []
        self._marks: list[Any] = []
        self._picking: tuple[Any, Any] | None = None
        with gui.add_folder("Level and scale", expand_by_default=False):
            self.said = gui.add_markdown("The scene is turned and scaled, and saved and exported like that.")
            self.level = gui.add_button("Level: click 3 points of the ground")
            self.length = gui.add_number("Length", 1.0, min=0.0001, max=1e6, step=0.01)
            self.scale = gui.add_button("Scale: click 2 points so far apart")
            self.flip = gui.add_button("Upside down")
        self.level.on_click(lambda event: self._pick(event.client, 3))
        self.scale.on_click(lambda event: self._pick(event.client, 2))
        self.flip.on_click(lambda _: stage.editor.place(flipped(torch.as_tensor(stage.home.position))))

    def _pick(self, client: Any, wanted: int) -> None:
        """Wait for clicks in one browser; a second press gives up."""
        if client is None:
            return
        again = self._picking is not None
        self._stop()
        if again:
            return

        def clicked(event: Any) -> None:
            """Take the click of this client."""
            self._clicked(client, wanted, event.ray_origin, event.ray_direction)

        self._picking = (client, clicked)
        client.scene.on_click()(clicked)
        self.said.content = f"Click {wanted} points in the picture; the button again gives up."

    def _clicked(self, client: Any, wanted: int, origin: Any, direction: Any) -> None:
        point = hit(self._stage.artist, np.array(origin), np.array(direction))
        if point is None:
            notify(client, "Nothing there", "Click on something solid.", "yellow")
            return
        self._points.append(point)
        self._marks.append(
            client.scene.add_icosphere(
                f"/marks/{len(self._points)}",
                radius=self._stage.home.distance / 100,
                color=(255, 60, 60),
                position=point.numpy(),
            )
        )
        self.said.content = f"{len(self._points)} of {wanted} points."
        if len(self._points) < wanted:
            return
        points = torch.stack(self._points)
        self._stop()
        try:
            if wanted == 3:
                moved = levelled(points, torch.as_tensor(self._stage.home.position))
            else:
                moved = measured(points, float(self.length.value))
        except InputError as error:
            notify(client, "Not moved", str(error))
            return
        self._stage.editor.place(moved)

    def _stop(self) -> None:
        """No more clicks."""
        if self._picking is not None:
            client, clicked = self._picking
            self._picking = None
            with contextlib.suppress(Warning, ValueError, KeyError):
                client.scene.remove_click_callback(clicked)
            for mark in self._marks:
                with contextlib.suppress(Warning):
                    mark.remove()
        self._marks, self._points = [], []
        self.said.content = "The scene is turned and scaled, and saved and exported like that."
