"""Photos that an input offers, before any is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, panorama_lens
from da3gs.photos.decoding.images import Header, Picture, read_header, read_picture
from da3gs.photos.decoding.masks import MASKED, mask_for
from da3gs.photos.naming import shown
from da3gs.photos.records import Dropped, Kind, Original, SparsePoints, Unreadable
from da3gs.photos.resampling.slices import Slice, sliced, slices_of
from da3gs.photos.resampling.undistort import undistorted


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Candidate:
    """One photo that the input offers."""

    index: int
    """Position in the input."""
    name: str
    """Unique name."""
    path: Path
    """Its file; of a video's frame the video."""
    place: str = ""
    """Its file's path below the input, with slashes; empty where the file was named."""
    named: bool = False
    """Asked for by name: then it is an error that it cannot be read."""
    lens: Lens | None = None
    """The given camera."""
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    """The given pose, float64, OpenCV axes."""
    mask: Path | None = None
    """A mask file, white where pixels are wanted."""
    mask_inverted: bool = False
    """Whether the mask is white where they are not."""
    time: int | None = None
    """Of a video's frame: its time stamp in the stream's own unit."""
    part: Slice | None = None
    """Which view of a panorama or fisheye photo, whose whole ``lens`` and ``mask`` are."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Collection:
    """Collection of photos that an input offers."""

    kind: Kind
    """What the input is."""
    title: str
    """What to call it in messages."""
    candidates: tuple[Candidate, ...]
    """In the input's order."""
    dropped: tuple[Dropped, ...] = ()
    """Left out already."""
    read: tuple[str, ...] = ()
    """Files that were read beside the photos: cameras, models, masks; paths below the input."""
    notes: tuple[str, ...] = ()
    """What else is to be known: which reading was chosen where several are possible, and how to ask for another."""
    listed: int = 0
    """How many photos the input's own list has, missing ones too; 0 where it has no list."""
    points: SparsePoints | None = None
    """Points of a COLMAP model."""
    root: Path | None = None
    """The folder that paths are below; None where files were named."""
    holder: Any = None
    """Keeps unpacked files alive."""


Panoramas = Literal["auto", "always", "never"]
"""Which photos are panoramas: those that say so in their metadata, all that are twice as wide as high, none."""


def in_views(candidates: Sequence[tuple[Candidate, Header | None]], panoramas: Panoramas) -> list[Candidate]:
    """The photos, with pinhole views in place of panoramas and fisheye photos.

    Poses of photos become poses of their views. The views of a single panorama or fisheye photo without a pose have
    poses all the same: in the photo's own axes.

    Args:
        candidates: with their headers, which video frames lack.
        panoramas: see ``Panoramas``; a given camera comes before it.

    Raises:
        InputError: a given lens cannot be undone.
    """
    found: list[Candidate] = []
    for candidate, header in candidates:
        lens = candidate.lens or _panorama_of(header, panoramas)
        parts = () if lens is None else _parts(candidate, lens)
        alone = len(candidates) == 1 and candidate.cam_to_world is None
        pose = np.eye(4) if alone else candidate.cam_to_world
        found += [
            dataclasses.replace(
                candidate,
                name="_".join(filter(None, (candidate.name, part.name))),
                lens=lens,
                part=part,
                cam_to_world=None if pose is None else pose @ _rigid(part.to_photo),
            )
            for part in parts
        ] or [candidate]
    if len(found) == len(candidates):
        return found
    return [dataclasses.replace(candidate, index=index) for index, candidate in enumerate(found)]


def _panorama_of(header: Header | None, panoramas: Panoramas) -> Lens | None:
    if header is None or panoramas == "never":
        return None
    if header.panorama is not None or panoramas == "auto":
        return header.panorama
    height, width = header.upright_size
    return panorama_lens(height, width) if abs(width / (2 * height) - 1) <= 0.01 else None


def _parts(candidate: Candidate, lens: Lens) -> tuple[Slice, ...]:
    try:
        return slices_of(lens)
    except InputError as error:
        raise InputError(f"{shown(candidate.path.name)}: {error}") from error


def _rigid(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4 4"]:
    pose = np.eye(4)
    pose[:3, :3] = rotation
    return pose


def left_out(candidate: Candidate, problem: Unreadable) -> Dropped:
    """The record of a photo that cannot be read.

    Raises:
        InputError: the photo was asked for by name.
    """
    if candidate.part is not None and problem.kind == MASKED:  # the rest of the photo may not be
        return Dropped(name=shown(candidate.name), reason=MASKED)
    if candidate.named:
        raise InputError(f"{shown(candidate.path.name)} {problem}") from problem
    return Dropped(name=shown(candidate.place or candidate.path.name), reason=str(problem), kind=problem.kind)


def read_original(candidate: Candidate, *, undistort: bool = True) -> Original:
    """A photo file at its full size: upright, undistorted, with its mask and what is known of its camera.

    Given intrinsics mean the picture as stored, as COLMAP and nerfstudio read it, unless only the upright one has their
    shape.

    Raises:
        Unreadable: the photo or its mask cannot be read.
        InputError: the given camera is for a picture of another shape.
    """
    header = read_header(candidate.path)
    lens = candidate.lens
    upright = lens is None or lens.projection == "equirectangular" or not lens.fits(header.height, header.width)
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
        turn = 1 if header is None else header.orientation
        wanted = mask_for(candidate.mask, height, width, orientation=turn, inverted=candidate.mask_inverted)
        mask = wanted if mask is None else mask & wanted
        if not mask.any():
            raise Unreadable(f"{MASKED} (by its mask {shown(candidate.mask.name)} and its own transparency)", MASKED)
    if candidate.lens is None:
        return Original(image=image, mask=mask, intrinsics=_exif_intrinsics(header, height, width))
    try:
        lens = candidate.lens.resized(height, width)
        if candidate.part is not None:
            image, mask = sliced(image, mask, lens, candidate.part)
            if mask is not None and not mask.any():
                raise Unreadable(MASKED)
            return Original(image=image, mask=mask, intrinsics=candidate.part.intrinsics.copy())
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
