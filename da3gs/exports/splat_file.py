"""Splat files by themselves, with what their comments say of the world: axes, the direction up, unit and offset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs import __version__
from da3gs.exports.axis_conventions import WORDS
from da3gs.formats.axes import LETTERS, Frame, axes_change, frame_of, with_axes
from da3gs.formats.finite import finite_rows
from da3gs.formats.registry import load_splat_file
from da3gs.formats.splats.ply import MIP
from da3gs.gaussians import Gaussians

_UP = (0.0, -1.0, 0.0)
_LETTERS = {(1.0, 0.0, 0.0): "x", (0.0, 0.0, 1.0): "z"}  # y alone would not say whether it points up


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class BareSplats:
    """Splats without a scene, and what their file says of their world."""

    gaussians: Gaussians
    """As stored."""
    frame: Frame = "opencv"
    """Their axes."""
    up: tuple[float, float, float] | None = None
    """The direction up in these axes; None where the file does not say."""
    unit: str | None = None
    """In which lengths are measured; None where the file does not say."""
    offset: tuple[float, float, float] | None = None
    """What to add to positions to get the caller's; None where the file does not say."""
    stated: bool = False
    """Whether the file names its axes."""
    notes: tuple[str, ...] = ()
    """What reading had to make up or pass over, for people."""

    @property
    def antialiased(self) -> bool:
        """Whether the file says that its splats are for a renderer that compensates for its blur."""
        return self.gaussians.antialiased

    def turned(self, frame: Frame) -> BareSplats:
        """The same in the axes of another program."""
        source, target = LETTERS[self.frame], LETTERS[frame]
        change = axes_change(source, target)
        return dataclasses.replace(
            self,
            gaussians=with_axes(self.gaussians, source, target),
            frame=frame,
            up=_turned(change, self.up),
            offset=_turned(change, self.offset),
            stated=self.stated or source != target,
        )

    @property
    def upward(self) -> tuple[float, float, float]:
        """The direction up: what the file says, else against y, as photos are held, in OpenCV's axes."""
        if self.up is not None:
            return self.up
        against = _turned(axes_change("RDF", LETTERS[self.frame]), _UP)
        assert against is not None
        return against

    def comments(self) -> list[str]:
        """The lines of a PLY that say the same; nothing that the file did not say itself."""
        lines = []
        if self.up is not None:
            lines.append("Vertical axis: " + _LETTERS.get(self.up, " ".join(f"{x:g}" for x in self.up)))
        if self.unit is not None:
            lines.append(f"Unit: {self.unit}")
        if self.stated:
            lines.append(f"Axes: {WORDS[self.frame]}")
        if self.offset is not None and any(self.offset):
            lines.append("Offset: " + " ".join(repr(x) for x in self.offset))
        if self.antialiased:
            lines.append(MIP)
        return [f"da3gs {__version__}", *lines] if lines else []


def load_bare(path: Path | str, *, frame: Frame | None = None) -> BareSplats:
    """Read a splat file of any format with what it says of its world, as every command does.

    Splats with numbers that are not finite are left out, and ``notes`` says so.

    Args:
        path: the file.
        frame: the axes of its numbers, in place of what the file or its format says.

    Raises:
        InputError: the file is missing, broken, of another kind, or no splat of it is finite.
    """
    file = load_splat_file(path)
    keep, notes = finite_rows(file.gaussians, Path(path).name)
    gaussians = dataclasses.replace(
        file.gaussians.masked(keep) if notes else file.gaussians, antialiased=file.antialiased
    )
    axes = file.axes if frame is None else LETTERS[frame]
    known = frame_of(axes)
    change = axes_change(axes, "RDF" if known is None else axes)
    return BareSplats(
        gaussians=gaussians if known else with_axes(gaussians, axes, "RDF"),
        frame=known or "opencv",
        up=_turned(change, file.up),
        unit=file.unit,
        offset=_turned(change, file.offset),
        stated=file.stated,
        notes=(*file.notes, *notes),
    )


def _turned(
    change: Float[Tensor, "3 3"], vector: tuple[float, float, float] | None
) -> tuple[float, float, float] | None:
    """A vector in other axes."""
    if vector is None:
        return None
    x, y, z = (change @ torch.tensor(vector, dtype=torch.float64) + 0.0).tolist()
    return x, y, z
