"""Cameras by structure-from-motion: ``--poses colmap``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from da3gs._optional import require
from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.colmap import ColmapModel, load_colmap
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos import Dropped, LoadedPhotos, SparsePoints
from da3gs.photos.picking import covering
from da3gs.photos.reposed import reposed
from da3gs.poses.world_frame import Up, upright_frame

MOST_PHOTOS = 100
"""More are not matched: every photo is compared with every other."""
VIDEO_FPS = 4.0
"""Frames a second that are taken from a video unless said otherwise."""

_LONG_SIDE = 1600
_LEAST_POINTS = 20
_SMALLEST_MODEL = 2
_NAME = "{:05d}.jpg"

_USUAL: dict[str, Any] = {}
_LENIENT = {"init_min_num_inliers": 50, "init_min_tri_angle": 8.0, "abs_pose_min_num_inliers": 20}
_DESPERATE = {
    "init_min_num_inliers": 25, "init_min_tri_angle": 3.0, "abs_pose_min_num_inliers": 12,
    "abs_pose_min_inlier_ratio": 0.15, "init_max_forward_motion": 1.0,
}  # fmt: skip
_ATTEMPTS = ((0, _USUAL), (1, _USUAL), (2, _LENIENT), (3, _DESPERATE))


def structure_from_motion(
    photos: LoadedPhotos,
    *,
    resolution: int,
    views: int,
    shared_focal: bool = False,
    up: Up = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> LoadedPhotos:
    """The photos that COLMAP can place, with its cameras, free of the lens distortion that it found, and its points.

    The world is like that of predicted poses: upright, origin at the first camera; the points' median depth is 1. Every
    photo is matched with every other, a video's frames with those near in time. Where not all photos are placed it is
    tried again with other seeds and lower thresholds, and the largest model counts.

    Args:
        photos: all that there are, poses or not.
        resolution: long side of the views in pixels.
        views: at most so many are kept, spread over the cameras.
        shared_focal: one camera took all photos (they have to be of one size). Without it that is assumed where sizes
            and EXIF focal lengths are the same, or where none has one.
        up: ``camera`` takes the first camera's axes.
        seed: of the random samples; the result may differ from run to run all the same.
        progress: told how many photos are placed.

    Raises:
        InputError: no two photos could be placed.
        MissingDependencyError: pycolmap is not installed.
    """
    pycolmap = require("pycolmap", why="--poses colmap")
    total = len(photos.photos)
    if total < 2:
        raise InputError(f"--poses colmap needs at least 2 photos, got {total}; use --poses predicted")
    with tempfile.TemporaryDirectory(prefix="da3gs-sfm-") as folder, _quiet(pycolmap):
        work = Path(folder)
        focals = _written_copies(photos, work, progress)
        sizes = {(photo.original_height, photo.original_width) for photo in photos.photos}
        if shared_focal and len(sizes) > 1:
            raise InputError(f"--shared-focal, but the photos have {len(sizes)} different sizes; leave it out")
        single = shared_focal or photos.kind == "video" or (len(sizes) == 1 and len(set(focals)) == 1)
        _matched(pycolmap, photos, work, single, progress)
        model = _largest_model(pycolmap, work, total, seed, progress)
    if model is None or len(model.images) < _SMALLEST_MODEL or len(model.points.ids) < _LEAST_POINTS:
        raise InputError(
            f"--poses colmap could place none of the {total} photos: too little in them matches; use --poses "
            "predicted, or take photos that overlap more"
        )
    return _with_model(photos, model, resolution=resolution, views=views, up=up)


@contextlib.contextmanager
def _quiet(pycolmap: ModuleType) -> Iterator[None]:
    """COLMAP logs nothing inside, neither to stderr nor to files."""
    log = pycolmap.logging
    before = log.minloglevel, log.logtostderr
    log.minloglevel, log.logtostderr = 4, True
    try:
        yield
    finally:
        log.minloglevel, log.logtostderr = before


def _written_copies(photos: LoadedPhotos, work: Path, progress: Progress) -> list[int]:
    """Upright photos of a bounded size, and masks beside them; returns focal lengths in 35 mm terms, 0 for unknown."""
    (work / "images").mkdir()
    (work / "masks").mkdir()
    focals = []
    for index, photo in enumerate(photos.photos):
        progress("preparing photos for COLMAP", index, len(photos.photos))
        original = photo.read()
        height, width = original.image.shape[:2]
        factor = min(1.0, _LONG_SIDE / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = cv2.resize(original.image, size, interpolation=cv2.INTER_AREA) if factor < 1 else original.image
        known = original.intrinsics
        focals.append(0 if known is None else round(float(known[0, 0]) / max(height, width) * 35))
        exif = Image.Exif()
        if focals[-1]:
            exif.get_ifd(0x8769)[0xA405] = focals[-1]
        Image.fromarray(image).save(work / "images" / _NAME.format(index), quality=95, exif=exif)
        mask = np.ones((height, width), bool) if original.mask is None else original.mask
        grey = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
        Image.fromarray(grey).save(work / "masks" / f"{_NAME.format(index)}.png")
    return focals


def _matched(pycolmap: ModuleType, photos: LoadedPhotos, work: Path, single: bool, progress: Progress) -> None:
    """Features and matches into the database."""
    threads, cpu = torch.get_num_threads(), pycolmap.Device.cpu
    progress("finding features", 0, 1)
    reader = pycolmap.ImageReaderOptions()
    reader.mask_path = str(work / "masks")
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = threads
    pycolmap.extract_features(
        work / "database.db", work / "images", reader_options=reader, extraction_options=extraction, device=cpu,
        camera_mode=pycolmap.CameraMode.SINGLE if single else pycolmap.CameraMode.PER_IMAGE,
    )  # fmt: skip
    progress("matching features", 0, 1)
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    match = pycolmap.match_sequential if photos.kind == "video" else pycolmap.match_exhaustive
    match(work / "database.db", matching_options=matching, device=cpu)


def _largest_model(pycolmap: ModuleType, work: Path, total: int, seed: int, progress: Progress) -> ColmapModel | None:
    """The model of most photos over all attempts; the first that has them all ends the search."""
    best: ColmapModel | None = None
    for number, (shift, thresholds) in enumerate(_ATTEMPTS):
        target = work / f"model_{number}"
        target.mkdir()
        options = pycolmap.IncrementalPipelineOptions()
        options.random_seed, options.num_threads = (seed + shift) % 2**31, torch.get_num_threads()
        options.min_model_size, options.max_num_models = _SMALLEST_MODEL, 5
        for name, value in thresholds.items():
            setattr(options.mapper, name, value)
        placed = 0

        def count() -> None:
            """One more photo is placed."""
            nonlocal placed
            placed += 1
            progress("placing photos", min(placed, total), total)

        progress("placing photos", 0, total)
        pycolmap.incremental_mapping(
            work / "database.db", work / "images", target, options=options, next_image_callback=count
        )
        for folder in sorted(path for path in target.iterdir() if path.is_dir()):
            model = load_colmap(folder)
            if best is None or _size(model) > _size(best):
                best = model
        if best is not None and len(best.images) == total:
            break
    return best


def _size(model: ColmapModel) -> tuple[int, int]:
    return len(model.images), len(model.points.ids)


def _with_model(photos: LoadedPhotos, model: ColmapModel, *, resolution: int, views: int, up: Up) -> LoadedPhotos:
    """The photos that the model places, in its cameras and an upright world."""
    images = {int(Path(image.name).stem): image for image in model.images}
    registered = sorted(images)
    poses = torch.from_numpy(np.stack([images[i].world_to_cam() for i in registered]))
    cam_to_world = rigid_inverse(poses).numpy()
    chosen = list(range(len(registered)))
    if len(chosen) > views:
        chosen = covering(cam_to_world, views)
    keep = [registered[i] for i in chosen]
    dropped = _dropped(photos, registered, keep, views)
    lenses = [model.camera_of(images[i]).lens() for i in keep]
    positions = torch.from_numpy(model.points.positions)
    unit = torch.eye(3, dtype=torch.float64).repeat(len(keep), 1, 1)
    cameras = Cameras(world_to_cam=poses[chosen], intrinsics=unit, height=1, width=1)
    depth = torch.einsum("vj,nj->vn", poses[chosen][:, 2, :3], positions) + poses[chosen][:, 2, 3:]
    world = upright_frame(cameras, depth[:, None], up="camera" if up == "camera" else "auto")
    points = SparsePoints(
        positions=world.apply(positions).numpy(), colors=model.points.colors, errors=model.points.errors
    )
    moved = world.apply_to_cameras(torch.from_numpy(cam_to_world[chosen])).numpy()
    return reposed(photos, keep, lenses, moved, points=points, dropped=dropped, resolution=resolution)


def _dropped(photos: LoadedPhotos, registered: Sequence[int], keep: Sequence[int], views: int) -> list[Dropped]:
    dropped = []
    for index, photo in enumerate(photos.photos):
        name = photo.name if photos.kind == "video" else photo.file
        if index not in registered:
            dropped.append(Dropped(name=name, reason="could not be placed by structure-from-motion"))
        elif index not in keep:
            dropped.append(Dropped(name=name, reason=f"is not among the {views} that cover the scene best"))
    return dropped
