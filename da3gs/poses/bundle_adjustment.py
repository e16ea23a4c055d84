"""Bundle adjustment: all cameras and points of an estimate moved together to where features and projections meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from da3gs.poses.features.database import THREADS, FeatureDatabase

_ROUNDS, _ROUNDS_OF_MANY = 3, 1
_MOST_ERROR = 4.0  # pixels between a feature and its point
_LEAST_MATCHES = 5  # of a pair whose matches count
_LEAST_ANGLE = 1.5  # degrees between the rays to a point
_ENOUGH, _ITERATIONS = 1e-6, 50  # of the cost, where a round ends
_MANY, _ENOUGH_OF_MANY = 40, 1e-4  # photos from which on rounds are few and end sooner
_OUTLIER = 1.0  # pixels from which on a feature's pull no longer grows with its distance


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LensFreedom:
    """Freedom of the lenses: what of them the photos can tell."""

    focal: bool
    """Focal lengths."""
    distortion: bool
    """Radial distortion."""

    @classmethod
    def of(cls, groups: Sequence[Sequence[int]]) -> LensFreedom:
        """By how many photos there are, and how many there are of each camera on average: two photos tell of no lens,
        and single ones of no distortion."""
        photos = sum(map(len, groups))
        return cls(focal=photos > 2, distortion=photos > 3 and photos >= 3 * len(groups))


def bundle_adjusted(database: FeatureDatabase, model: Any, *, lens: LensFreedom) -> Any:
    """A copy of a pycolmap ``Reconstruction`` with points triangulated afresh and everything adjusted together.

    Points that only two photos show count too. Features further than 4 pixels from their point are let go, three times
    over; where there are many photos once, since a round takes minutes.

    Args:
        database: with verified matches between the features that the model refers to.
        model: with cameras near the truth.
        lens: what of the lenses moves.
    """
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = THREADS, database.seed % 2**31
    options.triangulation.ignore_two_view_tracks, options.min_num_matches = False, _LEAST_MATCHES
    options.ba_refine_focal_length, options.ba_refine_extra_params = lens.focal, lens.distortion
    rounds, enough = (_ROUNDS, _ENOUGH) if len(database) <= _MANY else (_ROUNDS_OF_MANY, _ENOUGH_OF_MANY)
    if rounds < _ROUNDS:
        options.ba_global_max_refinements, options.ba_global_function_tolerance = rounds, enough
    target = database.folder / "adjusted"
    target.mkdir(exist_ok=True)
    moved = pycolmap.triangulate_points(
        pycolmap.Reconstruction(model), database.path, database.images, target, options=options,
        refine_intrinsics=lens.focal,
    )  # fmt: skip
    for _ in range(rounds):
        _solve(moved, lens, enough)
        pycolmap.ObservationManager(moved).filter_all_points3D(_MOST_ERROR, _LEAST_ANGLE)
    return moved


def _solve(model: Any, lens: LensFreedom, enough: float) -> None:
    """Move cameras and points of a model to the least sum of softened squared distances, until a step gains less than
    ``enough`` of it."""
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length, options.refine_extra_params = lens.focal, lens.distortion
    options.print_summary, options.min_track_length = False, 2
    options.ceres.loss_function_type, options.ceres.loss_function_scale = pycolmap.LossFunctionType.SOFT_L1, _OUTLIER
    solver = options.ceres.solver_options
    solver.num_threads, solver.function_tolerance, solver.max_num_iterations = THREADS, enough, _ITERATIONS
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()
