"""Masks as programs write them: what is kept is the same."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.photos import load_photos
from da3gs.photos.decoding.masks import read_mask
from tests.hostile.right import case, right
from tests.unit.pictures import save, textured

KEEP = np.zeros((64, 96), bool)
KEEP[20:50, 30:80] = True


def _palette(colors: list[int], labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8), "L").convert("P")
    image.putdata(labels.reshape(-1).tolist())
    image.putpalette(colors + [0] * (768 - len(colors)))
    return image


def _with_alpha(mode: str, alpha: np.ndarray) -> Image.Image:
    image = Image.fromarray(textured()).convert(mode[:-1])
    image.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    return image


def _two_labels() -> np.ndarray:
    labels = KEEP.astype(np.uint8)
    labels[20:30, 30:80] = 2
    return labels


MASKS = {
    "0-and-255": lambda: Image.fromarray(KEEP.astype(np.uint8) * 255),
    "0-and-1": lambda: Image.fromarray(KEEP.astype(np.uint8)),
    "labels": lambda: Image.fromarray(_two_labels()),
    "one-bit": lambda: Image.fromarray(KEEP),
    "16-bit-white": lambda: Image.fromarray(KEEP.astype(np.uint16) * 65535),
    "16-bit-0-and-255": lambda: Image.fromarray(KEEP.astype(np.uint16) * 255),
    "16-bit-0-and-1": lambda: Image.fromarray(KEEP.astype(np.uint16)),
    "16-bit-labels": lambda: Image.fromarray(_two_labels().astype(np.uint16) * 1000),
    "rgb-white": lambda: Image.fromarray(np.repeat(KEEP[..., None], 3, 2).astype(np.uint8) * 255),
    "rgb-red": lambda: Image.fromarray(KEEP[..., None] * np.array([255, 0, 0], np.uint8)),
    "rgb-dark-labels": lambda: Image.fromarray(KEEP[..., None] * np.array([0, 100, 0], np.uint8)),
    "palette-of-labels": lambda: _palette([0, 0, 0, 128, 0, 0, 0, 128, 0], _two_labels()),
    "palette-black-white": lambda: _palette([0, 0, 0, 255, 255, 255], KEEP),
    "palette-white-black": lambda: _palette([255, 255, 255, 0, 0, 0], ~KEEP),
    "alpha-of-a-cutout": lambda: _with_alpha("RGBA", KEEP),
    "alpha-of-grey": lambda: _with_alpha("LA", KEEP),
    "opaque-alpha": lambda: Image.fromarray(
        np.dstack([KEEP.astype(np.uint8) * 255] * 3 + [np.full_like(KEEP, 255, np.uint8)])
    ),
}


def _kept(name: str, folder: Path) -> None:
    MASKS[name]().save(folder / "m.png")
    np.testing.assert_array_equal(read_mask(folder / "m.png"), KEEP)


for name in MASKS:
    case("masks", name, functools.partial(_kept, name))


@right("masks")
def jpeg_of_0_and_1(tmp_path: Path) -> None:
    """Lossy coding leaves ones among the zeros at most where it has to."""
    Image.fromarray(KEEP.astype(np.uint8) * 3).save(tmp_path / "m.jpg", quality=100)
    assert (read_mask(tmp_path / "m.jpg") == KEEP).mean() > 0.97


@right("masks")
def turned_about_when_asked(tmp_path: Path) -> None:
    """--invert-masks, and what is masked everywhere only then."""
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "masks" / "a.png", KEEP.astype(np.uint8) * 255)
    plain = load_photos(tmp_path / "photos", masks=tmp_path / "masks", resolution=96)
    other = load_photos(tmp_path / "photos", masks=tmp_path / "masks", invert_masks=True, resolution=96)
    assert plain.photos[0].read().mask is not None
    np.testing.assert_array_equal(plain.photos[0].read().mask, KEEP)
    np.testing.assert_array_equal(other.photos[0].read().mask, ~KEEP)
    save(tmp_path / "masks" / "a.png", np.full((64, 96), 255, np.uint8))
    with pytest.raises(InputError, match=r"masked everywhere \(inverted, its mask a.png has values from 255 to 255"):
        load_photos(tmp_path / "photos", masks=tmp_path / "masks", invert_masks=True)


@right("masks")
def masked_everywhere_says_what_it_saw(tmp_path: Path) -> None:
    """All 0, or an alpha of 0."""
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "masks" / "a.png", np.zeros((64, 96), np.uint8))
    with pytest.raises(InputError, match=r"its mask a\.png has the value 0 everywhere"):
        load_photos(tmp_path / "photos", masks=tmp_path / "masks")
    _with_alpha("RGBA", np.zeros((64, 96))).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match=r"its mask a\.png has the alpha 0 everywhere"):
        load_photos(tmp_path / "photos", masks=tmp_path / "masks")


@right("masks")
def of_the_photo_as_stored(tmp_path: Path) -> None:
    """A mask made by a program that does not look at EXIF's orientation turns with its photo."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    Image.fromarray(textured()).save(tmp_path / "photos" / "a.jpg", exif=exif.tobytes())
    save(tmp_path / "masks" / "a.png", KEEP.astype(np.uint8) * 255)
    loaded = load_photos(tmp_path / "photos", masks=tmp_path / "masks", resolution=96)
    np.testing.assert_array_equal(loaded.photos[0].read().mask, np.rot90(KEEP, -1))
    save(tmp_path / "masks" / "a.png", np.rot90(KEEP, -1).astype(np.uint8) * 255)
    upright = load_photos(tmp_path / "photos", masks=tmp_path / "masks", resolution=96)
    np.testing.assert_array_equal(upright.photos[0].read().mask, np.rot90(KEEP, -1))
