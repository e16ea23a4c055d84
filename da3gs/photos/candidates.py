"""Photos that an input offers, before any is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from da3gs.errors import InputError
from da3gs.formats.lens import Lens
from da3gs.photos.images import Header, Picture, Unreadable, read_header, read_mask, read_picture
from da3gs.photos.naming import shown
from da3gs.photos.records import Dropped, Kind, Original, SparsePoints
from da3gs.photos.undistort import undistorted


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Candidate:
    """One photo that the input offers."""

    index: int
    """Position in the input."""
    name: str
    """Unique name."""
    path: Path
    """Its file; of a video's frame the video."""
    named: bool = False
    """Asked for by name: then it is an error that it cannot be read."""
    lens: Lens | None = None
    """The given camera."""
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    """The given pose, float64, OpenCV axes."""
    mask: Path | None = None
    """A mask file, white where pixels are wanted."""
    time: int | None = None
    """Of a video's frame: its time stamp in the stream's own unit."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Collection:
    """What an input offers."""

    kind: Kind
    """What the input is."""
    title: str
    """What to call it in messages."""
    candidates: tuple[Candidate, ...]
    """In the input's order."""
    dropped: tuple[Dropped, ...] = ()
    """Left out already."""
    points: SparsePoints | None = None
    """Points of a COLMAP model."""
    holder: Any = None
    """Keeps unpacked files alive."""


def left_out(candidate: Candidate, problem: Unreadable) -> Dropped:
    """The record of a photo that cannot be read.

    Raises:
        InputError: the photo was asked for by name.
    """
    if candidate.named:
        raise InputError(f"{shown(candidate.path.name)} {problem}") from problem
    return Dropped(name=shown(candidate.path.name), reason=str(problem))


def read_original(candidate: Candidate, *, undistort: bool = True) -> Original:
    """A photo file at its full size: upright, undistorted, with its mask and what is known of its camera.

    Given intrinsics mean the picture as stored, as COLMAP and nerfstudio read it, unless only the upright one has their
    shape.

    Raises:
        Unreadable: the photo or its mask cannot be read.
        InputError: the given camera is for a picture of another shape.
    """
    header = read_header(candidate.path)
    upright = candidate.lens is None or not candidate.lens.fits(header.height, header.width)
    picture = read_picture(candidate.path, upright=upright)
    return finished_original(candidate, picture, header, undistort=undistort)


def finished_original(
    candidate: Candidate, picture: Picture, header: Header | None = None, *, undistort: bool = True
) -> Original:
    """A decoded picture with its mask applied and its lens distortion undone.

    Raises:
        Unreadable: the mask cannot be read, or nothing is left.
        InputError: the given camera is for a picture of another shape.
    """
    image, mask = picture.image, picture.mask
    height, width = image.shape[:2]
    if candidate.mask is not None:
        wanted = _mask_of_size(candidate.mask, height, width)
        mask = wanted if mask is None else mask & wanted
        if not mask.any():
            raise Unreadable("is masked everywhere")
    if candidate.lens is None:
        return Original(image=image, mask=mask, intrinsics=_exif_intrinsics(header, height, width))
    try:
        lens = candidate.lens.resized(height, width)
        if not undistort:
            return Original(image=image, mask=mask, intrinsics=lens.intrinsics)
        image, mask, intrinsics = undistorted(image, mask, lens)
    except InputError as error:
        raise InputError(f"{shown(candidate.path.name)}: {error}") from error
    return Original(image=image, mask=mask, intrinsics=intrinsics)


def _exif_intrinsics(header: Header | None, height: int, width: int) -> np.ndarray | None:
    if header is None or header.focal is None:
        return None
    return np.array([[header.focal, 0, width / 2], [0, header.focal, height / 2], [0, 0, 1.0]])


def _mask_of_size(path: Path, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    try:
        mask = read_mask(path)
    except Unreadable as problem:
        raise Unreadable(f"has a mask, {shown(path.name)}, that {problem}") from problem
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > 0.01:
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        raise Unreadable(f"has a mask, {shown(path.name)}, of another shape ({size} for {width}x{height})")
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)[:, None], columns.astype(int)]
