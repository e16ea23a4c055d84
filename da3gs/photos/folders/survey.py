"""Survey of a folder: every file in it and below it, once, before anything is decided.

Links are followed as far as they stay inside; a folder or file that is reached twice is listed where it lies. A folder
of system files (thumbnails of a file server, a bin, hidden ones) is listed as one entry with the number of its files.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from da3gs.errors import InputError
from da3gs.formats.media.video import HEAD_BYTES, container_of
from da3gs.photos.naming import natural_key, shown
from da3gs.photos.records import Dropped

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}
    | {".heic", ".heif", ".hif", ".ppm", ".pgm", ".pnm"}
)
OTHER_PICTURE_SUFFIXES = frozenset(
    {".jxl", ".exr", ".hdr", ".pic", ".jp2", ".j2k", ".jpx", ".psd", ".psb", ".tga", ".svg", ".ico", ".pdf", ".eps"}
    | {".dds", ".ktx", ".ktx2", ".pfm", ".xcf", ".kra", ".icns", ".qoi", ".jxr", ".wdp", ".insp"}
)
RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".raw", ".3fr"}
    | {".erf", ".kdc", ".dcr", ".mos", ".iiq", ".gpr", ".fff", ".crw", ".rwl"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg", ".wmv", ".flv"}
    | {".insv", ".360", ".lrv"}
)
RAW_SPHERES = frozenset({".insv", ".360", ".insp"})
MOST_FILES = 100_000

RAW = "is a camera's raw file; develop it to JPEG, PNG or TIFF first"
VIDEO = "is a video (give it alone)"
SPHERE = "is a 360-degree camera's own format; export it as equirectangular first"
NOT_READ = "is a picture of a format that is not read; save it as JPEG or PNG"
NO_PICTURE = "is no picture"
HIDDEN = "is hidden"
SCENE = "is a scene that da3gs made (name it to open it)"
LEADS_OUT = "is a link that leads out of the folder"

_SYSTEM = {
    "@eadir": "holds thumbnails",
    "thumbnails": "holds thumbnails",
    "thumbs": "holds thumbnails",
    "thumb": "holds thumbnails",
    "_thumbs": "holds thumbnails",
    "_thumb": "holds thumbnails",
    "previews": "holds previews",
    "__macosx": "holds what macOS keeps beside files",
    "#recycle": "is a bin",
    "@recycle": "is a bin",
    "$recycle.bin": "is a bin",
    "lost+found": "is a bin",
    "#snapshot": "holds older copies",
    "@recently-snapshot": "holds older copies",
}
_HIDDEN_THUMBNAILS = ("thumb", "@__thumb", "xvpics")

FileKind = Literal["photo", "other picture", "raw", "sphere", "video", "json", "file"]
"""What a file is, by its suffix; by its first bytes where it has none that is known."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One regular file."""

    path: Path
    """Where it is."""
    name: str
    """Its path below the folder, with slashes."""
    kind: FileKind
    """What it is."""
    size: int
    """Bytes."""

    @property
    def folder(self) -> str:
        """The folder it lies in, below the one that was looked through; empty for that itself."""
        return self.name.rpartition("/")[0]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """All that a folder holds."""

    root: Path
    """The folder."""
    files: tuple[Found, ...]
    """In natural order of their paths."""
    passed: tuple[Dropped, ...]
    """What was not looked into: links that lead out, system folders, hidden and special files."""
    links_out: tuple[tuple[str, str], ...]
    """Name and target of the links that lead out."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that hold files, shallow ones first; the root is empty."""
        return tuple(sorted({f.folder for f in self.files}, key=lambda n: (n.count("/") + bool(n), natural_key(n))))

    def below(self, folder: str) -> Iterator[Found]:
        """The files in a folder and below it."""
        start = f"{folder}/" if folder else ""
        return (f for f in self.files if f.name.startswith(start))

    def inside(self, folder: str) -> Iterator[Found]:
        """The files of a folder itself."""
        return (f for f in self.files if f.folder == folder)

    @property
    def count(self) -> int:
        """Number of files in all."""
        return len(self.files) + sum(d.count for d in self.passed)


def survey(root: Path) -> Survey:
    """Look through a folder.

    Raises:
        InputError: it cannot be read, or holds more than 100,000 files.
    """
    looker = _Looker(root)
    looker.look(root, "")
    files = sorted(looker.files, key=lambda f: natural_key(f.name))
    passed = sorted(looker.passed, key=lambda d: natural_key(d.name))
    return Survey(root=root, files=tuple(files), passed=tuple(passed), links_out=tuple(sorted(looker.links_out)))


class _Looker:
    """Walks a folder, never twice into the same place."""

    def __init__(self, root: Path) -> None:
        self._root, self._real = root, os.path.realpath(root)
        self._links: list[tuple[Path, str]] = []
        self._seen: set[str] = {self._real}
        self.files: list[Found] = []
        self.passed: list[Dropped] = []
        self.links_out: list[tuple[str, str]] = []

    def look(self, folder: Path, name: str) -> None:
        """Everything in a folder, links last: what they lead to may be listed by then."""
        waiting = [(folder, name)]
        while waiting or self._links:
            while waiting:
                waiting += self._folder(*waiting.pop())
            if self._links:
                waiting += self._link(*self._links.pop(0))

    def _folder(self, folder: Path, name: str) -> list[tuple[Path, str]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda e: natural_key(e.name))
        except OSError as error:
            if not name:
                raise InputError(
                    f"the folder {shown(folder.name)} cannot be read ({error.strerror}); check its permissions"
                ) from error
            self._pass(f"{name}/", f"cannot be read ({error.strerror})")
            return []
        below = []
        for entry in entries:
            self._check_count()
            path, own = Path(entry.path), f"{name}/{entry.name}" if name else entry.name
            if entry.is_symlink():
                self._links.append((path, own))
            elif entry.is_dir(follow_symlinks=False):
                if (reason := _system(entry.name) or _made_here(path)) is not None:
                    self._pass(f"{own}/", reason, _count(path))
                else:
                    self._seen.add(os.path.realpath(path))
                    below.append((path, own))
            else:
                self._file(path, own)
        return below

    def _link(self, path: Path, name: str) -> list[tuple[Path, str]]:
        """A link, once everything that is no link was listed."""
        real = os.path.realpath(path)
        try:
            mode = os.stat(path).st_mode
        except OSError:  # nothing there, or links that lead to one another
            self._pass(name, "is a link that leads nowhere")
            return []
        if not Path(real).is_relative_to(self._real):
            self.links_out.append((name, os.readlink(path)))
            self._pass(name, LEADS_OUT)
        elif stat.S_ISDIR(mode):
            if real in self._seen or Path(self._real).is_relative_to(real):
                self._pass(name, "is a link to a folder that is looked through already")
            else:
                self._seen.add(real)
                return [(path, name)]
        else:
            self._file(path, name)
        return []

    def _file(self, path: Path, name: str) -> None:
        if path.name.startswith("."):
            self._pass(name, HIDDEN)
            return
        try:
            status = path.stat()
        except OSError as error:
            self._pass(name, f"cannot be opened ({error.strerror})")
            return
        if not stat.S_ISREG(status.st_mode):
            self._pass(name, "is not a regular file")
            return
        self.files.append(Found(path=path, name=name, kind=kind_of(path), size=status.st_size))

    def _pass(self, name: str, reason: str, count: int = 1) -> None:
        if count:
            self.passed.append(Dropped(name=shown(name), reason=reason, count=count))

    def _check_count(self) -> None:
        if len(self.files) + len(self.passed) > MOST_FILES:
            raise InputError(
                f"the folder {shown(self._root.name)} holds more than {MOST_FILES} files; name a smaller one"
            )


def _system(name: str) -> str | None:
    """Why a folder is not looked into; None where it is."""
    lower = name.casefold()
    if lower in _SYSTEM:
        return _SYSTEM[lower]
    if lower.startswith("."):
        return "holds thumbnails" if lower[1:].startswith(_HIDDEN_THUMBNAILS) else HIDDEN
    return "holds previews" if lower.endswith((".lrdata", ".photoslibrary")) else None


def _made_here(folder: Path) -> str | None:
    """Why a folder is not looked into that is a result, by the files that every one has."""
    made = all((folder / name).is_file() for name in ("scene.json", "scene.ply", "reference.npz"))
    return SCENE if made else None


def _count(folder: Path) -> int:
    """How many files lie in a folder that is not looked into."""
    count = 0
    for place, folders, names in os.walk(folder):
        count += len(names) + sum(os.path.islink(os.path.join(place, name)) for name in folders)
    return min(count, MOST_FILES)


def kind_of(path: Path) -> FileKind:
    """Kind of a regular file."""
    suffix = path.suffix.lower()
    if suffix in RAW_SPHERES:
        return "sphere"
    if suffix in PHOTO_SUFFIXES:
        return "photo"
    if suffix in OTHER_PICTURE_SUFFIXES:
        return "other picture"
    if suffix in RAW_SUFFIXES:
        return "raw"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix == ".json":
        return "json"
    return "file" if suffix in _KNOWN else _by_content(path)


_KNOWN = frozenset(
    {".txt", ".bin", ".ply", ".db", ".md", ".xml", ".csv", ".npz", ".npy", ".zip", ".obj", ".mtl", ".log", ".xmp"}
    | {".yaml", ".yml", ".html", ".splat", ".spz", ".sog", ".glb", ".usdz", ".ini", ".py", ".thm", ".aae", ".torch"}
)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
_BOXED = (b"avif", b"heic", b"heix", b"mif1", b"heim", b"heis")


def _by_content(path: Path) -> FileKind:
    """A file without a suffix that says something."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return "file"
    if head.startswith(_PICTURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "photo"
    if head[4:8] == b"ftyp" and head[8:12] in _BOXED:
        return "photo"
    return "video" if container_of(head) is not None else "file"


def stays_inside(path: Path, root: Path) -> bool:
    """Whether a path, with all symbolic links resolved, lies in ``root``."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
