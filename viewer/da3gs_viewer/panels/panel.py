"""The panel beside the picture: what is drawn, and the other parts below it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from da3gs_viewer.panels.clean_panel import CleanPanel
from da3gs_viewer.panels.export_panel import ExportPanel
from da3gs_viewer.panels.level import LevelPanel
from da3gs_viewer.panels.path_panel import PathPanel
from da3gs_viewer.panels.photos_panel import PhotosPanel

if TYPE_CHECKING:
    from da3gs_viewer.app import Viewer

KEYS = {
    "H": "back to the first photo",
    "N": "next photo",
    "B": "photo before",
    "F": "photo frustums on and off",
    "V": "next mode: colour, depth, normal, ...",
    "C": "compare with the photo: off, wipe, beside",
    "K": "keyframe of the camera path here",
    "P": "play the camera path, or stop",
    "Z": "undo",
}
HELP = """
**Mouse** drag: turn. Right drag: move. Wheel: nearer, further. Double click: turn round that point.

**Keys** WASD: walk. Q, E: down, up. Arrows: look round.

"""


class Panel:
    """The controls of one viewer. Texts from files appear in plain fields only, never as markup."""

    def __init__(self, viewer: Viewer) -> None:
        """Add the controls to the viewer's server."""
        self._viewer = viewer
        self._add_view()
        self.photos = PhotosPanel(viewer)
        self.clean = CleanPanel(viewer)
        self.path = PathPanel(viewer)
        self.level = LevelPanel(viewer)
        self.export = ExportPanel(viewer)
        self._add_help()

    def _add_view(self) -> None:
        viewer, gui = self._viewer, self._viewer.server.gui
        with gui.add_folder("View"):
            self.mode = gui.add_dropdown("Mode", viewer.artist.modes, initial_value="colour")
            if viewer.names:
                self.compare = gui.add_dropdown(
                    "Compare",
                    ("off", "wipe", "beside"),
                    initial_value="off",
                    hint="The photo with the render, where you stand at its camera",
                )
                self.wipe = gui.add_slider("Wipe", min=0.0, max=1.0, step=0.01, initial_value=0.5)
                self.frustums = gui.add_checkbox("Photo frustums", initial_value=True)
                self.frustums.on_update(
                    lambda _: viewer.frustums.show(viewer.server.get_clients(), self.frustums.value)
                )
                for handle in (self.compare, self.wipe):
                    handle.on_update(lambda _: self._look())
            self.background = gui.add_rgb("Background", initial_value=(0, 0, 0))
            self.moving = gui.add_dropdown(
                "While moving",
                ("auto", "browser", "server"),
                initial_value="auto",
                hint="Browser: its own splats, fewer and in one colour each. Server: small exact pictures",
            )
            most = min(len(viewer.editor.state.gaussians), viewer.max_splats)
            if most > 1:
                self.limit = gui.add_slider(
                    "Splats in the browser", min=min(1000, most - 1), max=most, step=1, initial_value=most
                )
                self.limit.on_update(lambda _: self._limit())
            link = gui.add_button("Link to this view")
            link.on_click(lambda event: self.show_link(event.client))
        for handle in (self.mode, self.background):
            handle.on_update(lambda _: self._look())
        self.moving.on_update(lambda _: setattr(viewer, "moving", self.moving.value))

    def _look(self) -> None:
        photos = bool(self._viewer.names)
        self._viewer.change_look(
            dataclasses.replace(
                self._viewer.look,
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
            self._viewer.change_limit(wanted)

    def show_link(self, client: Any) -> None:
        """The page's address with where this browser's camera is."""
        if client is None:
            return
        with client.gui.add_modal("Link to this view") as modal:
            client.gui.add_text("Address", camera_link(self._viewer.url, client.camera))
            client.gui.add_button("Close").on_click(lambda _: modal.close())

    def refresh(self) -> None:
        """Say what the editor shows."""
        self.clean.refresh()
        self.export.refresh()

    def _add_help(self) -> None:
        viewer, gui = self._viewer, self._viewer.server.gui

        def go(client: Any, step: int | None) -> None:
            """Stand at a photo's camera."""
            if client is None:
                return
            if step is None:
                viewer.fly(client, viewer.home)
            elif viewer.names:
                viewer.stand_at(client, (viewer.look.photo + step) % len(viewer.names))

        def cycle(handle: Any) -> None:
            """Choose the next option."""
            options = list(handle.options)
            handle.value = options[(options.index(handle.value) + 1) % len(options)]

        actions: dict[str, Any] = {
            "H": lambda event: go(event.client, None),
            "V": lambda _: cycle(self.mode),
            "Z": lambda _: viewer.editor.undo(),
        }
        if viewer.names:
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
