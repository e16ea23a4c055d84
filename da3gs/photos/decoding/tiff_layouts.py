"""TIFF layouts that Pillow would read wrongly or not at all: read here, or refused by what they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from da3gs._files import OpenBytes
from da3gs.photos.decoding.picture_colors import TO_EIGHT_BITS
from da3gs.photos.records import Unreadable

_BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _COUNTS = 258, 259, 262, 273, 277, 278, 279
_PLANAR, _TILE_WIDTH, _EXTRA, _FORMAT = 284, 322, 338, 339
_LAB = (8, 9, 10)


def check_layout(image: Image.Image) -> None:
    """Check that numbers and colours are of a kind whose black and white are known.

    Raises:
        Unreadable: floating-point or signed numbers, more than 16 bits, or CIELAB.
    """
    bits, formats = _values(image, _BITS), _values(image, _FORMAT)
    if 3 in formats:
        raise Unreadable("is a TIFF of floating-point numbers, whose white is not told; save it with 8 or 16 bits")
    if set(formats) - {1, 4}:
        raise Unreadable("is a TIFF of signed or complex numbers, no photo; save it with 8 or 16 bits")
    if max(bits, default=1) > 16:
        raise Unreadable(f"is a TIFF of {max(bits)} bits a number, whose white is not told; save it with 8 or 16 bits")
    if (_values(image, _PHOTOMETRIC) or (0,))[0] in _LAB:
        raise Unreadable("is a TIFF of CIELAB colours; save it as RGB")


def separate_planes(image: Image.Image, file: OpenBytes) -> Image.Image | None:
    """An uncompressed picture of 16-bit planes, one a colour, with 8 bits; None where it is stored another way.

    Raises:
        Unreadable: it is cut short, or its planes lie in tiles.
    """
    if _values(image, _PLANAR) != (2,) or _values(image, _COMPRESSION) not in ((), (1,)):
        return None
    if set(_values(image, _BITS)) != {16}:
        return None
    samples = (_values(image, _SAMPLES) or (1,))[0]
    if _values(image, _TILE_WIDTH) or samples not in (3, 4):
        raise Unreadable("is a TIFF of separate 16-bit planes in tiles; save it interleaved")
    file.seek(0)
    order = ">u2" if file.read(2) == b"MM" else "<u2"
    height, width = image.height, image.width
    rows = min((_values(image, _ROWS) or (height,))[0], height)
    strips = -(-height // rows)
    offsets = _values(image, _OFFSETS)
    if len(offsets) != samples * strips:
        raise Unreadable("is damaged (its strips do not fill its planes)", "is damaged")
    pixels = np.empty((height, width, samples), np.uint8)
    for number, offset in enumerate(offsets):
        plane, top = divmod(number, strips)
        count = min(rows, height - top * rows) * width
        file.seek(offset)
        data = file.read(2 * count)
        if len(data) < 2 * count:
            raise Unreadable("is cut short: the file ends before the picture does")
        part = TO_EIGHT_BITS[np.frombuffer(data, order)].reshape(-1, width)
        pixels[top * rows : top * rows + len(part), :, plane] = part
    planes = Image.fromarray(pixels)
    planes.info = {**image.info}
    return planes


def _values(image: Image.Image, tag: int) -> tuple[int, ...]:
    """A tag's whole numbers; empty where it is absent or something else."""
    tags = getattr(image, "tag_v2", {})
    value = tags.get(tag, ())
    numbers = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in numbers if isinstance(number, int))
