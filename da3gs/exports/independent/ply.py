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
_FLAT = 1e-6
_MIP = re.compile(rb"^comment (splatrendermode[:= ]+mip|antialiased[:= ]+(1|true|yes))\s*$", re.M | re.I)
_STATEMENT = re.compile(
    rb"^comment ((?:vertical axis|unit|axes|offset|splatrendermode|antialiased)[:= ][-+\w .,:()]{1,80})\s*$",
    re.M | re.I,
)
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
    """The splats of a file: of 2D Gaussian splatting too, which have two scales, and with RGB in place of harmonics."""
    rows = elements(path).get("vertex")
    names = () if rows is None else rows.dtype.names or ()
    missing = [name for name in _CORE if name not in names]
    flat, painted = missing[-1:] == ["scale_2"], missing[:3] == ["f_dc_0", "f_dc_1", "f_dc_2"]
    painted = painted and {"red", "green", "blue"} <= set(names)
    missing = [name for name in missing if not (flat and name == "scale_2") and not (painted and name[:4] == "f_dc")]
    if rows is None or missing:
        raise InputError(f"{path.name} is not a Gaussian splat: it lacks {', '.join(missing or ['vertices'])[:100]}")
    column = {name: rows[name] for name in names}
    rest = sorted((n for n in column if n.startswith("f_rest_")), key=lambda n: int(n.rpartition("_")[2]))
    if len(rest) not in (0, 9, 24, 45):
        raise InputError(f"{path.name} has {len(rest)} f_rest properties; splats have 0, 9, 24 or 45")
    bands = len(rest) // 3
    harmonics = np.empty((len(rows), bands + 1, 3), np.float32)
    for index, color in enumerate(("red", "green", "blue")):
        harmonics[:, 0, index] = _painted(column[color]) if painted else column[f"f_dc_{index}"]
        for band in range(bands):
            harmonics[:, band + 1, index] = column[rest[index * bands + band]]
    thickness = np.full(len(rows), np.log(_FLAT), np.float32)
    means = np.column_stack([column[c] for c in "xyz"])
    fields = {
        "means": means,
        "scales": np.exp(np.column_stack([column.get(f"scale_{i}", thickness) for i in range(3)])),
        "quaternions": np.column_stack([column[f"rot_{i}"] for i in range(4)]),
        "opacities": 1 / (1 + np.exp(-column["opacity"])),
        "harmonics": harmonics,
    }
    return DecodedSplats(
        kind=".ply",
        **fields,
        nonfinite=sum(int(np.count_nonzero(~np.isfinite(values))) for values in fields.values()),
        axes=stated_axes(path)[0],
        reason=stated_axes(path)[1],
        antialiased=says_antialiased(path),
        statements=statements(path),
    )


def says_antialiased(path: Path) -> bool:
    """Whether a comment says that the splats are for a renderer that compensates for its blur."""
    return _MIP.search(_head(path)) is not None


def statements(path: Path) -> tuple[str, ...]:
    """The comments that tell of the file's world, as they stand there."""
    return tuple(found[1].decode("ascii") for found in _STATEMENT.finditer(_head(path)))


def _painted(values: np.ndarray) -> np.ndarray:
    """The constant harmonic of a colour of 0 to 255, or 0 to 1 where it is no whole number."""
    top = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
    shown: np.ndarray = (values / top - 0.5) * (2 * np.sqrt(np.pi))
    return shown


def _head(path: Path) -> bytes:
    """The header of a file, or as much of it as matters."""
    with path.open("rb") as file:
        return file.read(1 << 16).partition(b"end_header")[0]


def stated_axes(path: Path) -> tuple[str, str]:
    """The axes that a comment names, else those of a PLY, and which of the two it is."""
    found = re.search(rb"^comment Axes: *(\w*)", _head(path), re.M)
    word = found[1].decode("ascii").lower() if found else ""
    if word in _WORDS:
        return _WORDS[word], "stated by the file"
    return "RDF", "the usual axes of a PLY; the file does not say"
