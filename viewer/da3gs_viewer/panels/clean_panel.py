"""Cleaning: sliders whose state is what the exports write, with undo."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch

from da3gs.errors import Da3gsError, InputError
from da3gs.splats.pruning import NO_LIMITS, Limits, parse_photos
from da3gs_viewer.stage import Stage
from da3gs_viewer.text import plain

MOST_EDGE = 0.5
SAMPLES = 1_000_000
REASONS = {"opacity": "faint", "confidence": "unsure", "edge": "at depth edges", "size": "large", "crop": "outside"}
NEUTRAL: dict[str, Any] = {
    "opacity": 0.0, "confidence": 0.0, "edge": MOST_EDGE, "sky": False, "size": 0.0, "outliers": 0, "crop": False,
    "photos": "",
}  # fmt: skip
"""Where every control stands while nothing is cleaned away."""


class CleanPanel:
    """The sliders. Those that need to know where splats come from are there only for scenes that know it."""

    def __init__(self, stage: Stage) -> None:
        """Add them."""
        self._stage, self._turn, self._lock = stage, 0, threading.Lock()
        self._settings: dict[Limits, dict[str, Any]] = {NO_LIMITS: dict(NEUTRAL)}
        self._base: object = None
        self._quantiles: dict[str, torch.Tensor] = {}
        gui, rows = stage.server.gui, stage.editor.state.rows
        self.handles: dict[str, Any] = {}
        with gui.add_folder("Clean", expand_by_default=False):
            self._counts = gui.add_markdown("")
            add = self.handles
            add["opacity"] = gui.add_slider("Least opacity", min=0.0, max=1.0, step=0.01, initial_value=0.0)
            if rows is not None and bool(rows.confidence.isfinite().any()):
                add["confidence"] = gui.add_slider(
                    "Least certain %", min=0.0, max=95.0, step=0.5, initial_value=0.0, hint="So many go"
                )
            if rows is not None:
                add["edge"] = gui.add_slider(
                    "Depth edge", min=0.005, max=MOST_EDGE, step=0.005, initial_value=MOST_EDGE,
                    hint="Hanging in a larger jump in depth, as a share of it; off at the right end",
                )  # fmt: skip
                if bool(rows.sky.any()):
                    add["sky"] = gui.add_checkbox("Drop sky", initial_value=False)
            add["size"] = gui.add_slider(
                "Largest %", min=0.0, max=20.0, step=0.1, initial_value=0.0, hint="So many of the largest go"
            )
            add["outliers"] = gui.add_slider(
                "Least neighbours", min=0, max=100, step=1, initial_value=0, hint="Flyers have few"
            )
            add["crop"] = gui.add_checkbox("Crop to box", initial_value=False)
            low, high = self._bounds()
            self.low = gui.add_vector3("From", initial_value=low, step=0.05, visible=False)
            self.high = gui.add_vector3("To", initial_value=high, step=0.05, visible=False)
            if rows is not None and stage.names:
                add["photos"] = gui.add_text(
                    "Only photos", initial_value="", hint="Names or numbers from 0 with commas between"
                )
            steps = gui.add_button_group("", ("Undo", "Reset"))
            self._add_budget(gui)
        for handle in (*self.handles.values(), self.low, self.high):
            handle.on_update(lambda _: self._moved())
        steps.on_click(lambda _: stage.editor.undo() if steps.value == "Undo" else stage.editor.reset())
        self.refresh()

    def _add_budget(self, gui: Any) -> None:
        stage, count = self._stage, len(self._stage.editor.state.gaussians)
        if not stage.names or count < 2:
            return
        self.budget = gui.add_slider(
            "Budget", min=1, max=count, step=1, initial_value=count, hint="At most so many splats: neighbours merge"
        )
        self.merge = gui.add_button("Merge down to the budget")

        @self.merge.on_click
        def _(event: Any) -> None:
            self.merge.disabled = True
            try:
                price = stage.editor.merge(int(self.budget.value))
            except Da3gsError as error:
                notify(event.client, "Cannot merge", str(error))
            else:
                left = len(stage.editor.gaussians)
                notify(event.client, "Merged", f"{left:,} splats; that costs {price:.2f} dB at the photos", "green")
            finally:
                self.merge.disabled = False

    def _bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        means = self._stage.editor.state.gaussians.means
        means = means[means.isfinite().all(-1)][:: 1 + len(means) // SAMPLES]
        if not len(means):
            return (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)
        low, high = means.amin(0), means.amax(0)
        pad = 0.01 * (high - low).clamp(min=1e-3)
        return tuple((low - pad).tolist()), tuple((high + pad).tolist())

    def _quantile(self, what: str, share: float) -> float:
        """The value that this share of all splats is below."""
        state = self._stage.editor.state
        with self._lock:
            if self._base is not state.gaussians:
                self._base, self._quantiles = state.gaussians, {}
            if what not in self._quantiles:
                values = state.gaussians.scales.amax(-1)
                if what == "confidence" and state.rows is not None:
                    values = state.rows.confidence.float()
                self._quantiles[what] = values[values.isfinite()].sort().values
            ordered = self._quantiles[what]
        return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])

    def limits(self) -> Limits:
        """Limits that the sliders say.

        Raises:
            InputError: the box is empty, or a photo is not there.
        """
        value = {**NEUTRAL, **{name: handle.value for name, handle in self.handles.items()}}
        crop, photos = None, value["photos"].strip()
        if value["crop"]:
            crop = tuple(float(x) for x in (*self.low.value, *self.high.value))
        size = self._quantile("size", 1 - value["size"] / 100) if value["size"] > 0 else None
        limits = Limits(
            min_opacity=float(value["opacity"]) or None,
            min_confidence=self._quantile("confidence", value["confidence"] / 100) if value["confidence"] > 0 else None,
            edge=None if value["edge"] >= MOST_EDGE else float(value["edge"]),
            sky=bool(value["sky"]),
            max_size=size if size is None or size > 0 else None,
            outliers=int(value["outliers"]) or None,
            crop=crop,  # type: ignore[arg-type]
            views=parse_photos(photos, self._stage.names) if photos else None,
        )
        self._settings.setdefault(limits, value)
        return limits

    def _moved(self) -> None:
        """Go by the sliders once they rest; called from many threads."""
        self.low.visible = self.high.visible = bool(self.handles["crop"].value)
        with self._lock:
            self._turn += 1
            turn = self._turn
        time.sleep(0.08)
        if turn != self._turn:
            return
        try:
            self._stage.editor.clean(self.limits())
        except InputError as error:
            self._counts.content = f"**{plain(str(error), 200)}**"
            return
        self._show_box()

    def _show_box(self) -> None:
        scene, crop = self._stage.server.scene, self._stage.editor.state.limits.crop
        low, high = np.array((crop or (0.0,) * 6)[:3]), np.array((crop or (1e-9,) * 6)[3:])
        scene.add_box(
            "/crop",
            color=(255, 255, 255),
            dimensions=tuple(float(x) for x in high - low),
            position=(low + high) / 2,
            wireframe=True,
            visible=crop is not None,
        )

    def refresh(self) -> None:
        """Say what stays and what goes, and put the sliders where the editor is (after undo, merging and so on)."""
        editor = self._stage.editor
        gone = ", ".join(f"{number:,} {REASONS.get(reason, reason)}" for reason, number in editor.dropped.items())
        self._counts.content = self._stage.counts() + (f"; without {gone}" if gone else "")
        wanted = self._settings.get(editor.state.limits)
        if wanted is None or editor.state.limits == self._now():
            return
        for name, handle in self.handles.items():
            if handle.value != wanted[name]:
                handle.value = wanted[name]
        self._show_box()

    def _now(self) -> Limits | None:
        try:
            return self.limits()
        except InputError:
            return None


def notify(client: Any, title: str, body: str, color: str = "red") -> None:
    """A card in one browser; the body is plain text there."""
    if client is not None:
        client.add_notification(title, body, color=color, auto_close_seconds=12.0)
