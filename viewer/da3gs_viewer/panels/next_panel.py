"""One button for each next thing: refine, clean, path, export, share; the panels below have the rest."""

from __future__ import annotations

import threading
from typing import Any

from da3gs.errors import Da3gsError
from da3gs_viewer.flight import Key
from da3gs_viewer.panels.clean_panel import CleanPanel, notify
from da3gs_viewer.panels.export_panel import ExportPanel
from da3gs_viewer.panels.path_panel import PathPanel
from da3gs_viewer.stage import Stage

REFINE_SECONDS = 30.0
NEIGHBOURS = 12
"""Splats with fewer about them are taken for flyers."""
MOST_KEYS = 8
HINT = (
    "Refine: half a minute of fitting to the photos. Clean: flyers go. Path: a flight past the photos. "
    "Export: what is shown as a file. Share: one page for anybody"
)


class NextPanel:
    """The row of buttons; each does the usual thing at once and says how to go on or back."""

    def __init__(self, stage: Stage, clean: CleanPanel, path: PathPanel, export: ExportPanel) -> None:
        """Add it above everything else; what takes photos is there only where there are some."""
        self._stage, self._clean, self._path, self._export = stage, clean, path, export
        self._refining = threading.Lock()
        steps = ("Refine", "Clean", "Path", "Export", "Share") if stage.names else ("Clean", "Export", "Share")
        self.row = stage.server.gui.add_button_group("Next", steps, hint=HINT, order=-0.5)
        self.row.on_click(lambda event: self.go(str(self.row.value), event.client))

    def go(self, step: str, client: Any) -> None:
        """Take a step for a browser."""
        if client is None:
            return
        match step:
            case "Refine":
                self._refine(client)
            case "Clean":
                self._clean.handles["outliers"].value = NEIGHBOURS
                notify(client, "Flyers are gone", "Z takes it back; more bounds under Clean.", "green")
            case "Path":
                self._fly(client)
            case "Export":
                self._export.download(client)
            case "Share":
                self._export.download(client, ".html")

    def _refine(self, client: Any) -> None:
        if not self._refining.acquire(blocking=False):
            notify(client, "Still refining", "One at a time.", "yellow")
            return
        card = client.add_notification("Refine", "Fitting the splats ...", loading=True, with_close_button=False)
        try:
            record = self._stage.editor.refine(REFINE_SECONDS)
            if record["kept"]:
                notify(client, "Refined", "Z takes it back; Export writes it.", "green")
            else:
                notify(client, "Nothing changed", "Photos that were left out for a trial got no better.", "yellow")
        except Da3gsError as error:
            notify(client, "Cannot refine", str(error))
        finally:
            card.remove()
            self._refining.release()

    def _fly(self, client: Any) -> None:
        """Keyframes at the photos where there are none yet, and off."""
        flight, places = self._path.flight, self._stage.viewpoints
        if not len(flight):
            step = max(1, -(-len(places) // MOST_KEYS))
            for place in places[::step]:
                flight.add(Key(position=place.position, wxyz=place.wxyz, fov=place.fov), len(flight) - 1)
            self._path.show()
        self._path.play(client)
