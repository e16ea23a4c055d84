"""File formats, one module each; here the two functions that choose among the splat formats.

``load_gaussians`` goes by what the file holds, ``save_gaussians`` by the suffix. Modules are imported
when they are needed.
"""

from __future__ import annotations

from pathlib import Path

from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians

SPLAT_SUFFIXES = (".compressed.ply", ".ply", ".splat", ".spz")
"""Suffixes of the splat formats; the longer one of two that fit comes first."""


def splat_format(path: Path | str) -> str:
    """Which splat format a file has by its content: one of ``SPLAT_SUFFIXES``.

    Raises:
        InputError: it is none of them, or cannot be opened.
    """
    path = Path(path)
    with open_regular(path) as file:
        start = file.read(4)
        size = file.seek(0, 2)
        if start.startswith(b"ply"):
            from da3gs.formats.ply import read_header

            return ".compressed.ply" if read_header(file, path.name).element("chunk") is not None else ".ply"
        if start.startswith(b"\x1f\x8b"):
            return ".spz"
        if path.name.lower().endswith(".splat") and size % 32 == 0:
            return ".splat"
    raise InputError(f"{path.name} is not a splat file that da3gs knows; it opens {', '.join(SPLAT_SUFFIXES)}")


def splat_suffix(path: Path | str) -> str | None:
    """Which of ``SPLAT_SUFFIXES`` a file name ends with, or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SPLAT_SUFFIXES if name.endswith(suffix)), None)


def load_gaussians(path: Path | str) -> Gaussians:
    """Read a splat file of any format: .ply, .compressed.ply, .splat, .spz, told apart by what they hold.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    match splat_format(path):
        case ".ply":
            from da3gs.formats.ply import load_ply

            return load_ply(path)
        case other:
            raise InputError(f"{Path(path).name} is a {other} file, which this version cannot read yet")


def save_gaussians(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write splats in the format that the suffix names: .ply, .compressed.ply, .splat or .spz.

    Raises:
        InputError: the suffix is another one, or ``path`` exists and ``overwrite`` is false.
    """
    match splat_suffix(path):
        case ".ply":
            from da3gs.formats.ply import save_ply

            save_ply(gaussians, path, overwrite=overwrite)
        case _:
            raise InputError(
                f"{Path(path).name} has no splat suffix that da3gs writes; use one of {', '.join(SPLAT_SUFFIXES)}"
            )
