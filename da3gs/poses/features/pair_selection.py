"""Selection of the pairs that are matched: all of few photos, of many those near in order and those that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import kmeans2

from da3gs.poses.features.database import Pair, all_pairs
from da3gs.poses.features.matching import Features

MOST_EXHAUSTIVE = 40
"""Photos of which every one is matched with every other."""

_ALIKE = 8  # photos that each is matched with because they look alike
_NEXT = 5  # photos that each is matched with because they follow in order
_FARTHEST = 64  # frames of a video: those a power of two apart are matched up to here
_WORDS = 48  # of the vocabulary that is made of the photos themselves
_SAMPLE = 20_000  # descriptors that the vocabulary is made of


def selected_pairs(features: Sequence[Features], *, ordered: bool, seed: int = 0) -> list[Pair]:
    """The pairs to match; their number grows linearly with the photos' beyond ``MOST_EXHAUSTIVE``.

    Args:
        features: of every photo, in the order of names or of time.
        ordered: they are frames of a video.
        seed: of the vocabulary.
    """
    count = len(features)
    if count <= MOST_EXHAUSTIVE and not ordered:
        return list(all_pairs(count))
    pairs = {(i, j) for i, j in all_pairs(count) if _near(j - i, ordered)}
    if count > MOST_EXHAUSTIVE:
        likeness = global_descriptors(features, seed=seed)
        likeness = likeness @ likeness.T
        np.fill_diagonal(likeness, -np.inf)
        for one, row in enumerate(likeness):
            for two in np.argpartition(-row, _ALIKE)[:_ALIKE].tolist():
                pairs.add((min(one, two), max(one, two)))
    return sorted(pairs)


def _near(apart: int, ordered: bool) -> bool:
    return apart <= _NEXT or (ordered and apart <= _FARTHEST and apart & (apart - 1) == 0)


def global_descriptors(features: Sequence[Features], *, seed: int = 0) -> Float[np.ndarray, "n d"]:
    """One unit vector a photo: its local descriptors' residuals from the words of a vocabulary, summed a word (VLAD,
    Jégou et al., CVPR 2010, with the residuals' own normalisation of Arandjelović & Zisserman, CVPR 2013).

    The vocabulary is made of the photos' own descriptors, so that none has to be downloaded, and no network is asked:
    these features are matched afterwards, and photos that share them are what is looked for.
    """
    told = [f.descriptors[: len(f.keypoints)] for f in features]
    everything = np.concatenate(told) if told else np.zeros((0, 128), np.float32)
    if len(everything) < _WORDS:
        return np.zeros((len(features), 1), np.float32)
    generator = np.random.default_rng(seed)
    sample = everything[generator.permutation(len(everything))[:_SAMPLE]]
    words, _ = kmeans2(sample, _WORDS, iter=12, minit="++", rng=generator)
    result = np.zeros((len(features), _WORDS, words.shape[1]), np.float32)
    for row, descriptors in zip(result, told, strict=True):
        nearest = np.argmax(descriptors @ words.T - (words**2).sum(1) / 2, axis=1)
        np.add.at(row, nearest, descriptors - words[nearest])
    result /= np.maximum(np.linalg.norm(result, axis=-1, keepdims=True), 1e-9)
    flat = result.reshape(len(features), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)
