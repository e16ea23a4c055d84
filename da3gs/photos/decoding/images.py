"""One picture file: what its header says, and its pixels as upright sRGB.

Only the formats of ``FORMATS`` are opened, whatever a file is called; sizes are checked in the header, before anything
is decoded. What cannot be read raises ``Unreadable`` with a reason that reads on from the file's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import math
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from da3gs._files import OpenBytes
from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, panorama_lens
from da3gs.formats.media.png import broken_chunk, png_facts
from da3gs.photos.decoding.picture_colors import srgb_pixels
from da3gs.photos.decoding.tiff_layouts import check_layout, separate_planes
from da3gs.photos.records import Unreadable

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "PPM", "JXL")
SMALLEST_SIDE = 32
LARGEST_ASPECT = 20
MOST_PIXELS = 250_000_000
_PILLOW_LIMIT = 80_000_000

_pillow_limit = threading.Lock()
_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_FULL_FRAME_DIAGONAL = math.hypot(36, 24)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Header of a picture, known before it is decoded."""

    height: int
    """Rows as stored."""
    width: int
    """Columns as stored."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    focal: float | None
    """Focal length in pixels by EXIF, None where it is not told or makes no sense."""
    panorama: Lens | None = None
    """Where the file says (XMP's GPano, which 360-degree cameras write) that it is equirectangular; upright size."""
    deep_grey: bool = False
    """Whether it is grey with 16 bits, as depth maps are."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) after turning."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Picture:
    """Decoded pixels."""

    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    mask: Bool[np.ndarray, "H W"] | None
    """False where the picture is more than half transparent; None where it is opaque everywhere."""


def read_header(path: Path) -> Header:
    """Size, orientation and focal length of a picture file, with the limits on sizes checked.

    Raises:
        Unreadable: not a regular file, not a picture, damaged, or of a size that is not taken.
    """
    with _opened(path) as (image, file):
        return _header(image, file)


def read_picture(path: Path, *, upright: bool = True) -> Picture:
    """The pixels of a picture file (the first frame of an animation) as sRGB.

    Args:
        path: the file.
        upright: turn by the EXIF orientation; False gives the pixels as stored, which given intrinsics may mean.

    Raises:
        Unreadable: as ``read_header``, or the pixels are cut short or damaged.
    """
    with _opened(path) as (image, file):
        orientation = _header(image, file).orientation
        pixels, mask = srgb_pixels(_loaded(image, file), file)
    if mask is not None and not mask.any():
        raise Unreadable("is transparent everywhere")
    if upright:
        pixels, mask = turned(pixels, orientation), None if mask is None else turned(mask, orientation)
    return Picture(image=pixels, mask=mask)


def decode_picture(data: bytes) -> Picture:
    """The pixels of an encoded picture in memory, as stored; the same formats and limits as those of files.

    Raises:
        Unreadable: as ``read_picture``.
    """
    file = io.BytesIO(data)
    with _explained(), _open_pillow(file) as image:
        _header(image, file)
        pixels, mask = srgb_pixels(_loaded(image, file), file)
    return Picture(image=pixels, mask=mask)


def read_small(path: Path, side: int) -> Float32[np.ndarray, "side side 3"]:
    """A picture squeezed into a small square, upright, in levels of sRGB from 0 to 255; quickly, for comparisons.

    Raises:
        Unreadable: as ``read_picture``.
    """
    with _opened(path) as (image, file):
        orientation = _header(image, file).orientation
        image.draft("RGB", (8 * side, 8 * side))  # of a JPEG an eighth of the work
        pixels = srgb_pixels(_loaded(image, file), file)[0]
        square = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        return turned(square, orientation)


@contextlib.contextmanager
def decoded(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """A picture file as Pillow holds it, decoded and as stored, and its EXIF orientation.

    Raises:
        Unreadable: as ``read_picture``.
    """
    with _opened(path) as (image, file):
        orientation = _header(image, file).orientation
        yield _loaded(image, file), orientation


def turned(pixels: Shaped[np.ndarray, "h w *channels"], orientation: int) -> Shaped[np.ndarray, "H W *channels"]:
    """Stored pixels made upright by their EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def check_size(height: int, width: int) -> None:
    """The limits on photos: both sides at least 32 pixels, long side at most 20 times the short one, 250 megapixels.

    Raises:
        Unreadable: one of them is broken.
    """
    size = f"is {width}x{height} pixels"
    if min(height, width) < SMALLEST_SIDE:
        raise Unreadable(
            f"{size}; both sides must be at least {SMALLEST_SIDE}", f"is under {SMALLEST_SIDE} pixels on a side"
        )
    if height * width > MOST_PIXELS:
        most = f"{MOST_PIXELS // 1_000_000} megapixels"
        raise Unreadable(f"{size}; at most {most} are read", f"has more than {most}")
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        words = f"the long side may be at most {LARGEST_ASPECT} times the short one"
        raise Unreadable(f"{size}; {words}", f"is more than {LARGEST_ASPECT} times as long as wide")


def check_regular(path: Path) -> None:
    """Nothing but a regular file with bytes in it (never a folder, pipe or device, which might block).

    Raises:
        Unreadable: it is something else.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})" if path.is_symlink() else "does not exist") from error
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is a folder, not a file" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    if status.st_size == 0:
        raise Unreadable("is empty")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, OpenBytes]]:
    """The picture, open, and its file; whatever Pillow raises inside the block becomes ``Unreadable``."""
    check_regular(path)
    with path.open("rb") as file, _explained(file), _open_pillow(file) as image:
        yield image, file


@contextlib.contextmanager
def _explained(file: OpenBytes | io.BytesIO | None = None) -> Iterator[None]:
    """Whatever Pillow raises inside the block becomes ``Unreadable``."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise _unknown(file) from error
    except MemoryError as error:
        raise Unreadable("does not fit into memory") from error
    except Exception as error:  # decoders raise anything on damaged bytes: struct.error, SyntaxError, KeyError, ...
        if isinstance(error, _BUGS) and _raised_here(error):
            raise
        raise Unreadable(_reason(error)) from error


_BUGS = (TypeError, AttributeError, NameError, AssertionError, ImportError, RecursionError, NotImplementedError)
"""What no bytes of a picture make our own code raise."""


def _raised_here(error: BaseException) -> bool:
    """Whether an exception comes from code of da3gs, not from a decoder that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("da3gs.")


_FORMAT_WORDS = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF, PPM"
_OTHERS = {
    b"\x76\x2f\x31\x01": "is an OpenEXR picture, whose light has no fixed white; develop it to JPEG, or to PNG or TIFF",
    b"#?RADIANCE": "is a Radiance HDR picture, whose light has no fixed white; develop it to JPEG, or to PNG or TIFF",
    b"\xff\x0a": "is JPEG XL, which needs the package pillow-jxl-plugin; install it, or save it as JPEG or PNG",
    b"\0\0\0\x0cJXL ": "is JPEG XL, which needs the package pillow-jxl-plugin; install it, or save it as JPEG or PNG",
    b"\0\0\0\x0cjP  ": "is JPEG 2000; save it as JPEG or PNG",
    b"\xff\x4f\xff\x51": "is JPEG 2000; save it as JPEG or PNG",
    b"8BPS": "is a Photoshop document; save it as JPEG, PNG or TIFF",
}
"""First bytes of pictures that people have and da3gs does not read."""


def _unknown(file: OpenBytes | io.BytesIO | None) -> Unreadable:
    """Why Pillow does not know a picture."""
    if file is not None:
        file.seek(0)
        head = file.read(16)
        for start, words in _OTHERS.items():
            if head.startswith(start):
                return Unreadable(words)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return Unreadable("is a TIFF whose pixels are stored in a way that is not read; save it with 8 or 16 bits")
    return Unreadable(f"is not a picture that da3gs reads ({_FORMAT_WORDS})")


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return "is cut short: the file ends before the picture does"
    return f"is damaged ({words[:80] or type(error).__name__})"


def _open_pillow(file: OpenBytes) -> Image.Image:
    """Pillow's header reading with our own limit on sizes in place of its own."""
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        Image.init()
        pillow_heif.register_heif_opener()
        with contextlib.suppress(ImportError):
            importlib.import_module("pillow_jxl")  # registers itself, where it is installed
    with _without_pillow_limit():
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _loaded(image: Image.Image, file: OpenBytes) -> Image.Image:
    """The picture, decoded; large ones one at a time, since some formats look at Pillow's limit once more here."""
    if image.format == "PNG" and (kind := broken_chunk(file)):
        raise Unreadable(f"is damaged (the checksum of its {kind} chunk is wrong)", "is damaged")
    if image.format == "TIFF":
        check_layout(image)
        if (planes := separate_planes(image, file)) is not None:
            return planes
    large = image.height * image.width > _PILLOW_LIMIT
    with _without_pillow_limit() if large else contextlib.nullcontext():
        image.load()
    return image


def _header(image: Image.Image, file: OpenBytes) -> Header:
    check_size(image.height, image.width)  # before anything is read, let alone decoded
    if image.format == "PNG":
        image.info.setdefault("exif", png_facts(file).exif)
    exif, shooting = _exif(image)
    # Pillow turns TIFF and pillow-heif HEIF by themselves, and give the turned size from the start
    orientation = 1 if image.format in ("TIFF", "HEIF") else exif.get(_ORIENTATION, 1)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    focal = _exif_focal(shooting, image.height, image.width)
    deep = image.mode.startswith("I")
    header = Header(height=image.height, width=image.width, orientation=orientation, focal=focal, deep_grey=deep)
    panorama = _panorama(image.info.get("xmp"), *header.upright_size)
    return header if panorama is None else dataclasses.replace(header, panorama=panorama, focal=None)


def _panorama(xmp: object, height: int, width: int) -> Lens | None:
    """The lens of a picture whose XMP states an equirectangular projection, of the whole sphere or a part of it."""
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else xmp
    if not isinstance(text, str) or not re.search(
        r"GPano:ProjectionType\s*(=\s*[\"']|>)\s*equirectangular", text, re.I
    ):
        return None
    words = ("FullPanoHeight", "FullPanoWidth", "CroppedAreaImageHeight", "CroppedAreaImageWidth")
    told = [_gpano(text, f"{word}Pixels") for word in (*words, "CroppedAreaTop", "CroppedAreaLeft")]
    full_height, full_width, part_height, part_width, top, left = told
    try:
        if not (full_height and full_width and part_height and part_width):
            return panorama_lens(height, width)
        scale = width / part_width
        whole, corner = (full_height * scale, full_width * scale), ((top or 0.0) * scale, (left or 0.0) * scale)
        return panorama_lens(height, width, whole=whole, corner=corner)
    except InputError:
        return None


def _gpano(text: str, word: str) -> float | None:
    match = re.search(rf"GPano:{word}\s*(?:=\s*[\"']|>)\s*([0-9]{{1,7}})", text)
    return float(match[1]) if match else None


def _exif(image: Image.Image) -> tuple[dict[int, Any], dict[int, Any]]:
    """The main and the shooting tags; empty where there are none or they are damaged."""
    try:
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()  # PNG's own decodes
        return dict(exif), dict(exif.get_ifd(_EXIF_IFD))
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return {}, {}


def _exif_focal(tags: dict[int, Any], height: int, width: int) -> float | None:
    """Focal length in pixels, from the 35 mm equivalent (by the diagonal, CIPA DCG-001) or the sensor's resolution."""
    told = _positive(tags.get(0xA002)), _positive(tags.get(0xA003))
    if None not in told:  # a cropped picture keeps its tags: they hold only for the shape that they were written for
        sides = sorted((height, width)), sorted(t for t in told if t)
        if abs(sides[0][0] * sides[1][1] / (sides[0][1] * sides[1][0]) - 1) > 0.02:
            return None
    diagonal = math.hypot(height, width)
    equivalent = _positive(tags.get(0xA405))
    focal = None
    if equivalent:
        focal = equivalent / _FULL_FRAME_DIAGONAL * diagonal
    else:
        millimetres, density = _positive(tags.get(0x920A)), _positive(tags.get(0xA20E))
        unit = {2: 25.4, 3: 10.0, 4: 1.0}.get(tags.get(0xA210, 2))
        if millimetres and density and unit and told[0]:
            focal = millimetres * density / unit * max(height, width) / max(told[0], told[1] or 0)
    return focal if focal and 0.2 < focal / diagonal < 30 else None


def _positive(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
