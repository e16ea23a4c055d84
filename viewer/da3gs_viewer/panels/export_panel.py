"""Exports: what is on show as a file, sent to the browser that asked."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from da3gs.errors import Da3gsError
from da3gs.pipeline.export import SUFFIXES, export
from da3gs_viewer.panels.clean_panel import notify
from da3gs_viewer.stage import Stage

SCENE = "scene folder (.zip)"
FRAMES = ("opencv", "opengl", "supersplat")


class ExportPanel:
    """Choose a kind of file and get it."""

    def __init__(self, stage: Stage) -> None:
        """Add the controls."""
        self._stage, gui = stage, stage.server.gui
        kinds = [suffix for suffix in SUFFIXES if suffix.startswith(".")]
        if stage.editor.scene is not None:
            kinds.append(SCENE)
        with gui.add_folder("Export", expand_by_default=False):
            self._said = gui.add_markdown("")
            self.kind = gui.add_dropdown("File", kinds, initial_value=kinds[0])
            self.frame = gui.add_dropdown("Axes", FRAMES, initial_value="opencv", hint="Of the program that reads it")
            self.button = gui.add_button("Download what is shown")
        self.button.on_click(lambda event: self.download(event.client))
        self.refresh()

    def refresh(self) -> None:
        """Say how much would be written."""
        self._said.content = f"{self._stage.counts()}, as cleaned"

    def download(self, client: Any, kind: str | None = None) -> None:
        """Send a browser what is shown, as the file that is chosen, or of another kind."""
        if client is None:
            return
        self.button.disabled = True
        card = client.add_notification("Export", "Writing ...", loading=True, with_close_button=False)
        try:
            name, content = exported(
                self._stage, kind or self.kind.value, self.frame.value if kind is None else "opencv"
            )
            client.send_file_download(name, content, save_immediately=True)
        except Da3gsError as error:
            notify(client, "Cannot export", str(error))
        finally:
            card.remove()
            self.button.disabled = False


def exported(stage: Stage, kind: str, frame: Any = "opencv") -> tuple[str, bytes]:
    """Export of what is on show: its name and content.

    Raises:
        Da3gsError: it cannot be written like this.
    """
    editor, name = stage.editor, safe_name(stage)
    with tempfile.TemporaryDirectory(prefix="da3gs-export-") as folder:
        if kind == SCENE:
            target = Path(folder) / f"{name}.scene"
            editor.saved().save(target)
            packed = Path(folder) / f"{name}.scene.zip"
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
                for path in sorted(target.rglob("*")):
                    archive.write(path, path.relative_to(target.parent))
            return packed.name, packed.read_bytes()
        file = Path(folder) / f"{name}{kind}"
        export(editor.bare if editor.scene is None else editor.saved(), file, frame=frame)
        return file.name, file.read_bytes()


def safe_name(stage: Stage) -> str:
    """Name for files of this scene: of letters and digits only."""
    first = stage.names[0] if stage.names else "splats"
    return re.sub(r"[^0-9A-Za-z_-]+", "-", first).strip("-")[:40] or "scene"
