"""Scenes to evaluate on: a DL3DV-style root, chunks, or anything that ``reconstruct`` takes, read frame by frame."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs._progress import silent
from da3gs.errors import InputError
from da3gs.geometry.rotations import orthonormalized
from da3gs.photos.candidates import Candidate, Collection, read_original
from da3gs.photos.datasets.dl3dv import LazyScenes, PosedScenes, open_dl3dv
from da3gs.photos.kinds import collected
from da3gs.photos.naming import shown
from da3gs.photos.records import Placement, Unreadable

_MANY = 10_000
_DEEPEST = 3


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Frame:
    """One photo at its full size."""

    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    mask: Bool[np.ndarray, "H W"] | None
    """True where a pixel is wanted; None means everywhere."""
    intrinsics: Float[np.ndarray, "3 3"] | None
    """In pixels of this size, float64; None where nothing is known."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class EvalScene:
    """The frames of one scene, read when they are asked for."""

    key: str
    """Its name in splits and reports."""
    names: tuple[str, ...]
    """A frame's name, a row a frame."""
    cam_to_world: Float[np.ndarray, "N 4 4"] | None
    """Given poses with exact rotations, float64, OpenCV axes; None where the input has none."""
    read: Callable[[int, bool], Frame]
    """Reads a frame; the second argument says whether lens distortion is undone."""
    placements: Mapping[int, Placement] | None = None
    """How the cameras of the frames that have one were found; None where they were given, or nobody looked."""
    one_spot: bool = False
    """Whether found cameras all stand in one place, so that nothing tells depth."""

    def __len__(self) -> int:
        """How many frames, those with a missing photo among them."""
        return len(self.names)

    @property
    def usable(self) -> tuple[int, ...]:
        """Positions of the frames that a rule may choose from: those with cameras, where cameras were looked for."""
        return tuple(range(len(self))) if self.placements is None else tuple(sorted(self.placements))


class Scenes(LazyScenes[EvalScene]):
    """Scenes to evaluate on."""


def open_scenes(root: Path | str, *, covering: tuple[int, int] | None = None) -> Scenes:
    """The scenes of a root.

    A folder that is itself one scene (transforms.json, COLMAP, photos), a zip or a video is one scene under its own
    name; a folder of scenes or of ``.torch`` chunks is as many as it holds.

    Args:
        root: where they are.
        covering: height and width that pictures will be scaled to: of copies in several sizes, as DL3DV has them, the
            smallest that is as large is read.

    Raises:
        InputError: there is no such path, or nothing in it can be used.
    """
    root = Path(root)
    title = shown(root.resolve().name)
    if not root.exists():
        raise InputError(f"{shown(str(root))} does not exist; check the path")
    if root.suffix == ".torch" or (root.is_dir() and not _is_scene(root) and _holds_scenes(root, 0)):
        found = open_dl3dv(root, covering=covering)
        return Scenes({key: functools.partial(_posed, found, key) for key in found}, title=title)
    collection = collected([root], views=None, fps=None, progress=silent)
    key = _key(root)
    return Scenes({key: functools.partial(_single, collection, key)}, title=title)


def _is_scene(folder: Path) -> bool:
    return any((folder / place).is_file() for place in ("transforms.json", "nerfstudio/transforms.json"))


def _holds_scenes(folder: Path, depth: int) -> bool:
    """Whether posed scenes or chunks lie in a folder or some levels below it."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return False
    if depth and _is_scene(folder):
        return True
    if any(e.suffix == ".torch" and e.is_file() for e in entries):
        return True
    below = [e for e in entries[:_MANY] if e.is_dir() and not e.is_symlink() and not e.name.startswith(".")]
    return depth < _DEEPEST and any(_holds_scenes(e, depth + 1) for e in below)


def _key(root: Path) -> str:
    """A name for a scene that is an input of its own."""
    path = root.resolve()
    if path.name in ("transforms.json", "nerfstudio", "sparse", "0", "images"):
        path = next((p for p in path.parents if p.name not in ("nerfstudio", "sparse")), path)
    stem = path.name if path.is_dir() else path.stem
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem).lstrip("._-")
    return clean[:128] or "scene"


def _posed(found: PosedScenes, key: str) -> EvalScene:
    scene = found[key]

    def read(index: int, undistort: bool) -> Frame:
        """One frame of a posed scene, as stored or undistorted."""
        if undistort:
            image, intrinsics = scene.undistorted_picture(index)
        else:
            image = scene.picture(index)
            intrinsics = scene.pixel_intrinsics(index, image.shape[0], image.shape[1])
        return Frame(image=image, mask=None, intrinsics=intrinsics)

    return EvalScene(key=key, names=scene.names, cam_to_world=_exact(scene.cam_to_world), read=read)


def _single(collection: Collection, key: str) -> EvalScene:
    """One scene of any kind; a frame is a position in the input's own list."""
    candidates: dict[int, Candidate] = {c.index: c for c in collection.candidates}
    listed = collection.listed > 0
    if not listed:
        candidates = dict(enumerate(collection.candidates))
    count = max(max(candidates, default=-1) + 1, collection.listed)
    names = tuple(candidates[i].name if i in candidates else f"frame {i}" for i in range(count))
    given = [candidates[i].cam_to_world if i in candidates else np.eye(4) for i in range(count)]
    poses = [pose for pose in given if pose is not None]

    def read(index: int, undistort: bool) -> Frame:
        """One photo of a folder, in the order of the candidates."""
        if index not in candidates:
            raise InputError(f"{key}, frame {index}: its photo is missing")
        candidate = candidates[index]
        try:
            original = _decoded(candidate, undistort)
        except Unreadable as problem:
            raise InputError(f"{key}, frame {index}: {shown(candidate.path.name)} {problem}") from problem
        return Frame(image=original.image, mask=original.mask, intrinsics=original.intrinsics)

    cam_to_world = _exact(np.stack(poses)) if count and len(poses) == count else None
    return EvalScene(key=key, names=names, cam_to_world=cam_to_world, read=read)


def _decoded(candidate: Candidate, undistort: bool) -> Frame:
    """A photo, or a video's frame."""
    if candidate.time is None:
        original = read_original(candidate, undistort=undistort)
    else:
        from da3gs.formats.media.video import frame_at
        from da3gs.photos.candidates import finished_original
        from da3gs.photos.decoding.images import Picture

        picture = Picture(image=frame_at(candidate.path, candidate.time), mask=None)
        original = finished_original(candidate, picture, undistort=undistort)
    return Frame(image=original.image, mask=original.mask, intrinsics=original.intrinsics)


def _exact(cam_to_world: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """Poses with orthonormal rotations."""
    import torch

    poses = torch.from_numpy(np.array(cam_to_world, np.float64))
    poses[:, :3, :3] = orthonormalized(poses[:, :3, :3])
    return poses.numpy()
