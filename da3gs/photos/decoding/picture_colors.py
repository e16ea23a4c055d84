"""Colours of a picture, whatever its container says of them and how, as sRGB pixels.

One rule for all: numbers that mean HDR come first, then an ICC profile, then other numbers (PNG's cICP comes before a
profile, as its specification asks), PNG's gamma, and at last EXIF's word for Adobe RGB.
"""

from __future__ import annotations

import io
import logging
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, ImageCms

from da3gs._files import OpenBytes
from da3gs.formats.media.boxes import primary_nclx
from da3gs.formats.media.color import ADOBE_RGB, ColorTags, nearest_primaries, numbered, to_srgb
from da3gs.formats.media.png import PngFacts, png_facts

_log = logging.getLogger(__name__)
_EXIF_IFD, _INTEROPERABILITY_IFD, _COLOR_SPACE = 0x8769, 0xA005, 0xA001
_SRGB_GAMMA = 2.2
_DEEP_PIXELS = 60_000_000
"""Larger pictures are taken at 8 bits even where they have 16."""


def srgb_pixels(
    image: Image.Image, file: OpenBytes
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"] | None]:
    """sRGB pixels of a decoded picture and, where anything is transparent, what is not.

    Args:
        image: decoded.
        file: what it was opened from.
    """
    facts = png_facts(file) if image.format == "PNG" else None
    profile = image.info.get("icc_profile") or None
    tags = _tags(image, file, facts, profile)
    mask = None
    if has_alpha(image):
        mask = np.asarray(alpha_of(image)) >= 128
        mask = None if mask.all() else mask
    if tags is None and profile is not None and (converted := _profiled(image, profile)) is not None:
        return np.asarray(converted), mask
    values = _numbers(image, file, facts, deep=tags is not None and not tags.plain)
    if tags is None:
        return to_srgb(values), mask
    return to_srgb(values, primaries=tags.primaries, transfer=tags.transfer), mask


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture can be transparent somewhere."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def alpha_of(image: Image.Image) -> Image.Image:
    """Opacity of a picture, 8 bits."""
    return (image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")).getchannel("A")


def _tags(image: Image.Image, file: OpenBytes, facts: PngFacts | None, profile: bytes | None) -> ColorTags | None:
    """What numbers say of the colours; None where a profile says it, or nothing does."""
    points = facts.cicp if facts is not None else _nclx(image, file)
    if points is None and profile is not None:
        points = _profile_numbers(profile)
    tags = None if points is None else numbered(*points)
    if tags is not None and (tags.is_hdr or facts is not None or profile is None):
        return tags
    if profile is not None:
        return None
    if facts is not None and facts.gamma is not None and 0.15 < facts.gamma <= 1:
        primaries = None if facts.chromaticities is None else nearest_primaries(facts.chromaticities)
        exponent = 1 / facts.gamma
        is_srgb = abs(exponent / _SRGB_GAMMA - 1) < 0.05
        return ColorTags(primaries=primaries or "bt709", transfer="srgb" if is_srgb else exponent)
    return ADOBE_RGB if _exif_says_adobe(image) else None


def _nclx(image: Image.Image, file: OpenBytes) -> tuple[int, int] | None:
    if image.format == "HEIF":
        told = image.info.get("nclx_profile")
        if isinstance(told, dict):
            return int(told.get("color_primaries", 2)), int(told.get("transfer_characteristics", 2))
    return primary_nclx(file) if image.format in ("AVIF", "HEIF") else None


def _profile_numbers(profile: bytes) -> tuple[int, int] | None:
    """The ``cicp`` tag of an ICC profile (version 4.4): HDR pictures whose container has no other place for it."""
    for i in range(min(int.from_bytes(profile[128:132], "big"), 100)):
        entry = profile[132 + 12 * i : 144 + 12 * i]
        if entry[:4] == b"cicp":
            data = profile[int.from_bytes(entry[4:8], "big") :][:12]
            return (data[8], data[9]) if data[:4] == b"cicp" and len(data) == 12 else None
    return None


def _exif_says_adobe(image: Image.Image) -> bool:
    """Whether EXIF names Adobe RGB: by interoperability ``R03``, or by the colour space 2 that some cameras write."""
    try:
        exif = Image.Image.getexif(image)  # PNG's own method would decode the picture to look for more
        index = exif.get_ifd(_INTEROPERABILITY_IFD).get(1)
        space = exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE)
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return False
    word = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    return word.rstrip("\0 ") == "R03" or space == 2


def _profiled(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB by its ICC profile; None where it is in sRGB already, or the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        target = ImageCms.createProfile("sRGB")
        plain = image if image.mode in ("RGB", "L", "CMYK") else _opaque(image)
        mode = {"RGB": "RGB", "GRAY": "L"}.get(source.profile.xcolor_space.strip())
        if mode is not None and plain.mode in ("RGB", "L"):
            plain = plain.convert(mode)
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(plain, source, target, intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        _log.debug("an ICC profile was passed over: %s", error)
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """The colours without transparency, 8 bits, grey or RGB."""
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode == "1":
        return image.convert("L")
    return (
        image if image.mode in ("RGB", "L") else (image.convert("RGBA") if has_alpha(image) else image).convert("RGB")
    )


def _numbers(image: Image.Image, file: OpenBytes, facts: PngFacts | None, *, deep: bool) -> Shaped[np.ndarray, "H W 3"]:
    """The numbers as stored: 8 bits, or with ``deep`` 16 where the file has them."""
    if deep and image.height * image.width <= _DEEP_PIXELS:
        if image.mode.startswith("I;16"):
            return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, 2)
        if facts is not None and facts.depth == 16 and facts.has_colors:
            file.seek(0)
            stored: Any = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
            if stored is not None and stored.dtype == np.uint16 and stored.shape[:2] == (image.height, image.width):
                return np.ascontiguousarray(stored[..., 2::-1])
    plain = _opaque(image)
    return np.asarray(plain if plain.mode == "RGB" else plain.convert("RGB"))


def _eight_bits(values: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Grey numbers of 16 bits with 8; those of a wider type that 8 bits hold stay as they are."""
    if values.dtype.itemsize > 2 and values.max() <= 255:
        return values.clip(0, 255).astype(np.uint8)
    return TO_EIGHT_BITS[values.clip(0, 65535).astype(np.uint16)]


TO_EIGHT_BITS = (np.arange(65536) * (255 / 65535) + 0.5).astype(np.uint8)
"""A 16-bit number as an 8-bit one."""
