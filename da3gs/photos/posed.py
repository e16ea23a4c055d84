"""Photos with cameras: transforms.json, DL3DV scenes, COLMAP models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.formats.colmap import ColmapModel, load_colmap
from da3gs.formats.lens import Lens
from da3gs.formats.transforms import Frame, load_transforms
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.folders import PHOTO_SUFFIXES, stays_inside
from da3gs.photos.images import read_header
from da3gs.photos.naming import natural_key, shown, unique_stems
from da3gs.photos.records import Dropped, Kind, SparsePoints, Unreadable

_SMALLER = ("images_2", "images_4", "images_8")


def transforms_photos(path: Path) -> Collection:
    """The photos of a ``transforms.json``, in its order.

    Where ``images/`` is not there but ``images_4/`` is, as in DL3DV scenes, the smaller pictures are taken; intrinsics
    are scaled to them later like to any others.

    Raises:
        InputError: the file is broken, or a path in it leads out of its folder.
    """
    root = path.parent
    frames = load_transforms(path).frames
    names = unique_stems(portable(f.file_path) for f in frames)
    kind: Kind = "transforms"
    candidates, dropped = [], []
    for index, frame in enumerate(frames):
        where = f"{shown(path.name)}, frame {index}"
        found = photo_of(root, frame.file_path, where)
        if found is None:
            dropped.append(Dropped(name=shown(Path(portable(frame.file_path)).name), reason="is missing"))
            continue
        if found.parent.name in _SMALLER and not portable(frame.file_path).startswith(found.parent.name):
            kind = "dl3dv"
        mask = None if frame.mask_path is None else inside(root, portable(frame.mask_path), where)
        try:
            lens = _lens(frame, found, where)
        except Unreadable as problem:
            dropped.append(Dropped(name=shown(found.name), reason=str(problem)))
            continue
        candidates.append(
            Candidate(index=index, name=names[index], path=found, lens=lens, cam_to_world=frame.cam_to_world, mask=mask)
        )
    title = shown(f"{root.resolve().name}/{path.name}")
    return Collection(kind=kind, title=title, candidates=tuple(candidates), dropped=tuple(dropped))


def _lens(frame: Frame, photo: Path, where: str) -> Lens:
    height = width = 0
    if "w" not in frame.numbers or "h" not in frame.numbers:
        header = read_header(photo)
        height, width = header.height, header.width
    try:
        return frame.lens(height, width, wide=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def portable(written: str) -> str:
    """A path as written in a file, with slashes and without a leading ``./``."""
    return written.replace("\\", "/").removeprefix("./")


def inside(root: Path, written: str, where: str) -> Path:
    """The file that a path written inside an input means.

    Raises:
        InputError: the path is absolute, or leads out of ``root`` once links are resolved.
    """
    if os.path.isabs(written) or written[1:2] == ":" or not stays_inside(root / written, root):
        raise InputError(
            f"{where}: the path {shown(written)!r} leads out of {shown(root.resolve().name)}; make it relative"
        )
    return root / written


def photo_of(root: Path, written: str, where: str) -> Path | None:
    """Where a photo lies: as written, with a suffix added, or in a folder of smaller copies."""
    return next(iter(copies_of(root, written, where)), None)


def copies_of(root: Path, written: str, where: str) -> tuple[Path, ...]:
    """Where a photo lies, and then its smaller copies, if there are any."""
    relative = portable(written)
    first = inside(root, relative, where)
    parts = Path(relative).parts
    variants = [relative]
    if "images" in parts[:-1]:
        at = parts.index("images")
        variants += [str(Path(*parts[:at], folder, *parts[at + 1 :])) for folder in _SMALLER]
    suffixes = () if first.suffix.lower() in PHOTO_SUFFIXES else sorted(PHOTO_SUFFIXES)
    found = []
    for variant in variants:
        path = inside(root, variant, where)
        if os.path.lexists(path) and not path.is_dir():
            found.append(path)
            continue
        suffix = next((s for s in suffixes if os.path.lexists(f"{path}{s}")), None)
        if suffix is not None:
            found.append(inside(root, f"{variant}{suffix}", where))
    return tuple(found)


def colmap_photos(folder: Path, model_folder: Path) -> Collection:
    """The photos of a COLMAP model, in natural name order.

    Args:
        folder: what was named; pictures in it, or beside its ``sparse`` folder, count as inside.
        model_folder: where the model files are.

    Raises:
        InputError: the model is broken, its cameras have no pinhole form, or a picture's name leads out.
    """
    for file in model_folder.glob("*.*"):
        if file.stem in ("cameras", "images", "points3D") and not stays_inside(file, model_folder):
            raise InputError(
                f"{shown(file.name)} is a link that leads out of the COLMAP model; put the file itself there"
            )
    model = load_colmap(model_folder)
    images = sorted(model.images, key=lambda i: natural_key(i.name))
    scene = _scene_of(folder.resolve(), model_folder.resolve())
    root = _picture_root(scene, model_folder.resolve(), [i.name for i in images])
    lenses = _lenses(model)
    names = unique_stems(i.name for i in images)
    candidates, dropped = [], []
    for index, image in enumerate(images):
        path = inside(root, image.name, "the COLMAP model")
        if not stays_inside(path, scene):
            raise InputError(
                f"the COLMAP model: {shown(image.name)!r} leads out of {shown(scene.name)}; put the photos inside"
            )
        if not os.path.lexists(path):
            dropped.append(Dropped(name=shown(path.name), reason="is missing"))
            continue
        lens, pose = lenses[image.camera_id], _cam_to_world(image.world_to_cam())
        candidates.append(Candidate(index=index, name=names[index], path=path, lens=lens, cam_to_world=pose))
    points = SparsePoints(positions=model.points.positions, colors=model.points.colors, errors=model.points.errors)
    return Collection(
        kind="colmap", title=shown(scene.name), candidates=tuple(candidates), dropped=tuple(dropped), points=points
    )


def _lenses(model: ColmapModel) -> dict[int, Lens]:
    used = {i.camera_id for i in model.images}
    return {c.id: c.lens(wide=True) for c in model.cameras if c.id in used}


def _cam_to_world(world_to_cam: np.ndarray) -> np.ndarray:
    import torch

    return rigid_inverse(torch.from_numpy(world_to_cam)).numpy()


def _scene_of(folder: Path, model_folder: Path) -> Path:
    """The folder that ``sparse`` lies in, or else the one that was named."""
    for place in (model_folder, *model_folder.parents):
        if place.name == "sparse":
            return place.parent
        if place == folder:
            break
    return model_folder.parent.parent if model_folder.parent.name == "sparse" else folder


def _picture_root(scene: Path, model_folder: Path, names: Iterable[str]) -> Path:
    """The folder that names are relative to: the one where most of the pictures are."""
    places = [scene / "images", *[scene / s for s in _SMALLER], scene / "input", model_folder / "images", scene]
    counts = [sum(os.path.lexists(place / name) for name in names) if place.is_dir() else 0 for place in places]
    return places[int(np.argmax(counts))]
