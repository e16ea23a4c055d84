"""Records shared by all splat formats: what a file holds, what is written beside the splats, and a format itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from da3gs.gaussians import Gaussians

Statement = Literal["antialiased", "up", "unit", "offset"]
"""What a file may say of its splats, beside their axes."""

SpzVersion = Literal[3, 4]
"""Versions of ``.spz`` that can be written."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SplatFile:
    """Splats as a file holds them, and what it says of them."""

    gaussians: Gaussians
    """In the axes of the file."""
    axes: str = "RDF"
    """Directions of x, y and z in letters (``axes.axes_words``)."""
    reason: str = "the axes that this format is written in"
    """Why they are taken to be these."""
    stated: bool = False
    """Whether the file itself states its axes."""
    antialiased: bool = False
    """Whether the file says that its splats are for a renderer that compensates for its blur (Mip-Splatting)."""
    up: tuple[float, float, float] | None = None
    """The direction up, in the axes of the file; None where it does not say."""
    unit: str | None = None
    """In which lengths are measured; None where the file does not say."""
    offset: tuple[float, float, float] | None = None
    """What to add to positions to get the caller's: what the file states, and what reading took off; None for neither.
    """
    notes: tuple[str, ...] = ()
    """What reading had to make up or pass over, for people."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PageView:
    """One camera that a page offers to stand at."""

    name: str
    """What the list calls it; any text."""
    height: int
    """Of the picture, in pixels."""
    width: int
    """Of the picture, in pixels."""
    intrinsics: Float[np.ndarray, "3 3"]
    """In pixels of that size."""
    cam_to_world: Float[np.ndarray, "4 4"]
    """OpenCV axes, in the world of the splats."""
    distance: float
    """How far ahead the point lies that the camera turns round."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class WriteOptions:
    """Options for what is written beside the splats; each format takes what it has room for."""

    axes: str = "RDF"
    """Directions of x, y and z of the numbers, in letters."""
    comments: Sequence[str] = ()
    """Lines of text for the header."""
    spz_version: SpzVersion = 4
    """Of ``.spz``."""
    antialiased: bool = False
    """Whether the splats are for a renderer that compensates for its blur (Mip-Splatting)."""
    views: Sequence[PageView] = ()
    """Cameras that a page offers."""
    up: Sequence[float] = (0.0, -1.0, 0.0)
    """The direction up."""
    unit: str = ""
    """In which lengths are measured."""
    note: str = ""
    """A line of text for people."""
    levels: Sequence[Gaussians] = ()
    """The same splats in less and less detail."""
    palette_share: int = 1
    """How many splats there are to an entry of a palette of harmonics, where it is shorter than the format allows."""


Encoded = Iterable[bytes | memoryview] | dict[str, bytes]
"""A file in blocks, or the files of a folder by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A splat format: how its files are recognised, read, written and measured."""

    name: str
    """Of the module; the independent decoder of ``exports.independent`` has the same."""
    suffix: str
    """With which names end, in lower case; the whole name of a format of several files."""
    begins: Callable[[bytes, str], bool]
    """Whether a file is of this format, by its first 64 kB and its name in lower case."""
    load: Callable[[Path], SplatFile] | None = None
    """Reads a file; None where da3gs only writes the format."""
    encode: Callable[[Gaussians, str, WriteOptions], Encoded] | None = None
    """The content of a file, its name being what messages call it; None where da3gs only reads the format."""
    size: Callable[[Gaussians, str, WriteOptions], int] | None = None
    """How many bytes a file has; None where only encoding tells."""
    axes: Callable[[WriteOptions], str] = lambda _: "RDF"
    """In which its numbers are, unless the user asks for others, in letters."""
    folder: bool = False
    """Whether there are more files beside the one that is named, in a folder of their own."""
    levels: bool = False
    """Whether coarser levels of detail are written too."""
    lossless: bool = False
    """Whether every number is stored as float32."""
    order: Callable[[Gaussians], Int[Tensor, "N"]] | None = None
    """In which order it stores splats; None: their own."""
    keeps: tuple[Statement, ...] = ()
    """What it has a place for, of all that is known beside the splats."""
    advice: Callable[[WriteOptions], str] = lambda _: ""
    """Which programs do not open a file, or show it turned, and what to write for these; empty: nothing to say."""

    def has_name(self, path: Path | str) -> bool:
        """Whether a file's name says that it is of this format."""
        name = Path(path).name.lower()
        return name == self.suffix if self.folder else name.endswith(self.suffix)
