"""PlayCanvas' SOG, version 2: a ZIP, or the folder of a meta.json."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from da3gs.errors import InputError
from da3gs.exports.independent.record import DecodedSplats

_MOST = 1 << 30  # bytes


def decode(path: Path) -> DecodedSplats:
    """The splats of a file, or of a folder by its meta.json."""
    if path.suffix == ".json":
        return decode_files(path.name, lambda entry: (path.parent / entry).read_bytes())
    with zipfile.ZipFile(path) as archive:
        return decode_files(path.name, lambda entry: unpacked(archive, entry))


def unpacked(archive: zipfile.ZipFile, entry: str) -> bytes:
    """A file of an archive, unless it is far larger than pictures of splats are."""
    info = archive.getinfo(entry)
    if info.file_size > _MOST:
        raise InputError(f"{entry} unpacks to {info.file_size} bytes, which no picture of splats has")
    return archive.read(info)


def decode_files(name: str, read: Callable[[str], bytes], meta: str = "meta.json", kind: str = ".sog") -> DecodedSplats:
    """The splats of the files that ``read`` gives by name; ``name`` is what messages call the whole."""
    told = json.loads(read(meta))
    if told["version"] != 2:
        raise InputError(f"{name} is SOG version {told['version']}, of which check knows 2")
    count = told["count"]

    def columns(entry: str) -> list[np.ndarray]:
        """Red, green, blue and alpha of each splat."""
        picture = Image.open(io.BytesIO(read(entry)), formats=["WEBP"])
        if not count <= picture.width * picture.height <= 4 * count + 4096:
            raise InputError(f"{name} is broken: {entry} has not the pixels of {count} splats")
        return [np.asarray(plane).ravel()[:count].astype(np.int64) for plane in picture.convert("RGBA").split()]

    fine, coarse = (columns(entry) for entry in told["means"]["files"])
    place = np.empty((count, 3))
    for axis in range(3):
        low, high = told["means"]["mins"][axis], told["means"]["maxs"][axis]
        value = low + (high - low) * (fine[axis] | coarse[axis] << 8) / 65535
        place[:, axis] = np.copysign(np.exp(np.abs(value)) - 1, value)
    red, green, blue, alpha = columns(told["sh0"]["files"][0])
    constant = np.array(told["sh0"]["codebook"])
    sizes = np.array(told["scales"]["codebook"])
    harmonics = [np.stack([constant[red], constant[green], constant[blue]], 1)[:, None]]
    if "shN" in told:
        harmonics.append(_rest(told["shN"], read, columns))
    return DecodedSplats.of(
        kind,
        np.concatenate(harmonics, 1),
        means=place,
        scales=np.stack([np.exp(sizes[plane]) for plane in columns(told["scales"]["files"][0])[:3]], 1),
        quaternions=_turns(*columns(told["quats"]["files"][0])),
        opacities=alpha / 255,
        antialiased=told.get("model") == "antialiased",
    )


def _turns(a: np.ndarray, b: np.ndarray, c: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """Quaternions, w first, of three components and which one is missing."""
    small = [(plane / 255 - 0.5) * 2**0.5 for plane in (a, b, c)]
    large = np.sqrt(np.maximum(0, 1 - sum(plane**2 for plane in small)))
    turns = np.zeros((len(a), 4))
    for missing in range(4):
        chosen = tag == 252 + missing
        turns[chosen] = np.stack([*small[:missing], large, *small[missing:]], 1)[chosen]
    turns[tag < 252, 0] = 1
    return turns


def _rest(told: dict[str, Any], read: Callable[[str], bytes], columns: Callable[[str], list[np.ndarray]]) -> np.ndarray:
    """Harmonics of degree 1 and above: entries of the palette lie 64 in a row, a pixel a harmonic."""
    number = told["bands"] * (told["bands"] + 2)
    picture = np.asarray(Image.open(io.BytesIO(read(told["files"][0])), formats=["WEBP"]).convert("RGB"))
    low, high, _, _ = columns(told["files"][1])
    label = low + 256 * high
    values = np.array(told["codebook"])
    places = label[:, None] % 64 * number + np.arange(number)
    found: np.ndarray = values[picture[label[:, None] // 64, places]]
    return found
