"""Registry of splat formats, a row each: chosen by content when reading, by suffix when writing."""

from __future__ import annotations

import logging
from pathlib import Path

from da3gs._files import atomic_file, atomic_folder, open_regular
from da3gs.errors import InputError
from da3gs.formats.axes import with_axes
from da3gs.formats.far_offset import nearer
from da3gs.formats.records import Encoded, Format, SplatFile, WriteOptions
from da3gs.formats.splats import compressed_ply, glb, html, ksplat, ply, sog, splat, spz, streamed_sog, usd
from da3gs.gaussians import Gaussians

_log = logging.getLogger(__name__)

FORMATS: tuple[Format, ...] = (
    compressed_ply.FORMAT,
    ply.FORMAT,
    splat.FORMAT,
    spz.FORMAT,
    html.FORMAT,
    glb.FORMAT,
    sog.FORMAT,
    sog.FOLDER,
    streamed_sog.FORMAT,
    usd.USDA,
    usd.USDZ,
    ksplat.FORMAT,
)
"""Of two that fit a name or a content the first one counts."""

READ_SUFFIXES: tuple[str, ...] = tuple(row.suffix for row in FORMATS if row.load is not None)
"""What can be read."""

WRITTEN_SUFFIXES: tuple[str, ...] = tuple(row.suffix for row in FORMATS if row.encode is not None)
"""What can be written."""

_HEAD = 1 << 16


def format_of_name(path: Path | str) -> Format | None:
    """The format whose suffix a file name has, or None."""
    return next((row for row in FORMATS if row.has_name(path)), None)


def splat_path(path: Path | str) -> Path:
    """The file that stands for a folder of splats; any other path as it is."""
    path = Path(path)
    inside = [path / row.suffix for row in FORMATS if row.folder]
    return next((file for file in inside if file.is_file()), path)


def format_of_content(path: Path | str) -> Format:
    """The format that a file has by its content.

    Raises:
        InputError: it is of none that da3gs knows, or cannot be opened.
    """
    path = splat_path(path)
    with open_regular(path) as file:
        start = file.read(_HEAD)
    found = next((row for row in FORMATS if row.begins(start, path.name.lower())), None)
    if found is None:
        raise InputError(f"{path.name} is not a splat file that da3gs knows; it opens {', '.join(READ_SUFFIXES)}")
    return found


def is_kind(path: Path, suffix: str) -> bool:
    """Whether an existing file begins as files of this suffix do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_HEAD)
    rows = [row for row in FORMATS if row.suffix == suffix and row.begins(start, path.name.lower())]
    return bool(rows) and (not rows[0].folder or _nothing_else(path))


def _nothing_else(meta: Path) -> bool:
    """Whether all files of a folder are pictures that a .json beside them names, or such a .json."""
    for file in meta.parent.rglob("*"):
        if file.is_symlink() or not (file.is_dir() or file.suffix in (".json", ".webp")):
            return False
        if file.suffix == ".webp":
            beside = file.with_name("meta.json")
            if not beside.is_file() or f'"{file.name}"' not in beside.read_text("utf-8", "replace"):
                return False
    return True


def load_splat_file(path: Path | str) -> SplatFile:
    """Read a splat file of any format, told apart by what they hold, in the axes of the file.

    Splats that lie too far from the origin for float32 come minus an offset, which the record tells.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    row = format_of_content(path)
    if row.load is None:
        raise InputError(
            f"{Path(path).name} is {row.suffix}, which da3gs only writes; it opens {', '.join(READ_SUFFIXES)}"
        )
    return nearer(row.load(splat_path(path)))


def load_gaussians(path: Path | str, *, axes: str | None = None) -> Gaussians:
    """Read a splat file of any format that da3gs knows (``READ_SUFFIXES``), told apart by what they hold.

    The splats come in the axes of a PLY, x right, y down, z forward: a format with axes of its own, and a file that
    states others, is turned. What else a file says of its world, ``load_splat_file`` tells; an offset is logged too.

    Args:
        path: the file.
        axes: three letters for x, y and z, such as ``"RUB"``, in place of what the file or its format says.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    file = load_splat_file(path)
    for note in file.notes:
        _log.warning("%s: %s", Path(path).name, note)
    return with_axes(file.gaussians, axes or file.axes, "RDF")


def save_gaussians(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write splats in the format that the suffix names, one of ``WRITTEN_SUFFIXES``.

    Args:
        gaussians: splats in the axes of a PLY, x right, y down, z forward.
        path: the file; it appears whole or not at all.
        overwrite: replace an existing file.

    Raises:
        InputError: the suffix is another one, ``path`` exists and ``overwrite`` is false, or the format cannot hold
            these splats.
    """
    path, row = Path(path), format_of_name(path)
    if row is None or row.encode is None:
        raise InputError(f"{path.name} has no splat suffix that da3gs writes; use one of {', '.join(WRITTEN_SUFFIXES)}")
    axes = row.axes(WriteOptions())
    encoded = row.encode(with_axes(gaussians, "RDF", axes), path.name, WriteOptions(axes=axes))
    write_encoded(encoded, path, overwrite=overwrite)


def write_encoded(encoded: Encoded, path: Path, *, overwrite: bool = False) -> None:
    """Write what a format made: a file, or a folder around the file that ``path`` names.

    Raises:
        InputError: it exists and ``overwrite`` is false, or the folder that it would lie in does not exist.
    """
    if isinstance(encoded, dict):
        with atomic_folder(path.absolute().parent, overwrite=overwrite) as folder:
            for name, content in encoded.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        return
    with atomic_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        for block in encoded:
            file.write(block)


def encoded_bytes(encoded: Encoded) -> int:
    """Size in bytes."""
    return sum(len(block) for block in (encoded.values() if isinstance(encoded, dict) else encoded))


def written_format(suffix: str) -> Format:
    """The row of a suffix of ``WRITTEN_SUFFIXES``."""
    return next(row for row in FORMATS if row.suffix == suffix)


def kept(encoded: Encoded) -> Encoded:
    """The same, to be gone through more than once."""
    return encoded if isinstance(encoded, dict) else tuple(encoded)
