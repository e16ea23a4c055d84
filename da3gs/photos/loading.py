"""Loading of photos as views."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from da3gs._files import sha256
from da3gs._optional import without_pillow_warnings
from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.media.video import frame_at
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import orthonormalized
from da3gs.photos.candidates import (
    Candidate,
    Collection,
    Panoramas,
    finished_original,
    in_views,
    left_out,
    read_original,
)
from da3gs.photos.clips import clip_pictures
from da3gs.photos.decoding.images import Header, Picture, read_header
from da3gs.photos.folders.copies import without_copies
from da3gs.photos.folders.finder import without_depth, without_thumbnails
from da3gs.photos.folders.mask_files import with_masks
from da3gs.photos.folders.survey import HIDDEN, NO_PICTURE
from da3gs.photos.kinds import collected
from da3gs.photos.naming import shown
from da3gs.photos.picking import picked
from da3gs.photos.records import Dropped, LoadedPhotos, Original, Photo, Unreadable
from da3gs.photos.resampling.sizing import sized_image, sized_intrinsics, sized_mask, sizing_steps
from da3gs.views import Views

_BIG_PHOTO = 40_000_000
_PARALLEL = 4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Used:
    """A photo at the network's size."""

    image: np.ndarray
    mask: np.ndarray | None
    intrinsics: np.ndarray | None
    original_size: tuple[int, int]
    original_intrinsics: np.ndarray | None


def load_views(
    source: str | Path | Sequence[str | Path],
    *,
    resolution: int = 504,
    views: int | None = None,
    fps: float | None = None,
    undistort: bool = True,
    masks: str | Path | None = None,
    invert_masks: bool = False,
    panoramas: Panoramas = "auto",
    split: str | None = None,
) -> Views:
    """The photos of anything that ``reconstruct`` takes, at the network's size; see ``load_photos``."""
    folder = None if masks is None else Path(masks)
    loaded = load_photos(
        source, resolution=resolution, views=views, fps=fps, undistort=undistort, masks=folder,
        invert_masks=invert_masks, panoramas=panoramas, split=split,
    )  # fmt: skip
    return loaded.views


def load_photos(
    source: str | Path | Sequence[str | Path],
    *,
    resolution: int = 504,
    views: int | None = None,
    unposed_views: int | None = None,
    fps: float | None = None,
    undistort: bool = True,
    masks: Path | None = None,
    invert_masks: bool = False,
    panoramas: Panoramas = "auto",
    split: str | None = None,
    progress: Progress = silent,
) -> LoadedPhotos:
    """Photos, a folder, a zip, a video, a transforms.json, a COLMAP model or a DL3DV scene, read for the network.

    Each photo is turned upright, brought to sRGB, freed of lens distortion and resized so that its long side is
    ``resolution`` and both sides are multiples of 14. Photos of different sizes are padded at the right and at the
    bottom, and masked there.

    Args:
        source: a path, or several paths of photos.
        resolution: long side in pixels.
        views: how many photos at most; spread by the cameras' positions where they are given, else evenly.
        unposed_views: the same of photos without given poses, where it is not ``views``.
        fps: of a video, how many frames a second to take the sharpest of (2 where neither this nor ``views`` is given).
        undistort: whether to undo lens distortion; without it distorted photos keep the given intrinsics.
        masks: a folder of masks named like the photos, white where pixels are wanted (see ``read_mask``).
        invert_masks: white where they are not; for masks that the input itself names too.
        panoramas: which photos are equirectangular and become six views each: ``auto`` those whose metadata (XMP's
            GPano) or given camera say so, ``always`` every photo twice as wide as high too, ``never`` none but by a
            given camera.
        split: of a folder with ``transforms_train.json``, ``_val`` and ``_test``, which to take: ``train`` (the
            default), ``val``, ``test`` or ``all``.
        progress: told "reading photos".

    Raises:
        InputError: the input cannot be used, or a photo named one by one cannot be read.
    """
    if views is not None and views < 1:
        raise InputError(f"views={views}; at least one photo is needed")
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"fps={fps}; give frames a second above 0 and up to 1000")
    sizing_steps(resolution, resolution, resolution=resolution)
    with without_pillow_warnings():
        paths = [Path(source)] if isinstance(source, str | Path) else [Path(p) for p in source]
        unposed = views if unposed_views is None else unposed_views
        collection = collected(paths, views=unposed, fps=fps, progress=progress, split=split, panoramas=panoramas)
        if masks is not None:
            collection = with_masks(collection, masks)
        if invert_masks:
            inverted = tuple(dataclasses.replace(c, mask_inverted=c.mask is not None) for c in collection.candidates)
            collection = dataclasses.replace(collection, candidates=inverted)
        return _loaded(
            collection, resolution=resolution, views=(views, unposed), undistort=undistort, panoramas=panoramas,
            progress=progress,
        )  # fmt: skip


def _loaded(
    collection: Collection,
    *,
    resolution: int,
    views: tuple[int | None, int | None],
    undistort: bool,
    panoramas: Panoramas,
    progress: Progress,
) -> LoadedPhotos:
    """The photos of a collection; at most so many with given poses, and so many without."""
    dropped = list(collection.dropped)
    candidates, largest = _with_good_headers(collection.candidates, dropped, panoramas)
    most = views[0] if all(c.cam_to_world is not None for c in candidates) else views[1]
    workers = 1 if largest > _BIG_PHOTO else min(_PARALLEL, os.cpu_count() or 1)
    done: dict[int, _Used] = {}
    while True:
        chosen = picked(candidates, most)
        todo = [c for c in chosen if c.index not in done]
        failed: set[int] = set()
        for number, (candidate, result) in enumerate(_read(todo, resolution, undistort, workers)):
            progress("reading photos", len(chosen) - len(todo) + number + 1, len(chosen))
            if isinstance(result, Unreadable):
                dropped.append(left_out(candidate, result))
                failed.add(candidate.index)
            else:
                done[candidate.index] = result
        if not failed:
            break
        candidates = [c for c in candidates if c.index not in failed]
    if not chosen:
        first = _most_telling(dropped)
        raise InputError(f"{collection.title} holds no photo that can be used{first}")
    kept = {c.index for c in chosen}
    dropped += [
        Dropped(name=shown(c.place or c.path.name), reason=f"is not among the {most} that cover the scene best")
        for c in candidates
        if c.index not in kept
    ]
    return _assembled(collection, chosen, [done[c.index] for c in chosen], dropped, undistort)


def _most_telling(dropped: Sequence[Dropped]) -> str:
    """Why the first photo cannot be used, in words that follow; files that are no photos say less."""
    ranked = sorted(dropped, key=lambda d: d.counted_as in (NO_PICTURE, HIDDEN))
    return f": {ranked[0].name} {ranked[0].reason}" if ranked else ""


def _with_good_headers(
    candidates: Sequence[Candidate], dropped: list[Dropped], panoramas: Panoramas
) -> tuple[list[Candidate], int]:
    """Those whose headers can be read, wide ones cut into views, and the largest number of pixels among them."""
    good: list[tuple[Candidate, Header | None]] = []
    largest = 0
    for candidate in candidates:
        if candidate.time is not None:
            good.append((candidate, None))
            continue
        try:
            header = read_header(candidate.path)
        except Unreadable as problem:
            dropped.append(left_out(candidate, problem))
        else:
            good.append((candidate, header))
            largest = max(largest, header.height * header.width)
    photos = [(candidate, header) for candidate, header in good if header is not None]
    if len(photos) == len(good):
        good = [*without_copies(without_thumbnails(without_depth(photos, dropped), dropped), dropped)]
    return in_views(good, panoramas), largest


def _read(
    candidates: Sequence[Candidate], resolution: int, undistort: bool, workers: int
) -> Iterator[tuple[Candidate, _Used | Unreadable]]:
    """The photos at the network's size, or why they cannot be read, in order."""

    def read(candidate: Candidate, picture: Picture | None = None) -> _Used | Unreadable:
        """The photo as the network takes it, or why not."""
        try:
            if picture is None:
                return _used(read_original(candidate, undistort=undistort), resolution)
            return _used(finished_original(candidate, picture, undistort=undistort), resolution)
        except Unreadable as problem:
            return problem
        except MemoryError:
            return Unreadable("does not fit into memory")

    if candidates and candidates[0].time is not None:
        for candidate, picture in clip_pictures(candidates):
            yield candidate, picture if isinstance(picture, Unreadable) else read(candidate, picture)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(candidates, pool.map(read, candidates), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _used(original: Original, resolution: int) -> _Used:
    height, width = original.image.shape[:2]
    steps = sizing_steps(height, width, resolution=resolution)
    known = original.intrinsics
    return _Used(
        image=sized_image(original.image, steps),
        mask=None if original.mask is None else sized_mask(original.mask, steps),
        intrinsics=None if known is None else sized_intrinsics(known, height, width, steps),
        original_size=(height, width),
        original_intrinsics=known,
    )


def _assembled(
    collection: Collection,
    chosen: Sequence[Candidate],
    used: Sequence[_Used],
    dropped: Sequence[Dropped],
    undistort: bool,
) -> LoadedPhotos:
    height, width = max(u.image.shape[0] for u in used), max(u.image.shape[1] for u in used)
    images = torch.zeros(len(used), 3, height, width)
    masks = torch.zeros(len(used), height, width, dtype=torch.bool)
    for i, photo in enumerate(used):
        h, w = photo.image.shape[:2]
        images[i, :, :h, :w] = torch.tensor(photo.image).permute(2, 0, 1) / 255
        masks[i, :h, :w] = True if photo.mask is None else torch.from_numpy(photo.mask)
    unknown = np.full((3, 3), np.nan)
    intrinsics = np.stack([unknown if u.intrinsics is None else u.intrinsics for u in used])
    given = [c.cam_to_world for c in chosen if c.cam_to_world is not None]
    cam_to_world = np.stack(given) if len(given) == len(chosen) and np.isfinite(intrinsics).all() else None
    cameras = None if cam_to_world is None else _cameras(cam_to_world, intrinsics, height, width)
    known = cameras is None and np.isfinite(intrinsics).any()
    hashes: dict[Path, str] = {}
    return LoadedPhotos(
        views=Views(
            images=images,
            names=tuple(c.name for c in chosen),
            cameras=cameras,
            intrinsics=torch.from_numpy(intrinsics).float() if known else None,
            masks=None if masks.all() else masks,
            photo_sizes=tuple((u.image.shape[0], u.image.shape[1]) for u in used),
        ),
        photos=tuple(_photo(c, u, hashes, undistort, collection) for c, u in zip(chosen, used, strict=True)),
        dropped=tuple(dropped),
        kind=collection.kind,
        read=collection.read,
        notes=collection.notes,
        points=collection.points,
        cam_to_world_given=cam_to_world,
        intrinsics_known=intrinsics,
        _holder=collection.holder,
    )


def _cameras(cam_to_world: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> Cameras:
    """The given cameras with exact rotations, computed in float64 and rounded once."""
    poses = torch.from_numpy(cam_to_world).clone()
    poses[:, :3, :3] = orthonormalized(poses[:, :3, :3])
    return Cameras(
        world_to_cam=rigid_inverse(poses).float(),
        intrinsics=torch.from_numpy(intrinsics).float(),
        height=height,
        width=width,
    )


def _photo(
    candidate: Candidate, used: _Used, hashes: dict[Path, str], undistort: bool, collection: Collection
) -> Photo:
    path = candidate.path
    if path not in hashes:
        hashes[path] = sha256(path)
    source: Literal["given", "exif"] | None = None
    if used.intrinsics is not None:
        source = "exif" if candidate.lens is None else "given"
    return Photo(
        index=candidate.index,
        name=candidate.name,
        file=shown(path.name),
        sha256=hashes[path],
        original_height=used.original_size[0],
        original_width=used.original_size[1],
        height=used.image.shape[0],
        width=used.image.shape[1],
        focal_source=source,
        original_intrinsics=used.original_intrinsics,
        read=functools.partial(_read_again, candidate, undistort, collection.holder),
    )


def _read_again(candidate: Candidate, undistort: bool, holder: object) -> Original:
    """The photo at full size; ``holder``, bound to this call, keeps an unpacked zip on the disk until then."""
    try:
        if candidate.time is not None:
            picture = Picture(image=frame_at(candidate.path, candidate.time), mask=None)
            return finished_original(candidate, picture, undistort=undistort)
        return read_original(candidate, undistort=undistort)
    except Unreadable as problem:
        raise InputError(f"{shown(candidate.path.name)} {problem}; it has changed since it was loaded") from problem
