"""What a splat file by itself says of its world: axes, the direction up, unit and offset, in the comments of a PLY."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from da3gs import __version__
from da3gs.exports.axis_conventions import WORDS
from da3gs.formats.axes import LETTERS, Frame, axes_change, frame_of, with_axes
from da3gs.formats.ply import ply_comments
from da3gs.formats.registry import format_of_content, load_splat_file
from da3gs.gaussians import Gaussians

_FRAMES: dict[str, Frame] = {"opencv": "opencv", "opengl": "opengl", "supersplat": "supersplat"}
_UP = (0.0, -1.0, 0.0)


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
    antialiased: bool = False
    """Whether the file says that its splats are for a renderer that compensates for its blur."""

    def turned(self, frame: Frame) -> BareSplats:
        """The same in the axes of another program."""
        source, target = LETTERS[self.frame], LETTERS[frame]
        change = axes_change(source, target)

        def moved(triple: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
            """A vector in the new axes."""
            if triple is None:
                return None
            x, y, z = (change @ torch.tensor(triple, dtype=torch.float64) + 0.0).tolist()
            return x, y, z

        return dataclasses.replace(
            self,
            gaussians=with_axes(self.gaussians, source, target),
            frame=frame,
            up=moved(self.up),
            offset=moved(self.offset),
            stated=self.stated or source != target,
        )

    @property
    def upward(self) -> tuple[float, float, float]:
        """The direction up: what the file says, else against y, as photos are held, in OpenCV's axes."""
        if self.up is not None:
            return self.up
        x, y, z = (axes_change("RDF", LETTERS[self.frame]) @ torch.tensor(_UP, dtype=torch.float64) + 0.0).tolist()
        return x, y, z

    def comments(self) -> list[str]:
        """The lines of a PLY that say the same; nothing that the file did not say itself."""
        lines = []
        if self.up is not None:
            lines.append("Vertical axis: " + " ".join(f"{x:g}" for x in self.up))
        if self.unit is not None:
            lines.append(f"Unit: {self.unit}")
        if self.stated:
            lines.append(f"Axes: {WORDS[self.frame]}")
        if self.offset is not None and any(self.offset):
            lines.append("Offset: " + " ".join(repr(x) for x in self.offset))
        return [f"da3gs {__version__}", *lines] if lines else []


def load_bare(path: Path | str, *, frame: Frame | None = None) -> BareSplats:
    """Read a splat file of any format with what it says of its world.

    Of a PLY's comments only those that da3gs writes are taken over: others may hold anything, such as the folder that
    somebody worked in.

    Args:
        path: the file.
        frame: the axes of its numbers, in place of what the file or its format says.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    file = load_splat_file(path)
    known = frame or frame_of(file.axes)
    bare = BareSplats(
        gaussians=file.gaussians if known else with_axes(file.gaussians, file.axes, "RDF"),
        frame=known or "opencv",
        stated=file.stated,
        antialiased=file.antialiased,
    )
    if not format_of_content(path).suffix.endswith(".ply"):
        return bare
    comments = ply_comments(path)
    unit, axes = _said(comments, "Unit"), _said(comments, "Axes")
    named = None if axes is None else _FRAMES.get(axes.partition(" ")[0].lower())
    return dataclasses.replace(
        bare,
        frame=frame or named or "opencv",
        up=_triple(_said(comments, "Vertical axis")),
        unit=unit if unit is not None and re.fullmatch(r"[a-z]{1,20}", unit) else None,
        offset=_triple(_said(comments, "Offset")),
        stated=named is not None,
    )


def _said(comments: Sequence[str], word: str) -> str | None:
    """What follows ``word:`` in the first comment that begins like this."""
    return next((line[len(word) + 1 :].strip() for line in comments if line.startswith(f"{word}:")), None)


def _triple(text: str | None) -> tuple[float, float, float] | None:
    """Three finite numbers; None where it is anything else."""
    try:
        x, y, z = map(float, (text or "").split())
    except ValueError:
        return None
    return (x, y, z) if all(map(math.isfinite, (x, y, z))) else None
