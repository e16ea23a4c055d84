"""Zip files: unpacked to a temporary folder that goes when nothing needs it any more."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from da3gs._progress import Progress
from da3gs.errors import BackendError, InputError
from da3gs.photos.naming import shown
from da3gs.photos.records import Dropped

MOST_FILES = 2000
MOST_BYTES = 4 << 30
LARGEST_RATIO = 100
_RATIO_FROM = 16 << 20
_CHUNK = 1 << 20
_LARGEST_DIRECTORY = 16 << 20


class Unpacked:
    """A temporary folder, deleted when this object goes, at the latest when the program ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="da3gs-"))
        self.delete = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        """Deletes the folder at once."""


def unpacked(path: Path, *, progress: Progress) -> tuple[Unpacked, list[Dropped]]:
    """The content of a zip file, and the entries that are damaged.

    Raises:
        InputError: not a zip; an entry that leads out, is a link or encrypted; too many, too much.
    """
    name = shown(path.name)
    _check_directory(path, name)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{name} is not a zip that can be read, or is cut short; pack it again") from error
    place = Unpacked()
    try:
        with archive:
            entries = _checked_entries(archive, name)
            dropped = []
            for number, (entry, inside) in enumerate(entries):
                progress("unpacking", number + 1, len(entries))
                reason = _extract(archive, entry, place.folder / inside)
                if reason:
                    dropped.append(Dropped(name=shown(inside.name), reason=reason))
    except BaseException:
        place.delete()
        raise
    return place, dropped


def _check_directory(path: Path, name: str) -> None:
    """The directory's size as stated at the end of the file, before anything reads it whole."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65557))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise InputError(f"{name} is not a zip that can be read, or is cut short; pack it again")
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    bytes_of_directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    if count > MOST_FILES or bytes_of_directory > _LARGEST_DIRECTORY:
        raise InputError(f"{name} holds {count} entries; at most {MOST_FILES} are unpacked, give the folder instead")


def _checked_entries(archive: zipfile.ZipFile, name: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files with their places inside the folder."""
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise InputError(
            f"{name} holds {len(infos)} entries; at most {MOST_FILES} are unpacked, give the folder instead"
        )
    total = sum(i.file_size for i in infos)
    if total > MOST_BYTES:
        raise InputError(f"{name} would unpack to {total / 2**30:.1f} GB; at most {MOST_BYTES >> 30} GB are taken")
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in infos:
        written = info.filename.replace("\\", "/")
        inside = PurePosixPath(written)
        entry = f"{name}: the entry {shown(info.filename)!r}"
        if inside.is_absolute() or ".." in inside.parts or written[1:2] == ":" or not inside.parts:
            raise InputError(f"{entry} leads out of the archive; pack it again without such names")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{entry} is a link or a device, not a file; pack the files themselves")
        if info.flag_bits & 0x1:
            raise InputError(f"{entry} is encrypted; pack it again without a password")
        if info.file_size > _RATIO_FROM and info.file_size > LARGEST_RATIO * max(info.compress_size, 1):
            size = f"{info.compress_size / 1e6:.1f} MB would become {info.file_size / 1e6:.0f} MB"
            raise InputError(f"{entry} is packed suspiciously tight ({size}); give the folder instead")
        if info.is_dir() or written.endswith("/"):
            continue
        if inside in entries:
            raise InputError(f"{entry} is there twice; pack it again")
        entries[inside] = info
    return [(info, inside) for inside, info in entries.items()]


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str | None:
    """Write one entry; why it could not be read, if so."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        left = entry.file_size
        with archive.open(entry) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise zipfile.BadZipFile("more bytes than announced")
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError):
        target.unlink(missing_ok=True)
        return "is damaged in the zip, or packed in a way that is not known"
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackendError(f"no space is left in {tempfile.gettempdir()} to unpack the zip; free some") from error
        return f"cannot be unpacked ({error.strerror or 'damaged'})"
    return None
