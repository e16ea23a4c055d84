"""Relative pose with depth as a prior: the minimal solvers, wrong matches, wrong depth, and what must be refused."""

import dataclasses

import numpy as np
import pytest

from da3gs.poses.relative_pose.depth_prior_pose import SURPRISING, PairView, relative_pose
from da3gs.poses.relative_pose.minimal_solvers import scale_poses, scale_shift_poses
from da3gs.poses.relative_pose.two_view_geometry import Matches

from .two_view_scene import HEIGHT, WIDTH, MadePair, made_pair, orbit_pose


def views_of(pair: MadePair, *, depth: bool = True, guess: float = 1.0, doubt: float = 0.0) -> list[PairView]:
    intrinsics = pair.intrinsics.copy()
    intrinsics[(0, 1), (0, 1)] *= guess
    return [PairView(intrinsics=intrinsics, focal_doubt=doubt, depth=d if depth else None) for d in pair.depths]


def triangles(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random points before two cameras, in the axes of each, and the pose between them."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(count, 3, 3)) + np.array([0.0, 0, 6])
    axes = np.linalg.qr(np.eye(3) + 0.3 * generator.normal(size=(count, 3, 3)))[0]
    rotation = axes * np.sign(np.einsum("sii->si", axes))[:, None]
    rotation = rotation[np.linalg.det(rotation) > 0]
    translation = generator.normal(size=(len(rotation), 3))
    points = points[: len(rotation)]
    other = np.einsum("sij,snj->sni", rotation, points) + translation[:, None]
    ahead = (points[..., 2] > 0.5).all(1) & (other[..., 2] > 0.5).all(1)
    return points[ahead], other[ahead], rotation[ahead], translation[ahead]


def test_three_points_with_scale_and_shifts_have_the_pose_among_their_solutions():
    points, other, rotation, translation = triangles(200)
    rays = points / points[..., 2:], other / other[..., 2:]
    found = scale_shift_poses(rays, (points[..., 2] - 0.3, other[..., 2] / 2.5 + 0.2))
    off = np.abs(found.rotation - rotation[found.sample]).max((1, 2))
    off += np.abs(found.translation - translation[found.sample]).max(1) + np.abs(found.scale - 2.5)
    off += np.abs(found.shifts - [0.3, -0.2]).max(1)
    best = np.full(len(points), np.inf)
    np.minimum.at(best, found.sample, off)
    assert np.quantile(best, 0.95) < 1e-6
    assert np.bincount(found.sample).max() <= 4


def test_three_points_with_one_scale_have_one_pose():
    points, other, rotation, translation = triangles(50)
    found = scale_poses((points / points[..., 2:], other / other[..., 2:]), (points[..., 2], other[..., 2] / 2.5))
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, translation, atol=1e-9)
    np.testing.assert_allclose(found.scale, 2.5)


def test_points_on_a_line_give_no_pose_and_no_warning():
    line = np.array([[[0.0, 0, 4], [1, 0, 4], [2, 0, 4]]])
    rays = line / line[..., 2:]
    assert len(scale_poses((rays, rays), (line[..., 2], line[..., 2])).scale) == 0
    assert len(scale_shift_poses((rays, rays), (line[..., 2], line[..., 2])).scale) == 0


@pytest.mark.parametrize(
    ("angle", "changes", "bound"),
    [(40, {}, 1.5), (40, {"depth_noise": 0.4}, 1.5), (70, {"count": 80}, 2.5), (30, {"count": 30, "wrong": 0.3}, 3.0)],
)
def test_pose_among_wrong_matches(angle, changes, bound):
    pair = made_pair(orbit_pose(0), orbit_pose(angle, tilt=0.1, distance=4.5), **changes)
    found = relative_pose(pair.matches, *views_of(pair), bound=2.0)
    assert found is not None
    assert max(pair.errors(found.rotation, found.translation)) < bound
    assert found.surprise > SURPRISING
    assert (found.inliers & pair.wrong).sum() <= 2
    assert found.inliers[~pair.wrong].mean() > 0.9
    assert found.error < 2.0


def test_depth_decides_where_matches_alone_are_too_few():
    """Seven of ten matches are wrong: five right ones in a row are rare, three are not."""
    good = {True: 0, False: 0}
    for seed in range(4):
        pair = made_pair(orbit_pose(0), orbit_pose(40, tilt=0.1), count=60, wrong=0.7, seed=seed)
        for depth in good:
            found = relative_pose(pair.matches, *views_of(pair, depth=depth), bound=2.0, seed=seed)
            good[depth] += found is not None and max(pair.errors(found.rotation, found.translation)) < 5
    assert good[True] >= 3
    assert good[True] > good[False]


def test_depth_tells_the_length_of_the_step():
    pair = made_pair(orbit_pose(0), orbit_pose(30, tilt=0.1), wrong=0.2, depth_noise=0.05)
    near, far = pair.depths
    exact = dataclasses.replace(pair, depths=(near - 1.0, far - 0.2))  # no shift
    found = relative_pose(exact.matches, *views_of(exact), bound=2.0)
    assert found is not None
    assert np.linalg.norm(found.translation) / np.linalg.norm(pair.translation) == pytest.approx(0.7, rel=0.1)
    assert found.scale == pytest.approx(0.7 / 0.3, rel=0.1)


def test_focal_length_in_doubt():
    """Two photos can tell a focal length roughly where their axes do not meet; a shared one better."""
    pair = made_pair(orbit_pose(0, tilt=0.2), orbit_pose(40, tilt=-0.1, distance=7), count=150, wrong=0.3)
    found = relative_pose(pair.matches, *views_of(pair, guess=1.3, doubt=0.3), bound=2.0, shared_focal=True)
    assert found is not None
    assert found.intrinsics[0, 0, 0] == pytest.approx(900, rel=0.08)
    assert found.intrinsics[0, 0, 0] == found.intrinsics[1, 0, 0]
    assert max(pair.errors(found.rotation, found.translation)) < 4


def test_matches_by_chance_are_not_believed():
    generator = np.random.default_rng(0)
    for count in (12, 80):
        first, second = generator.uniform(size=(2, count, 2)) * np.array([WIDTH, HEIGHT])
        matches = Matches(first=first, second=second)
        pair = dataclasses.replace(
            made_pair(orbit_pose(0), orbit_pose(20), count=count), matches=matches,
            depths=(generator.uniform(1, 3, count), generator.uniform(1, 3, count)),
        )  # fmt: skip
        found = relative_pose(matches, *views_of(pair), bound=2.0)
        assert found is None or found.surprise < SURPRISING


def test_too_few_matches_and_the_same_seed():
    pair = made_pair(orbit_pose(0), orbit_pose(30), count=40)
    views = views_of(dataclasses.replace(pair, depths=(pair.depths[0][:8], pair.depths[1][:8])))
    assert relative_pose(pair.matches[np.arange(8)], *views, bound=2.0) is None
    first, second = (relative_pose(pair.matches, *views_of(pair), bound=2.0, seed=3) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.rotation, second.rotation)
    assert np.array_equal(first.inliers, second.inliers)
