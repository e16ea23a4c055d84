"""Masks: which pixels of a photo are wanted, whatever the picture that says so looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from da3gs.photos.decoding.images import decoded, turned
from da3gs.photos.decoding.picture_colors import alpha_of, has_alpha
from da3gs.photos.naming import shown
from da3gs.photos.records import Unreadable

MASKED = "is masked everywhere"
_LOSSY = ("JPEG", "WEBP", "AVIF", "HEIF", "JXL")
_GREY = 12
"""Up to this difference of red, green and blue a colour of a palette counts as grey."""


def read_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """A mask file, as stored: True where a pixel is kept.

    Where the file has transparency, its alpha decides. Else white is kept: from the middle of the range on, of the
    brightest channel. A file in which nothing reaches the middle holds numbers, not brightness (0 and 1, or labels),
    and is kept where it is not 0; so is a palette of colours where it is not the first.

    Raises:
        Unreadable: as ``read_picture``.
    """
    return _read(path)[0]


def mask_for(
    path: Path, height: int, width: int, *, orientation: int = 1, inverted: bool = False
) -> Bool[np.ndarray, "H W"]:
    """A mask at the size of its photo.

    Args:
        path: its file.
        height: of the photo, as it is used.
        width: of the photo, as it is used.
        orientation: by which the photo was turned; a mask of the photo as stored is turned with it.
        inverted: whether the file says what is not wanted.

    Raises:
        Unreadable: it cannot be read, has another shape, or keeps nothing.
    """
    name = shown(path.name)
    try:
        mask, seen = _read(path)
    except Unreadable as problem:
        raise Unreadable(f"has a mask, {name}, that {problem}", f"has a mask that {problem.kind}") from problem
    if orientation > 1 and not _fits(mask, height, width) and _fits(mask.T, height, width):
        mask = turned(mask, orientation)
    if not _fits(mask, height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]} for {width}x{height}"
        raise Unreadable(f"has a mask, {name}, of another shape ({size})", "has a mask of another shape")
    mask = ~mask if inverted else mask
    if not mask.any():
        how = "inverted, " if inverted else ""
        raise Unreadable(f"{MASKED} ({how}its mask {name} {seen})", MASKED)
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)[:, None], columns.astype(int)]


def _fits(mask: np.ndarray, height: int, width: int) -> bool:
    """Whether it has the photo's shape, to 1 % or a pixel."""
    rows, columns = mask.shape
    return abs(columns * height / (rows * width) - 1) <= 0.01 or abs(columns * height / width - rows) <= 1


def _read(path: Path) -> tuple[Bool[np.ndarray, "H W"], str]:
    """What is kept, and what was seen in the file, in words that follow its name."""
    with decoded(path) as (image, _):
        if has_alpha(image):
            alpha = np.asarray(alpha_of(image))
            if alpha.min() < 128:
                return _kept(alpha, 255, "alpha", lossy=False)
            image = image.convert("RGB" if image.mode not in ("LA", "La") else "L")
        if image.mode == "P":
            return _by_palette(image)
        lossy = image.format in _LOSSY
        if image.mode in ("1", "L"):
            return _kept(np.asarray(image.convert("L")), 255, "value", lossy=lossy)
        if image.mode.startswith("I"):
            deep = np.asarray(image)
            return _kept(deep, 255 if deep.max() <= 255 else 65535, "value", lossy=lossy)
        return _kept(np.asarray(image.convert("RGB")).max(-1), 255, "value", lossy=lossy)


def _kept(values: Shaped[np.ndarray, "H W"], full: int, word: str, *, lossy: bool) -> tuple[np.ndarray, str]:
    top = int(values.max())
    if top == 0:
        return values > 0, f"has the {word} 0 everywhere"
    if 2 * top > full:
        return 2 * values.astype(np.int64) > full, f"has {word}s from {int(values.min())} to {top}"
    # after lossy coding 0 is not 0 any more
    return (values > top / 2 if lossy else values > 0), f"has {word}s up to {top}, kept where they are not 0"


def _by_palette(image: Image.Image) -> tuple[np.ndarray, str]:
    """By brightness where the palette is grey and holds white, else every label but 0."""
    indices = np.asarray(image)
    palette = np.array(image.getpalette("RGB") or [], int).reshape(-1, 3)
    palette = np.concatenate((palette, np.zeros((256 - len(palette), 3), int)))
    used = palette[np.unique(indices)]
    if (np.ptp(used, axis=1) <= _GREY).all() and used.max() >= 128:
        return _kept(palette.max(1)[indices], 255, "value", lossy=False)
    return _kept(indices.clip(0, 1), 255, "label", lossy=False)
