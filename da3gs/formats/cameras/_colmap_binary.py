"""COLMAP's binary files: little endian, a 64-bit count first."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap_model import MODELS, ColmapCamera, ColmapImage, ColmapPoints

_NAMES = {number: name for name, (number, _) in MODELS.items()}
_COUNT, _CAMERA, _IMAGE = (struct.Struct(f) for f in ("<Q", "<iiQQ", "<i4d3di"))
_POINT = np.dtype([("id", "<i8"), ("position", "<f8", 3), ("color", "u1", 3), ("error", "<f8"), ("length", "<u8")])
_FEATURE = np.dtype([("position", "<f8", 2), ("point", "<i8")])
_LARGEST_FILE = 8 << 30
_LONGEST_NAME = 4096
_MOST_POINTS = 20_000_000


class _Bytes:
    """A file's bytes, taken from the front; mapped, so that what is skipped takes no memory."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise InputError(f"{path.name} is larger than 8 GB; give a smaller model")
        self.name = path.name
        self.data: bytes | mmap.mmap = b""
        if size:
            with path.open("rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = 0

    def _advance(self, size: int) -> int:
        start = self.at
        if size > len(self.data) - start:
            raise InputError(f"{self.name} is cut short: {size} bytes wanted at {start} of {len(self.data)}")
        self.at += size
        return start

    def numbers(self, layout: struct.Struct) -> tuple:
        return layout.unpack_from(self.data, self._advance(layout.size))

    def count(self, smallest: int) -> int:
        """A count of records of at least ``smallest`` bytes, so that a wild one allocates nothing."""
        (count,) = self.numbers(_COUNT)
        if count * smallest > len(self.data) - self.at:
            raise InputError(f"{self.name} is cut short: it announces {count} records in {len(self.data)} bytes")
        return count

    def skip(self, size: int) -> int:
        """Go on after so many bytes, which have to be there; where they begin."""
        return self._advance(size)

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        return np.frombuffer(self.data, dtype, count, self._advance(count * dtype.itemsize))

    def text(self) -> str:
        end = self.data.find(b"\0", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise InputError(f"{self.name} is cut short: a name at {self.at} has no end")
        name = self.data[self.at : end]
        self.at = end + 1
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{self.name} has a name at {self.at} that is not UTF-8; export it again") from error


def read_cameras(path: Path) -> list[ColmapCamera]:
    """``cameras.bin``."""
    data, cameras = _Bytes(path), []
    for _ in range(data.count(_CAMERA.size)):
        number, model, width, height = data.numbers(_CAMERA)
        if model not in _NAMES:
            raise InputError(f"{path.name} has a camera model {model}, which is not known; export it as PINHOLE")
        params = data.array(np.dtype("<f8"), MODELS[_NAMES[model]][1]).tolist()
        cameras.append(ColmapCamera(id=number, model=_NAMES[model], width=width, height=height, params=tuple(params)))
    return cameras


def read_images(path: Path, *, features: bool = True) -> list[ColmapImage]:
    """``images.bin``."""
    data, images = _Bytes(path), []
    for _ in range(data.count(_IMAGE.size + 1 + _COUNT.size)):
        number, *pose, camera = data.numbers(_IMAGE)
        name = data.text()
        count = data.count(_FEATURE.itemsize)
        if not features:
            data.skip(count * _FEATURE.itemsize)
            count = 0
        found = data.array(_FEATURE, count)
        images.append(
            ColmapImage(
                id=number,
                rotation=(pose[0], pose[1], pose[2], pose[3]),
                translation=(pose[4], pose[5], pose[6]),
                camera_id=camera,
                name=name,
                keypoints=found["position"].astype(np.float64),
                point_ids=found["point"].astype(np.int64),
            )
        )
    return images


def read_points(path: Path) -> ColmapPoints:
    """``points3D.bin``."""
    data = _Bytes(path)
    count = data.count(_POINT.itemsize)
    if count > _MOST_POINTS:
        raise InputError(f"{path.name} holds {count} points; at most {_MOST_POINTS} are read, give a smaller model")
    heads, tracks = bytearray(), bytearray()
    lengths = np.zeros(count, np.int64)
    for i in range(count):
        start = data.skip(_POINT.itemsize)
        (length,) = _COUNT.unpack_from(data.data, start + _POINT.itemsize - 8)
        heads += data.data[start : start + _POINT.itemsize]
        start = data.skip(8 * length)
        tracks += data.data[start : start + 8 * length]
        lengths[i] = length
    points = np.frombuffer(heads, _POINT)
    return ColmapPoints(
        ids=points["id"].astype(np.int64),
        positions=points["position"].astype(np.float64),
        colors=points["color"].copy(),
        errors=points["error"].astype(np.float64),
        track_lengths=lengths,
        tracks=np.frombuffer(tracks, "<i4").reshape(-1, 2).astype(np.int64),
    )


def written_cameras(cameras: Sequence[ColmapCamera]) -> Iterator[bytes]:
    """The bytes of ``cameras.bin``."""
    yield _COUNT.pack(len(cameras))
    for c in cameras:
        yield _CAMERA.pack(c.id, MODELS[c.model][0], c.width, c.height) + struct.pack(f"<{len(c.params)}d", *c.params)


def written_images(images: Sequence[ColmapImage]) -> Iterator[bytes]:
    """The bytes of ``images.bin``."""
    yield _COUNT.pack(len(images))
    for image in images:
        yield _IMAGE.pack(image.id, *image.rotation, *image.translation, image.camera_id)
        yield image.name.encode() + b"\0" + _COUNT.pack(len(image.keypoints))
        features = np.zeros(len(image.keypoints), _FEATURE)
        features["position"], features["point"] = image.keypoints, image.point_ids
        yield features.tobytes()


def written_points(points: ColmapPoints) -> Iterator[bytes]:
    """The bytes of ``points3D.bin``."""
    yield _COUNT.pack(len(points.ids))
    heads = np.zeros(len(points.ids), _POINT)
    heads["id"], heads["position"], heads["color"] = points.ids, points.positions, points.colors
    heads["error"], heads["length"] = points.errors, points.track_lengths
    ends = np.cumsum(points.track_lengths).tolist()
    pairs = points.tracks.astype("<i4")
    for i, end in enumerate(ends):
        yield heads[i].tobytes() + pairs[end - int(points.track_lengths[i]) : end].tobytes()
