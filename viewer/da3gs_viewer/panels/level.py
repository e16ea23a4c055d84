"""Level and scale: points that people click, and the similarity that follows from them."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity
from da3gs_viewer.panels.clean_panel import notify
from da3gs_viewer.panels.picking import Picker, mark
from da3gs_viewer.stage import Stage

UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
COLOR = (255, 60, 60)
HINT = "The scene is turned and scaled, and saved and exported like that."


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


class LevelPanel:
    """Buttons to level, to scale and to turn over; points are clicked in the picture."""

    def __init__(self, stage: Stage, picker: Picker) -> None:
        """Add them."""
        self._stage, self._picker, gui = stage, picker, stage.server.gui
        self._points: list[Tensor] = []
        self._marks: list[Any] = []
        self._wanted = 0
        with gui.add_folder("Level and scale", expand_by_default=False):
            self.said = gui.add_markdown(HINT)
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
        if self._wanted:
            self._picker.stop()
            return
        self._picker.ask(client, self._clicked, self._ended)
        self._wanted = wanted
        self.said.content = f"Click {wanted} points in the picture; the button again gives up."

    def _clicked(self, client: Any, point: Tensor) -> None:
        self._points.append(point)
        name = f"/marks/{len(self._points)}"
        self._marks.append(mark(client.scene, name, point, self._stage, COLOR))
        wanted = self._wanted
        self.said.content = f"{len(self._points)} of {wanted} points."
        if len(self._points) < wanted:
            return
        points = torch.stack(self._points)
        self._picker.stop()
        try:
            if wanted == 3:
                moved = levelled(points, torch.as_tensor(self._stage.home.position))
            else:
                moved = measured(points, float(self.length.value))
        except InputError as error:
            notify(client, "Not moved", str(error))
            return
        self._stage.editor.place(moved)

    def _ended(self) -> None:
        """No more clicks."""
        for one in self._marks:
            with contextlib.suppress(Warning):
                one.remove()
        self._marks, self._points, self._wanted = [], [], 0
        self.said.content = HINT
