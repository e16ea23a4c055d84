"""Matching of local features: when the stronger ones are enough."""

from __future__ import annotations

import numpy as np

from da3gs.poses.features.matching import Features, enough_matches


def test_strong_features_alone_are_matched_where_they_are_plenty() -> None:
    noise = np.random.default_rng(5).normal(size=(1400, 128)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    features = Features(keypoints=np.zeros((1400, 4), np.float32), descriptors=noise)
    assert len(enough_matches(features, features)) == 700, "the stronger half is enough"
    few = Features(keypoints=features.keypoints[:600], descriptors=noise[:600])
    assert len(enough_matches(few, few)) == 600, "300 are not plenty, so that all take part"
