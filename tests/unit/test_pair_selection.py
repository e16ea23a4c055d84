"""Pairs of photos that are matched: all of few, of many a number that grows linearly, those of the same place first."""

from __future__ import annotations

import numpy as np

from da3gs.poses.features.matching import Features, sift_features
from da3gs.poses.features.pair_selection import MOST_EXHAUSTIVE, global_descriptors, selected_pairs
from tests.unit.corner_scene import corner_cameras, photographed, print_of

EYES = [(-0.9, -0.2, 0.0), (-0.4, 0.0, 0.2), (0.1, -0.3, 0.1), (0.7, 0.1, 0.2)]


def noise(count: int, seed: int = 0) -> list[Features]:
    """Photos with features that mean nothing."""
    generator = np.random.default_rng(seed)
    shares = generator.random((count, 60, 128), np.float32)
    shares /= np.linalg.norm(shares, axis=-1, keepdims=True)
    return [Features(keypoints=np.zeros((60, 4), np.float32), descriptors=row) for row in shares]


def test_few_photos_are_all_matched() -> None:
    assert len(selected_pairs(noise(9), ordered=False)) == 36


def test_the_number_of_pairs_grows_linearly() -> None:
    counts = [len(selected_pairs(noise(n), ordered=False)) for n in (3 * MOST_EXHAUSTIVE, 6 * MOST_EXHAUSTIVE)]
    assert counts[1] < 2.1 * counts[0]
    assert counts[0] <= 13 * 3 * MOST_EXHAUSTIVE


def test_frames_are_matched_with_those_that_follow_and_a_power_of_two_later() -> None:
    pairs = selected_pairs(noise(30), ordered=True)
    assert {j for i, j in pairs if i == 0} == {1, 2, 3, 4, 5, 8, 16}


def test_photos_of_one_place_look_alike() -> None:
    """Three places, four photos of each, in an order that tells nothing; every photo is matched with its own place."""
    pictures = [p for seed in range(3) for p in photographed(corner_cameras(EYES), seed=seed * 5)]
    order = np.random.default_rng(1).permutation(12)
    features = [sift_features(pictures[i].mean(-1).astype(np.uint8), None, most=400) for i in order]
    likeness = global_descriptors(features)
    likeness = likeness @ likeness.T
    np.fill_diagonal(likeness, -1)
    for row, nearest in enumerate(np.argsort(-likeness, axis=1)[:, :3]):
        assert {int(order[n]) // 4 for n in nearest} == {int(order[row]) // 4}


def test_many_photos_are_matched_with_those_that_look_alike() -> None:
    """Photos of one place stand far apart in a long list of others."""
    pictures = photographed(corner_cameras(EYES))
    others = [(print_of(100 + i, 160) * 255).astype(np.uint8).mean(-1) for i in range(MOST_EXHAUSTIVE + 20)]
    features = [sift_features(picture.astype(np.uint8), None, most=400) for picture in others]
    places = [2, 17, 33, 50]
    for place, picture in zip(places, pictures, strict=True):
        features[place] = sift_features(picture.mean(-1).astype(np.uint8), None, most=400)
    pairs = set(selected_pairs(features, ordered=False))
    assert {(i, j) for i in places for j in places if i < j} <= pairs
