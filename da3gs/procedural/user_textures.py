"""The user's own photos as textures of procedural scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from da3gs.errors import InputError
from da3gs.photos.decoding.images import read_picture
from da3gs.photos.folders.survey import survey
from da3gs.photos.records import Unreadable
from da3gs.procedural.textures import TextureBank

_SHARE = 0.4  # of the textures


def texture_files(folder: Path) -> list[Path]:
    """The photos of a folder.

    Raises:
        InputError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise InputError(f"photos = {folder.name!r} is no folder; name one that holds photos")
    files = [found.path for found in survey(folder).files if found.kind == "photo"]
    if not files:
        raise InputError(f"photos = {folder.name!r} holds no photos; name a folder that does")
    return files


def with_photos(bank: TextureBank, generator: np.random.Generator, files: list[Path]) -> TextureBank:
    """The bank with two fifths of its textures replaced by square pieces of photos; photos that cannot be read are
    passed over."""
    atlas = bank.atlas.copy()
    for index in range(len(bank.kinds)):
        if generator.random() >= _SHARE:
            continue
        piece = _piece(generator, files[int(generator.integers(len(files)))], bank.size)
        if piece is None:
            continue
        level = piece.astype(np.float64)
        for start in bank.level_starts:
            side = level.shape[0]
            atlas[index, start : start + side * side] = np.round(level).astype(np.uint8).reshape(-1, 3)
            level = level.reshape(side // 2, 2, side // 2, 2, 3).mean((1, 3))
    return dataclasses.replace(bank, atlas=atlas)


def _piece(generator: np.random.Generator, file: Path, size: int) -> np.ndarray | None:
    """A random square of a photo, mirrored at its middle so that it repeats without a seam."""
    try:
        image = read_picture(file).image
    except Unreadable:
        return None
    side = int(min(image.shape[:2]) * generator.uniform(0.3, 1.0))
    top = int(generator.integers(image.shape[0] - side + 1))
    left = int(generator.integers(image.shape[1] - side + 1))
    half = Image.fromarray(image[top : top + side, left : left + side]).resize(
        (size // 2, size // 2), Image.Resampling.LANCZOS
    )
    quarter = np.asarray(half)
    row = np.concatenate((quarter, quarter[:, ::-1]), 1)
    return np.concatenate((row, row[::-1]), 0)
