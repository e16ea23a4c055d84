"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from da3gs.errors import InputError


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and (path.exists() or path.is_symlink()):
        raise InputError(f"{path.name} exists already; choose another name or pass --overwrite")


def _remove_leftovers(path: Path) -> None:
    """Delete what killed runs left beside ``path``: their names carry the process that made them."""
    for leftover in path.parent.glob(f".{_glob_escape(path.name)}.*.tmp"):
        process = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


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
    _refuse_existing(path, overwrite)
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; create it first")
    _remove_leftovers(path)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=f".{os.getpid()}.tmp", dir=path.parent))
    try:
        temporary = folder / path.name
        yield temporary
        _refuse_existing(path, overwrite)
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
    _refuse_existing(path, overwrite)
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; create it first")
    _remove_leftovers(path)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=f".{os.getpid()}.tmp", dir=path.parent))
    try:
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        _refuse_existing(path, overwrite)
        if path.exists():
            os.rename(path, folder / "old")
        os.rename(temporary, path)
    finally:
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


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
