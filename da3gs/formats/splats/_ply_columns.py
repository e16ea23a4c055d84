"""Columns of a splat PLY: the properties that are read, and what stands in for those that other trainers leave out."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from da3gs.errors import InputError
from da3gs.formats.splats._ply_header import PlyElement, PlyHeader
from da3gs.geometry.harmonics import C0

FLAT = 1e-6
"""Thickness of a 2D Gaussian splat, which has two scales."""

_RGB = ("red", "green", "blue")
_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_FULL = {"u1": 255.0, "u2": 65535.0, "f4": 1.0, "f8": 1.0}
_IGNORED = re.compile(r"n[xyz]|red|green|blue|alpha")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Columns read of each row, in the order means, colour, further harmonics, opacity, scales, quaternion."""

    names: tuple[str, ...]
    """Of the properties."""
    bands: int
    """Harmonics a colour."""
    full: float | None = None
    """The largest value of red, green and blue, which stand in for harmonics; None where there are harmonics."""
    notes: tuple[str, ...] = ()
    """What is made up or passed over, for people."""

    def completed(self, block: np.ndarray) -> np.ndarray:
        """The block with every column that splats have."""
        if self.full is not None:
            block = block.copy()
            block[:, 3:6] = (block[:, 3:6] / np.float32(self.full) - np.float32(0.5)) / np.float32(C0)
        if "scale_2" in self.names:
            return block
        thickness = np.full((len(block), 1), math.log(FLAT), block.dtype)
        return np.concatenate((block[:, :-4], thickness, block[:, -4:]), 1)


def splat_columns(header: PlyHeader, vertex: PlyElement, wanted: list[str], name: str) -> Columns:
    """Columns of splats in the rows of an element.

    Args:
        header: of the file.
        vertex: the element.
        wanted: the properties of ordinary splats, without further harmonics.
        name: of the file, for messages.

    Raises:
        InputError: they are no splats; the message says what they are, or what is missing.
    """
    types = dict(vertex.properties)
    rest = [prop for prop in types if prop.startswith("f_rest_")]
    bands = len(rest) // 3 + 1
    if len(rest) not in (0, 9, 24, 45) or any(f"f_rest_{i}" not in types for i in range(len(rest))):
        raise InputError(f"{name} has {len(rest)} f_rest properties; splats have 0, 9, 24 or 45 (degrees 0 to 3)")
    full, notes, columns = None, [], list(wanted)
    if not any(prop in types for prop in _DC) and {types.get(prop) for prop in _RGB} <= set(_FULL) and not rest:
        full = _FULL[types["red"]]
        columns = [_RGB[_DC.index(prop)] if prop in _DC else prop for prop in columns]
        notes.append("colours are red, green, blue, without harmonics")
    if "scale_2" not in types and {"scale_0", "scale_1"} <= types.keys():
        columns.remove("scale_2")
        notes.append(f"2D Gaussian splats with two scales; their thickness becomes {FLAT:g}")
    missing = [prop for prop in columns if prop not in types]
    if missing:
        listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise InputError(f"{name} is not a Gaussian splat: its vertices lack {listed}; {_kind(header, types)}")
    used = {*columns, *rest}
    extra = [prop for prop in types if prop not in used and _IGNORED.fullmatch(prop) is None]
    if extra:
        more = f" and {len(extra) - 6} more" if len(extra) > 6 else ""
        notes.append(f"properties passed over: {', '.join(prop[:40] for prop in extra[:6])}{more}")
    at = columns.index("opacity")
    columns[at:at] = [f"f_rest_{i}" for i in range(len(rest))]
    return Columns(names=tuple(columns), bands=bands, full=full, notes=tuple(notes))


def _kind(header: PlyHeader, types: dict[str, str]) -> str:
    """What vertices that are no splats seem to be."""
    faces = header.element("face") or header.element("tristrips")
    if faces is not None and faces.count:
        return f"it is a mesh of {faces.count} faces"
    if not any(prop.startswith(("scale", "rot", "opacity", "f_dc")) for prop in types):
        return "it is a point cloud, whose points have no size"
    return "splats of another program, or a file that lost properties"
