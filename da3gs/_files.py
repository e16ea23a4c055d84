"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from da3gs.errors import InputError

SCENE_FORMAT = "da3gs scene"
"""What scene.json says of itself under ``format``."""

FORMAT_VERSION = 1
"""Version of the scene folder: raised when an older da3gs could not read it."""


OpenBytes = BinaryIO | io.BytesIO
"""A file open for reading bytes, or bytes in memory in its place."""

_ASIDE = ".aside"
"""Where a folder that is being replaced waits, within the temporary one."""


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and (path.exists() or path.is_symlink()):
        raise InputError(f"{path.name} exists already; choose another name or pass --overwrite")


def _remove_leftovers(path: Path) -> None:
    """Delete what killed runs left beside ``path``: their names carry the process that made them.

    An old folder that was put aside and never replaced goes back to its place.
    """
    for leftover in path.parent.glob(f".{_glob_escape(path.name)}.*.tmp"):
        process = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if process.isdigit() and not _alive(int(process)):
            _put_back(leftover / _ASIDE, path)
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _put_back(aside: Path, path: Path) -> None:
    """Undo the first half of a swap whose second half never came."""
    if aside.is_dir() and not path.exists():
        with contextlib.suppress(OSError):
            os.rename(aside, path)


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; renamed when the block ends well, deleted when it does not.

    The temporary name keeps the suffix, since some writers choose the format by it.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; create it first")
    _remove_leftovers(path)
    _refuse_existing(path, overwrite)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=f".{os.getpid()}.tmp", dir=path.parent))
    try:
        temporary = folder / path.name
        yield temporary
        _refuse_existing(path, overwrite)
        # some writers make private files; a result is as readable as anything else that the user creates
        probe = folder / "mode"
        probe.touch()
        temporary.chmod(probe.stat().st_mode)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path`` to fill; swapped in whole when the block ends well, deleted when it does not.

    Whether the old folder may be replaced at all is the caller's to decide before.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or its parent does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; create it first")
    _remove_leftovers(path)
    _refuse_existing(path, overwrite)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=f".{os.getpid()}.tmp", dir=path.parent))
    try:
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        _refuse_existing(path, overwrite)
        if path.exists():
            os.rename(path, folder / _ASIDE)
        os.rename(temporary, path)
    finally:
        _put_back(folder / _ASIDE, path)
        shutil.rmtree(folder, ignore_errors=True)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes; pipes, devices and folders are refused without being opened for reading.

    Raises:
        InputError: there is no such file, it is not a regular one, or it may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the spelling") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path.name} cannot be opened: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path.name} is not a regular file; name a file")
    return os.fdopen(descriptor, "rb")


def is_scene_folder(path: Path) -> bool:
    """Whether a folder holds a scene.json of ours."""
    try:
        record = json.loads((path / "scene.json").read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("format") == SCENE_FORMAT


def check_output(
    path: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    suffixes: Sequence[str] = (),
    is_kind: Callable[[Path, str], bool] | None = None,
) -> str:
    """Make sure, before any work is done, that an output may be written; return its suffix, ``/`` for a folder.

    Something that exists is only ever replaced with ``overwrite``, and only if it is ours: a folder with our
    scene.json, or a file of the kind that its suffix says. Nothing that is, holds or lies inside an input is replaced.

    Args:
        path: the file or folder to write.
        overwrite: whether an existing one may be replaced.
        inputs: what the command reads.
        suffixes: those that a file may have, ``/`` among them where a folder is welcome too; empty: a scene folder.
        is_kind: whether an existing file is of the kind that its suffix says; None: pictures and films are known.

    Raises:
        InputError: it may not be written; the message says why.
    """
    suffix = _output_suffix(path, suffixes)
    path = Path(path)
    if suffix and not suffix.startswith((".", "/")):
        path = path.absolute().parent  # the file's name stands for its folder
    parent = path.absolute().parent
    if not path.name or path.name == "..":
        raise InputError(f"{path} cannot be written; name a file or folder")
    if not parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; create it first")
    _remove_leftovers(path)
    _refuse_existing(path, overwrite)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder of {path} is not writable; choose another place")
    if not (path.exists() or path.is_symlink()):
        return suffix
    real = path.resolve()
    for source in inputs:
        other = Path(source).resolve()
        if other == real or other in real.parents or real in other.parents:
            raise InputError(
                f"{path.name} is, holds or lies inside the input {Path(source).name}; choose another output"
            )
    if path.is_symlink():
        raise InputError(f"{path.name} is a symbolic link, which --overwrite leaves alone; name another output")
    if not suffix.startswith((".", "/")):
        if not path.is_dir() or (any(path.iterdir()) and not (is_kind or _is_picture)(path / suffix, suffix)):
            raise InputError(f"{path.name} holds no {suffix}, so --overwrite leaves it alone; choose another folder")
    elif suffix == "/":
        if not path.is_dir() or not (is_scene_folder(path) or not any(path.iterdir())):
            raise InputError(
                f"{path.name} is not a scene folder of da3gs, so --overwrite leaves it alone; choose another"
            )
    elif not (is_kind or _is_picture)(path, suffix):
        raise InputError(f"{path.name} is not a {suffix} file, so --overwrite leaves it alone; choose another name")
    return suffix


def _output_suffix(path: Path | str, suffixes: Sequence[str]) -> str:
    """Which of the suffixes a name has."""
    name = os.fspath(path)
    if not suffixes:
        return "/"
    base = os.path.basename(name).lower()
    if base in suffixes and not base.startswith("."):
        return base
    matching = [suffix for suffix in suffixes if suffix.startswith(".") and base.endswith(suffix)]
    if matching and len(base) > len(max(matching, key=len)):
        return max(matching, key=len)
    if "/" in suffixes and (name.endswith(("/", os.sep)) or not Path(name).suffix):
        return "/"
    listed = ", ".join("a folder" if suffix == "/" else suffix for suffix in suffixes)
    raise InputError(f"{Path(name).name} has no suffix that can be written; use {listed}")


def _is_picture(path: Path, suffix: str) -> bool:
    """Whether an existing file begins as pictures and films of this suffix do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(16)
    match suffix:
        case ".png":
            return start.startswith(b"\x89PNG")
        case ".jpg" | ".jpeg":
            return start.startswith(b"\xff\xd8\xff")
        case ".webp":
            return start[:4] == b"RIFF" and start[8:12] == b"WEBP"
        case ".gif":
            return start.startswith(b"GIF8")
        case ".mp4":
            return start[4:8] == b"ftyp"
    return True


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
