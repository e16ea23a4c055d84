"""Photos with cameras: transforms.json, DL3DV scenes, COLMAP models."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import colmap_files, load_colmap
from da3gs.formats.cameras.colmap_model import ColmapCamera, ColmapModel
from da3gs.formats.cameras.lens import Lens
from da3gs.formats.cameras.transforms import Frame, load_transforms
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.decoding.images import read_header
from da3gs.photos.folders.matching import Files, inside
from da3gs.photos.folders.survey import PHOTO_SUFFIXES, stays_inside
from da3gs.photos.naming import natural_key, portable, shown, unique_stems
from da3gs.photos.records import MISSING, Dropped, Kind, SparsePoints, Unreadable

_SMALLER = ("images_2", "images_4", "images_8")
_WRAPPERS = ("distorted", "colmap", "sfm", "reconstruction")
"""Folders that hold a model beside the photos' folder, not above it."""


def transforms_photos(*paths: Path) -> Collection:
    """The photos of a ``transforms.json``, or of several of one folder, in their order.

    Where ``images/`` is not there but ``images_4/`` is, as in DL3DV scenes, the smaller pictures are taken; intrinsics
    are scaled to them later like to any others.

    Raises:
        InputError: a file is broken, or a path in it leads out of its folder.
    """
    root = paths[0].parent
    files = Files(root)
    frames = [
        (f"{shown(path.name)}, frame {index}", frame)
        for path in paths
        for index, frame in enumerate(load_transforms(path).frames)
    ]
    names = unique_stems(portable(frame.file_path) for _, frame in frames)
    kind: Kind = "transforms"
    candidates, dropped, read = [], [], {path.name for path in paths}
    listed: dict[Path, tuple[str, Frame]] = {}
    for index, (where, frame) in enumerate(frames):
        found = next(iter(copies_of(files, frame.file_path, where)), None)
        written = portable(frame.file_path)
        if found is None:
            reason = files.missing(written)
            dropped.append(Dropped(name=shown(written), reason=reason, kind=MISSING))
            continue
        first = listed.setdefault(found, (where, frame))
        if not np.allclose(first[1].cam_to_world, frame.cam_to_world, atol=1e-6):
            raise InputError(f"{first[0]} and {where} give {shown(written)} different cameras; keep one of them")
        if first[1] is not frame:
            continue
        if found.parent.name in _SMALLER and not written.startswith(found.parent.name):
            kind = "dl3dv"
        mask = None if frame.mask_path is None else _mask(files, frame.mask_path, where)
        try:
            lens = _lens(frame, found, where)
        except Unreadable as problem:
            dropped.append(Dropped(name=_below(root, found), reason=str(problem), kind=problem.kind))
            continue
        read |= set() if mask is None else {_below(root, mask)}
        candidates.append(
            Candidate(
                index=index, name=names[index], path=found, place=_below(root, found), lens=lens,
                cam_to_world=frame.cam_to_world, mask=mask,
            )
        )  # fmt: skip
    title = shown(f"{root.resolve().name}/{paths[0].name}")
    return Collection(
        kind=kind, title=title, candidates=tuple(candidates), dropped=tuple(dropped), read=tuple(sorted(read)),
        listed=len(frames),
    )  # fmt: skip


def _below(root: Path, path: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _mask(files: Files, written: str, where: str) -> Path:
    """A mask that a file names; what is not there is told when it is read."""
    found = files.find(written, where)
    return files.root / portable(written) if found is None else found


def _lens(frame: Frame, photo: Path, where: str) -> Lens:
    height = width = 0
    if "w" not in frame.numbers or "h" not in frame.numbers:
        header = read_header(photo)
        height, width = header.height, header.width
    try:
        return frame.lens(height, width, wide=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def copies_of(files: Files, written: str, where: str) -> tuple[Path, ...]:
    """Paths of a photo: as written, or with a suffix added; and then its smaller copies, if there are any.

    Raises:
        InputError: the path leads out, or is no path of a file.
    """
    relative = PurePosixPath(portable(written))
    suffixes = () if relative.suffix.lower() in PHOTO_SUFFIXES else sorted(PHOTO_SUFFIXES)
    parts = relative.parts
    variants = [written]
    if "images" in parts[:-1]:
        at = parts.index("images")
        variants += ["/".join((*parts[:at], folder, *parts[at + 1 :])) for folder in _SMALLER]
    found = (files.find(variant, where, suffixes=suffixes) for variant in variants)
    return tuple(path for path in found if path is not None)


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
    model = load_colmap(model_folder, features=False)
    images = sorted(model.images, key=lambda i: natural_key(i.name))
    scene = scene_of(folder.resolve(), model_folder.resolve())
    files = Files(scene)
    lenses = _lenses(model)  # which refuses sizes that make no sense, before they are compared
    place = _picture_place(scene, model_folder.resolve(), model, files)
    names = unique_stems(portable(i.name) for i in images)
    candidates, dropped = [], []
    for index, image in enumerate(images):
        inside(scene / place, portable(image.name), "the COLMAP model")
        written = f"{place}/{image.name}" if place else image.name
        path = files.find(written, "the COLMAP model")
        if path is None:
            reason = files.missing(written)
            dropped.append(Dropped(name=shown(portable(image.name)), reason=reason, kind=MISSING))
            continue
        lens, pose = lenses[image.camera_id], _cam_to_world(image.world_to_cam())
        candidates.append(
            Candidate(
                index=index, name=names[index], path=path, place=_below(scene, path), lens=lens, cam_to_world=pose
            )
        )
    points = SparsePoints(positions=model.points.positions, colors=model.points.colors, errors=model.points.errors)
    read = sorted(_below(scene, path.resolve()) for path in colmap_files(model_folder))
    return Collection(
        kind="colmap", title=shown(scene.name), candidates=tuple(candidates), dropped=tuple(dropped), points=points,
        read=tuple(read), listed=len(images),
    )  # fmt: skip


def _lenses(model: ColmapModel) -> dict[int, Lens]:
    used = {i.camera_id for i in model.images}
    return {c.id: c.lens(wide=True) for c in model.cameras if c.id in used}


def _cam_to_world(world_to_cam: np.ndarray) -> np.ndarray:
    import torch

    return rigid_inverse(torch.from_numpy(world_to_cam)).numpy()


def scene_of(folder: Path, model_folder: Path) -> Path:
    """The folder of the scene that a model is of: where its ``sparse`` lies, or the folder round that.

    A model that lies in no ``sparse`` belongs to its own folder where photos are in it, else to the folder above, as
    far as that is inside ``folder``.
    """
    above = [p for p in model_folder.parents if p.is_relative_to(folder)]
    for place in (model_folder, model_folder.parent, *above):
        if place.name == "sparse":
            scene = place.parent
            return scene.parent if scene.name.lower() in _WRAPPERS and scene != folder else scene
    if model_folder == folder or (model_folder / "images").is_dir() or _has_pictures(model_folder):
        return model_folder
    return model_folder.parent


def _has_pictures(folder: Path) -> bool:
    return any(p.suffix.lower() in PHOTO_SUFFIXES for p in folder.iterdir())


def _picture_place(scene: Path, model_folder: Path, model: ColmapModel, files: Files) -> str:
    """The folder, below the scene's, that names are relative to: where most of the pictures are, of the right size."""
    names = [portable(i.name) for i in model.images]
    usual = ["images", *_SMALLER, "input", _below(scene, model_folder / "images"), ""]
    places = [p for p in usual if not p.startswith("..") and (scene / p).is_dir()]
    places += [p for p in files.folders_of(names) if p not in places]
    cameras = {c.id: c for c in model.cameras}
    first = {portable(i.name): cameras[i.camera_id] for i in model.images}

    def worth(place: str) -> tuple[int, int]:
        """Rank by how many pictures are there, and how well the size of one fits its camera."""
        there = [name for name in names if files.holds(f"{place}/{name}" if place else name)]
        return len(there), _size_fits(files, place, there[0], first[there[0]]) if there else 0

    return max(places, key=worth, default="images")


def _size_fits(files: Files, place: str, name: str, camera: ColmapCamera) -> int:
    """2 where a picture has its camera's size, 1 where it has its shape, else 0."""
    try:
        path = files.find(f"{place}/{name}" if place else name, "the COLMAP model")
        header = None if path is None else read_header(path)
    except (InputError, Unreadable):
        return 0
    if header is None:
        return 0
    exact = (header.height, header.width) == (camera.height, camera.width)
    return 2 if exact else int(abs(header.width * camera.height / (header.height * camera.width) - 1) <= 0.01)
