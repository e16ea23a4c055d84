"""Sparse mapping: cameras and points from verified matches, one photo after another and all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from da3gs._progress import Progress
from da3gs.poses.bundle_adjustment import LensFreedom, bundle_adjusted
from da3gs.poses.camera_estimate import CameraEstimate, estimate_of
from da3gs.poses.features.database import THREADS, FeatureDatabase

LEAST_POINTS = 20
"""Fewer points carry no model."""
_SMALLEST_MODEL = 2
_FEW = 15  # photos: points that only two of them show are kept
_MAPPERS = 4
_MANY = 40  # photos from which on the global mapper comes first, whose time grows linearly
_MOST_OF_MANY = 0.9
_ENOUGH = 1e-6  # of the cost, where an adjustment on the way ends
_ENOUGH_TOGETHER = 1e-4  # the same where all photos are placed together
_GROWTH = 1.3  # of the model, after which everything is adjusted on the way
_USUAL: dict[str, Any] = {}
_LENIENT = {"init_min_num_inliers": 50, "init_min_tri_angle": 8.0, "abs_pose_min_num_inliers": 20}
_DESPERATE = {
    "init_min_num_inliers": 25, "init_min_tri_angle": 3.0, "abs_pose_min_num_inliers": 12,
    "abs_pose_min_inlier_ratio": 0.15, "init_max_forward_motion": 1.0,
}  # fmt: skip


def best_mapping(
    database: FeatureDatabase,
    *,
    progress: Progress,
    confirmed: Callable[[CameraEstimate], bool],
    before: CameraEstimate | None = None,
) -> CameraEstimate | None:
    """The estimate that explains most features: by the incremental mapper and, where it leaves photos out or a second
    sign contradicts it, the global one and the incremental one with ever lower thresholds. None: not even two photos.

    A wrong model may place every photo at a small error: it shows by how few features it explains.

    Args:
        database: with verified matches.
        progress: told how many photos are placed.
        confirmed: whether a second sign confirms all photos of an estimate.
        before: what is known already; returned where nothing is better.
    """
    best, total = before, len(database)
    few, lens = total <= _FEW, LensFreedom.of(database.groups)
    mappers = (_USUAL, None, _LENIENT, _DESPERATE) if total <= _MANY else (None, _USUAL)
    for number, mapper in enumerate(mappers):
        enough = total if total <= _MANY else _MOST_OF_MANY * total
        if best is not None and len(best) >= enough and (total > _MANY or confirmed(best)):
            break
        if mapper is None:
            progress("placing all photos together", 0, total)
            found = _mapped_globally(database)
        else:
            found = _mapped_incrementally(database, mapper, few, number, progress)
        progress("adjusting all cameras together", number, _MAPPERS)
        for model in found:
            estimate = estimate_of(model)
            if not _carried(estimate):
                continue
            adjusted = estimate_of(bundle_adjusted(database, model, lens=lens))
            estimate = adjusted if len(adjusted) >= len(estimate) else estimate
            if best is None or estimate.rank > best.rank:
                best = estimate
    return best


def _carried(estimate: CameraEstimate) -> bool:
    return len(estimate) >= _SMALLEST_MODEL and len(estimate.points) >= LEAST_POINTS


def _mapped_incrementally(
    database: FeatureDatabase, thresholds: dict[str, Any], two_view_tracks: bool, number: int, progress: Progress
) -> list[Any]:
    """Models of COLMAP's incremental mapper."""
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.num_threads = (database.seed + number) % 2**31, THREADS
    options.min_model_size, options.max_num_models = _SMALLEST_MODEL, 5
    options.triangulation.ignore_two_view_tracks = not two_view_tracks
    options.ba_local_function_tolerance = options.ba_global_function_tolerance = _ENOUGH
    options.ba_global_frames_ratio = options.ba_global_points_ratio = _GROWTH
    lens = LensFreedom.of(database.groups)
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = lens.focal
    options.ba_refine_extra_params = options.mapper.abs_pose_refine_extra_params = lens.distortion
    for name, value in thresholds.items():
        setattr(options.mapper, name, value)
    placed, total = 0, len(database)

    def count() -> None:
        """One more photo is placed."""
        nonlocal placed
        placed += 1
        progress("placing photos", min(placed, total), total)

    progress("placing photos", 0, total)
    target = database.folder / "incremental"
    target.mkdir(exist_ok=True)
    models = pycolmap.incremental_mapping(
        database.path, database.images, target, options=options, next_image_callback=count
    )
    return [models[key] for key in sorted(models)]


def _mapped_globally(database: FeatureDatabase) -> list[Any]:
    """Models of COLMAP's global mapper (GLOMAP)."""
    import pycolmap

    options = pycolmap.GlobalPipelineOptions()
    seed = database.seed % 2**31
    options.random_seed, options.num_threads, options.min_model_size = seed, THREADS, _SMALLEST_MODEL
    options.mapper.random_seed = options.mapper.rotation_averaging.random_seed = seed
    options.mapper.global_positioning.random_seed = options.mapper.retriangulation.random_seed = seed
    lens = LensFreedom.of(database.groups)
    options.mapper.bundle_adjustment.refine_focal_length = lens.focal
    options.mapper.bundle_adjustment.refine_extra_params = lens.distortion
    options.mapper.bundle_adjustment.ceres.solver_options.function_tolerance = _ENOUGH_TOGETHER
    options.mapper.skip_retriangulation = True  # ``bundle_adjusted`` triangulates afresh
    target = database.folder / "global"
    target.mkdir(exist_ok=True)
    models = pycolmap.global_mapping(database.path, database.images, target, options=options)
    return [models[key] for key in sorted(models)]
