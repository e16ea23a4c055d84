"""The photos: a list with the worst shown first, thumbnails, and ways to stand where they were taken."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from da3gs_viewer.stage import Stage

PAGE = 6
"""So many thumbnails at once."""


class PhotosPanel:
    """The list of photos. Names come from files: they appear in plain fields only."""

    def __init__(self, stage: Stage) -> None:
        """Add it, where there are photos."""
        self._stage = stage
        self.scores = photo_scores(stage)
        self.order = sorted(range(len(stage.names)), key=lambda i: (self.scores[i] or math.inf, i))
        self._page = 0
        if not stage.names:
            return
        gui = stage.server.gui
        self._labels = [self._label(index) for index in range(len(stage.names))]
        with gui.add_folder("Photos"):
            listed = [self._labels[index] for index in self.order]
            self.photo = gui.add_dropdown("Photo", listed, initial_value=self._labels[0], hint="Worst shown first")
            self._thumbnail = gui.add_image(stage.thumbnail(0), format="jpeg")
            stand = gui.add_button("Stand here", hint="Or click a frustum")
            steps = gui.add_button_group("", ("Previous", "Next"))
            with gui.add_folder("Worst first", expand_by_default=False):
                self._sheet: list[tuple[Any, Any]] = []
                for row in range(min(PAGE, len(self.order))):
                    image = gui.add_image(stage.thumbnail(self.order[row]), format="jpeg")
                    button = gui.add_button(self._labels[self.order[row]])
                    button.on_click(lambda event, row=row: self._go(event.client, self._shown(row)))
                    self._sheet.append((image, button))
                if len(self.order) > PAGE:
                    pages = gui.add_button_group("", ("Better", "Worse"))
                    pages.on_click(lambda _: self._turn(1 if pages.value == "Better" else -1))
        self.photo.on_update(lambda _: self.choose(self._labels.index(self.photo.value)))
        stand.on_click(lambda event: self._go(event.client, stage.look.photo))

        @steps.on_click
        def _(event: Any) -> None:
            step = 1 if steps.value == "Next" else -1
            self._go(event.client, (stage.look.photo + step) % len(stage.names))

    def _label(self, index: int) -> str:
        score = self.scores[index]
        said = "" if score is None else f" · {score:.1f} dB"
        return f"{index + 1}. {self._stage.names[index]}{said}"

    def _shown(self, row: int) -> int:
        return self.order[(self._page * PAGE + row) % len(self.order)]

    def _turn(self, step: int) -> None:
        """Other thumbnails."""
        self._page = (self._page + step) % -(-len(self.order) // PAGE)
        for row, (image, button) in enumerate(self._sheet):
            index = self._shown(row)
            image.image, button.label = self._stage.thumbnail(index), self._labels[index]

    def _go(self, client: Any, index: int) -> None:
        if client is not None:
            self._stage.stand_at(client, index)

    def choose(self, index: int) -> None:
        """Make this the photo that is compared."""
        stage = self._stage
        if not stage.names:
            return
        if stage.look.photo != index:
            self._thumbnail.image = stage.thumbnail(index)
            stage.change_look(dataclasses.replace(stage.look, photo=index))
        if self.photo.value != self._labels[index]:
            self.photo.value = self._labels[index]


def photo_scores(stage: Stage) -> list[float | None]:
    """PSNR of each photo as scene.json has it; None where it does not."""
    scene = stage.editor.scene
    if scene is None:
        return []
    psnr = scene.record.get("psnr")
    values = psnr.get("input") if isinstance(psnr, dict) else None
    if not isinstance(values, list) or len(values) != len(stage.names):
        return [None] * len(stage.names)
    return [float(v) if isinstance(v, int | float) and math.isfinite(v) else None for v in values]
