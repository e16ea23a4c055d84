"""The panel beside the picture: counts, what to show, the photos, the exact picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from da3gs.errors import Da3gsError

if TYPE_CHECKING:
    from da3gs_viewer.app import Viewer


class Panel:
    """The controls of one viewer. Texts from files appear in plain fields only, never as markup."""

    def __init__(self, viewer: Viewer) -> None:
        """Add the controls to the viewer's server."""
        self._viewer = viewer
        self._add_scene()
        if viewer.names:
            self._add_photos()
        self._add_picture()

    def _add_scene(self) -> None:
        viewer, gui = self._viewer, self._viewer.server.gui
        with gui.add_folder("Scene"):
            self._counts = gui.add_markdown("")
            most = min(len(viewer.gaussians), viewer.max_splats)
            self.limit = gui.add_slider(
                "Splats shown",
                min=min(1000, most),
                max=most,
                step=1,
                initial_value=most,
                hint="Fewer move faster where the browser has no graphics card",
            )
            self.background = gui.add_rgb("Background", initial_value=(0, 0, 0))
            if viewer.names:
                self.frustums = gui.add_checkbox("Photo frustums", initial_value=True)
                self.frustums.on_update(
                    lambda _: viewer.frustums.show(viewer.server.get_clients(), self.frustums.value)
                )
        self.limit.on_update(lambda _: self._redraw())
        self.background.on_update(lambda _: viewer.set_background(_fractions(self.background.value)))

    def _redraw(self) -> None:
        wanted = int(self.limit.value)
        time.sleep(0.2)  # while the slider moves, only where it comes to rest is drawn
        if wanted == int(self.limit.value):
            self._viewer.draw(wanted)

    def show_counts(self) -> None:
        """Say how many splats and photos there are."""
        photos = f", {len(self._viewer.names)} photos" if self._viewer.names else ""
        self._counts.content = f"{self._viewer.shown:,} of {len(self._viewer.gaussians):,} splats shown{photos}"

    def _add_photos(self) -> None:
        viewer, gui = self._viewer, self._viewer.server.gui
        labels = [f"{index + 1}. {name}" for index, name in enumerate(viewer.names)]
        with gui.add_folder("Photos"):
            self.photo = gui.add_dropdown("Photo", labels, initial_value=labels[0])
            self._thumbnail = gui.add_image(viewer.thumbnail(0), format="jpeg")
            stand = gui.add_button("Stand here", hint="Or click a frustum")
            steps = gui.add_button_group("", ("Previous", "Next"))

        def go(client: Any, index: int) -> None:
            self.photo.value = labels[index]
            if client is not None:
                viewer.stand_at(client, index)

        @self.photo.on_update
        def _(_: Any) -> None:
            self._thumbnail.image = viewer.thumbnail(labels.index(self.photo.value))

        stand.on_click(lambda event: go(event.client, labels.index(self.photo.value)))

        @steps.on_click
        def _(event: Any) -> None:
            step = 1 if steps.value == "Next" else -1
            go(event.client, (labels.index(self.photo.value) + step) % len(labels))

    def _add_picture(self) -> None:
        gui = self._viewer.server.gui
        with gui.add_folder("Exact picture"):
            self._said = gui.add_markdown("All splats with view-dependent colour, as `da3gs render` makes it.")
            button = gui.add_button("Render here")

            @button.on_click
            def _(event: Any) -> None:
                if event.client is not None:
                    self._render(event.client)

    def _render(self, client: Any) -> None:
        start = time.perf_counter()
        try:
            picture = self._viewer.render(client)
        except Da3gsError as error:
            client.add_notification("Cannot render", str(error), color="red")
            return
        seconds = time.perf_counter() - start
        height, width = picture.shape[:2]
        with client.gui.add_modal(f"Exact picture, {width} x {height}, {seconds:.2f} s") as modal:
            client.gui.add_image(picture, format="jpeg", jpeg_quality=92)
            client.gui.add_button("Close").on_click(lambda _: modal.close())


def _fractions(color: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in color)
    return red, green, blue
