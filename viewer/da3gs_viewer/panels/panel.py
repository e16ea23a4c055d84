"""The panel beside the picture: what is drawn, and the other parts below it."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlencode

from da3gs_viewer.panels.clean_panel import CleanPanel
from da3gs_viewer.panels.export_panel import ExportPanel
from da3gs_viewer.panels.level import LevelPanel
from da3gs_viewer.panels.next_panel import NextPanel
from da3gs_viewer.panels.path_panel import PathPanel
from da3gs_viewer.panels.photos_panel import PhotosPanel
from da3gs_viewer.panels.picking import Picker
from da3gs_viewer.panels.ruler import RulerPanel
from da3gs_viewer.stage import Stage

KEYS = {
    "H": "back to the first photo",
    "N": "next photo",
    "B": "photo before",
    "F": "photo frustums on and off",
    "V": "next mode: colour, depth, normal, ...",
    "C": "compare with the photo: off, wipe, beside",
    "K": "keyframe of the camera path here",
    "P": "play the camera path, or stop",
    "M": "measure: click both ends",
    "Z": "undo",
}
HELP = """
**Mouse** drag: turn. Right drag: move. Wheel: nearer, further. Double click: turn round that point.

**Keys** WASD: walk. Q, E: down, up. Arrows: look round.

"""


class Panel:
    """The controls of one stage. Texts from files appear in plain fields only, never as markup."""

    def __init__(self, stage: Stage) -> None:
        """Add the controls to the stage's server."""
        self._stage = stage
        self._add_view()
        self.photos = PhotosPanel(stage)
        self.clean = CleanPanel(stage)
        self.path = PathPanel(stage)
        picker = Picker(stage)
        self.level = LevelPanel(stage, picker)
        self.ruler = RulerPanel(stage, picker)
        self.export = ExportPanel(stage)
        self.next = NextPanel(stage, self.clean, self.path, self.export)
        self._add_help()

    def _add_view(self) -> None:
        stage, gui = self._stage, self._stage.server.gui
        with gui.add_folder("View"):
            self.mode = gui.add_dropdown("Mode", stage.artist.modes, initial_value="colour")
            if stage.names:
                self.compare = gui.add_dropdown(
                    "Compare",
                    ("off", "wipe", "beside"),
                    initial_value="off",
                    hint="The photo with the render, where you stand at its camera",
                )
                self.wipe = gui.add_slider("Wipe", min=0.0, max=1.0, step=0.01, initial_value=0.5)
                self.frustums = gui.add_checkbox("Photo frustums", initial_value=True)
                self.frustums.on_update(lambda _: stage.frustums.show(stage.server.get_clients(), self.frustums.value))
                for handle in (self.compare, self.wipe):
                    handle.on_update(lambda _: self._look())
            self.background = gui.add_rgb("Background", initial_value=(0, 0, 0))
            self.moving = gui.add_dropdown(
                "While moving",
                ("auto", "browser", "server"),
                initial_value="auto",
                hint="Browser: its own splats, fewer and in one colour each. Server: small exact pictures",
            )
            most = min(len(stage.editor.state.gaussians), stage.max_splats)
            if most > 1:
                self.limit = gui.add_slider(
                    "Splats in the browser", min=min(1000, most - 1), max=most, step=1, initial_value=most
                )
                self.limit.on_update(lambda _: self._limit())
            link = gui.add_button("Link to this view")
            link.on_click(lambda event: self.show_link(event.client))
        for handle in (self.mode, self.background):
            handle.on_update(lambda _: self._look())
        self.moving.on_update(lambda _: setattr(stage, "moving", self.moving.value))

    def _look(self) -> None:
        photos = bool(self._stage.names)
        self._stage.change_look(
            dataclasses.replace(
                self._stage.look,
                mode=self.mode.value,
                background=tuple(value / 255 for value in self.background.value),
                compare=self.compare.value if photos else "off",
                wipe=self.wipe.value if photos else 0.5,
            )
        )

    def _limit(self) -> None:
        import time

        wanted = int(self.limit.value)
        time.sleep(0.2)  # while the slider moves, only where it comes to rest counts
        if wanted == int(self.limit.value):
            self._stage.change_limit(wanted)

    def show_link(self, client: Any) -> None:
        """The page's address with where this browser's camera is."""
        if client is None:
            return
        with client.gui.add_modal("Link to this view") as modal:
            client.gui.add_text("Address", camera_link(self._stage.url, client.camera))
            client.gui.add_button("Close").on_click(lambda _: modal.close())

    def refresh(self) -> None:
        """Say what the editor shows."""
        self.clean.refresh()
        self.export.refresh()

    def _add_help(self) -> None:
        stage, gui = self._stage, self._stage.server.gui

        def go(client: Any, step: int | None) -> None:
            """Stand at a photo's camera."""
            if client is None:
                return
            if step is None:
                stage.fly(client, stage.home)
            elif stage.names:
                stage.stand_at(client, (stage.look.photo + step) % len(stage.names))

        def cycle(handle: Any) -> None:
            """Choose the next option."""
            options = list(handle.options)
            handle.value = options[(options.index(handle.value) + 1) % len(options)]

        actions: dict[str, Any] = {
            "H": lambda event: go(event.client, None),
            "V": lambda _: cycle(self.mode),
            "Z": lambda _: stage.editor.undo(),
            "M": lambda event: self.ruler.measure(event.client),
        }
        if stage.names:
            actions |= {
                "N": lambda event: go(event.client, 1),
                "B": lambda event: go(event.client, -1),
                "F": lambda _: setattr(self.frustums, "value", not self.frustums.value),
                "C": lambda _: cycle(self.compare),
            }
        for key, action in actions.items():
            word = KEYS[key]
            gui.add_command(word[:1].upper() + word[1:], hotkey=key).on_trigger(action)
        rows = "\n".join(f"- **{key}** {KEYS[key]}" for key in KEYS if key in actions or key in "KP")
        with gui.add_folder("Help", expand_by_default=False):
            gui.add_markdown(HELP + rows)


def camera_link(url: str, camera: Any) -> str:
    """An address that opens with this camera."""

    def numbers(values: Any) -> str:
        """A row of numbers, short."""
        return ",".join(f"{float(value):.6g}" for value in values)

    query = urlencode(
        {
            "initialCameraPosition": numbers(camera.position),
            "initialCameraLookAt": numbers(camera.look_at),
            "initialCameraUp": numbers(camera.up_direction),
            "initialCameraFov": f"{float(camera.fov):.6g}",
        },
        safe=",",
    )
    joint = "&" if "?" in url else "/?"
    return f"{url}{joint}{query}"
