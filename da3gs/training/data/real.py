"""Batches of real photographs with cameras: DL3DV folders and chunks, nerfstudio folders, COLMAP models.

Views are drawn as in the field (DepthSplat, ZipSplat): a stretch of neighbouring frames, from its ends inward by
farthest-point sampling, so that the views of a smaller number are among those of a larger one; the views that the
network does not see are drawn from the rest of the stretch. Scenes of DL3DV-Benchmark are left out by name.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import find_colmap
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.candidates import Candidate, in_views, read_original
from da3gs.photos.datasets.dl3dv import PosedScene, open_dl3dv
from da3gs.photos.datasets.posed import colmap_photos
from da3gs.photos.resampling.slices import seen_share
from da3gs.training.data.batch import Batch
from da3gs.training.data.benchmark_scenes import is_benchmark

GAP = (20, 50)
"""Frames between the first and the last of two views; three views and more stand over a longer stretch."""
_LARGEST_SHIFT = 1e3
_ATTEMPTS = 20
_OPEN = 8
_log = logging.getLogger(__name__)


class RealScenes:
    """Draws batches from a root of scenes; those that turn out to be broken are left out with a warning.

    Raises:
        InputError: the root holds no scene that may be trained on.
    """

    def __init__(self, root: Path) -> None:
        colmap = _colmap_folders(root) if root.is_dir() else {}
        try:
            self._data = open_dl3dv(root)
            keys = list(self._data)
        except InputError:
            if not colmap:
                raise
            keys = []
        self._colmap = {key: folder for key, folder in colmap.items() if key not in keys}
        found = sorted([*keys, *self._colmap])
        self.keys = [key for key in found if not is_benchmark(key)]
        """The scenes that are drawn from."""
        if not self.keys:
            raise InputError(f"data = {root.name!r} holds only benchmark scenes, which are not trained on; add others")
        if len(self.keys) < len(found):
            _log.info("%d benchmark scenes are left out", len(found) - len(self.keys))
        self._lock = threading.Lock()
        self._broken: set[str] = set()
        self._scene = functools.lru_cache(maxsize=_OPEN)(self._opened)

    def _opened(self, key: str) -> PosedScene:
        scene = colmap_scene(self._colmap[key], key) if key in self._colmap else self._data[key]
        if np.abs(scene.cam_to_world[:, :3, 3]).max() > _LARGEST_SHIFT:
            raise InputError(f"{key}: its cameras lie more than {_LARGEST_SHIFT:g} from the origin")
        return scene

    def batch(
        self, g: np.random.Generator, scenes: int, views: int, size: tuple[int, int], *, targets: int = 0
    ) -> Batch:
        """A batch of so many views of each scene, the last ``targets`` of them inside the stretch of the others.

        Raises:
            InputError: one scene after the other is broken.
        """
        parts = [self._one(g, views, size, targets) for _ in range(scenes)]
        images, poses, intrinsics = (np.stack(column) for column in zip(*parts, strict=True))
        cam_to_world = torch.from_numpy(poses)
        world_to_cam = rigid_inverse(cam_to_world) @ cam_to_world[:, :1]
        height, width = size
        return Batch(
            images=torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255,
            depth=torch.zeros(scenes, views, height, width),
            cameras=Cameras(
                world_to_cam=world_to_cam.float(),
                intrinsics=torch.from_numpy(intrinsics).float(),
                height=height,
                width=width,
            ),
            posed=False,
            targets=targets,
        )

    def _one(
        self, g: np.random.Generator, views: int, size: tuple[int, int], targets: int
    ) -> tuple[NDArray, NDArray, NDArray]:
        problem: InputError | None = None
        for _ in range(_ATTEMPTS):
            key = self.keys[int(g.integers(len(self.keys)))]
            try:
                scene = self._scene(key)
                chosen = drawn_views(g, scene.cam_to_world, views - targets, targets)
                pieces = [sized_photo(*scene.undistorted_picture(index), *size) for index in chosen]
            except InputError as error:
                problem = error
                with self._lock:
                    if key not in self._broken:
                        _log.warning("the scene %s is passed over: %s", key, error)
                    self._broken.add(key)
                continue
            images, intrinsics = (np.stack(column) for column in zip(*pieces, strict=True))
            return images, scene.cam_to_world[chosen], intrinsics
        raise InputError(f"{_ATTEMPTS} scenes in a row cannot be used, the last one since {problem}; mend the data")


def drawn_views(g: np.random.Generator, cam_to_world: NDArray, context: int, targets: int) -> list[int]:
    """Frames for a batch: ``context`` of them nested by farthest-point sampling, then ``targets`` others between.

    Raises:
        InputError: the scene has too few frames.
    """
    count = len(cam_to_world)
    if count < context + targets:
        raise InputError(f"it has {count} frames, fewer than the {context + targets} that are asked for")
    gap = int(g.integers(GAP[0], GAP[1] + 1)) * max(1.0, (context - 1) / 2)
    span = int(min(count - 1, max(gap, context + targets - 1)))
    start = int(g.integers(count - span))
    window = np.arange(start, start + span + 1)
    chosen = farthest_frames(cam_to_world[window], context)
    rest = np.setdiff1d(np.arange(len(window)), chosen)
    between = g.choice(rest, targets, replace=False) if targets else np.empty(0, np.int64)
    return [int(window[i]) for i in (*chosen, *between)]


def farthest_frames(cam_to_world: NDArray, count: int) -> list[int]:
    """The first and the last frame, then each time the one that is farthest from all before it.

    Distance is that of the centres, in units of their spread, plus the angle between the directions in radians.
    """
    centers, forward = cam_to_world[:, :3, 3], cam_to_world[:, :3, 2]
    spread = max(float(np.linalg.norm(centers - centers.mean(0), axis=1).mean()), 1e-9)

    def distance(index: int) -> NDArray:
        """Distance of all frames from one, in place and in direction."""
        angle = np.arccos(np.clip(forward @ forward[index], -1, 1))
        return np.linalg.norm(centers - centers[index], axis=1) / spread + angle

    chosen = [0, len(centers) - 1][:count]
    nearest = np.min([distance(index) for index in chosen], axis=0)
    while len(chosen) < count:
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distance(chosen[-1]))
    return chosen


def sized_photo(image: NDArray, intrinsics: NDArray, height: int, width: int) -> tuple[NDArray, NDArray]:
    """A photo resized (Lanczos) until it covers the size, cropped in the middle, and its intrinsics."""
    scale = max(height / image.shape[0], width / image.shape[1])
    rows, columns = max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale))
    resized = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))
    top, left = (rows - height) // 2, (columns - width) // 2
    moved = intrinsics * np.array([[columns / image.shape[1]], [rows / image.shape[0]], [1.0]])
    moved[0, 2] -= left
    moved[1, 2] -= top
    return resized[top : top + height, left : left + width], moved


def colmap_scene(folder: Path, key: str) -> PosedScene:
    """The photos of a COLMAP model, undistorted when they are read; of wide lenses the views that they fill.

    Raises:
        InputError: the model is broken, or none of its photos is there.
    """
    model = find_colmap(folder)
    if model is None:
        raise InputError(f"{key} holds no COLMAP model any more")
    photos = [c for c in colmap_photos(folder, model).candidates if c.lens is not None]
    if not photos:
        raise InputError(f"{key}: none of the photos of its COLMAP model is there")
    candidates = [c for c in in_views([(photo, None) for photo in photos], "never") if _is_whole(c)]
    if not candidates:
        raise InputError(f"{key}: no view of its fisheye photos is filled by what the lens saw")

    def read(index: int) -> NDArray:
        """A photo of the model."""
        return read_original(candidates[index], undistort=False).image

    cameras = [_camera(c) for c in candidates]
    sizes = np.array([[[width], [height], [1]] for _, height, width, _ in cameras], np.float64)
    return PosedScene(
        key=key,
        names=tuple(c.name if c.part is not None else c.path.name for c in candidates),
        cam_to_world=np.stack([c.cam_to_world for c in candidates if c.cam_to_world is not None]),
        intrinsics=np.stack([intrinsics for intrinsics, *_ in cameras]) / sizes,
        distortion=tuple(distortion for *_, distortion in cameras),
        reader=read,
    )


def _is_whole(candidate: Candidate) -> bool:
    """Whether a view holds nothing that its lens did not see; so does any ordinary photo."""
    return candidate.part is None or (candidate.lens is not None and seen_share(candidate.part, candidate.lens) == 1)


def _camera(candidate: Candidate) -> tuple[NDArray, int, int, tuple[float, ...]]:
    """Intrinsics, height, width and distortion of a photo, or of one view of a wide photo."""
    if candidate.part is not None:
        return candidate.part.intrinsics, candidate.part.height, candidate.part.width, ()
    assert candidate.lens is not None
    return candidate.lens.intrinsics, candidate.lens.height, candidate.lens.width, candidate.lens.distortion


def _colmap_folders(root: Path) -> dict[str, Path]:
    """COLMAP models in a root: the root itself, or folders right below it."""
    if find_colmap(root) is not None:
        return {root.resolve().name: root}
    below = sorted(e.path for e in os.scandir(root) if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
    return {Path(place).name: Path(place) for place in below if find_colmap(Path(place)) is not None}
