"""A second sign for estimated cameras, and photos that no mapper places, on made photos whose cameras are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch

from da3gs.metrics.pose import relative_pose_errors
from da3gs.photos import load_photos
from da3gs.poses.camera_estimate import CameraEstimate
from da3gs.poses.depth_prior_pair import depth_prior_pair
from da3gs.poses.features.database import feature_database
from da3gs.poses.ladder import CameraSearch
from da3gs.poses.photometric_check import LEAST_EXCESS, _picture, _surface, lifted_points, photometric_excess
from da3gs.poses.resection import resected
from da3gs.prediction import Prediction
from tests.unit.corner_scene import FOCAL, SIZE, corner_cameras, corner_depth, photographed, saved

EYES = [(-0.9, -0.2, 0.0), (-0.4, 0.0, 0.2), (0.1, -0.3, 0.1), (0.7, 0.1, 0.2)]
CAMERAS = corner_cameras(EYES)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CameraSearch]:
    """All four photos placed by plain features."""
    folder = saved(photographed(CAMERAS), tmp_path_factory.mktemp("corner") / "photos")
    photos = load_photos(folder, resolution=196).photos
    with feature_database(photos, shared_focal=False, seed=0, progress=lambda *_: None) as database:
        database.set_focals([FOCAL / max(SIZE)] * 4)
        made = CameraSearch(
            database=database, photos=photos, ordered=False, progress=lambda *_: None, shares=[FOCAL / max(SIZE)] * 4
        )
        made.plain()
        assert made.estimate is not None
        assert made.estimate.positions == (0, 1, 2, 3)
        yield made


def rotation_error(estimate: CameraEstimate) -> float:
    """The largest of relative rotations, degrees."""
    true = CAMERAS.world_to_cam[list(estimate.positions)].double()
    return float(relative_pose_errors(torch.from_numpy(estimate.world_to_cam), true)[0].max())


def turned(estimate: CameraEstimate, position: int, degrees: float) -> CameraEstimate:
    """The estimate with one camera turned about its own y axis."""
    model = pycolmap.Reconstruction(estimate.model)
    image = next(i for i in model.images.values() if int(Path(i.name).stem) == position)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ image.cam_from_world().matrix()
    image.frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(matrix))
    return dataclasses.replace(estimate, model=model)


def test_right_cameras_agree_above_chance_and_a_turned_one_does_not(search: CameraSearch) -> None:
    right = photometric_excess(search.estimate, search.database)
    assert len(right) == 4
    assert min(right.values()) > LEAST_EXCESS
    wrong = photometric_excess(turned(search.estimate, 1, 5.0), search.database)
    assert wrong[1] < LEAST_EXCESS
    assert min(wrong[i] for i in (0, 2, 3)) > LEAST_EXCESS


def test_triangles_are_drawn_where_they_are_found(search: CameraSearch) -> None:
    """The surface of a whole picture is that of each of its pixels by itself."""
    image = next(iter(search.estimate.model.images.values()))
    camera = search.estimate.model.cameras[image.camera_id]
    picture = _picture(search.database, image, camera)
    drawn = _surface(picture, search.estimate.points)
    rows, columns = np.mgrid[: drawn.shape[0], : drawn.shape[1]] + 0.5
    pixels = np.stack((columns, rows), -1).reshape(-1, 2) / picture.factor
    found = lifted_points(image, camera, search.estimate.points, pixels).reshape(drawn.shape)
    both = np.isfinite(drawn).all(-1) & np.isfinite(found).all(-1)
    either = np.isfinite(drawn).all(-1) | np.isfinite(found).all(-1)
    assert both.sum() > 0.97 * either.sum() > 1000  # pixels on the hull's edge are drawn, too
    same = np.isclose(drawn[both], found[both], rtol=1e-2, atol=1e-2 * np.abs(found[both]).max()).all(-1)
    assert same.mean() > 0.995  # a pixel on an edge goes to either triangle, up to half a pixel outside of it


def thinned(search: CameraSearch, position: int, right: int, wrong: int) -> dict[tuple[int, int], np.ndarray]:
    """All matches, but those of one photo: so many of its verified ones, and as many wrong ones as said, a pair."""
    generator = np.random.default_rng(0)
    matches = dict(search.matches)
    for pair in [p for p in matches if position in p]:
        rows = generator.permutation(search.matches[pair])[:right]
        noise = np.stack([generator.integers(len(search.features[i].keypoints), size=wrong) for i in pair], 1)
        matches[pair] = np.concatenate((rows, noise))
    return matches


def test_a_photo_with_few_right_matches_is_placed_on_its_neighbours_surfaces(search: CameraSearch) -> None:
    known = search.estimate.only((0, 1, 2))
    assert known.positions == (0, 1, 2)
    matches = thinned(search, 3, right=14, wrong=30)
    found = resected(known, search.database, search.features, matches, confirmed=search._agrees)
    assert found.positions == (0, 1, 2, 3)
    assert [p.placed for p in found.placements] == ["sfm", "sfm", "sfm", "depth_prior"]
    assert rotation_error(found) < 0.5


def test_a_photo_without_right_matches_stays_out(search: CameraSearch) -> None:
    known = search.estimate.only((0, 1, 2))
    before = search.database.verified()
    found = resected(
        known, search.database, search.features, thinned(search, 3, right=0, wrong=60), confirmed=search._agrees
    )
    assert found.positions == (0, 1, 2)
    after = search.database.verified()
    assert {pair: len(rows) for pair, rows in after.items()} == {pair: len(rows) for pair, rows in before.items()}


def test_a_pair_that_no_mapper_places_is_placed_with_depth_as_a_prior(search: CameraSearch) -> None:
    def network(positions: tuple[int, ...]) -> Prediction:
        """True depth, in units and with a shift of its own."""
        photos = [search.photos[i] for i in positions]
        depth = torch.stack(
            [corner_depth(CAMERAS, i, p.height, p.width) for i, p in zip(positions, photos, strict=True)]
        )
        return Prediction(depth=0.3 * depth + 0.05, confidence=None, cameras=None)

    matches = {(0, 2): thinned(search, 2, right=20, wrong=40)[0, 2]}
    found = depth_prior_pair(
        search.database, search.photos, search.features, matches, network, confirmed=search._agrees
    )
    assert found is not None
    assert found.positions == (0, 2)
    assert {p.placed for p in found.placements} == {"depth_prior"}
    assert rotation_error(found) < 1.5
    wrong = {(0, 2): thinned(search, 2, right=0, wrong=60)[0, 2]}
    nothing = depth_prior_pair(
        search.database, search.photos, search.features, wrong, network, confirmed=search._agrees
    )
    assert nothing is None
