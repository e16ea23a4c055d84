"""Editor of the splats on show: cleaning and merging, step by step, with undo."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs._tensors import Device, drawing_device
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.exports.splat_file import BareSplats
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity
from da3gs.rendering import Backend
from da3gs.scene import Provenance, Scene, SceneRecord
from da3gs.splats.pruning import NO_LIMITS, Limits, cleaned, neighbours

MAX_UNDO = 50
MAX_BASES = 4
"""Undo goes back over so many changes of the splats themselves (merging, levelling): each keeps a copy of them."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """One state of the scene that one can come back to."""

    gaussians: Gaussians
    """All splats, before cleaning."""
    rows: Provenance | None
    """Where they come from."""
    cameras: Cameras | None
    """Of the photos."""
    limits: Limits = NO_LIMITS
    """What is cleaned away."""
    placement: Similarity | None = None
    """From the world of the scene as it was opened to this one."""
    steps: tuple[dict[str, Any], ...] = ()
    """What was done before and cannot be seen in the limits any more, for scene.json."""


class Editor:
    """The scene while it is edited. What is shown is what is exported: ``gaussians``.

    All methods may be called from any thread.
    """

    def __init__(
        self, scene: Scene | BareSplats | Gaussians, *, device: Device = "auto", backend: Backend = "auto"
    ) -> None:
        """Start with everything in sight.

        Editing runs on the CPU; splats are drawn on ``device`` by ``backend``.
        """
        self.device, self.backend = drawing_device(device), backend
        self.scene = scene if isinstance(scene, Scene) else None
        if self.scene is not None:
            self.scene = self.scene.to("cpu")
        own = scene if isinstance(scene, Gaussians) else scene.gaussians
        self._said = scene if isinstance(scene, BareSplats) else BareSplats(gaussians=own)
        first = State(
            gaussians=own.to("cpu").detach(),
            rows=None if self.scene is None else self.scene.provenance,
            cameras=None if self.scene is None else self.scene.cameras.to("cpu"),
        )
        self._history, self._lock = [first], threading.RLock()
        self._around: tuple[Gaussians, Int[Tensor, "N"]] | None = None
        self._changed: list[Callable[[bool], None]] = []
        self.version = 0
        self.last_move: Similarity | None = None
        self._apply(first)

    def on_change(self, told: Callable[[bool], None]) -> None:
        """``told`` is called after every change; True where splats or cameras moved, not only came or went."""
        self._changed.append(told)

    @property
    def state(self) -> State:
        """State of now."""
        return self._history[-1]

    @property
    def gaussians(self) -> Gaussians:
        """The splats that stay."""
        return self._shown

    @property
    def bare(self) -> BareSplats:
        """The splats that stay, and what their file says of its world, as far as it still holds."""
        said = dataclasses.replace(self._said, gaussians=self._shown)
        return said if self.state.placement is None else dataclasses.replace(said, up=None, offset=None, unit=None)

    @property
    def cameras(self) -> Cameras | None:
        """Cameras of the photos, in the world of now."""
        return self.state.cameras

    @property
    def rows(self) -> Provenance | None:
        """Provenance of the splats that stay."""
        rows = self.state.rows
        return None if rows is None else rows.map(lambda t: t[self._keep])

    @property
    def keep(self) -> Bool[Tensor, "N"]:
        """Mask of the state's splats that stay."""
        return self._keep

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of splats cleaned away, by reason."""
        return {reason: number for reason, number in self._counts.items() if number}

    @property
    def megabytes(self) -> float:
        """Size of the .ply of what stays."""
        return len(self._shown) * 4 * (14 + 3 * self._shown.harmonics.shape[-2]) / 1e6

    def clean(self, limits: Limits) -> None:
        """Go by other bounds.

        Raises:
            InputError: a bound needs what the scene does not have.
        """
        with self._lock:
            if limits == self.state.limits:
                return
            self._push(dataclasses.replace(self.state, limits=limits))
        self._tell(False)

    def merge(self, budget: int, *, progress: Progress = silent) -> float:
        """At most ``budget`` splats of those that stay; returns what that costs at the photos, in dB.

        The splats that are cleaned away are gone for good then (but for ``undo``), and the bounds begin anew.

        Raises:
            InputError: there are no photos to judge by.
        """
        from da3gs.optimisation.budget import merge

        if self.scene is None or self.cameras is None:
            raise InputError("merging needs the photos of a scene folder; a bare file has none")
        with self._lock:
            state, shown, rows, cameras, steps = self.state, self._shown, self.rows, self.cameras, self._steps()
        before = len(shown)
        on, photos = self.device, self.scene.views
        fewer, rows, price = merge(
            shown.to(on), None if rows is None else rows.to(on), cameras.to(on), photos, budget,
            backend=self.backend, progress=progress,
        )  # fmt: skip
        fewer, rows = fewer.to("cpu"), None if rows is None else rows.to("cpu")
        facts = {"most": budget, "before": before, "after": len(fewer), "psnr_price": round(price, 3)}
        if len(fewer) < before:
            with self._lock:
                steps = (*steps, {"merged": facts})
                self._push(dataclasses.replace(state, gaussians=fewer, rows=rows, limits=NO_LIMITS, steps=steps))
            self._tell(False)
        return price

    def refine(self, seconds: float, *, progress: Progress = silent) -> dict[str, Any]:
        """Fit the splats that stay to the photos, as ``da3gs refine`` does; returns what it says of itself.

        Where photos that were left out got no better nothing changes; else the bounds begin anew.

        Raises:
            InputError: there are no photos to fit to.
        """
        from da3gs.pipeline.refine import refine

        with self._lock:
            state, scene, steps = self.state, self.saved(), self._steps()
        done = refine(scene.to(self.device), seconds=seconds, backend=self.backend, progress=progress).to("cpu")
        record = dict(done.record["refinement"] or {})
        if record["kept"]:
            with self._lock:
                steps = (*steps, {"refined": record})
                fresh = dataclasses.replace(state, gaussians=done.gaussians, rows=done.provenance, limits=NO_LIMITS)
                self._push(dataclasses.replace(fresh, steps=steps))
            self._tell(False)
        return record

    def place(self, similarity: Similarity) -> None:
        """Move all that stays by a similarity: levelling, scaling, turning upside down; the bounds begin anew."""
        with self._lock:
            state = self.state
            now = similarity if state.placement is None else similarity.after(state.placement)
            self._push(
                dataclasses.replace(
                    state,
                    gaussians=self._shown.transformed(similarity),
                    rows=self.rows,
                    cameras=None if state.cameras is None else state.cameras.transformed(similarity),
                    limits=NO_LIMITS,
                    placement=now,
                    steps=self._steps(),
                )
            )
            self.last_move = similarity
        self._tell(True)

    def undo(self) -> bool:
        """Take the last change back; False where there is none."""
        with self._lock:
            if len(self._history) == 1:
                return False
            before = self._history.pop()
            moved = self._moved(before, self.state)
            self._apply(self.state)
        self._tell(moved)
        return True

    def reset(self) -> None:
        """Back to the scene as it was opened; can be undone."""
        with self._lock:
            first, now = self._history[0], self.state
            if now is first:
                return
            self._push(dataclasses.replace(first))
            moved = self._moved(now, first)
        self._tell(moved)

    def around(self) -> Int[Tensor, "N"]:
        """``neighbours`` of all splats, counted once."""
        with self._lock:
            gaussians = self.state.gaussians
            if self._around is None or self._around[0] is not gaussians:
                self._around = (gaussians, neighbours(gaussians))
            return self._around[1]

    def saved(self) -> Scene:
        """The scene as it is shown, with its record telling what was done.

        Raises:
            InputError: it is a bare file.
        """
        if self.scene is None:
            raise InputError("a bare file is no scene; export the splats instead")
        with self._lock:
            state, shown, rows = self.state, self._shown, self.rows
        scene, record = self.scene, self.scene.record.copy()
        record["cleaning"] = {"limits": state.limits.as_dict(), "dropped": self.dropped, "before": list(state.steps)}
        if state.placement is not None:
            scene = _placed(scene, state.placement, record)
        assert state.cameras is not None
        return dataclasses.replace(scene, gaussians=shown, provenance=rows, cameras=state.cameras, record=record)

    def _moved(self, before: State, after: State) -> bool:
        """Whether the world is another than before; ``last_move`` says how to get there."""
        if before.placement is after.placement:
            return False
        there, back = (after.placement or _STAY), (before.placement or _STAY).inverse()
        self.last_move = there.after(back)
        return True

    def _steps(self) -> tuple[dict[str, Any], ...]:
        if self.state.limits == NO_LIMITS:
            return self.state.steps
        return (*self.state.steps, {"cleaned": {"limits": self.state.limits.as_dict(), "dropped": self.dropped}})

    def _push(self, state: State) -> None:
        self._apply(state)
        self._history.append(state)
        bases = {id(s.gaussians): None for s in reversed(self._history)}
        kept = set(list(bases)[:MAX_BASES])
        first, *rest = self._history
        self._history = [first, *[s for s in rest if id(s.gaussians) in kept][-MAX_UNDO:]]

    def _apply(self, state: State) -> None:
        around = None
        if state.limits.outliers is not None:
            if self._around is None or self._around[0] is not state.gaussians:
                self._around = (state.gaussians, neighbours(state.gaussians))
            around = self._around[1]
        limits = None if state.limits == NO_LIMITS else state.limits
        keep, counts = cleaned(state.gaussians, state.rows, limits, around=around)
        self._shown = state.gaussians if limits is None else state.gaussians.masked(keep)
        self._keep, self._counts = keep, counts
        self.version += 1

    def _tell(self, moved: bool) -> None:
        for told in self._changed:
            told(moved)


_STAY = Similarity(
    scale=torch.ones((), dtype=torch.float64),
    rotation=torch.eye(3, dtype=torch.float64),
    translation=torch.zeros(3, dtype=torch.float64),
)


def _placed(scene: Scene, placement: Similarity, record: SceneRecord) -> Scene:
    """The scene's other parts moved too; its splats and cameras are replaced by the caller."""
    scale = float(placement.scale)
    frame = scene.frame.copy()
    frame.pop("vertical_axis", None)
    frame.pop("offset", None)
    frame |= {"up": "auto", "origin": "moved in the viewer"}
    if scale != 1.0:
        frame |= {"unit": "given", "metric": False}
    frame["placed"] = {
        "scale": scale,
        "rotation": placement.rotation.tolist(),
        "translation": placement.translation.tolist(),
    }
    record["frame"] = frame
    depth = scene.depth
    return dataclasses.replace(
        scene, depth=None if depth is None else depth * scale, offset=(0.0, 0.0, 0.0), cam_to_world_given=None
    )
