"""PlayCanvas' SOG, version 2: splats as lossless WebP pictures, in a ZIP named ``.sog`` or beside a ``meta.json``.

A pixel a splat, in Morton order; numbers are a PLY's. Positions have 16 bits an axis on a logarithmic scale, rotations
3 x 8, opacities 8; scales and colours are indexes into codebooks of 256, harmonics into a palette of at most 65,536.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from da3gs import __version__
from da3gs._files import atomic_file, open_regular
from da3gs.errors import InputError
from da3gs.formats.encoding.palette import codebook, palette
from da3gs.formats.encoding.quantising import (
    HALF_ROOT,
    finite_arrays,
    largest_first,
    log_scales,
    quantised,
    to_gaussians,
    with_largest,
)
from da3gs.formats.records import Format, SplatFile, WriteOptions
from da3gs.formats.splats.compressed_ply import morton_order
from da3gs.gaussians import Gaussians

META = "meta.json"
"""What describes the pictures."""

_VERSION = 2
_BANDS = (0, 3, 8, 15)
_ACROSS = 64  # entries of the palette in a row of its picture
_MOST_PALETTE = 1 << 16
_FEW = 4096  # splats that keep their own harmonics
_MOST_SIDE = 16383  # of a WebP picture
_MOST_META = 16 << 20  # bytes
_EPOCH = (1980, 1, 1, 0, 0, 0)
_EFFORT = {"lossless": True, "exact": True, "method": 4, "quality": 60}


def save_sog(gaussians: Gaussians, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a ``.sog`` file. The splats are put in Morton order.

    Raises:
        InputError: a number is not finite, there are no splats, or ``path`` exists and ``overwrite`` is false.
    """
    path = Path(path)
    data = sog_bytes(gaussians, path.name, WriteOptions())
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def sog_bytes(gaussians: Gaussians, name: str, options: WriteOptions) -> bytes:
    """The content of a ``.sog`` file; ``name`` is what messages call it.

    Raises:
        InputError: a number is not finite, or there are no splats.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in sog_files(gaussians, name, options).items():
            archive.writestr(zipfile.ZipInfo(entry, _EPOCH), content)
    return file.getvalue()


def sog_files(
    gaussians: Gaussians, name: str, options: WriteOptions, *, order: np.ndarray | None = None
) -> dict[str, bytes]:
    """The files that a ``.sog`` packs; ``name`` is what messages call the whole.

    Args:
        order: indexes of the splats in the order that they are stored in; Morton order by default.

    Raises:
        InputError: a number is not finite, or there are no splats, or more than pictures can hold.
    """
    arrays = finite_arrays(gaussians, name)
    count = len(gaussians)
    if not count:
        raise InputError(f"{name} would be empty: there are no splats, and a picture has to have pixels")
    width = math.ceil(math.sqrt(count) / 4) * 4
    height = math.ceil(count / width / 4) * 4
    if max(width, height) > _MOST_SIDE:
        raise InputError(f"{name} would need pictures of {width} x {height} pixels; write lod-meta.json, in chunks")
    order = morton_order(arrays["means"]) if order is None else order
    arrays = {field: array[order] for field, array in arrays.items()}
    pictures, meta = _pictures(arrays, options)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        packed = pool.map(lambda pixels: _webp(pixels, width, height), pictures.values())
        files = dict(zip(pictures, packed, strict=True))
        if count and arrays["harmonics"].shape[1] > 1:
            centroids, labels, meta["shN"] = _palette(arrays["harmonics"][:, 1:], options.palette_share)
            files["shN_centroids.webp"] = _webp(centroids, centroids.shape[1], centroids.shape[0])
            files["shN_labels.webp"] = _webp(labels, width, height)
    return {META: json.dumps(meta).encode(), **files}


def _pictures(arrays: dict[str, np.ndarray], options: WriteOptions) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Pixels of all pictures but those of the harmonics, a row a splat, and what describes them."""
    logs = np.sign(arrays["means"]) * np.log1p(np.abs(arrays["means"].astype(np.float64)))
    low, high = logs.min(0), logs.max(0)
    fixed = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    largest, others = largest_first(arrays["quaternions"])
    turn = np.concatenate((quantised(others / HALF_ROOT, 127.5, 127.5), (largest + 252).astype(np.uint8)[:, None]), 1)
    sizes, size_labels = codebook(log_scales(arrays["scales"]))
    colors, color_labels = codebook(arrays["harmonics"][:, 0])
    opacities = quantised(arrays["opacities"], 255, 0)[:, None]
    pictures = {
        "means_l.webp": (fixed & 255).astype(np.uint8),
        "means_u.webp": (fixed >> 8).astype(np.uint8),
        "quats.webp": turn,
        "scales.webp": size_labels,
        "sh0.webp": np.concatenate((color_labels, opacities), 1),
    }
    meta: dict[str, Any] = {
        "version": _VERSION,
        "asset": {"generator": f"da3gs {__version__}"},
        "count": len(fixed),
        **({"model": "antialiased"} if options.antialiased else {}),
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": _shortest(sizes), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": _shortest(colors), "files": ["sh0.webp"]},
    }
    return pictures, meta


def _palette(rest: np.ndarray, share: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Pixels of the palette, of each splat's place in it, and what describes them."""
    count, bands, _ = rest.shape
    size = count if count <= _FEW else min(_MOST_PALETTE, max(_FEW, 2 ** int(math.log2(count / share))))
    centroids, labels = palette(np.ascontiguousarray(rest.reshape(count, 3 * bands)), size)
    entries, indexes = codebook(centroids)
    pixels = np.zeros((-(-len(centroids) // _ACROSS) * _ACROSS, bands, 3), np.uint8)
    pixels[: len(centroids)] = indexes.reshape(-1, bands, 3)
    places = np.stack((labels & 255, labels >> 8, np.zeros_like(labels)), 1).astype(np.uint8)
    files = ["shN_centroids.webp", "shN_labels.webp"]
    told = {"count": len(centroids), "bands": _BANDS.index(bands), "codebook": _shortest(entries), "files": files}
    return pixels.reshape(-1, _ACROSS * bands, 3), places, told


def _shortest(entries: np.ndarray) -> list[float]:
    """Numbers with as many digits as float32 needs."""
    return [float(str(entry)) for entry in entries]


def _webp(pixels: np.ndarray, width: int, height: int) -> bytes:
    """A lossless picture of rows of 3 or 4 bytes; opaque where there are 3, empty behind the last row."""
    picture = np.zeros((width * height, 4), np.uint8)
    flat = pixels.reshape(-1, pixels.shape[-1])
    picture[: len(flat), : flat.shape[1]] = flat
    if flat.shape[1] == 3:
        picture[: len(flat), 3] = 255
    file = io.BytesIO()
    Image.fromarray(picture.reshape(height, width, 4)).save(file, "WEBP", **_EFFORT)
    return file.getvalue()


class Source(ABC):
    """Source of the files of a SOG."""

    name: str
    """What messages call the whole."""

    @abstractmethod
    def read(self, entry: str, limit: int) -> bytes:
        """At most ``limit + 1`` bytes of a file.

        Raises:
            InputError: there is no such file.
        """

    def content(self, entry: object, limit: int) -> bytes:
        """A file of at most ``limit`` bytes.

        Raises:
            InputError: it is missing, or longer.
        """
        if not isinstance(entry, str):
            raise InputError(f"{self.name} is damaged: a file's name is no text")
        data = self.read(entry, limit)
        if len(data) > limit:
            raise InputError(f"{self.name} is damaged: {entry[:60]} has more than {limit} bytes")
        return data

    def picture(self, entry: object, limit: int) -> Image.Image:
        """A picture whose size is known, but whose pixels are not unpacked yet.

        Raises:
            InputError: it is missing, no WebP, or unpacked larger than ``limit`` bytes.
        """
        picture = Image.open(io.BytesIO(self.content(entry, limit)), formats=["WEBP"])
        if picture.width * picture.height * 4 > limit:
            raise InputError(f"{self.name} is damaged: {entry} has {picture.width} x {picture.height} pixels")
        return picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """The folder of a meta.json."""

    name: str
    folder: Path

    def read(self, entry: str, limit: int) -> bytes:
        """Content of a regular file in the folder itself."""
        if entry in ("", ".", "..") or Path(entry).name != entry or (self.folder / entry).is_symlink():
            raise InputError(f"{self.name} names {entry[:60]!r}, which is no file beside it")
        with open_regular(self.folder / entry) as file:
            return file.read(limit + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ZipSource(Source):
    """A ``.sog`` file."""

    name: str
    archive: zipfile.ZipFile

    def read(self, entry: str, limit: int) -> bytes:
        """At most ``limit + 1`` bytes of a file of the archive."""
        if entry not in self.archive.NameToInfo:
            raise InputError(f"{self.name} is cut short: it lacks {entry[:60]}")
        with self.archive.open(entry) as file:
            return file.read(limit + 1)


def load_sog(path: Path | str) -> SplatFile:
    """Read a ``.sog`` file, or the ``meta.json`` of a folder.

    Raises:
        InputError: it is missing, cut short, damaged, or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        if file.read(2) != b"PK":
            return read_sog(FolderSource(name=path.name, folder=path.parent), path.name)
        file.seek(0)
        return _read_zip(file, path.name)


def read_sog_bytes(data: bytes, name: str) -> SplatFile:
    """The splats of the content of a ``.sog`` file; ``name`` is what messages call it.

    Raises:
        InputError: it is cut short, damaged, or of another version.
    """
    return _read_zip(io.BytesIO(data), name)


def _read_zip(file: BinaryIO | io.BytesIO, name: str) -> SplatFile:
    try:
        with zipfile.ZipFile(file) as archive:
            return read_sog(_ZipSource(name=name, archive=archive), META)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{name} is damaged or cut short: {' '.join(str(error).split())[:100]}") from error


def read_sog(source: Source, entry: str) -> SplatFile:
    """The splats that the meta.json called ``entry`` describes.

    Raises:
        InputError: a file is missing, cut short, damaged, or of another version.
    """
    try:
        return _read(source, entry)
    except InputError:
        raise
    except (OSError, EOFError, KeyError, IndexError, TypeError, ValueError, RuntimeError, SyntaxError) as error:
        raise InputError(f"{source.name} is damaged: {' '.join(str(error).split())[:100]}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{source.name} is damaged: a picture is far too large") from error


def _read(source: Source, entry: str) -> SplatFile:
    name = source.name
    meta = json.loads(source.content(entry, _MOST_META))
    if not isinstance(meta, dict) or meta.get("version") != _VERSION:
        version = meta.get("version") if isinstance(meta, dict) else None
        raise InputError(f"{name} is SOG version {str(version)[:20]}; da3gs reads {_VERSION}: export it anew")
    count = meta["count"]
    if not isinstance(count, int) or not 0 < count <= _MOST_SIDE**2:
        raise InputError(f"{name} is damaged: it announces {str(count)[:40]} splats")

    def pixels(entry: object) -> np.ndarray:
        """The bytes of each splat."""
        picture = source.picture(entry, 16 * count + (1 << 20))
        if picture.width * picture.height < count:
            raise InputError(f"{name} is damaged: {entry} has {picture.width} x {picture.height} pixels, not {count}")
        return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:count]

    low, high = (_numbers(meta["means"][end], name, 3, np.float64) for end in ("mins", "maxs"))
    fine, coarse = (pixels(entry)[:, :3].astype(np.float64) for entry in meta["means"]["files"])
    logs = low + (coarse * 256 + fine) / 65535 * (high - low)
    sizes, colors, turns = (pixels(meta[part]["files"][0]) for part in ("scales", "sh0", "quats"))
    shown = _numbers(meta["sh0"]["codebook"], name)[colors[:, :3]]
    harmonics = shown[:, None]
    if "shN" in meta:
        harmonics = np.concatenate((harmonics, _rest(source, meta["shN"], pixels)), 1)
    stored = turns[:, 3] >= 252
    largest = np.where(stored, turns[:, 3] - np.uint8(252), 0).astype(np.int64)
    others = np.where(stored[:, None], (turns[:, :3] / np.float32(127.5) - 1) * np.float32(HALF_ROOT), 0)
    return SplatFile(
        gaussians=to_gaussians(
            {
                "means": np.sign(logs) * np.expm1(np.abs(logs)),
                "scales": np.exp(_numbers(meta["scales"]["codebook"], name)[sizes[:, :3]]),
                "quaternions": with_largest(largest, others),
                "opacities": colors[:, 3] / np.float32(255),
                "harmonics": harmonics,
            }
        ),
        antialiased=meta.get("model") == "antialiased",
    )


def _rest(source: Source, told: dict[str, Any], pixels: Any) -> np.ndarray:
    """Harmonics above the constant one."""
    size, bands = told["count"], told["bands"]
    if bands not in (1, 2, 3) or not isinstance(size, int) or not 0 < size <= _MOST_PALETTE:
        raise InputError(f"{source.name} is damaged: a palette of {str(size)[:40]} for degree {str(bands)[:40]}")
    width, rows = _ACROSS * _BANDS[bands], -(-size // _ACROSS)
    picture = source.picture(told["files"][0], 16 * width * rows + (1 << 20))
    if picture.width != width or picture.height < rows:
        raise InputError(f"{source.name} is damaged: a palette picture of {picture.width} x {picture.height} pixels")
    entries = _numbers(told["codebook"], source.name)[np.asarray(picture.convert("RGB"))]
    entries = entries.reshape(-1, _BANDS[bands], 3)
    places = pixels(told["files"][1])
    labels = places[:, 0].astype(np.int64) + 256 * places[:, 1].astype(np.int64)
    if labels.max() >= size:
        raise InputError(f"{source.name} is damaged: a splat has entry {labels.max()} of a palette of {size}")
    found: np.ndarray = entries[labels]
    return found


def _numbers(values: object, name: str, size: int = 256, kind: type[np.floating] = np.float32) -> np.ndarray:
    """A list of so many finite numbers; a codebook of fewer than 256 is filled up with its last."""
    if not isinstance(values, list) or not 0 < len(values) <= size or (size == 3 and len(values) != 3):
        raise InputError(f"{name} is damaged: a list of {size} numbers is none")
    array = np.array(values, kind)
    if array.ndim != 1 or not np.isfinite(array).all() or np.abs(array).max() > 88:
        raise InputError(f"{name} is damaged: a list of numbers has some that are not finite or too large")
    return np.concatenate((array, np.full(size - len(array), array[-1], kind)))


FORMAT = Format(
    name="sog",
    suffix=".sog",
    begins=lambda start, name: start.startswith(b"PK\3\4") and not name.endswith((".usdz", ".zip")),
    load=load_sog,
    order=lambda gaussians: torch.from_numpy(morton_order(gaussians.means.numpy())),
    keeps=("antialiased",),
    encode=lambda gaussians, name, options: [sog_bytes(gaussians, name, options)],
)
"""SOG in one file."""

FOLDER = Format(
    name="sog",
    suffix=META,
    begins=lambda start, name: name == META and start.lstrip().startswith(b"{"),
    load=load_sog,
    order=lambda gaussians: torch.from_numpy(morton_order(gaussians.means.numpy())),
    keeps=("antialiased",),
    encode=sog_files,
    folder=True,
)
"""SOG in a folder."""
