"""Inputs in which, together, something is passed over for every reason that there is."""

from __future__ import annotations

import dataclasses
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs._progress import Progress
from da3gs.formats.media.video import save_video
from da3gs.photos import clips, loading
from da3gs.photos.candidates import Original
from tests.hostile.right.colors import tiff
from tests.hostile.right.folders import nerf_synthetic, polycam
from tests.hostile.right.layouts import HEIGHT, WIDTH, colmap, photo, transforms
from tests.hostile.right.limits import _png as png_that_claims

_STARTS = {
    "exr": b"\x76\x2f\x31\x01", "hdr": b"#?RADIANCE", "xl": b"\xff\x0a", "2000": b"\xff\x4f\xff\x51",
    "photoshop": b"8BPS",
}  # fmt: skip
"""First bytes of pictures that are not read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """What is read, and how."""

    source: Path | list[Path]
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of ``load_photos``; the command's flags of the same names."""

    def words(self) -> list[str]:
        """For the command line."""
        sources = self.source if isinstance(self.source, list) else [self.source]
        flags = [word for name, value in self.keywords.items() for word in (f"--{name}", str(value))]
        return [*map(str, sources), *flags]


def three_photos(folder: Path) -> None:
    """Of different content."""
    for i in range(3):
        photo(folder / f"{i}.jpg", i)


def crowded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """As many kinds of files that become no view as one folder can hold."""
    three_photos(folder)
    for k, made in enumerate(("masks", "normals", "alpha", "seg", "conf", "flow", "@eaDir", "previews", "#recycle",
                              "#snapshot", "__MACOSX")):  # fmt: skip
        for i in range(3):
            photo(folder / made / f"{i}.png", 60 + 10 * k + i)
    for i in range(3):
        photo(folder / f"{i}_depth.png", 40 + i)
    photo(folder / "1_masked.jpg", 48)
    shutil.copy(folder / "0.jpg", folder / "0 copy.jpg")
    photo(folder / "lower" / "1.jpg", 1, height=HEIGHT // 2, width=WIDTH // 2)
    photo(folder / "thumbnail.jpg", 51, height=32, width=48)
    photo(folder / "preview.jpg", 52)
    Image.new("RGBA", (96, 64)).save(folder / "nothing.png")
    for name in ("scene.json", "scene.ply", "reference.npz"):
        (folder / "earlier.scene").mkdir(exist_ok=True)
        (folder / "earlier.scene" / name).touch()
    for name in ("0.nef", "clip.mp4", "round.insv", "layers.psd", "notes.txt", ".DS_Store"):
        (folder / name).write_bytes(bytes(40))
    (folder / "cameras.xml").write_text('<?xml version="1.0"?><document><chunk/></document>')
    os.symlink(folder, folder / "again")
    os.symlink(folder / "gone", folder / "gone.jpg")
    os.symlink("/", folder / "out")
    os.mkfifo(folder / "pipe.jpg")
    for word in ("locked", "unreadable"):
        photo(folder / word / "a.jpg" if word == "locked" else folder / f"{word}.jpg", 58)
    scandir, stat = os.scandir, Path.stat

    def refuse(path: Path | str | int, word: str) -> None:
        if not isinstance(path, int) and Path(path).stem == word:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", lambda path: (refuse(path, "locked"), scandir(path))[1])
    monkeypatch.setattr(Path, "stat", lambda path, **how: (refuse(path, "unreadable"), stat(path, **how))[1])
    return Input(source=folder)


def pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Photos beside pictures that cannot be read, each for a reason of its own."""
    three_photos(folder)
    photo(folder / "icon.png", 53, height=20, width=20)
    photo(folder / "strip.png", 54, height=32, width=32 * 22)
    (folder / "claims.png").write_bytes(png_that_claims(20_000, 20_000))
    (folder / "empty.jpg").touch()
    (folder / "cut.jpg").write_bytes((folder / "0.jpg").read_bytes()[:400])
    (folder / "text.jpg").write_text("not a picture")
    webp = bytearray(photo(folder / "damaged.webp", 56).read_bytes())
    webp[30:] = bytes(len(webp) - 30)
    (folder / "damaged.webp").write_bytes(webp)
    broken = bytearray(photo(folder / "broken.png", 55).read_bytes())
    broken[broken.index(b"IDAT") + 200] ^= 1
    (folder / "broken.png").write_bytes(broken)
    for name, start in _STARTS.items():
        (folder / f"{name}.jpg").write_bytes(start + bytes(60))
    whole = np.arange(40 * 60 * 3, dtype=np.uint16).reshape(40, 60, 3)
    tiff(folder / "float.tif", whole[..., :1].astype(np.float32), "<", planar=False, form=3, kind=1)
    tiff(folder / "signed.tif", whole[..., :1].astype(np.int16), "<", planar=False, form=2, kind=1)
    tiff(folder / "deep.tif", whole[..., :1].astype(np.uint32), "<", planar=False, kind=1)
    tiff(folder / "lab.tif", whole.astype(np.uint8), "<", planar=False, kind=8)
    tiff(folder / "strange.tif", whole, "<", planar=False, kind=7)
    planes = tiff(folder / "cut.tif", whole, "<", planar=True).read_bytes()
    rows, few = (struct.pack("<HHII", 278, 4, 1, count) for count in (20, 8))
    (folder / "few.tif").write_bytes(planes.replace(rows, few))
    tile = struct.pack("<HHII", 322, 4, 1, 64)  # in the place of the rows of a strip
    (folder / "tiles.tif").write_bytes(planes.replace(rows, tile))
    table = int.from_bytes(planes[4:8], "little")
    (folder / "cut.tif").write_bytes(planes[:4] + struct.pack("<I", 8) + planes[table:] + planes[8:table])
    return Input(source=folder)


def versions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """The same photos before and after a program went over them."""
    for i in range(3):
        photo(folder / "images" / f"{i}.jpg", i)
        photo(folder / "input" / f"{i}.jpg", i, quality=60)
    return Input(source=folder)


def posed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Cameras of photos that are missing or masked, and photos without cameras."""
    three_photos(folder / "images")
    photo(folder / "images" / "more.jpg", 9)
    names = ["images/0.jpg", "images/1.jpg", "images/2.jpg", "images/gone.jpg", "images/more.png"]
    transforms(folder / "transforms.json", names)
    return Input(source=folder)


def masks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Masks of another shape, of nothing, and of no picture."""
    for i in range(5):
        photo(folder / "photos" / f"{i}.png", i)
    (folder / "kept").mkdir()
    for i in (0, 1):
        Image.new("L", (WIDTH, HEIGHT), 255).save(folder / "kept" / f"{i}.png")
    Image.new("L", (WIDTH, WIDTH), 255).save(folder / "kept" / "2.png")
    Image.new("L", (WIDTH, HEIGHT), 0).save(folder / "kept" / "3.png")
    (folder / "kept" / "4.png").write_text("not a picture")
    return Input(source=folder / "photos", keywords={"masks": folder / "kept"})


def splits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """NeRF-synthetic's three files."""
    return Input(source=nerf_synthetic(folder))


def other_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Two models of different photos."""
    for i in range(5):
        photo(folder / "images" / f"{i}.jpg", i)
    colmap(folder / "sparse" / "0", [f"{i}.jpg" for i in range(3)])
    colmap(folder / "sparse" / "1", [f"{i}.jpg" for i in (3, 4)])
    return Input(source=folder)


def phone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """An export of Polycam that lacks a camera."""
    (polycam(folder) / "keyframes" / "corrected_cameras" / "100333.json").unlink()
    return Input(source=folder)


def two_scenes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Loose photos above posed sets."""
    three_photos(folder)
    for name in ("one", "two"):
        for i in range(2):
            photo(folder / name / f"{name}_{i}.jpg", 10 + i + len(name))
        transforms(folder / name / "transforms.json", [f"{name}_{i}.jpg" for i in range(2)])
    return Input(source=folder)


def video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """A damaged one, of which a frame is lost when it is read again, beside a thumbnail."""
    frames = [np.roll(np.asarray(Image.open(photo(folder / "0.png", 0))), 2 * i, 1) for i in range(24)]
    (folder / "0.png").unlink()
    photo(folder / "thumbnail.jpg", 1)
    save_video(folder / "a.mp4", frames, fps=8.0)
    found, scored = clips.frames_at, clips._scored

    def damaged(path: Path, progress: Progress) -> Any:
        frames, damage, size = scored(path, progress)
        return frames, damage + 1, size

    monkeypatch.setattr(clips, "_scored", damaged)
    monkeypatch.setattr(clips, "frames_at", lambda path, times: found(path, times[1:]))
    return Input(source=folder, keywords={"views": 4})


def packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """A zip with a damaged entry, and one that lies in another."""
    three_photos(folder)
    path = folder.parent / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(3):
            archive.write(folder / f"{i}.jpg", f"{i}.jpg")
        archive.writestr("0.jpg/inside.jpg", b"x")
        archive.writestr("damaged.jpg", b"spoilt" * 100)
    content = bytearray(path.read_bytes())
    content[content.index(b"spoilt") + 3] ^= 1
    path.write_bytes(content)
    return Input(source=path)


def named_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """One photo in two places of the line."""
    three_photos(folder)
    return Input(source=[folder / f"{i}.jpg" for i in (0, 1, 0)])


def too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """More photos than are wanted, and one that the machine has no room for."""
    for i in range(5):
        photo(folder / f"{i}.jpg", i)
    used = loading._used

    def crammed(original: Original, resolution: int) -> Any:
        if np.array_equal(original.image[:, :, 0], first):
            raise MemoryError
        return used(original, resolution)

    with Image.open(folder / "0.jpg") as image:
        first = np.asarray(image)[:, :, 0]
    monkeypatch.setattr(loading, "_used", crammed)
    return Input(source=folder, keywords={"views": 3})


INPUTS: tuple[Callable[[Path, pytest.MonkeyPatch], Input], ...] = (
    crowded, pictures, versions, posed, masks, splits, other_models, phone, two_scenes, video, packed, named_twice,
    too_many,
)  # fmt: skip
