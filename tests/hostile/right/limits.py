"""Inputs that want more than they are worth: huge claims in small files, broken checksums, walls of text."""

from __future__ import annotations

import functools
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.jsonfile import load_json
from da3gs.photos.decoding.images import read_header, read_picture
from da3gs.photos.records import Unreadable
from tests.hostile.right import case, right
from tests.hostile.right.colors import chunk
from tests.hostile.right.layouts import accounted_for, files_of, load, photo, reasons
from tests.unit.pictures import textured


def _png(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(textured()).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _gif(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(textured()).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def _tiff(width: int, height: int) -> bytes:
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100))
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(200)


def _bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
    )


CLAIMS = {
    "png": _png(100_000, 100_000),
    "png-wide": _png(2**31 - 1, 32),
    "jpeg": _jpeg(65_500, 65_500),
    "gif": _gif(65_535, 65_535),
    "tiff": _tiff(100_000, 100_000),
    "bmp": _bmp(100_000, 100_000),
    "ppm": b"P6\n100000 100000\n255\n" + bytes(100),
    "webp": b"RIFF"
    + struct.pack("<I", 200)
    + b"WEBPVP8X"
    + struct.pack("<II", 10, 0)
    + b"\xff\xff\xff" * 2
    + bytes(170),
}
"""Small files that claim to be huge pictures."""

_MEASURED = """
import resource, sys
from pathlib import Path
from da3gs.photos.decoding.images import read_header, read_picture
from da3gs.photos.records import Unreadable
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (read_header, read_picture):
    try:
        read(Path(sys.argv[1]))
    except Unreadable as problem:
        print(problem)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def _claim(name: str, folder: Path) -> None:
    path = folder / f"a.{name}"
    path.write_bytes(CLAIMS[name])
    done = subprocess.run([sys.executable, "-c", _MEASURED, path], capture_output=True, text=True, timeout=300)
    *words, megabytes = done.stdout.splitlines()
    assert len(words) == 2, done
    assert all("pixels" in line or "damaged" in line or "not a picture" in line for line in words), words
    assert int(megabytes) < 50, megabytes


for name in CLAIMS:
    case("limits", f"claims-to-be-huge-{name}", functools.partial(_claim, name))


@right("limits")
def sizes_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    """In words, with the figure."""
    (tmp_path / "a.png").write_bytes(CLAIMS["png"])
    with pytest.raises(Unreadable, match=r"is 100000x100000 pixels; at most 250 megapixels"):
        read_header(tmp_path / "a.png")


def _broken_png(at: bytes, folder: Path) -> None:
    path = photo(folder / "a.png", 0)
    data = bytearray(path.read_bytes())
    place = data.index(at) + 4
    length = int.from_bytes(data[place - 8 : place - 4], "big")
    data[place + length] ^= 0x55  # the checksum
    path.write_bytes(bytes(data))
    with pytest.raises(Unreadable, match=rf"is damaged \(.*{at.decode()}|is damaged|not a picture"):
        read_picture(path)
    photo(folder / "b.png", 1)
    loaded = load(folder)
    assert files_of(loaded) == ["b.png"]
    assert any("is damaged" in reason or "not a picture" in reason for reason in reasons(loaded))
    accounted_for(loaded, folder)


for kind in (b"IHDR", b"IDAT"):
    case("limits", f"png-with-a-broken-checksum-{kind.decode()}", functools.partial(_broken_png, kind))


@right("limits")
def broken_pixels_of_a_png(tmp_path: Path) -> None:
    """One bit of the pixels turned over."""
    path = photo(tmp_path / "a.png", 0)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Unreadable, match="checksum of its IDAT"):
        read_picture(path)


@right("limits")
def headers_are_read_without_decoding(tmp_path: Path) -> None:
    """EXIF of a PNG used to cost the whole picture."""
    path = photo(tmp_path / "a.png", 0)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"IDAT") + 60])  # hardly any pixels
    assert read_header(path).height == 64
    with pytest.raises(Unreadable, match=r"cut short|damaged"):
        read_picture(path)


@right("limits")
def exif_after_the_pixels(tmp_path: Path) -> None:
    """PNG allows it there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path / "a.png", 0)
    data = path.read_bytes()
    told = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(data[:-12] + told + data[-12:])
    assert read_header(path).orientation == 6


@right("limits")
def text_of_a_png_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """A compressed comment of zeros."""
    path = photo(tmp_path / "a.png", 0)
    data = path.read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))
    path.write_bytes(data[:33] + text + data[33:])
    with pytest.raises(Unreadable, match="damaged"):
        read_picture(path)


@right("limits")
def json_larger_than_any_file_of_cameras(tmp_path: Path) -> None:
    """Refused by its size, before it is parsed."""
    with (tmp_path / "transforms.json").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(InputError, match="larger than 64 MB"):
        load_json(tmp_path / "transforms.json")
    photo(tmp_path / "a.png", 0)
    with pytest.raises(InputError, match="larger than 64 MB"):
        load(tmp_path)


@right("limits")
def colmap_text_without_line_breaks(tmp_path: Path) -> None:
    """One endless line is refused, not held in memory."""
    photo(tmp_path / "images/0.jpg", 0)
    (tmp_path / "sparse/0").mkdir(parents=True)
    (tmp_path / "sparse/0/cameras.txt").write_text(f"1 PINHOLE 96 64 80 80 48 32\n{'7 ' * (9 << 20)}")
    (tmp_path / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 1 0.jpg\n\n")
    with pytest.raises(InputError, match=r"cameras\.txt, line 2, is longer than 16 MB"):
        load(tmp_path)


@right("limits")
def very_many_small_files(tmp_path: Path) -> None:
    """What is passed over takes a line a reason, not a line a file."""
    from da3gs.photos.accounts import recorded, told

    photo(tmp_path / "a.png", 0)
    for i in range(3000):
        (tmp_path / f"{i:05d}.txt").touch()
    loaded = load(tmp_path)
    assert sum(len(line) for line in told(loaded.dropped)) < 1000
    assert len(json.dumps(recorded(loaded.dropped))) < 1000
    assert sum(entry.get("count", 1) for entry in recorded(loaded.dropped)) == 3000
    accounted_for(loaded, tmp_path)


@right("limits")
def too_many_files_are_refused(tmp_path: Path) -> None:
    """A home folder is no set of photos."""
    from da3gs.photos.folders import survey

    most, survey.MOST_FILES = survey.MOST_FILES, 50
    try:
        for i in range(60):
            (tmp_path / f"{i}.txt").touch()
        with pytest.raises(InputError, match="holds more than 50 files; name a smaller one"):
            load(tmp_path)
    finally:
        survey.MOST_FILES = most


@right("limits")
def sixteen_bit_pictures_take_no_more_than_they_have(tmp_path: Path) -> None:
    """The rows of a wide-gamut picture are converted a few at a time."""
    from da3gs.formats.media.color import to_srgb

    rows = np.random.default_rng(0).integers(0, 65536, (700, 900, 3)).astype(np.uint16)
    whole = to_srgb(rows, primaries="p3")
    parts = np.concatenate([to_srgb(rows[i : i + 1], primaries="p3") for i in range(0, 700, 100)])
    np.testing.assert_array_equal(whole[::100], parts)
