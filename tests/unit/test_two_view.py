"""Two-view geometry: formulas by hand, and the focal length that epipolar geometry tells."""

import numpy as np
import pytest

from da3gs.poses.relative_pose.self_calibration import focal_from_matches
from da3gs.poses.relative_pose.two_view_geometry import (
    Matches,
    bearings,
    chance_of_inlier,
    fundamental_matrix,
    in_front,
    log_tail,
    ray_angles,
    rotation_matrices,
    sampson_errors,
)

from .two_view_scene import HEIGHT, WIDTH, made_pair, orbit_pose


def test_true_matches_obey_the_geometry_and_a_pixel_off_is_a_pixel():
    pair = made_pair(orbit_pose(0), orbit_pose(20), wrong=0, noise=0)
    k = pair.intrinsics
    fundamental = fundamental_matrix(pair.rotation, pair.translation, (k, k))
    assert np.abs(sampson_errors(fundamental, pair.matches)).max() < 1e-6
    moved = pair.matches.second.copy()
    lines = np.concatenate((pair.matches.first, np.ones((len(moved), 1))), 1) @ fundamental.T
    normal = lines[:, :2] / np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    off = np.abs(sampson_errors(fundamental, type(pair.matches)(first=pair.matches.first, second=moved + normal)))
    assert (off < 1).all()  # the nearest pair moves in both photos, each by less
    assert np.median(off) == pytest.approx(np.sqrt(0.5), abs=0.1)


def test_points_are_in_front_of_the_true_cameras_and_behind_the_mirrored_ones():
    pair = made_pair(orbit_pose(0), orbit_pose(20), wrong=0, noise=0)
    rays = (bearings(pair.matches.first, pair.intrinsics), bearings(pair.matches.second, pair.intrinsics))
    assert in_front(pair.rotation, pair.translation, rays).all()
    assert not in_front(pair.rotation, -pair.translation, rays).any()
    turned = np.stack((pair.rotation, pair.rotation)), np.stack((pair.translation, -pair.translation))
    assert in_front(*turned, (rays[0][None].repeat(2, 0), rays[1][None].repeat(2, 0))).sum(1).tolist() == [60, 0]
    assert 15 < np.median(ray_angles(pair.rotation, rays)) < 25


def test_rotations_of_vectors():
    quarter = rotation_matrices(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrices(np.zeros((2, 3))), np.stack((np.eye(3), np.eye(3))))


def test_chance_is_the_share_of_the_band_along_the_lines():
    pair = made_pair(orbit_pose(0), orbit_pose(40), count=200, wrong=1)
    fundamental = fundamental_matrix(pair.rotation, pair.translation, (pair.intrinsics, pair.intrinsics))
    chance = chance_of_inlier(fundamental, pair.matches, 2.0, generator=np.random.default_rng(0))
    assert 0.002 < chance < 0.02  # a band of some 6 rows of 750


def test_tail_of_the_binomial_distribution():
    assert log_tail(0, 10, 0.1) == 0
    assert log_tail(1, 10, 0.2) == 0
    exact = sum(__import__("math").comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(8, 21))
    assert log_tail(8, 20, 0.1) == pytest.approx(np.log10(exact), abs=1e-9)
    assert log_tail(900, 1000, 0.01) < -1000


@pytest.mark.parametrize("focal", [600.0, 1700.0])
def test_the_focal_length_is_found(focal):
    # axes that meet in one point equally far away tell nothing: cameras stand here and there and look a little past it
    poses = [
        orbit_pose(angle, distance=far * focal / 900, tilt=tilt)
        for angle, far, tilt in ((0, 5, 0.15), (25, 7, -0.1), (50, 5, 0))
    ]
    pairs = [
        made_pair(poses[i], poses[j], count=120, wrong=0.2, noise=0.5, focal=focal, seed=10 * i + j).matches
        for i, j in ((0, 1), (1, 2), (0, 2))
    ]
    found = focal_from_matches(pairs, height=HEIGHT, width=WIDTH, bound=2.0)
    assert found == pytest.approx(focal, rel=0.05)


def test_motion_that_tells_no_focal_length():
    still, aside = orbit_pose(0), orbit_pose(0)
    aside[0, 3] = 1.0  # a step to the side and no turn: every focal length explains it
    pair = made_pair(still, aside, count=120, wrong=0.1).matches
    assert focal_from_matches([pair], height=HEIGHT, width=WIDTH, bound=2.0) is None
    assert focal_from_matches([], height=HEIGHT, width=WIDTH, bound=2.0) is None
    guessed = focal_from_matches([pair], height=HEIGHT, width=WIDTH, bound=2.0, guess=777.0)
    assert guessed == pytest.approx(777.0), "nothing speaks against it"


def test_a_short_focal_length_would_put_far_things_behind_the_cameras():
    """Two photos from a flight past a near thing in front of a far one: lines alone tell next to nothing."""
    generator, focal = np.random.default_rng(3), 1000.0
    near = generator.uniform((-1, -0.6, 4.5), (1, 0.6, 5.5), (150, 3))
    far = generator.uniform((-14, -6, 38), (14, 2, 42), (150, 3))
    points, turn = np.concatenate((near, far)), np.radians(9)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    moved = points @ rotation.T + np.array([-0.8, 0, 0.06])
    pixels = [p[:, :2] / p[:, 2:] * focal + (WIDTH / 2, HEIGHT / 2) + generator.normal(0, 0.3, (300, 2))
              for p in (points, moved)]  # fmt: skip
    pair = Matches(first=pixels[0], second=pixels[1])
    found = focal_from_matches([pair], height=HEIGHT, width=WIDTH, bound=1.5, guess=0.75 * focal)
    assert found is not None
    assert found > 0.9 * focal, "the guess is too short, and cheirality says so"
