"""Mask files of photos: found by the photos' names, in folders like the photos'.

A mask is called like its photo (``a.png`` or ``a.jpg.png`` for ``a.jpg``; ``a_mask.png`` counts too). Where photos lie
in folders their masks lie in folders of the same names; a mask that lies in none serves a photo only where no other
photo has its name.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from da3gs.errors import InputError
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.folders.survey import PHOTO_SUFFIXES, survey
from da3gs.photos.naming import folded, shown

_SAYS_MASK = re.compile(r"(^masks?[_\-. ])|([_\-. ]masks?$)")
_LISTED = 3


def with_masks(collection: Collection, folder: Path) -> Collection:
    """The photos with their masks; a note says how many have none.

    Raises:
        InputError: there is no such folder, none of its masks fits, or one would fit two photos.
    """
    if not folder.is_dir():
        raise InputError(f"{shown(folder.name)} is not a folder of masks")
    masks = {f.name: f.path for f in survey(folder).files if f.kind == "photo"}
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in masks:
        for key in _keys_of_mask(name):
            by_key[key].append(name)
    chosen = _matched(collection.candidates, by_key)
    if not chosen:
        first = collection.candidates[0].name if collection.candidates else "photo"
        raise InputError(f"the folder {shown(folder.name)} holds no mask named like a photo ({shown(first)}.png)")
    candidates = tuple(
        dataclasses.replace(c, mask=masks[chosen[c.index]]) if c.index in chosen else c for c in collection.candidates
    )
    without = [c for c in candidates if c.mask is None]
    notes = collection.notes
    if without:
        listed = ", ".join(shown(c.place or c.path.name) for c in without[:_LISTED])
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        notes = (*notes, f"{len(without)} of {len(candidates)} photos have no mask ({listed}{more}) and count whole")
    used = {os.path.realpath(masks[name]) for name in chosen.values()}
    return _accounted(dataclasses.replace(collection, candidates=candidates, notes=notes), used)


def _accounted(collection: Collection, used: set[str]) -> Collection:
    """Masks that lie among the photos are read, not dropped."""
    if collection.root is None:
        return collection
    root = collection.root
    read = [d for d in collection.dropped if os.path.realpath(root / d.name) in used]
    left = tuple(d for d in collection.dropped if d not in read)
    return dataclasses.replace(collection, dropped=left, read=(*collection.read, *(d.name for d in read)))


def _keys_of_mask(name: str) -> set[str]:
    """The photos, by path without suffix or with it, that a mask may be of."""
    path = PurePosixPath(folded(name))
    stems = {path.stem}
    for stem in list(stems):
        stems.add(_SAYS_MASK.sub("", stem))
    for stem in list(stems):
        inner = PurePosixPath(stem)
        if inner.suffix in PHOTO_SUFFIXES:
            stems.add(_SAYS_MASK.sub("", inner.stem) + inner.suffix)
    parent = "" if str(path.parent) == "." else f"{path.parent}/"
    return {f"{parent}{stem}" for stem in stems if stem}


def _keys_of_photo(candidate: Candidate) -> list[str]:
    """By which a photo's mask may be called, the closest first: with its folders, then with ever fewer of them."""
    place = PurePosixPath(folded(candidate.place or candidate.path.name))
    if candidate.time is not None:
        place = PurePosixPath(folded(candidate.name))
    folders = place.parts[:-1]
    parents = ["".join(f"{f}/" for f in folders[skipped:]) for skipped in range(len(folders) + 1)]
    return [f"{parent}{stem}" for parent in parents for stem in dict.fromkeys((place.name, place.stem))]


def _matched(candidates: Sequence[Candidate], by_key: dict[str, list[str]]) -> dict[int, str]:
    """The mask of each photo that has one, by its index.

    Raises:
        InputError: a photo has two masks, or a mask would be that of two photos.
    """
    chosen: dict[int, str] = {}
    sharing: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        key = next((key for key in _keys_of_photo(candidate) if key in by_key), folded(candidate.name))
        names = by_key.get(key, [])
        if len(names) > 1:
            listed = " and ".join(map(shown, names[:2]))
            raise InputError(f"the photo {shown(candidate.place or candidate.name)} has two masks, {listed}; leave one")
        if names:
            chosen[candidate.index] = names[0]
            sharing[names[0]].append(candidate)
    for name, photos in sharing.items():
        if len({c.path for c in photos}) < 2 or photos[0].time is not None:  # views of one photo, frames of one video
            continue
        own = {c.index: by_key.get(folded(c.name), []) for c in photos}
        if all(len(names) == 1 for names in own.values()) and len({names[0] for names in own.values()}) == len(photos):
            chosen |= {index: names[0] for index, names in own.items()}
            continue
        listed = " and ".join(shown(c.place or c.path.name) for c in photos[:2])
        raise InputError(
            f"the mask {shown(name)} fits {len(photos)} photos ({listed}); put masks into folders like the photos', "
            "or give them the photos' whole names (a.jpg.png)"
        )
    return chosen
