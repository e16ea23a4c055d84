"""The ladder of camera estimation: from plain features to ever more patient ones, each where photos are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from da3gs._progress import Progress, silent
from da3gs.photos import Photo
from da3gs.poses.camera_estimate import CameraEstimate
from da3gs.poses.feature_database import FeatureDatabase, Pair, all_pairs, feature_database, threads
from da3gs.poses.feature_matching import mutual_matches, sift_features
from da3gs.poses.sparse_mapping import best_mapping
from da3gs.prediction import Prediction

_MOST_FEATURES = 6000  # of a photo
_PATIENT = 40  # photos for which the slow steps are taken
_ASKED = 8  # photos of one camera whose focal length a network is asked for
_FULL_SIZE = 10  # photos that are searched without a bound on their features

NetworkView = Callable[[Sequence[int]], Prediction]
"""Depth and cameras that a network tells of the photos at some positions, at the size of the views."""


def estimated_cameras(
    photos: Sequence[Photo],
    *,
    shared_focal: bool = False,
    network: NetworkView | None = None,
    ordered: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[CameraEstimate | None, dict[Pair, int]]:
    """Cameras of as many photos as can be placed, and how many verified matches tie each pair of photos.

    Args:
        photos: all that there are.
        shared_focal: one camera took all photos.
        network: its field of view is where the search for the focal length begins, for photos that tell none.
        ordered: the photos are frames of a video in their order.
        seed: of the random samples.
        progress: told about every stage.
    """
    with feature_database(photos, shared_focal=shared_focal, seed=seed, progress=progress) as database:
        if network is not None:
            database.set_focals(_focal_shares(network, photos, database))
        estimate: CameraEstimate | None = None
        for step in (_plain, _more_matches):
            if step is not _plain and len(photos) > _PATIENT:
                break
            step(database, ordered, progress)
            estimate = best_mapping(
                database, two_view_tracks=step is not _plain or len(photos) <= _FULL_SIZE, progress=progress,
                before=estimate,
            )  # fmt: skip
            if estimate is not None and len(estimate) == len(photos):
                break
        return estimate, {pair: len(rows) for pair, rows in database.verified().items()}


def _focal_shares(network: NetworkView, photos: Sequence[Photo], database: FeatureDatabase) -> list[float | None]:
    """The network's focal lengths in long sides, for photos whose camera no photo tells."""
    asked = [i for group in database.groups if database.unknown(group) for i in group[:_ASKED]]
    shares: list[float | None] = [None] * len(photos)
    if asked:
        cameras = network(asked).cameras
        assert cameras is not None
        for row, i in enumerate(asked):
            focal = float(cameras.intrinsics[row].diagonal()[:2].mean())
            shares[i] = focal / max(photos[i].height, photos[i].width)
    return shares


def _plain(database: FeatureDatabase, ordered: bool, progress: Progress) -> None:
    """SIFT, every photo with every other; frames of a video with those near in time."""
    features = []
    for position, copy in enumerate(database.copies):
        progress("finding features", position, len(database))
        features.append(sift_features(copy.grey(), copy.mask, most=_MOST_FEATURES))
    pairs = [p for p in all_pairs(len(database)) if not ordered or _near_in_time(*p)]
    matches = {}
    for number, (one, two) in enumerate(pairs):
        progress("matching features", number, len(pairs))
        matches[one, two] = mutual_matches(features[one], features[two])
    database.write_features(features)
    database.write_matches(matches)


def _near_in_time(one: int, two: int) -> bool:
    """Whether frames are neighbours, or a power of two apart."""
    apart = two - one
    return apart <= 5 or (apart <= 64 and apart & (apart - 1) == 0)


def _more_matches(database: FeatureDatabase, ordered: bool, progress: Progress) -> None:
    """COLMAP's own remedy for few matches: affine shapes and pooled domain sizes, then guided matching."""
    import pycolmap

    del ordered
    progress("finding more features", 0, 1)
    database.clear_features()
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = threads()
    extraction.sift.estimate_affine_shape = extraction.sift.domain_size_pooling = True
    pycolmap.extract_features(
        database.path, database.images, camera_mode=pycolmap.CameraMode.PER_IMAGE, extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )  # fmt: skip
    progress("matching more features", 0, 1)
    matching, geometry = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    matching.num_threads, matching.guided_matching = threads(), True
    geometry.ransac.random_seed = database.seed % 2**31
    pycolmap.match_exhaustive(
        database.path, matching_options=matching, verification_options=geometry, device=pycolmap.Device.cpu
    )
