"""Local features of photos, and which of them show the same thing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

_CONTRAST = 0.013  # of SIFT: a third of OpenCV's default, about COLMAP's
_RATIO = 0.8  # of the distances of the best and the second-best descriptor
_FARTHEST = 0.7  # between descriptors that match
_STRONG, _PLENTY = 0.5, 500  # share of the features that is matched first, and how many matches are enough
_TILE = 1024  # rows of the table of distances that are in memory at once


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Features:
    """Local features of one photo."""

    keypoints: Float[np.ndarray, "n 4"]
    """Place (u, v) in pixels of the photo that was searched, scale in pixels, angle in radians; float32."""
    descriptors: Float[np.ndarray, "k d"]
    """Of the first k of them, of unit length, float32; the others are matched in other ways."""


def sift_features(grey: UInt8[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"] | None, *, most: int) -> Features:
    """The strongest SIFT features, strongest first, described by the square roots of their histograms' shares
    (RootSIFT)."""
    import cv2

    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST)
    keypoints, descriptors = sift.detectAndCompute(grey, None if mask is None else mask.astype(np.uint8) * 255)
    if descriptors is None:
        return features_of((), None)
    order = np.argsort([-k.response for k in keypoints], kind="stable")
    return features_of([keypoints[i] for i in order], descriptors[order])


def features_of(keypoints: object, descriptors: Float[np.ndarray, "n 128"] | None) -> Features:
    """OpenCV's keypoints and histograms as features."""
    found = list(keypoints)  # type: ignore[call-overload]
    if descriptors is None or not found:
        return Features(keypoints=np.zeros((0, 4), np.float32), descriptors=np.zeros((0, 128), np.float32))
    shares = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
    rows = [(k.pt[0] + 0.5, k.pt[1] + 0.5, k.size / 2, np.deg2rad(k.angle)) for k in found]
    return Features(keypoints=np.array(rows, np.float32), descriptors=np.sqrt(shares).astype(np.float32))


def enough_matches(one: Features, two: Features) -> Int[np.ndarray, "m 2"]:
    """Mutual matches of the stronger features of both photos, which take a quarter of the time, where those are plenty;
    else of all. Features stand strongest first."""
    strong = [
        dataclasses.replace(f, keypoints=f.keypoints[:count], descriptors=f.descriptors[:count])
        for f, count in ((f, math.ceil(_STRONG * len(f.descriptors))) for f in (one, two))
    ]
    found = mutual_matches(strong[0], strong[1])
    return found if len(found) >= _PLENTY else mutual_matches(one, two)


def mutual_matches(one: Features, two: Features, *, ratio: float = _RATIO) -> Int[np.ndarray, "m 2"]:
    """Features that are each other's nearest by their descriptors, and clearly nearer than the next one."""
    if len(one.descriptors) < 2 or len(two.descriptors) < 2:
        return np.zeros((0, 2), np.int64)
    a, b = torch.from_numpy(one.descriptors), torch.from_numpy(two.descriptors).T
    best, nearest, back = [], [], torch.full((b.shape[1],), -2.0)
    for start in range(0, len(a), _TILE):
        likeness = a[start : start + _TILE] @ b
        value, index = likeness.topk(2, dim=1)
        best.append(value)
        nearest.append(index[:, 0])
        back = torch.maximum(back, likeness.amax(dim=0))
    value, index = torch.cat(best), torch.cat(nearest)
    distance = (2 - 2 * value).clamp(min=0).sqrt()
    clear = (distance[:, 0] < ratio * distance[:, 1]) & (distance[:, 0] < _FARTHEST)
    rows = torch.nonzero(clear & (value[:, 0] >= back[index]))[:, 0]
    return torch.stack((rows, index[rows]), dim=1).numpy()
