"""Model of the first pair by relative pose with monocular depth as a prior, where no mapper finds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from da3gs.photos import Photo, Placement
from da3gs.poses.bundle_adjustment import LensFreedom, bundle_adjusted
from da3gs.poses.camera_estimate import CameraEstimate, estimate_of
from da3gs.poses.features.database import FeatureDatabase, Pair
from da3gs.poses.features.matching import Features
from da3gs.poses.relative_pose.depth_prior_pose import LEAST_MATCHES, SURPRISING, PairView, relative_pose
from da3gs.poses.relative_pose.two_view_geometry import Matches
from da3gs.prediction import Prediction

_BOUND = 0.002  # of the long side: Sampson's error of an inlier
_UNKNOWN_FOCAL = 0.15  # standard deviation of the logarithm of a focal length that the network tells
_LEAST_PARALLAX = 2.0  # degrees: less is turning on the spot
_PAIRS = 6  # pairs that are tried: those with most matches


def depth_prior_pair(
    database: FeatureDatabase,
    photos: Sequence[Photo],
    features: Sequence[Features],
    matches: Mapping[Pair, np.ndarray],
    network: Callable[[Sequence[int]], Prediction],
    *,
    confirmed: Callable[[CameraEstimate, int], bool],
) -> CameraEstimate | None:
    """The estimate of two photos whose pose the matches that it was not made from agree with, or None.

    Args:
        database: of all photos; the pair's verified matches are written into it.
        photos: the same.
        features: of every photo.
        matches: between them, most of which may be wrong.
        network: its depth and focal lengths of photos by position.
        confirmed: whether a second sign confirms the pose of one photo of an estimate.
    """
    import pycolmap

    lens = LensFreedom(focal=False, distortion=False)
    likely = sorted((p for p in matches if len(matches[p]) >= LEAST_MATCHES), key=lambda p: -len(matches[p]))
    for pair in likely[:_PAIRS]:
        rows = matches[pair]
        places = [features[i].keypoints[column, :2].astype(np.float64) for i, column in zip(pair, rows.T, strict=True)]
        told = network(pair)
        views = [_view(database, photos, told, row, i, places[row]) for row, i in enumerate(pair)]
        long_side = max(database.copies[pair[0]].height, database.copies[pair[0]].width)
        found = relative_pose(
            Matches(first=places[0], second=places[1]), views[0], views[1], bound=_BOUND * long_side,
            shared_focal=any({*pair} <= {*group} for group in database.groups), seed=database.seed,
        )  # fmt: skip
        if found is None or found.surprise < SURPRISING or found.parallax < _LEAST_PARALLAX:
            continue
        model = pycolmap.Reconstruction()
        for row, i in enumerate(pair):
            camera, image = database.camera(i), database.image(i)
            camera.params = [found.intrinsics[row, 0, 0], *camera.params[1:]]
            if not model.exists_camera(camera.camera_id):
                model.add_camera_with_trivial_rig(camera)
            pose = np.eye(4)[:3] if row == 0 else np.c_[found.rotation, found.translation]
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        with database.replaced_geometries({pair: rows[found.inliers]}) as keep:
            placed = dict.fromkeys(pair, Placement(placed="depth_prior"))
            estimate = estimate_of(bundle_adjusted(database, model, lens=lens), placed)
            if estimate.positions == pair and all(confirmed(estimate, i) for i in pair):
                keep()
                return estimate
    return None


def _view(
    database: FeatureDatabase,
    photos: Sequence[Photo],
    told: Prediction,
    row: int,
    position: int,
    places: Float[np.ndarray, "N 2"],
) -> PairView:
    """What the network and the database tell of one photo of the pair, at its matches."""
    copy, photo, camera = database.copies[position], photos[position], database.camera(position)
    scale = np.array([photo.width / copy.width, photo.height / copy.height])
    columns, rows = np.clip((places * scale).astype(int), 0, [photo.width - 1, photo.height - 1]).T
    depth = told.depth[row][torch.from_numpy(rows), torch.from_numpy(columns)]
    focal = float(camera.params[0])
    intrinsics = np.array([[focal, 0, copy.width / 2], [0, focal, copy.height / 2], [0, 0, 1.0]])
    doubt = 0.0 if copy.focal is not None else _UNKNOWN_FOCAL
    return PairView(intrinsics=intrinsics, focal_doubt=doubt, depth=depth.double().numpy())
