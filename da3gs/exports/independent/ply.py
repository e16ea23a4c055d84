"""Standard PLY, by plyfile."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import plyfile

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats

_CORE = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
         "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip
_WORDS = {"opencv": "RDF", "opengl": "RUB", "supersplat": "LUF"}


def elements(path: Path) -> dict[str, np.ndarray]:
    """The elements of a PLY file; one whose header promises more rows than the file has bytes is refused first."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
    text = re.search(rb"^format ascii", head, re.M) is not None
    if text and any(int(count) > size for count in re.findall(rb"^element \S+ (\d{1,18})\s*$", head, re.M)):
        raise InputError(f"{path.name} is cut short: its header announces more rows than it has bytes")
    with path.open("r", encoding="ascii") if text else path.open("rb") as stream:
        return {element.name: element.data for element in plyfile.PlyData.read(stream, mmap="r")}


def decode(path: Path) -> DecodedSplats:
    """The splats of a file."""
    rows = elements(path).get("vertex")
    names = () if rows is None else rows.dtype.names or ()
    if rows is None or any(name not in names for name in _CORE):
        raise InputError(f"{path.name} is not a Gaussian splat: it lacks properties of one")
    column = {name: rows[name] for name in names}
    rest = sorted((n for n in column if n.startswith("f_rest_")), key=lambda n: int(n.rpartition("_")[2]))
    if len(rest) not in (0, 9, 24, 45):
        raise InputError(f"{path.name} has {len(rest)} f_rest properties; splats have 0, 9, 24 or 45")
    used = [column[name] for name in (*_CORE, *rest)]
    bands = len(rest) // 3
    harmonics = np.empty((len(rows), bands + 1, 3), np.float32)
    for color in range(3):
        harmonics[:, 0, color] = column[f"f_dc_{color}"]
        for band in range(bands):
            harmonics[:, band + 1, color] = column[rest[color * bands + band]]
    return DecodedSplats(
        kind=".ply",
        means=np.column_stack([column[c] for c in "xyz"]),
        scales=np.exp(np.column_stack([column[f"scale_{i}"] for i in range(3)])),
        quaternions=np.column_stack([column[f"rot_{i}"] for i in range(4)]),
        opacities=1 / (1 + np.exp(-column["opacity"])),
        harmonics=harmonics,
        nonfinite=sum(int(np.count_nonzero(~np.isfinite(values))) for values in used),
        axes=stated_axes(path)[0],
        reason=stated_axes(path)[1],
    )


def stated_axes(path: Path) -> tuple[str, str]:
    """The axes that a comment names, else those of a PLY, and which of the two it is."""
    with path.open("rb") as file:
        found = re.search(rb"^comment Axes: *(\w*)", file.read(1 << 16).partition(b"end_header")[0], re.M)
    word = found[1].decode("ascii").lower() if found else ""
    if word in _WORDS:
        return _WORDS[word], "stated by the file"
    return "RDF", "the usual axes of a PLY; the file does not say"
