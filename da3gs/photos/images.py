"""One picture file: what its header says, and its pixels as upright sRGB.

Only the formats of ``FORMATS`` are opened, whatever a file is called; sizes are checked in the header, before anything
is decoded. What cannot be read raises ``Unreadable`` with a reason that reads on from the file's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, ImageCms, UnidentifiedImageError

from da3gs.errors import InputError
from da3gs.formats.color import Primaries, Transfer, to_srgb
from da3gs.formats.lens import Lens, panorama_lens

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "PPM")
SMALLEST_SIDE = 32
LARGEST_ASPECT = 20
MOST_PIXELS = 250_000_000
_PILLOW_LIMIT = 80_000_000

_log = logging.getLogger(__name__)
_pillow_limit = threading.Lock()
_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_FULL_FRAME_DIAGONAL = math.hypot(36, 24)


class Unreadable(Exception):
    """Why a photo cannot be used; the reason reads on from its name ("is cut short")."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What is known of a picture before it is decoded."""

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
    with _opened(path) as image:
        return _header(image)


def read_picture(path: Path, *, upright: bool = True) -> Picture:
    """The pixels of a picture file (the first frame of an animation) as sRGB.

    Args:
        path: the file.
        upright: turn by the EXIF orientation; False gives the pixels as stored, which given intrinsics may mean.

    Raises:
        Unreadable: as ``read_header``, or the pixels are cut short or damaged.
    """
    with _opened(path) as image:
        orientation = _header(image).orientation
        _load(image)
        pixels, mask = _srgb(image)
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
    with _explained(), _open_pillow(io.BytesIO(data)) as image:
        _header(image)
        _load(image)
        pixels, mask = _srgb(image)
    return Picture(image=pixels, mask=mask)


def read_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """A mask file: True where it is white (128 or more), as stored.

    Raises:
        Unreadable: as ``read_picture``.
    """
    with _opened(path) as image:
        _header(image)
        _load(image)
        grey = image if image.mode in ("1", "L") else image.convert("RGB").convert("L")
        return np.asarray(grey.convert("L")) >= 128


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
        raise Unreadable(f"{size}; both sides must be at least {SMALLEST_SIDE}")
    if height * width > MOST_PIXELS:
        raise Unreadable(f"{size}; at most {MOST_PIXELS // 1_000_000} megapixels are read")
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        raise Unreadable(f"{size}; the long side may be at most {LARGEST_ASPECT} times the short one")


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
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, open; whatever Pillow raises inside the block becomes ``Unreadable``."""
    check_regular(path)
    with _explained(), path.open("rb") as file, _open_pillow(file) as image:
        yield image


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever Pillow raises inside the block becomes ``Unreadable``."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"is not a picture that da3gs reads ({_FORMAT_WORDS})") from error
    except MemoryError as error:
        raise Unreadable("does not fit into memory") from error
    except Exception as error:  # decoders raise anything on damaged bytes: struct.error, SyntaxError, KeyError, ...
        raise Unreadable(_reason(error)) from error


_FORMAT_WORDS = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF, PPM"


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return "is cut short: the file ends before the picture does"
    return f"is damaged ({words[:80] or type(error).__name__})"


def _open_pillow(file: io.BufferedReader | io.BytesIO) -> Image.Image:
    """Pillow's header reading with our own limit on sizes in place of its own."""
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()
    with _without_pillow_limit():
        return Image.open(file, formats=FORMATS)


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _load(image: Image.Image) -> None:
    """Decode; some formats look at Pillow's limit once more here, so that large pictures are decoded one at a time."""
    large = image.height * image.width > _PILLOW_LIMIT
    with _without_pillow_limit() if large else contextlib.nullcontext():
        image.load()


def _header(image: Image.Image) -> Header:
    exif, shooting = _exif(image)
    # Pillow turns TIFF and pillow-heif HEIF by themselves, and give the turned size from the start
    orientation = 1 if image.format in ("TIFF", "HEIF") else exif.get(_ORIENTATION, 1)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    check_size(image.height, image.width)
    focal = _exif_focal(shooting, image.height, image.width)
    header = Header(height=image.height, width=image.width, orientation=orientation, focal=focal)
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
        exif = image.getexif()
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


def _srgb(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """sRGB pixels and, where anything is transparent, what is not."""
    mask = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        profile = image.info.get("icc_profile")
        image = image.convert("RGBA")
        mask = np.asarray(image.getchannel("A")) >= 128
        mask = None if mask.all() else mask
        image = image.convert("RGB")
        if profile:
            image.info["icc_profile"] = profile
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.mode in ("1", "P", "YCbCr", "HSV"):
        profile = image.info.get("icc_profile")
        image = image.convert("RGB")
        if profile:
            image.info["icc_profile"] = profile
    image = _icc_applied(image)
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _nclx_applied(pixels, image.info), mask


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 or 32 bits, or of floating-point numbers from 0 to 1, with 8 bits."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("holds pixels that are not numbers")
    if image.mode == "F":
        full = 1.0 if values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
    else:
        full = 65535.0 if image.mode.startswith("I;16") or values.max() > 255 else 255.0
    return Image.fromarray((values * (255 / full) + 0.5).clip(0, 255).astype(np.uint8))


def _icc_applied(image: Image.Image) -> Image.Image:
    """The picture in sRGB where an ICC profile says that it is in something else."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        mode = "RGB" if image.mode == "RGBX" else image.mode
        converted = ImageCms.profileToProfile(image.convert(mode), source, target, intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        _log.debug("an ICC profile was passed over: %s", error)
        return image
    return image if converted is None else converted


def _nclx_applied(pixels: np.ndarray, info: dict[Any, Any]) -> np.ndarray:
    """HEIF files without an ICC profile may name their colours by numbers (ITU-T H.273) as video does."""
    numbers = info.get("nclx_profile")
    if not isinstance(numbers, dict) or info.get("icc_profile"):
        return pixels
    known: dict[int, Primaries] = {9: "bt2020", 12: "p3"}
    curves: dict[int, Transfer] = {16: "pq", 18: "hlg"}
    primaries = known.get(int(numbers.get("color_primaries", 1)), "bt709")
    transfer = curves.get(int(numbers.get("transfer_characteristics", 13)), "srgb")
    if (primaries, transfer) == ("bt709", "srgb"):
        return pixels
    return to_srgb(pixels.astype(np.float32) / 255, primaries=primaries, transfer=transfer)
