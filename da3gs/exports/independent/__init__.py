"""Independent decoders of splat files: each shares nothing with the module that writes the format.

A mistake in a writer that its own reader would undo shows here. ``decode_splats`` finds the decoder by the name of the
format. A format that is only read has none.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import plyfile
import zstandard
from PIL import Image

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats
from da3gs.formats.registry import format_of_content, load_splat_file, splat_path

_BROKEN = (
    ValueError, OSError, EOFError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    SyntaxError, MemoryError, struct.error, zlib.error, plyfile.PlyParseError, zipfile.BadZipFile, zstandard.ZstdError,
    Image.DecompressionBombError,
)  # fmt: skip


def decode_splats(path: Path) -> DecodedSplats:
    """The splats of a file of any format that da3gs knows, in the axes of the file.

    Raises:
        InputError: the file is missing, broken, or of no kind that is known.
    """
    row = format_of_content(path)
    module = f"{__name__}.{row.name}"
    if importlib.util.find_spec(module) is None:
        return _as_loaded(path, row.suffix)
    try:
        with np.errstate(all="ignore"):
            decoded: DecodedSplats = importlib.import_module(module).decode(splat_path(path))
            return decoded
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{path.name} is broken or cut short: {' '.join(str(error).split())[:120]}") from error


def _as_loaded(path: Path, suffix: str) -> DecodedSplats:
    """What da3gs itself reads."""
    file = load_splat_file(path)
    splats = file.gaussians
    return DecodedSplats.of(
        suffix,
        splats.harmonics.numpy(),
        means=splats.means.numpy(),
        scales=splats.scales.numpy(),
        quaternions=splats.quaternions.numpy(),
        opacities=splats.opacities.numpy(),
        axes=file.axes,
        reason=file.reason,
        antialiased=file.antialiased,
    )


__all__ = ["DecodedSplats", "decode_splats"]
