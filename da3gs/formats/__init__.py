"""File formats, one module each; here the two functions that choose among the splat formats.

``load_gaussians`` goes by what the file holds, ``save_gaussians`` by the suffix. Modules are imported
when they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_never, get_args

from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians

SplatSuffix = Literal[".compressed.ply", ".ply", ".splat", ".spz", ".html"]
"""A splat format, by the suffix of its files."""

SPLAT_SUFFIXES: tuple[SplatSuffix, ...] = get_args(SplatSuffix)
"""All of them; the longer one of two that fit a name comes first."""

POINTS_SUFFIX = ".glb"
"""What is written only: it holds points, not splats."""


def splat_format(path: Path | str) -> SplatSuffix:
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
        file.seek(0)
        if start.startswith(b"<"):
            from da3gs.formats.html import is_page

            if is_page(file.read(4096)):
                return ".html"
    if start == b"glTF":
        raise InputError(
            f"{path.name} is not a splat file: it is glTF, which holds points; open the scene or a splat file"
        )
    raise InputError(f"{path.name} is not a splat file that da3gs knows; it opens {', '.join(SPLAT_SUFFIXES)}")


def splat_suffix(path: Path | str) -> SplatSuffix | None:
    """Which of ``SPLAT_SUFFIXES`` a file name ends with, or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SPLAT_SUFFIXES if name.endswith(suffix)), None)


def load_gaussians(path: Path | str) -> Gaussians:
    """Read a splat file of any format, told apart by what they hold: .ply, .compressed.ply, .splat, .spz, our .html.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    match splat_format(path):
        case ".ply":
            from da3gs.formats.ply import load_ply

            return load_ply(path)
        case ".compressed.ply":
            from da3gs.formats.compressed_ply import load_compressed_ply

            return load_compressed_ply(path)
        case ".splat":
            from da3gs.formats.splat import load_splat

            return load_splat(path)
        case ".spz":
            from da3gs.formats.spz import load_spz

            return load_spz(path)
        case ".html":
            from da3gs.formats.html import load_html

            return load_html(path)
        case other:
            assert_never(other)


def save_gaussians(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write splats in the format that the suffix names: .ply, .compressed.ply, .splat, .spz, .html or .glb (points).

    Raises:
        InputError: the suffix is another one, or ``path`` exists and ``overwrite`` is false.
    """
    match splat_suffix(path):
        case ".ply":
            from da3gs.formats.ply import save_ply

            save_ply(gaussians, path, overwrite=overwrite)
        case ".compressed.ply":
            from da3gs.formats.compressed_ply import save_compressed_ply

            save_compressed_ply(gaussians, path, overwrite=overwrite)
        case ".splat":
            from da3gs.formats.splat import save_splat

            save_splat(gaussians, path, overwrite=overwrite)
        case ".spz":
            from da3gs.formats.spz import save_spz

            save_spz(gaussians, path, overwrite=overwrite)
        case ".html":
            from da3gs.formats.html import save_html

            save_html(gaussians, path, overwrite=overwrite)
        case None if Path(path).name.lower().endswith(POINTS_SUFFIX):
            from da3gs.formats.glb import save_glb

            save_glb(gaussians, path, overwrite=overwrite)
        case None:
            listed = ", ".join((*SPLAT_SUFFIXES, POINTS_SUFFIX))
            raise InputError(f"{Path(path).name} has no splat suffix that da3gs writes; use one of {listed}")
        case other:
            assert_never(other)
