"""Named arrays in .npz files, read with the eyes open: no pickles, and nothing larger than what is expected."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from da3gs._files import open_regular
from da3gs.errors import InputError

MAX_BYTES = 4 << 30
"""No array is larger than this."""


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays side by side, uncompressed; the same arrays give the same bytes."""
    np.savez(path, allow_pickle=False, **arrays)


def load_arrays(
    path: Path, expected: Mapping[str, tuple[str, tuple[int | None, ...]]], *, optional: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Read some arrays of an .npz; each is checked before a byte of it is unpacked.

    Args:
        path: the file.
        expected: for each name the numpy type (``"f4"``) and the shape, None for any length.
        optional: names that may be absent.

    Raises:
        InputError: the file is missing or broken, an array is absent, of another type or shape, or over 4 GB.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = set(archive.namelist())
                missing = [n for n in expected if n not in optional and f"{n}.npy" not in names]
                if missing:
                    raise InputError(f"{path.name} lacks the array {missing[0]!r}; it is not what a scene holds")
                return {
                    name: _array(archive, name, *expected[name], path.name)
                    for name in expected
                    if f"{name}.npy" in names
                }
        except InputError:
            raise
        except (
            zipfile.BadZipFile,
            zlib.error,
            ValueError,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise InputError(f"{path.name} is damaged or cut short: {' '.join(str(error).split())[:120]}") from error


def _array(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int | None, ...], file_name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        try:
            found, order, dtype = _array_header(member)
        except Exception as error:  # numpy hands the header to Python's parser, which fails in many ways
            raise ValueError(f"the header of {name!r} makes no sense") from error
    fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=False))
    if not fits or dtype != np.dtype(kind) or order:
        wanted = "x".join("?" if n is None else str(n) for n in shape)
        have = "x".join(str(n) for n in found)
        raise InputError(f"{file_name}: {name!r} should be {np.dtype(kind)} {wanted}, it is {dtype} {have}"[:200])
    count = 1
    for length in found:
        count *= length
    if count * dtype.itemsize > MAX_BYTES:
        raise InputError(
            f"{file_name}: {name!r} announces {count * dtype.itemsize} bytes, more than da3gs reads (4 GB)"
        )
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _array_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"array format {version} is not known")
