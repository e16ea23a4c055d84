"""OpenUSD's ParticleField3DGaussianSplat (UsdVol, from 26.03 on) as text: ``.usda``, or packed in a ``.usdz``.

Written only. Positions have nine digits, which is all that float32 has, everything else six. The stage has y up.
"""

from __future__ import annotations

import io
import struct
import typing
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from da3gs import __version__
from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.formats.axes import with_axes
from da3gs.formats.encoding.quantising import finite_arrays
from da3gs.formats.records import Format, WriteOptions
from da3gs.gaussians import Gaussians

AXES = "RUB"
"""Of the files that are written."""

_PRIM = "Splats"
_EXACT, _FINE = 9, 6  # digits
_BLOCK = 1 << 19  # numbers formatted at once
_ROOM = 20  # bytes a number, its brackets and commas included
_ALIGNED = 64  # bytes, to which a .usdz lays out its files
_MOST = 2**31 - 1
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_usd(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write splats of a PLY's axes as ``.usda``, or ``.usdz`` where the name ends like this.

    Raises:
        InputError: a number is not finite, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    blocks = (usdz_bytes if path.name.lower().endswith(".usdz") else usda_blocks)(
        with_axes(gaussians, "RDF", AXES), path.name, WriteOptions(axes=AXES)
    )
    with atomic_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        for block in blocks:
            file.write(block)


def usda_blocks(gaussians: Gaussians, name: str, options: WriteOptions) -> Iterator[bytes]:
    """The text of a stage with one prim, piece by piece; ``name`` is what messages call the file.

    Raises:
        InputError: a number is not finite.
    """
    arrays = finite_arrays(gaussians, name)
    means = arrays["means"]
    bounds = np.stack((means.min(0), means.max(0))) if len(means) else np.zeros((2, 3), np.float32)
    yield (
        f'#usda 1.0\n(\n    defaultPrim = "{_PRIM}"\n    doc = "da3gs {__version__}"\n    metersPerUnit = 1\n'
        f'    upAxis = "Y"\n    customLayerData = {{\n        string axes = "{options.axes}"\n    }}\n)\n\n'
        f'def ParticleField3DGaussianSplat "{_PRIM}"\n{{\n'
        f"    uniform int radiance:sphericalHarmonicsDegree = {gaussians.degree}\n"
        f'    uniform token projectionModeHint = "perspective"\n    uniform token sortingModeHint = "zDepth"\n'
    ).encode()
    yield from _attribute("float3[] extent", bounds, _EXACT)
    yield from _attribute("point3f[] positions", means, _EXACT)
    yield from _attribute("quatf[] orientations", arrays["quaternions"], _FINE)
    yield from _attribute("float3[] scales", arrays["scales"], _FINE)
    yield from _attribute("float[] opacities", arrays["opacities"][:, None], _FINE)
    harmonics = arrays["harmonics"].reshape(-1, 3)
    yield from _attribute("float3[] radiance:sphericalHarmonicsCoefficients", harmonics, _FINE)
    yield b"}\n"


def usdz_bytes(gaussians: Gaussians, name: str, options: WriteOptions) -> Iterator[bytes]:
    """A package of the same stage: a ZIP of stored files, whose data begin at multiples of 64 bytes.

    Raises:
        InputError: a number is not finite, or there are more splats than a package holds.
    """
    text = b"".join(usda_blocks(gaussians, name, options))
    if len(text) > _MOST:
        raise InputError(f"{name} would hold {len(text)} bytes of text; a .usdz holds less than 2 GiB: use --budget")
    entry = zipfile.ZipInfo("splats.usda", _EPOCH)
    padding = -(30 + len(entry.filename) + 4) % _ALIGNED
    entry.extra = struct.pack("<HH", 0x1986, padding) + bytes(padding)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, text)
    yield file.getvalue()


def _attribute(declaration: str, values: np.ndarray, digits: int) -> Iterator[bytes]:
    """An attribute of one number or one tuple a row."""
    yield f"    {declaration} = [".encode()
    rows = max(1, _BLOCK // values.shape[1])
    text = np.empty(rows * (values.shape[1] * _ROOM + 4), np.uint8)
    for start in range(0, len(values), rows):
        if start:
            yield b", "
        length = format_rows(np.ascontiguousarray(values[start : start + rows], np.float64), digits, text)
        yield text[:length].tobytes()
    yield b"]\n"


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def format_rows(values, digits, text) -> int:
    """Write numbers as a whole number and a power of ten, ``-123456e-5``; the length.

    Args:
        values: (N, W) float64; rows of more than one number get brackets.
        digits: so many of each number, without zeros at the end.
        text: bytes, written.
    """
    at = 0
    figures = np.empty(20, np.uint8)
    for i in range(len(values)):
        if i:
            text[at], text[at + 1] = 44, 32  # comma, space
            at += 2
        if values.shape[1] > 1:
            text[at] = 40  # opening bracket
            at += 1
        for j in range(values.shape[1]):
            if j:
                text[at], text[at + 1] = 44, 32
                at += 2
            value = values[i, j]
            if value < 0:
                text[at] = 45  # minus
                at += 1
                value = -value
            power = 0 if value == 0 else np.int64(np.floor(np.log10(value))) + 1 - digits
            whole = np.int64(np.rint(value * 10.0**-power)) if power <= 0 else np.int64(np.rint(value / 10.0**power))
            while whole and whole % 10 == 0:
                whole //= 10
                power += 1
            power = power if whole else 0
            at = _write_whole(whole, figures, text, at)
            if power:
                text[at] = 101  # e
                at += 1
                if power < 0:
                    text[at] = 45
                    at += 1
                at = _write_whole(abs(power), figures, text, at)
        if values.shape[1] > 1:
            text[at] = 41  # closing bracket
            at += 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def _write_whole(number, figures, text, at) -> int:
    """Write a whole number; where the next byte goes."""
    count = 0
    while True:
        figures[count] = 48 + number % 10
        count += 1
        number //= 10
        if number == 0:
            break
    for k in range(count):
        text[at + k] = figures[count - 1 - k]
    return at + count


USDA = Format(
    name="usd",
    suffix=".usda",
    begins=lambda start, _: start.startswith(b"#usda"),
    encode=usda_blocks,
    axes=lambda _: AXES,
)
"""USD as text."""

USDZ = Format(
    name="usd",
    suffix=".usdz",
    begins=lambda start, name: start.startswith(b"PK\3\4") and name.endswith(".usdz"),
    encode=usdz_bytes,
    axes=lambda _: AXES,
)
"""USD in a package."""
