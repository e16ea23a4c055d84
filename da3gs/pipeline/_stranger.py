"""Reads splat files as other programs do. Shares nothing with ``da3gs.formats``, so that a mistake there shows here."""

from __future__ import annotations

import dataclasses
import re
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import plyfile

from da3gs.errors import InputError

_CORE = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
         "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StrangeSplats:
    """Splats as a reader of the format understands them, activated, float32."""

    kind: str
    """``.ply`` and so on."""
    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    nonfinite: int
    """How many stored numbers are not finite."""


def read_splats(path: Path) -> StrangeSplats:
    """The splats of a file of any kind that is told by its first bytes.

    Raises:
        InputError: the file is missing, broken, or of no kind that is known here.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path.name or path} is not a regular file; name a splat file or a scene folder")
        with path.open("rb") as file:
            start = file.read(4096)
        if start[:3] == b"ply":
            return _compressed(path) if b"element chunk" in start else _standard(path)
        if start[:2] == b"\x1f\x8b":
            return _spz(path)
        if path.suffix.lower() == ".splat" and path.stat().st_size % 32 == 0:
            return _antimatter(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the spelling") from None
    except (plyfile.PlyParseError, ValueError, OSError, EOFError, struct.error, zlib.error, MemoryError) as error:
        raise InputError(f"{path.name} is broken or cut short: {' '.join(str(error).split())[:120]}") from error
    raise InputError(f"{path.name} is not a splat file that check knows (.ply, .compressed.ply, .splat, .spz)")


def _elements(path: Path) -> dict[str, np.ndarray]:
    """The elements of a PLY file; one whose header promises more rows than the file has bytes is refused first."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
    text = re.search(rb"^format ascii", head, re.M) is not None
    if text and any(int(count) > size for count in re.findall(rb"^element \S+ (\d{1,18})\s*$", head, re.M)):
        raise InputError(f"{path.name} is cut short: its header announces more rows than it has bytes")
    with path.open("r", encoding="ascii") if text else path.open("rb") as stream:
        return {element.name: element.data for element in plyfile.PlyData.read(stream, mmap="r")}


def _standard(path: Path) -> StrangeSplats:
    rows = _elements(path).get("vertex")
    if rows is None or any(name not in rows.dtype.names for name in _CORE):
        raise InputError(f"{path.name} is not a Gaussian splat: it lacks properties of one")
    column = {name: rows[name] for name in rows.dtype.names}
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
    with np.errstate(over="ignore", invalid="ignore"):
        return StrangeSplats(
            kind=".ply",
            means=np.column_stack([column[c] for c in "xyz"]),
            scales=np.exp(np.column_stack([column[f"scale_{i}"] for i in range(3)])),
            quaternions=np.column_stack([column[f"rot_{i}"] for i in range(4)]),
            opacities=1 / (1 + np.exp(-column["opacity"])),
            harmonics=harmonics,
            nonfinite=sum(int(np.count_nonzero(~np.isfinite(values))) for values in used),
        )


def _compressed(path: Path) -> StrangeSplats:
    raise InputError(f"{path.name} is a compressed PLY, which this version cannot check yet")


def _antimatter(path: Path) -> StrangeSplats:
    raise InputError(f"{path.name} is a .splat file, which this version cannot check yet")


def _spz(path: Path) -> StrangeSplats:
    raise InputError(f"{path.name} is an .spz file, which this version cannot check yet")
