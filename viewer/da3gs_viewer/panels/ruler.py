"""A ruler: points that people click, two by two, and the lengths between them in the scene's unit."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from da3gs.geometry.similarity import Similarity
from da3gs_viewer.editor import Editor
from da3gs_viewer.panels.picking import Picker, mark
from da3gs_viewer.stage import Stage

COLOR = (255, 200, 40)
HINT = "Lengths in the scene's unit. Its scale is set under *Level and scale*."


def unit(editor: Editor) -> str:
    """``m`` where the scene is known to be metric and has not been scaled since, else ``units``."""
    placement = editor.state.placement
    if placement is not None and abs(float(placement.scale) - 1) > 1e-9:
        return "units"
    frame = editor.scene.frame if editor.scene is not None else {"unit": editor.bare.unit}
    return "m" if frame.get("unit") == "metre" else "units"


def written(length: float, unit: str) -> str:
    """A length for people, to three digits.

    >>> written(0.12345, "m"), written(1234.5, "units"), written(2, "m")
    ('0.123 m', '1230 units', '2 m')
    """
    return f"{float(f'{length:.3g}'):g} {unit}"


class RulerPanel:
    """Lines that everybody sees; they go along when the scene is levelled or scaled."""

    def __init__(self, stage: Stage, picker: Picker) -> None:
        """Add the controls."""
        self._stage, self._picker = stage, picker
        self.points: list[Tensor] = []
        self._drawn: list[Any] = []
        self._measuring = False
        gui = stage.server.gui
        with gui.add_folder("Ruler", expand_by_default=False):
            self.said = gui.add_markdown(HINT)
            self.button = gui.add_button("Measure: click both ends", hint="Once more to stop")
            self.steps = gui.add_button_group("", ("Last point back", "Clear"))
        self.button.on_click(lambda event: self.measure(event.client))
        self.steps.on_click(lambda _: self.back() if self.steps.value == "Last point back" else self.clear())

    @property
    def lengths(self) -> list[float]:
        """Of every pair of points."""
        ends = zip(self.points[::2], self.points[1::2], strict=False)
        return [float((b - a).norm()) for a, b in ends]

    def measure(self, client: Any) -> None:
        """Take points from this browser's clicks, until it is pressed again."""
        if client is None:
            return
        if self._measuring:
            self._picker.stop()
            return
        self._picker.ask(client, lambda _, point: self.add(point), self._ended)
        self._measuring = True
        self._say()

    def add(self, point: Tensor) -> None:
        """One end of a line, or the other."""
        self.points.append(point)
        self._draw()

    def back(self) -> None:
        """Take the last point back."""
        del self.points[-1:]
        self._draw()

    def clear(self) -> None:
        """Take all back, and stop."""
        self.points.clear()
        self._picker.stop() if self._measuring else self._draw()

    def moved(self, similarity: Similarity) -> None:
        """After the world has moved."""
        self.points = [similarity.apply(point[None])[0] for point in self.points]
        self._draw()

    def _ended(self) -> None:
        self._measuring = False
        if len(self.points) % 2:
            del self.points[-1:]
        self._draw()

    def _draw(self) -> None:
        for node in self._drawn:
            with contextlib.suppress(Warning):
                node.remove()
        stage, scene, word = self._stage, self._stage.server.scene, unit(self._stage.editor)
        self._drawn = [mark(scene, f"/ruler/{i}", p, stage, COLOR) for i, p in enumerate(self.points)]
        for number, length in enumerate(self.lengths):
            ends = torch.stack(self.points[2 * number : 2 * number + 2]).numpy()
            line = scene.add_line_segments(
                f"/ruler/line{number}", ends[None].astype(np.float32), COLOR, thickness=3.0, thickness_units="screen"
            )
            self._drawn += [
                line,
                scene.add_label(f"/ruler/label{number}", written(length, word), position=ends.mean(0)),
            ]
        self._say()

    def _say(self) -> None:
        word = unit(self._stage.editor)
        rows = [f"- {written(length, word)}" for length in self.lengths]
        if self._measuring:
            rows.append("Click the other end." if len(self.points) % 2 else "Click one end; the button again stops.")
        self.said.content = "\n".join(rows) if rows else HINT
