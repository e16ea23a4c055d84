"""Finder of what a folder is: a posed data set, a video, or loose photos; and what of it is passed over, and why."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from da3gs.errors import InputError
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.datasets.layouts import Layout, best_of, half_model, layouts_in, photos_of_others
from da3gs.photos.decoding.images import Header
from da3gs.photos.folders.other_cameras import CAMERAS, note_on, other_cameras
from da3gs.photos.folders.roles import (
    DEPTH,
    THUMBNAIL,
    are_made,
    is_called_thumbnail,
    made_pictures,
    other_versions,
)
from da3gs.photos.folders.survey import NO_PICTURE, NOT_READ, RAW, SPHERE, VIDEO, Found, Survey, survey
from da3gs.photos.naming import folded, natural_key, shown, unique_stems
from da3gs.photos.records import MISSING, Dropped

_REASONS = {"other picture": NOT_READ, "raw": RAW, "sphere": SPHERE, "video": VIDEO, "json": NO_PICTURE,
            "file": NO_PICTURE}  # fmt: skip

OF_VIDEO = "is a depth map, mask or thumbnail beside a video"


def found_in(folder: Path, *, split: str | None, video: Callable[[Path], Collection]) -> Collection:
    """Collection of photos in a folder.

    Args:
        folder: where to look; everything below it too.
        split: which of NeRF-synthetic's files to take.
        video: reads a video, where one is all that the folder holds.

    Raises:
        InputError: it holds nothing to use, or several things of which one has to be named.
    """
    found = survey(folder)
    layouts = layouts_in(found, split)
    if split is not None and not any(layout.split for layout in layouts):
        name = f"transforms_{shown(split)}.json"
        raise InputError(f"--split {shown(split)} is for a folder with {name}, which {shown(folder.name)} has not")
    pictures = [f for f in found.files if f.kind == "photo"]
    scenes = _outer_scenes(layouts)
    loose = [f for f in pictures if not any(f.name.startswith(f"{scene}/") for scene in scenes)]
    if len(scenes) > 1 and any(not f.folder for f in loose):
        listed = ", ".join(map(shown, scenes[:3]))
        note = f"{len(scenes)} posed sets ({listed}) lie below and are not read: name one to take it"
        return dataclasses.replace(_loose(found, loose), notes=(note,))
    if scenes:
        return _posed(found, layouts, scenes)
    if (broken := half_model(found)) is not None:
        raise InputError(f"{broken}; copy it whole, or name the folder of photos")
    videos = [f for f in found.files if f.kind == "video"]
    if len(videos) == 1 and are_made(pictures):
        collection = video(videos[0].path)
        rest = _passed(found, {videos[0].path}, dict.fromkeys((p.name for p in pictures), OF_VIDEO))
        notes = (*collection.notes, *note_on(other_cameras(found)))
        return dataclasses.replace(collection, dropped=(*collection.dropped, *rest), notes=notes)
    return _loose(found, pictures)


def _outer_scenes(layouts: Sequence[Layout]) -> list[str]:
    """The folders of the scenes that lie in no other scene's."""
    scenes = sorted({layout.scene for layout in layouts}, key=natural_key)
    return [s for s in scenes if not any(s != o and (not o or s.startswith(f"{o}/")) for o in scenes)]


def _posed(found: Survey, layouts: Sequence[Layout], scenes: Sequence[str]) -> Collection:
    """The posed data set of the only scene."""
    if len(scenes) > 1:
        names = ", ".join(shown(s) for s in scenes[:3])
        raise InputError(f"the folder {shown(found.root.name)} holds {len(scenes)} scenes ({names}); name one of them")
    best, notes = best_of([layout for layout in layouts if layout.scene == scenes[0]], found)
    nested = [layout for layout in layouts if layout.scene != scenes[0]]
    notes += [f"{shown(layout.place)} lies inside and is not read: name it to take it" for layout in nested[:3]]
    collection = best.open()
    used = {c.path for c in collection.candidates} | {best.base / name for name in collection.read}
    used |= {best.base / d.name for d in collection.dropped if d.kind != MISSING}
    below = os.path.relpath(best.base, found.root).replace(os.sep, "/")
    own = [
        d if below == "." or d.kind == MISSING else dataclasses.replace(d, name=shown(f"{below}/{d.name}"))
        for d in collection.dropped
    ]
    pictures = [f for f in found.files if f.kind == "photo"]
    reasons = {f.name: THUMBNAIL for f in pictures if is_called_thumbnail(f.name)}
    reasons |= other_versions(pictures) | made_pictures(pictures) | photos_of_others(layouts, best, found)
    rest = _passed(found, used, reasons, pictures="has no camera")
    return dataclasses.replace(collection, dropped=(*own, *rest), notes=(*collection.notes, *notes), root=found.root)


def _loose(found: Survey, pictures: Sequence[Found]) -> Collection:
    """Photos without cameras: all that no name gives away as something else."""
    made = made_pictures(pictures)
    made |= other_versions([p for p in pictures if p.name not in made])
    photos = [p for p in pictures if p.name not in made]
    name = shown(found.root.name or str(found.root))
    if not photos:
        raise InputError(f"the folder {name} holds no photos{_hint(found)}")
    stems = unique_stems(p.name for p in photos)
    candidates = tuple(Candidate(index=i, name=stems[i], path=p.path, place=p.name) for i, p in enumerate(photos))
    rest = _passed(found, {p.path for p in photos}, made)
    notes = note_on(other_cameras(found))
    return Collection(
        kind="folder", title=name, candidates=candidates, dropped=tuple(rest), root=found.root, notes=notes
    )


def _hint(found: Survey) -> str:
    """What a folder holds that has no photos, and what to do."""
    if found.links_out:
        name, target = found.links_out[0]
        return f"; {shown(name)} is a link that leads out (to {shown(target)}): name that folder itself"
    videos = [f.name for f in found.files if f.kind == "video"]
    if len(videos) > 1:
        return f" but {len(videos)} videos ({', '.join(map(shown, videos[:3]))}); name one of them"
    passed = _passed(found, set(), {})
    counted = Counter(d.counted_as for d in passed if d.counted_as != NO_PICTURE)
    if counted:
        reason, _ = counted.most_common(1)[0]
        first = next(d for d in passed if d.counted_as == reason)
        return f"; {first.name} {first.reason}; name a folder that does"
    return "; name one that does"


def _passed(
    found: Survey, used: Iterable[Path], reasons: dict[str, str], *, pictures: str = "was not looked at"
) -> list[Dropped]:
    """Everything in a survey that is not used, with its reason."""
    used, cameras = list(used), other_cameras(found)
    reasons = {**dict.fromkeys(cameras, CAMERAS), **reasons}
    known = {os.path.realpath(path) for path in used}
    dropped = [
        Dropped(name=shown(f.name), reason=reasons.get(f.name) or _REASONS.get(f.kind, pictures))
        for f in found.files
        if os.path.realpath(f.path) not in known
    ]
    named = {os.path.abspath(path) for path in used}
    return [*dropped, *(d for d in found.passed if os.path.abspath(found.root / d.name) not in named)]


def without_thumbnails(
    photos: Sequence[tuple[Candidate, Header]], dropped: list[Dropped]
) -> list[tuple[Candidate, Header]]:
    """The photos without those that are called thumbnails and are smaller than any other.

    Args:
        photos: with their headers.
        dropped: gets what goes.
    """
    free = [p for p in photos if not p[0].named and p[0].lens is None]
    others = [h.height * h.width for c, h in free if not is_called_thumbnail(c.place)]
    small = {c.index for c, h in free if others and is_called_thumbnail(c.place) and h.height * h.width < min(others)}
    dropped += [Dropped(name=shown(c.place), reason=THUMBNAIL) for c, _ in free if c.index in small]
    return [p for p in photos if p[0].index not in small]


def without_depth(photos: Sequence[tuple[Candidate, Header]], dropped: list[Dropped]) -> list[tuple[Candidate, Header]]:
    """The photos without grey pictures of 16 bits that are called like photos in colour: depth maps.

    Args:
        photos: with their headers.
        dropped: gets what goes.
    """
    free = [p for p in photos if not p[0].named and p[0].lens is None]
    colored = {folded(c.path.stem) for c, h in free if not h.deep_grey}
    deep = {c.index for c, h in free if h.deep_grey and folded(c.path.stem) in colored}
    dropped += [Dropped(name=shown(c.place), reason=DEPTH) for c, _ in free if c.index in deep]
    return [p for p in photos if p[0].index not in deep]
