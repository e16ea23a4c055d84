"""Folders put together from known pieces, and an oracle that says which photos and poses must come out of them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.hostile.right.folders import nerf_synthetic, polycam, record3d
from tests.hostile.right.layouts import (
    HEIGHT,
    WIDTH,
    accounted_for,
    colmap,
    files_of,
    load,
    photo,
    posed_as,
    transforms,
)

COUNT = 3
Base = Literal["loose", "folders", "transforms", "colmap", "colmap-text", "nerf", "polycam", "record3d"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a folder is put together from."""

    base: Base
    """Its photos, and their cameras."""
    deep: int
    """How many folders lie about that."""
    beside: tuple[str, ...]
    """Further pieces, in the order in which they are written."""
    packed: bool
    """Whether it is a zip."""


def _files(folder: Path, at: Path) -> None:
    (folder / "notes.txt").write_text("sunny")
    (at / "points.las").write_bytes(bytes(30))
    (folder / ".DS_Store").write_bytes(b"\0" * 20)
    (at / "Thumbs.db").write_bytes(b"\0" * 20)


def _nas(folder: Path, at: Path) -> None:
    for name in (p.name for p in sorted(at.iterdir()) if p.suffix == ".jpg"):
        photo(at / "@eaDir" / name / "SYNOPHOTO_THUMB_M.jpg", 70, height=48, width=72)
    photo(folder / ".thumbnails" / "a.jpg", 71, height=48, width=72)


def _mac(folder: Path, at: Path) -> None:
    photo(folder / "__MACOSX" / "._a.jpg", 72)
    (at / "._0.jpg").write_bytes(b"\0\5\x16\7" + bytes(40))


def _raw(folder: Path, at: Path) -> None:
    (at / "0.NEF").write_bytes(b"MM\0*" + bytes(60))
    (folder / "light.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(20))


def _made(folder: Path, at: Path) -> None:
    for name in ("depth", "masks", "normals"):
        for i in range(COUNT):
            photo(at.parent / name / f"{i}.png", 40 + i)


def _deep(folder: Path, at: Path) -> None:
    for i in range(COUNT):
        (at.parent / "aligned").mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 900 + i, np.uint16)).save(at.parent / "aligned" / f"{i}.png")


def _copy(folder: Path, at: Path) -> None:
    first = next((p for p in sorted(at.iterdir()) if p.suffix == ".jpg" and p.is_file()), None)
    if first is not None:
        shutil.copy(first, at / f"{first.stem} (1).jpg")


def _smaller(folder: Path, at: Path) -> None:
    if at.name == "images":
        for name in NAMES:
            path = at / name
            with Image.open(path) as image:
                (at.parent / "images_2").mkdir(exist_ok=True)
                image.resize((WIDTH // 2, HEIGHT // 2)).save(at.parent / "images_2" / path.name)


def _links(folder: Path, at: Path) -> None:
    os.symlink(folder, at / "round")
    os.symlink(folder / "nothing", at / "nowhere.jpg")
    os.symlink("/", folder / "out")


def _empty(folder: Path, at: Path) -> None:
    (at / "empty.jpg").touch()
    (folder / "nothing" / "in" / "here").mkdir(parents=True)


def _broken(folder: Path, at: Path) -> None:
    (at / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))


def _small(folder: Path, at: Path) -> None:
    photo(at / "icon.png", 90, height=20, width=20)


def _splats(folder: Path, at: Path) -> None:
    (folder / "point_cloud.ply").write_bytes(b"ply\n" + bytes(30))


BESIDE: dict[str, Callable[[Path, Path], None]] = {
    "files": _files, "nas": _nas, "mac": _mac, "raw": _raw, "made": _made, "deep": _deep, "copy": _copy,
    "smaller": _smaller, "links": _links, "empty": _empty, "broken": _broken, "small": _small, "splats": _splats,
}  # fmt: skip
"""What lies beside photos and is none."""

NAMES = [f"{i}.jpg" for i in range(COUNT)]
BASES: tuple[Base, ...] = ("loose", "folders", "transforms", "colmap", "colmap-text", "nerf", "polycam", "record3d")


def layouts() -> st.SearchStrategy[Layout]:
    """Any of them."""
    beside = st.lists(st.sampled_from(sorted(BESIDE)), unique=True, max_size=6).map(tuple)
    return st.builds(Layout, base=st.sampled_from(BASES), deep=st.integers(0, 2), beside=beside, packed=st.booleans())


def build(layout: Layout, root: Path) -> list[str] | None:
    """Write the folder; the photos that must come out, or None where the indices 0 to 2 with poses must."""
    folder = root.joinpath(*[f"level{i}" for i in range(layout.deep)])
    folder.mkdir(parents=True, exist_ok=True)
    at = folder / "images"
    match layout.base:
        case "loose":
            at = folder
        case "folders":
            at = folder / "kitchen"
        case "nerf":
            at = folder / "train"
        case "polycam":
            at = folder / "keyframes" / "corrected_images"
        case "record3d":
            at = folder / "rgb"
    match layout.base:
        case "nerf":
            nerf_synthetic(folder)
        case "polycam":
            polycam(folder)
        case "record3d":
            record3d(folder, "rgb", "metadata.json")
        case _:
            for i, name in enumerate(NAMES):
                photo(at / name, i)
            if layout.base == "folders":
                photo(folder / "bath" / "other.jpg", 5)
    if layout.base == "transforms":
        transforms(folder / "transforms.json", [f"images/{name}" for name in NAMES])
    elif layout.base in ("colmap", "colmap-text"):
        colmap(folder / "sparse/0", NAMES, binary=layout.base == "colmap")
    for piece in layout.beside:
        BESIDE[piece](folder, at)
    if layout.base == "folders":
        return sorted([*NAMES, "other.jpg"])
    return NAMES if layout.base == "loose" else None


def holds(layout: Layout, root: Path) -> None:
    """Builds the folder, loads it, and compares with what must come out."""
    wanted = build(layout, root / "set")
    source = root / "set"
    if layout.packed:
        source = root / "set.zip"
        _pack(root / "set", source)
    loaded = load(source)
    if wanted is None:
        posed_as(loaded, range(COUNT))
    else:
        assert sorted(files_of(loaded)) == wanted, [(d.name, d.reason) for d in loaded.dropped]
    if not layout.packed:
        accounted_for(loaded, source)
        return
    with zipfile.ZipFile(source) as archive:
        everything = len(archive.namelist())
    dropped = sum(item.count for item in loaded.dropped)
    assert len(loaded.photos) + len(loaded.read) + dropped == everything, loaded.dropped


def _pack(folder: Path, target: Path) -> None:
    """A zip of the regular files."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(folder))
