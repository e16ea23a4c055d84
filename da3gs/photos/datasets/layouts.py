"""Layouts of posed data sets: what they look like in a survey of files, and which one of several to take."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import PARTS, image_names, is_colmap
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.formats.jsonfile import load_json
from da3gs.photos.candidates import Collection
from da3gs.photos.datasets.phone_exports import (
    POLYCAM,
    RECORD3D_CAMERAS,
    RECORD3D_PHOTOS,
    is_record3d,
    polycam_photos,
    record3d_photos,
)
from da3gs.photos.datasets.posed import colmap_photos, scene_of, transforms_photos
from da3gs.photos.folders.survey import Survey
from da3gs.photos.naming import folded, natural_key, portable, shown

LayoutKind = Literal["transforms", "polycam", "record3d", "colmap"]
"""In the order in which they are taken where one scene has several: transforms.json has the longer numbers."""
_ORDER: tuple[LayoutKind, ...] = ("transforms", "polycam", "record3d", "colmap")
_TRANSFORMS = re.compile(r"transforms(_.+)?\.json")
_SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One posed data set."""

    kind: LayoutKind
    """What it is."""
    scene: str
    """The folder of its scene, below the one that was looked through; empty for that itself."""
    place: str
    """The file or folder that says it, below the same; what a user would name to ask for it."""
    base: Path
    """The folder that the collection's paths are below."""
    open: Callable[[], Collection]
    """Reads its cameras."""
    split: str = ""
    """Of NeRF-synthetic's files: ``train``, ``val`` or ``test``."""
    names: Callable[[], Sequence[str] | None] = lambda: ("",)
    """The photos that it has cameras for, as written; None where it is broken."""


def layouts_in(found: Survey, split: str | None) -> list[Layout]:
    """The posed data sets in a survey, one for each file of cameras.

    Args:
        found: what lies there.
        split: which of NeRF-synthetic's files to take; ``all`` for all of them together.

    Raises:
        InputError: a file of cameras is a link that leads out.
    """
    for name, _ in found.links_out:
        if _TRANSFORMS.fullmatch(name.rpartition("/")[2].lower()):
            raise InputError(f"{shown(name)} is a link that leads out; put the file itself there")
    layouts: list[Layout] = []
    for folder in found.folders:
        names = {f.name.rpartition("/")[2]: f for f in found.inside(folder)}
        layouts += _transforms(found, folder, [n for n in names if _TRANSFORMS.fullmatch(n.lower())], split)
        path = found.root / folder
        if is_colmap(path):
            layouts.append(_colmap(found, folder))
        if any(name in names for name in RECORD3D_CAMERAS) and (record := _record3d(found, folder, names.keys())):
            layouts.append(record)
    for keyframes in _keyframes(found):
        layouts.append(
            Layout(
                kind="polycam", scene=_parent(keyframes), place=keyframes, base=found.root / keyframes,
                open=functools.partial(polycam_photos, found.root / keyframes),
            )
        )  # fmt: skip
    return layouts


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _transforms(found: Survey, folder: str, names: Sequence[str], split: str | None) -> list[Layout]:
    """The transforms files of a folder: ``transforms.json``, or the splits, or whatever stands there alone."""
    by_key = {folded(name): name for name in names}
    scene = _parent(folder) if folder.rpartition("/")[2] == "nerfstudio" else folder

    def layout(chosen: Sequence[str], word: str = "") -> Layout:
        """Layout of one file, or of several together."""
        paths = [found.root / folder / name for name in chosen]
        return Layout(
            kind="transforms", scene=scene, place=_join(folder, chosen[0]), base=found.root / folder,
            open=functools.partial(transforms_photos, *paths), split=word,
            names=functools.partial(_frames, paths),
        )  # fmt: skip

    splits = {word: by_key[key] for word in _SPLITS if (key := f"transforms_{word}.json") in by_key}
    rest = [name for name in sorted(names, key=natural_key) if name not in splits.values()]
    if split == "all" and splits:
        return [layout([*splits.values()], "all")]
    if split is not None:
        return [layout([splits[split]], split)] if split in splits else []
    whole = by_key.get("transforms.json")
    first = [whole] if whole is not None else []
    others = [name for name in rest if name != whole]
    return [layout([name]) for name in [*first, *others]] + [layout([name], word) for word, name in splits.items()]


def _frames(paths: Sequence[Path]) -> list[str] | None:
    try:
        return [frame.file_path for path in paths for frame in load_transforms(path).frames]
    except InputError:
        return None


def _colmap(found: Survey, folder: str) -> Layout:
    path = found.root / folder
    scene = scene_of(found.root.resolve(), path.resolve())
    below = "" if not scene.is_relative_to(found.root.resolve()) else scene.relative_to(found.root.resolve()).as_posix()
    return Layout(
        kind="colmap", scene="" if below == "." else below, place=folder, base=scene,
        open=functools.partial(colmap_photos, found.root, path), names=functools.partial(_registered, path),
    )  # fmt: skip


def _registered(model: Path) -> list[str] | None:
    try:
        return image_names(model)
    except InputError:
        return None


def _record3d(found: Survey, folder: str, names: object) -> Layout | None:
    path = found.root / folder
    if not any((path / name).is_dir() for name in RECORD3D_PHOTOS):
        return None
    file = next(path / name for name in RECORD3D_CAMERAS if (path / name).is_file())
    try:
        if not is_record3d(load_json(file)):
            return None
    except InputError:
        return None
    return Layout(kind="record3d", scene=folder, place=folder, base=path, open=functools.partial(record3d_photos, path))


def _keyframes(found: Survey) -> list[str]:
    """Folders with Polycam's folders of photos and cameras."""
    folders = set(found.folders)
    parents = {_parent(f) for f in folders if f.rpartition("/")[2] in {c for _, c in POLYCAM}}
    return sorted(p for p in parents if any(_join(p, a) in folders and _join(p, b) in folders for a, b in POLYCAM))


def best_of(layouts: Sequence[Layout], found: Survey) -> tuple[Layout, list[str]]:
    """The layout to take of one scene, and what to say of the others.

    Of COLMAP models the one with the most photos that are there; of NeRF-synthetic's files ``train``.
    """
    counts = {layout.place: _present(found, layout.names()) for layout in layouts}

    def rank(layout: Layout) -> tuple[object, ...]:
        """The smallest one is taken."""
        place = (counts[layout.place] <= 0, _ORDER.index(layout.kind))
        if layout.kind == "colmap":
            return (place, -counts[layout.place], layout.place.count("/"), natural_key(layout.place))
        plain = layout.place.lower().endswith("transforms.json")
        split = _SPLITS.index(layout.split) if layout.split in _SPLITS else 0
        return (place, not plain, split, layout.place.count("/"), natural_key(layout.place))

    best, *others = sorted(layouts, key=rank)
    taken = f"{shown(best.place or '.')} is read ({_told(best, counts)})"
    splits = [other.split for other in others if other.split and best.split]
    notes = [f"{taken}; for the others --split {'|'.join(splits)}, or all"] if splits else []
    for other in others:
        if not (best.split and other.split):
            notes.append(f"{taken}; {shown(other.place or '.')} ({_told(other, counts)}) is not: name it to take it")
    return best, notes


def _told(layout: Layout, counts: dict[str, int]) -> str:
    """What a layout holds."""
    if layout.kind in ("polycam", "record3d"):
        return layout.kind
    count = counts[layout.place]
    return "broken" if count < 0 else f"{count} photo{'s' * (count != 1)}"


def _present(found: Survey, names: Sequence[str] | None) -> int:
    """How many pictures of a survey are called like these, by their file names alone; -1 where there is no list."""
    if names is None:
        return -1
    files = {folded(f.path.name) for f in found.files if f.kind == "photo"}
    files |= {name.rpartition(".")[0] for name in files}
    return sum(not name or folded(portable(name).rpartition("/")[2]) in files for name in names)


def photos_of_others(layouts: Sequence[Layout], best: Layout, found: Survey) -> dict[str, str]:
    """Pictures that only layouts which are not read have cameras for, with the reason."""
    listed: dict[str, str] = {}
    for layout in layouts:
        if layout is not best:
            reason = OTHER_SPLIT if layout.split and best.split else OTHER_CAMERAS
            listed |= {folded(portable(name)): reason for name in layout.names() or () if name}
    reasons = {}
    for file in found.files:
        parts = folded(file.name).split("/")
        tails = ["/".join(parts[i:]) for i in range(len(parts))]
        tails += [tail.rpartition(".")[0] for tail in tails]
        if file.kind == "photo" and (match := next((listed[t] for t in tails if t in listed), None)):
            reasons[file.name] = match
    places = {layout.place for layout in layouts if layout is not best}
    return reasons | {f.name: OTHER_CAMERAS for f in found.files if {f.name, f.folder} & places}


OTHER_SPLIT = "is of another split (--split)"
OTHER_CAMERAS = "is of other cameras that are not read"


def half_model(found: Survey) -> str | None:
    """A COLMAP model that lacks one of its files, in words; None where there is none.

    A folder counts as one where it lies in ``sparse``, or where two of the three files are there.
    """
    for folder in found.folders:
        path = found.root / folder
        present = {f.path.stem for f in found.inside(folder) if f.path.suffix in (".bin", ".txt")} & set(PARTS)
        in_sparse = "sparse" in path.resolve().parts[-2:]
        if is_colmap(path) or not present or (len(present) < 2 and not in_sparse):
            continue
        missing = [name for name in PARTS[:2] if name not in present]
        lacks = " and ".join(missing) if missing else "cameras and images of one form (.bin or .txt)"
        return f"{shown(folder or found.root.name)} is a COLMAP model without its {lacks}"
    return None
