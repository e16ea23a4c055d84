"""COLMAP's text files: numbers apart by spaces, lines with # are comments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap_model import MODELS, ColmapCamera, ColmapImage, ColmapPoints

_LARGEST_FILE = 2 << 30
_LONGEST_LINE = 16 << 20


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without comments; one at a time, since models are large."""
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path.name} is larger than 2 GB; give a smaller model")
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            for number in itertools.count(1):
                line = file.readline(_LONGEST_LINE)
                if not line:
                    return
                if len(line) == _LONGEST_LINE:
                    raise _broken(path, number, "is longer than 16 MB")
                if not line.lstrip().startswith("#"):
                    yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text; export it again") from error


def _broken(path: Path, number: int, why: str) -> InputError:
    return InputError(f"{path.name}, line {number}, {why}; export it again")


def read_cameras(path: Path) -> list[ColmapCamera]:
    """``cameras.txt``."""
    cameras = []
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            identity, model, width, height, *params = words
            if model not in MODELS:
                raise InputError(
                    f"{path.name} has a camera model {model[:40]!r}, which is not known; export it as PINHOLE"
                )
            if len(params) != MODELS[model][1]:
                raise _broken(path, number, f"has {len(params)} parameters where {model} has {MODELS[model][1]}")
            cameras.append(
                ColmapCamera(
                    id=int(identity),
                    model=model,
                    width=int(width),
                    height=int(height),
                    params=tuple(float(p) for p in params),
                )
            )
        except InputError:
            raise
        except ValueError as error:
            raise _broken(path, number, "is not a camera") from error
    return cameras


def read_images(path: Path, *, features: bool = True) -> list[ColmapImage]:
    """``images.txt``: two lines an image, the second possibly empty."""
    images = []
    lines = _lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        words = line.split(None, 9)
        try:
            w, x, y, z, tx, ty, tz = (float(v) for v in words[1:8])
            identity, camera, name = int(words[0]), int(words[8]), words[9].strip()
        except (ValueError, IndexError) as error:
            raise _broken(path, number, "is not an image with its pose") from error
        number, listed = next(lines, (number + 1, ""))
        try:
            values = np.array(listed.split() if features else (), np.float64).reshape(-1, 3)
            if not np.isfinite(values).all() or (np.abs(values[:, 2]) > 2**53).any():
                raise ValueError("not finite")
        except ValueError as error:
            raise _broken(path, number, "is not a list of features") from error
        images.append(
            ColmapImage(
                id=identity,
                rotation=(w, x, y, z),
                translation=(tx, ty, tz),
                camera_id=camera,
                name=name,
                keypoints=values[:, :2].copy(),
                point_ids=values[:, 2].astype(np.int64),
            )
        )
    return images


def read_points(path: Path) -> ColmapPoints:
    """``points3D.txt``."""
    ids, positions, colors, errors, tracks = [], [], [], [], []
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            ids.append(int(words[0]))
            positions.append([float(v) for v in words[1:4]])
            colors.append([int(v) for v in words[4:7]])
            errors.append(float(words[7]))
            tracks.append(np.array([int(v) for v in words[8:]], np.int64).reshape(-1, 2))
            if len(colors[-1]) != 3 or not all(0 <= c <= 255 for c in colors[-1]):
                raise ValueError("colours")
        except (ValueError, IndexError, OverflowError) as error:
            raise _broken(path, number, "is not a point") from error
    return ColmapPoints(
        ids=np.array(ids, np.int64),
        positions=np.array(positions, np.float64).reshape(-1, 3),
        colors=np.array(colors, np.uint8).reshape(-1, 3),
        errors=np.array(errors, np.float64),
        track_lengths=np.array([len(t) for t in tracks], np.int64),
        tracks=np.concatenate([np.zeros((0, 2), np.int64), *tracks]),
    )


def written_cameras(cameras: Sequence[ColmapCamera]) -> Iterator[bytes]:
    """The bytes of ``cameras.txt``."""
    yield b"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    for c in cameras:
        yield f"{c.id} {c.model} {c.width} {c.height} {_words(c.params)}\n".encode()


def written_images(images: Sequence[ColmapImage]) -> Iterator[bytes]:
    """The bytes of ``images.txt``."""
    yield b"# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)\n"
    for i in images:
        yield f"{i.id} {_words(i.rotation)} {_words(i.translation)} {i.camera_id} {i.name}\n".encode()
        pairs = zip(i.keypoints.tolist(), i.point_ids.tolist(), strict=True)
        yield (" ".join(f"{u!r} {v!r} {point}" for (u, v), point in pairs) + "\n").encode()


def written_points(points: ColmapPoints) -> Iterator[bytes]:
    """The bytes of ``points3D.txt``."""
    yield b"# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
    ends = np.cumsum(points.track_lengths).tolist()
    for i, end in enumerate(ends):
        track = points.tracks[end - int(points.track_lengths[i]) : end]
        color = " ".join(str(c) for c in points.colors[i].tolist())
        shown = " ".join(str(n) for n in track.reshape(-1).tolist())
        numbers = f"{_words(points.positions[i].tolist())} {color} {float(points.errors[i])!r}"
        yield f"{points.ids[i]} {numbers} {shown}\n".encode()


def _words(numbers: Sequence[float]) -> str:
    return " ".join(repr(float(n)) for n in numbers)
