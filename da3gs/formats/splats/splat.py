"""The ``.splat`` format of antimatter15: 32 bytes a splat, no harmonics beyond the constant one.

Position and scale are float32; colour, opacity and the quaternion (w, x, y, z) are a byte a number.
Axes are those of a PLY.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats.encoding.quantising import finite_arrays, quantised, to_gaussians
from da3gs.formats.records import Format, SplatFile
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("quaternion", "u1", 4)])


def save_splat(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a ``.splat`` file, in the splats' order; colours beyond [0, 1] are cut, higher harmonics left out.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    data = splat_bytes(gaussians, path.name)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def splat_bytes(gaussians: Gaussians, name: str) -> bytes:
    """Bytes that ``save_splat`` writes; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite.
    """
    arrays = finite_arrays(gaussians, name)
    rows = np.empty(len(gaussians), _ROW)
    rows["mean"] = arrays["means"]
    rows["scale"] = arrays["scales"]
    rows["color"][:, :3] = quantised(arrays["harmonics"][:, 0] * C0 + 0.5, 255, 0)
    rows["color"][:, 3] = quantised(arrays["opacities"], 255, 0)
    rows["quaternion"] = quantised(arrays["quaternions"], 128, 128)
    return rows.tobytes()


def load_splat(path: Path | str) -> Gaussians:
    """Read a ``.splat`` file.

    Raises:
        InputError: the file is missing, or its length is not a multiple of 32 bytes.
    """
    path = Path(path)
    with open_regular(path) as file:
        data = file.read()
    if len(data) % _ROW.itemsize:
        raise InputError(f"{path.name} is cut short or no .splat file: {len(data)} bytes are not a multiple of 32")
    rows = np.frombuffer(data, _ROW)
    return to_gaussians(
        {
            "means": rows["mean"],
            "scales": rows["scale"],
            "quaternions": (rows["quaternion"].astype(np.float32) - 128) / 128 + np.where(_null(rows), [1, 0, 0, 0], 0),
            "opacities": rows["color"][:, 3] / np.float32(255),
            "harmonics": ((rows["color"][:, None, :3] / np.float32(255)) - 0.5) / C0,
        }
    )


def _null(rows: np.ndarray) -> np.ndarray:
    """Rows without a rotation; they get the identity."""
    null: np.ndarray = (rows["quaternion"] == 128).all(1, keepdims=True)
    return null


def _size(gaussians: Gaussians, name: str) -> int:
    finite_arrays(gaussians, name)
    return _ROW.itemsize * len(gaussians)


FORMAT = Format(
    name="splat",
    suffix=".splat",
    begins=lambda start, name: name.endswith(".splat") and len(start) % _ROW.itemsize == 0,
    load=lambda path: SplatFile(gaussians=load_splat(path)),
    encode=lambda gaussians, name, _: [splat_bytes(gaussians, name)],
    size=lambda gaussians, name, _: _size(gaussians, name),
)
"""antimatter15's rows of 32 bytes; a file has no signature, so its name counts."""
