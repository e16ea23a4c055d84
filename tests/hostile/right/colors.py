"""Colour tags of every container: the same patches, told in many ways, come out as the same sRGB."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.formats.media.color import (
    Primaries,
    decode_srgb,
    primaries_to_xyz,
    to_bt709,
    tone_mapped,
)
from da3gs.photos.decoding.images import read_picture
from da3gs.photos.records import Unreadable
from tests.hostile.right import case, right

PATCHES = np.array([(1, 1, 1), (0.5, 0.5, 0.5), (0.75, 0.3, 0.25), (0.3, 0.6, 0.35), (0.25, 0.35, 0.7)])
"""sRGB numbers, all within the gamut of every standard here."""


def wall() -> np.ndarray:
    """The patches side by side, 32 pixels wide each."""
    return np.repeat(np.repeat(PATCHES[None], 64, 0), 32, 1)


def light_in(primaries: Primaries) -> np.ndarray:
    """Their linear light in other primaries."""
    return decode_srgb(wall()) @ np.linalg.inv(to_bt709(primaries)).T


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, white at 203 nits."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    y = (light.clip(0) * 203 / 10000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


def hlg(light: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, on a screen of 1000 nits: the system gamma undone, then the OETF."""
    display = light.clip(0) * 203 / 1000
    luminance = (display @ primaries_to_xyz("bt2020")[1])[..., None]
    scene = display * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def srgb_curve(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055)


SAYINGS: dict[str, tuple[Primaries, int, int, object]] = {
    "pq": ("bt2020", 9, 16, pq),
    "hlg": ("bt2020", 9, 18, hlg),
    "bt2020": ("bt2020", 9, 13, srgb_curve),
    "p3": ("p3", 12, 13, srgb_curve),
}
"""Primaries, their numbers in ITU-T H.273, and the curve."""


def numbers(saying: str) -> np.ndarray:
    """The patches as stored, 0 to 1."""
    primaries, _, _, curve = SAYINGS[saying]
    return np.clip(curve(light_in(primaries)), 0, 1)  # type: ignore[operator]


def held(path: Path, *, hdr: bool, within: float) -> None:
    """Whether a picture has the patches' colours; highlights of HDR bend as tone mapping says."""
    image = read_picture(path).image
    want = wall()
    if hdr:
        want = srgb_curve(tone_mapped(decode_srgb(want)))
    got = image[32, 16::32].astype(float)
    assert np.abs(got - 255 * want[32, 16::32]).max() <= within, (got, 255 * want[32, 16::32])


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, values: np.ndarray, *chunks: bytes, bits: int = 16) -> Path:
    """An RGB picture of numbers from 0 to 1, with chunks before its pixels."""
    stored = (values * (2**bits - 1) + 0.5).astype(">u2" if bits == 16 else np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in stored))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 2, 0, 0, 0))
    body = header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def avif(path: Path, values: np.ndarray, primaries: int, transfer: int) -> Path:
    """An AVIF whose nclx box has these numbers."""
    picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    picture.save(path, quality=100, subsampling="4:4:4", range="full")
    data = bytearray(path.read_bytes())
    at = data.find(b"colrnclx")
    assert at > 0
    data[at + 8 : at + 12] = struct.pack(">HH", primaries, transfer)
    path.write_bytes(bytes(data))
    return path


def heic(path: Path, values: np.ndarray, primaries: int, transfer: int) -> Path:
    """A HEIC with these numbers."""
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = pillow_heif.from_pillow(Image.fromarray((values * 255 + 0.5).astype(np.uint8)))
    points = {"color_primaries": primaries, "transfer_characteristics": transfer}
    picture.save(path, quality=100, chroma=444, **points, matrix_coefficients=6, full_range_flag=1)
    return path


def _numbered(container: str, saying: str, folder: Path) -> None:
    _, primaries, transfer, _ = SAYINGS[saying]
    values, is_hdr = numbers(saying), saying in ("pq", "hlg")
    match container:
        case "png16" | "png8":
            cicp = chunk(b"cICP", bytes([primaries, transfer, 0, 1]))
            held(png(folder / "a.png", values, cicp, bits=int(container[3:])), hdr=is_hdr, within=4 if is_hdr else 2)
        case "avif":
            held(avif(folder / "a.avif", values, primaries, transfer), hdr=is_hdr, within=12 if is_hdr else 8)
        case _:
            held(heic(folder / "a.heic", values, primaries, transfer), hdr=is_hdr, within=6)


for container in ("png16", "png8", "avif", "heic"):
    for saying in SAYINGS:
        case("colors", f"{container}-{saying}", functools.partial(_numbered, container, saying))


@right("colors")
def white_of_a_pq_photo_is_no_grey(tmp_path: Path) -> None:
    """Taken for sRGB, paper white is 148."""
    image = read_picture(avif(tmp_path / "a.avif", numbers("pq"), 9, 16)).image
    assert image[32, 16].min() > 225


@right("colors")
def linear_png(tmp_path: Path) -> None:
    """gAMA 1: the numbers are light."""
    held(png(tmp_path / "a.png", light_in("bt709"), chunk(b"gAMA", struct.pack(">I", 100000))), hdr=False, within=1)


@right("colors")
def png_of_an_old_mac(tmp_path: Path) -> None:
    """gAMA 1/1.8."""
    values = light_in("bt709") ** (1 / 1.8)
    held(png(tmp_path / "a.png", values, chunk(b"gAMA", struct.pack(">I", 55556)), bits=8), hdr=False, within=2)


@right("colors")
def png_with_wide_primaries_and_no_profile(tmp_path: Path) -> None:
    """cHRM of Adobe RGB beside gAMA 1/2.2."""
    corners = [0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06]
    told = (
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"cHRM", struct.pack(">8I", *(round(c * 1e5) for c in corners))),
    )
    held(png(tmp_path / "a.png", srgb_curve(light_in("adobe")), *told), hdr=False, within=2)


@right("colors")
def srgb_chunk_beats_gamma(tmp_path: Path) -> None:
    """A file with both is sRGB."""
    told = chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100000))
    held(png(tmp_path / "a.png", wall(), *told), hdr=False, within=1)


def adobe_exif(space: int = 0xFFFF, index: str = "R03") -> Image.Exif:
    """How cameras name Adobe RGB."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    if index:
        exif.get_ifd(0x8769)[0xA005] = {1: index}
    return exif


def _adobe(suffix: str, space: int, index: str, folder: Path) -> None:
    values = light_in("adobe") ** (256 / 563)
    picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    path = folder / f"a{suffix}"
    keywords: dict[str, object] = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(
        suffix, {}
    )
    picture.save(path, exif=adobe_exif(space, index).tobytes(), **keywords)
    held(path, hdr=False, within=5)


for suffix in (".jpg", ".png", ".webp"):
    case("colors", f"adobe-rgb-by-exif{suffix}", functools.partial(_adobe, suffix, 0xFFFF, "R03"))
case("colors", "adobe-rgb-by-color-space-2", functools.partial(_adobe, ".jpg", 2, ""))


@right("colors")
def exif_of_srgb_changes_nothing(tmp_path: Path) -> None:
    """R98 and colour space 1."""
    picture = Image.fromarray((wall() * 255 + 0.5).astype(np.uint8))
    picture.save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=adobe_exif(1, "R98").tobytes())
    held(tmp_path / "a.jpg", hdr=False, within=2)


@right("colors")
def hdr_numbers_beat_a_profile(tmp_path: Path) -> None:
    """An encoder that adds an sRGB profile to PQ numbers does not make them sRGB."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told = chunk(b"cICP", bytes([9, 16, 0, 1])), chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(profile))
    held(png(tmp_path / "a.png", numbers("pq"), *told), hdr=True, within=4)


@right("colors")
def a_profile_that_names_its_numbers(tmp_path: Path) -> None:
    """ICC 4.4's cicp tag, for containers that have no other place for PQ."""
    tag = b"cicp" + struct.pack(">II", 144, 12)
    profile = struct.pack(">I", 156).ljust(36, b"\0") + b"acsp"
    profile = profile.ljust(128, b"\0") + struct.pack(">I", 1) + tag + b"cicp\0\0\0\0" + bytes([9, 16, 0, 1])
    picture = Image.fromarray((numbers("pq") * 255 + 0.5).astype(np.uint8))
    picture.save(tmp_path / "a.jpg", quality=100, subsampling=0, icc_profile=profile)
    held(tmp_path / "a.jpg", hdr=True, within=8)


def tiff(path: Path, values: np.ndarray, order: str, *, planar: bool, form: int = 1, kind: int = 2) -> Path:
    """An uncompressed TIFF of whatever numbers, in strips of 20 rows."""
    height, width, samples = values.shape
    swapped = values.astype(values.dtype.newbyteorder(order))
    planes = [swapped[..., k] for k in range(samples)] if planar else [swapped]
    strips = [plane[top : top + 20].tobytes() for plane in planes for top in range(0, height, 20)]
    bits = values.dtype.itemsize * 8
    lengths = [len(s) for s in strips]
    names = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * samples), 259: ("H", [1]), 262: ("H", [kind]),
        273: ("I", []), 277: ("H", [samples]), 278: ("I", [20]), 279: ("I", lengths),
        284: ("H", [2 if planar else 1]), 339: ("H", [form] * samples),
    }  # fmt: skip
    body = b"".join(strips)
    names[273] = ("I", [8 + sum(lengths[:i]) for i in range(len(strips))])
    table, after = b"", b""
    start = 8 + len(body) + 2 + 12 * len(names) + 4
    for tag, (letter, listed) in sorted(names.items()):
        data = struct.pack(f"{order}{len(listed)}{letter}", *listed)
        if len(data) > 4:
            place, after = struct.pack(f"{order}I", start + len(after)), after + data
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack(f"{order}HHI", tag, 4 if letter == "I" else 3, len(listed)) + place
    mark = b"MM\0*" if order == ">" else b"II*\0"
    head = mark + struct.pack(f"{order}I", 8 + len(body))
    path.write_bytes(head + body + struct.pack(f"{order}H", len(names)) + table + bytes(4) + after)
    return path


def _deep_tiff(order: str, planar: bool, folder: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (70, 90, 3)).astype(np.uint16)
    image = read_picture(tiff(folder / "a.tif", values, order, planar=planar)).image
    assert np.abs(image.astype(float) - values / 257).max() <= 1


for order in "<>":
    for planar in (False, True):
        name = f"tiff-16-bit-{'planar' if planar else 'interleaved'}-{'big' if order == '>' else 'little'}"
        case("colors", name, functools.partial(_deep_tiff, order, planar))


def _refused_tiff(dtype: str, form: int, kind: int, words: str, folder: Path) -> None:
    values = (np.random.default_rng(0).uniform(0, 1, (70, 90, 3)) * 100).astype(dtype)
    if kind == 1:
        values = values[..., :1]
    with pytest.raises(Unreadable, match=words):
        read_picture(tiff(folder / "a.tif", values, "<", planar=False, form=form, kind=kind))


for name, *rest in (
    ("float-colors", "f4", 3, 2, "TIFF whose pixels|floating-point"),
    ("float-grey", "f4", 3, 1, "floating-point numbers"),
    ("signed-grey", "i2", 2, 1, "signed"),
    ("32-bit-grey", "u4", 1, 1, "32 bits a number"),
    ("cielab", "u1", 1, 8, "CIELAB"),
):
    case("colors", f"tiff-{name}-is-refused", functools.partial(_refused_tiff, *rest))


def _refused(start: bytes, words: str, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(start + bytes(100))
    with pytest.raises(Unreadable, match=words):
        read_picture(folder / "a.jpg")


for name, start, words in (
    ("openexr", b"\x76\x2f\x31\x01", "OpenEXR"),
    ("radiance", b"#?RADIANCE\n", "Radiance"),
    ("jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ("photoshop", b"8BPS\0\1", "Photoshop"),
):
    case("colors", f"{name}-is-refused-by-name", functools.partial(_refused, start, words))


@right("colors")
def jpeg_xl_is_read_or_refused_by_name(tmp_path: Path) -> None:
    """By the plug-in where it is installed."""
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    with pytest.raises(Unreadable, match=r"JPEG XL|damaged|cut short"):
        read_picture(tmp_path / "a.jxl")
