"""Camera resection on lifted depth: photos that no mapper places, from surfaces that their placed neighbours show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from da3gs.photos import Placement
from da3gs.poses.bundle_adjustment import LensFreedom, bundle_adjusted
from da3gs.poses.camera_estimate import FEWEST_INLIERS, CameraEstimate, estimate_of, pose_of
from da3gs.poses.features.database import FeatureDatabase, Pair, position_of
from da3gs.poses.features.matching import Features
from da3gs.poses.photometric_check import lifted_points
from da3gs.poses.relative_pose.two_view_geometry import Matches, sampson_errors, skew

_MOST_ERROR = 0.008  # of the long side: how far from its match a point on an interpolated surface may project
_EPIPOLAR = 0.0025  # of the long side: how far from its line a match may lie under the pose that was found
_TRIALS = 20000  # most samples of three


def resected(
    estimate: CameraEstimate,
    database: FeatureDatabase,
    features: Sequence[Features],
    matches: Mapping[Pair, np.ndarray],
    *,
    confirmed: Callable[[CameraEstimate, int], bool],
) -> CameraEstimate:
    """The estimate with more photos placed, as far as can be: those with most matches first.

    A mapper places a photo by features that are points already. Where photos stand far apart too few are; but every
    match with a placed photo tells a point, on the surface between that photo's points. The pose that most of them
    agree with (perspective-n-point in RANSAC) decides which matches are right; these are triangulated, and everything
    is adjusted together.

    Args:
        estimate: photos that are placed.
        database: of all photos; geometry of new pairs is written into it.
        features: of every photo.
        matches: between them, most of which may be wrong.
        confirmed: whether a second sign confirms the pose of one photo of an estimate.
    """
    lens = LensFreedom.of(database.groups)
    tried: set[int] = set()
    while missing := _next(estimate, len(database), matches, tried):
        tried.add(missing[0])
        pose = _pose(missing[0], estimate, database, features, matches)
        if pose is None:
            continue
        model = _with_photo(estimate.model, database, missing[0], pose)
        agreeing = _agreeing(missing[0], model, estimate, database, features, matches)
        with database.replaced_geometries(agreeing) as keep:
            placed = dict(zip(estimate.positions, estimate.placements, strict=True))
            placed[missing[0]] = Placement(placed="depth_prior")
            found = estimate_of(bundle_adjusted(database, model, lens=lens), placed)
            if {*placed} <= {*found.positions} and confirmed(found, missing[0]):
                estimate = found
                tried.clear()
                keep()
    return estimate


def _next(estimate: CameraEstimate, count: int, matches: Mapping[Pair, np.ndarray], tried: set[int]) -> list[int]:
    """The photos not tried yet, those with most matches with placed ones first."""
    votes = {
        position: sum(len(rows) for pair, rows in matches.items() if position in pair and _others(pair, estimate))
        for position in range(count)
        if position not in estimate.positions and position not in tried
    }
    return sorted((m for m, vote in votes.items() if vote), key=lambda m: -votes[m])


def _others(pair: Pair, estimate: CameraEstimate) -> bool:
    return pair[0] in estimate.positions or pair[1] in estimate.positions


def _partners(
    missing: int, estimate: CameraEstimate, matches: Mapping[Pair, np.ndarray]
) -> Iterator[tuple[int, Int[np.ndarray, "m 2"]]]:
    """Placed photos, and rows of their features with those of the missing photo."""
    for (one, two), rows in matches.items():
        if one == missing and two in estimate.positions:
            yield two, rows[:, ::-1]
        elif two == missing and one in estimate.positions:
            yield one, rows


def _pose(
    missing: int,
    estimate: CameraEstimate,
    database: FeatureDatabase,
    features: Sequence[Features],
    matches: Mapping[Pair, np.ndarray],
) -> Any:
    """The missing photo's ``Rigid3d`` on which most lifted matches agree, or None."""
    import pycolmap

    places, points = [], []
    images = {position_of(image.name): image for image in estimate.model.images.values()}
    for partner, rows in _partners(missing, estimate, matches):
        image = images[partner]
        shown = estimate.points[estimate.seen[estimate.positions.index(partner)]]
        pixels = features[partner].keypoints[rows[:, 0], :2].astype(np.float64)
        lifted = lifted_points(image, estimate.model.cameras[image.camera_id], shown, pixels)
        known = np.isfinite(lifted).all(-1)
        points.append(lifted[known])
        places.append(features[missing].keypoints[rows[known, 1], :2].astype(np.float64))
    if sum(map(len, points)) < FEWEST_INLIERS:
        return None
    options = pycolmap.AbsolutePoseEstimationOptions()
    copy = database.copies[missing]
    options.ransac.max_error = _MOST_ERROR * max(copy.height, copy.width)
    options.ransac.max_num_trials, options.ransac.random_seed = _TRIALS, database.seed % 2**31
    options.ransac.min_inlier_ratio = 0.02
    answer = pycolmap.estimate_and_refine_absolute_pose(
        np.concatenate(places), np.concatenate(points), database.camera(missing), options
    )
    return None if answer is None or answer["num_inliers"] < FEWEST_INLIERS else answer["cam_from_world"]


def _with_photo(model: Any, database: FeatureDatabase, position: int, pose: Any) -> Any:
    """A copy of the model with one more registered photo."""
    import pycolmap

    model = pycolmap.Reconstruction(model)
    image = database.image(position)
    if not model.exists_camera(image.camera_id):
        model.add_camera_with_trivial_rig(database.camera(position))
    if model.exists_image(image.image_id):
        frame = model.image(image.image_id).frame
        frame.set_cam_from_world(image.camera_id, pose)
        model.register_frame(frame.frame_id)
    else:
        model.add_image_with_trivial_frame(image, pose)
    return model


def _agreeing(
    missing: int,
    model: Any,
    estimate: CameraEstimate,
    database: FeatureDatabase,
    features: Sequence[Features],
    matches: Mapping[Pair, np.ndarray],
) -> dict[Pair, Int[np.ndarray, "m 2"]]:
    """The matches of the missing photo that lie near their epipolar lines under its pose."""
    images = {position_of(image.name): image for image in model.images.values() if image.has_pose}
    target = images[missing]
    kept = {}
    for partner, rows in _partners(missing, estimate, matches):
        image = images[partner]
        cameras = [model.cameras[i.camera_id] for i in (image, target)]
        flat = [
            np.asarray(camera.cam_from_img(features[i].keypoints[column, :2].astype(np.float64)))
            for camera, i, column in zip(cameras, (partner, missing), rows.T, strict=True)
        ]
        relative = pose_of(target) @ np.linalg.inv(pose_of(image))
        essential = skew(relative[:3, 3]) @ relative[:3, :3]
        focal = float(np.mean([camera.mean_focal_length() for camera in cameras]))
        copy = database.copies[missing]
        errors = np.abs(sampson_errors(essential, Matches(first=flat[0], second=flat[1]))) * focal
        near = rows[errors < _EPIPOLAR * max(copy.height, copy.width)]
        if len(near):
            pair = (min(partner, missing), max(partner, missing))
            kept[pair] = near if partner < missing else near[:, ::-1]
    return kept
