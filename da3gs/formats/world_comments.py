"""Comments of a PLY that tell of its world: axes, the direction up, unit, offset, and the renderer that it is for.

Only these words are understood, and only they are ever carried on: other comments may hold anything, such as the folder
that somebody worked in.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from da3gs.formats.axes import LETTERS, Frame
from da3gs.formats.records import SplatFile

_FRAMES: dict[str, Frame] = {"opencv": "opencv", "opengl": "opengl", "supersplat": "supersplat"}
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_YES = ("1", "true", "yes")


def with_comments(file: SplatFile, comments: Sequence[str]) -> SplatFile:
    """The file, and what the comments of its header say of its world."""
    axes, unit = said(comments, "axes"), said(comments, "unit")
    frame = None if axes is None else _FRAMES.get(axes.partition(" ")[0].lower())
    if frame is not None:
        file = dataclasses.replace(file, axes=LETTERS[frame], reason="stated by the file", stated=True)
    return dataclasses.replace(
        file,
        up=_direction(said(comments, "vertical axis"), y_up=file.axes[1] == "U"),
        unit=unit if unit is not None and re.fullmatch(r"[a-z]{1,20}", unit) else None,
        offset=triple(said(comments, "offset")),
        antialiased=file.antialiased or says_antialiased(comments),
    )


def says_antialiased(comments: Sequence[str]) -> bool:
    """Whether splats are for a renderer that compensates for its blur, in the words of several trainers.

    >>> says_antialiased(["SplatRenderMode: mip"]), says_antialiased(["antialiased 0"])
    (True, False)
    """
    mode, flag = said(comments, "splatrendermode"), said(comments, "antialiased")
    return (mode or "").lower() == "mip" or (flag or "").lower() in _YES


def said(comments: Sequence[str], words: str) -> str | None:
    """Text after these words and a colon, an equals sign or blanks, in the first comment that begins with them."""
    for line in comments:
        if line.lower().startswith(words) and line[len(words) : len(words) + 1] in (":", "=", " "):
            return line[len(words) + 1 :].lstrip(":= ").strip()
    return None


def triple(text: str | None) -> tuple[float, float, float] | None:
    """Three finite numbers; None where it is anything else."""
    try:
        x, y, z = map(float, (text or "").split())
    except ValueError:
        return None
    return (x, y, z) if all(map(math.isfinite, (x, y, z))) else None


def _direction(text: str | None, *, y_up: bool) -> tuple[float, float, float] | None:
    """A direction by its three numbers or by the letter of an axis.

    A letter without a sign names the axis alone: y then points as it does in the axes of the file, which for most is
    down.
    """
    letter = re.fullmatch(r"([+-]?)([xyz])", (text or "").lower())
    if letter is None:
        return triple(text)
    down = letter[1] == "-" or (letter[1] == "" and letter[2] == "y" and not y_up)
    x, y, z = (value * (-1 if down else 1) + 0.0 for value in _AXES[letter[2]])
    return x, y, z
