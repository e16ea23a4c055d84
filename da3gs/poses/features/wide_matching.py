"""Wide-baseline matching: features of photos squeezed as if they were seen from the side (ASIFT).

A surface that is seen aslant is squeezed in one direction, which SIFT does not forgive. Each photo is therefore also
searched in simulated views: turned by an angle and squeezed by a tilt t, with as many turns for each tilt as Yu and
Morel's affine SIFT takes (72°/t apart). Simulated views of one photo are matched with the other photo as it is.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from da3gs.poses.features.matching import Features, mutual_matches, sift_features

_LONG_SIDE = 1000
_TILTS = (2**0.5, 2.0, 2 * 2**0.5)
_MOST, _MOST_TILTED = 3000, 1500  # features of a photo as it is, and of a simulated view
_RATIO = 0.75
_SAME = 2.0  # pixels within which two matches are one


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class WideFeatures:
    """Features of a photo as it is and of its simulated views; places are in pixels of the photo."""

    plain: Features
    """Of the photo as it is."""
    tilted: tuple[Features, ...]
    """Of each simulated view."""


def wide_features(grey: UInt8[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"] | None) -> WideFeatures:
    """Features of the photo and of all its simulated views."""
    factor = min(1.0, _LONG_SIDE / max(grey.shape))
    size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if factor < 1 else grey
    wanted = np.full(small.shape, 255, np.uint8)
    if mask is not None:
        wanted = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
    scale = np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]])
    plain = _scaled(sift_features(small, wanted > 0, most=_MOST), np.eye(2, 3), scale)
    tilted = []
    for tilt in _TILTS:
        count = math.ceil(180 / (72 / tilt))
        for turn in range(count):
            view, allowed, back = _simulated(small, wanted, tilt, 180 / count * turn)
            tilted.append(_scaled(sift_features(view, allowed > 0, most=_MOST_TILTED), back, scale))
    return WideFeatures(plain=plain, tilted=tuple(tilted))


def _simulated(
    grey: np.ndarray, wanted: np.ndarray, tilt: float, degrees: float
) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, "2 3"]]:
    """The picture turned and squeezed, where it is, and the map from its pixels back."""
    height, width = grey.shape
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) @ turn.T
    low, high = corners.min(0), corners.max(0)
    rotated_size = np.ceil(high - low).astype(int)
    forward = np.concatenate((turn, -low[:, None]), axis=1)
    rotated = cv2.warpAffine(grey, forward, rotated_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rotated = cv2.GaussianBlur(rotated, (0, 0), sigmaX=0.8 * math.sqrt(tilt * tilt - 1), sigmaY=0.01)
    squeeze = np.array([[1 / tilt, 0], [0, 1]])
    forward = squeeze @ forward
    size = (int(rotated_size[0] / tilt), int(rotated_size[1]))
    view = cv2.resize(rotated, size, interpolation=cv2.INTER_NEAREST)
    inside = cv2.warpAffine(wanted, forward, size, flags=cv2.INTER_NEAREST, borderValue=0)
    inside = cv2.erode(inside, np.ones((5, 5), np.uint8))
    return view, inside, cv2.invertAffineTransform(forward)


def _scaled(features: Features, back: Float[np.ndarray, "2 3"], scale: Float[np.ndarray, "2"]) -> Features:
    """Features with their places and sizes taken back to the photo."""
    if not len(features.keypoints):
        return features
    places = (features.keypoints[:, :2] @ back[:, :2].T + back[:, 2]) * scale
    size = features.keypoints[:, 2:3] * math.sqrt(abs(np.linalg.det(back[:, :2])) * float(scale.prod()))
    keypoints = np.concatenate((places, size, features.keypoints[:, 3:]), axis=1).astype(np.float32)
    return Features(keypoints=keypoints, descriptors=features.descriptors)


def wide_matches(one: WideFeatures, two: WideFeatures) -> Float[np.ndarray, "m 4"]:
    """Places (u, v, u', v') that match between simulated views of either photo and the other as it is: one match for
    each place."""
    found = [_places(one.plain, two.plain)]
    found += [_places(view, two.plain) for view in one.tilted]
    found += [_places(one.plain, view) for view in two.tilted]
    return _thinned(np.concatenate(found))


def _places(one: Features, two: Features) -> Float[np.ndarray, "m 4"]:
    rows = mutual_matches(one, two, ratio=_RATIO)
    return np.concatenate((one.keypoints[rows[:, 0], :2], two.keypoints[rows[:, 1], :2]), axis=1).astype(np.float64)


def _thinned(places: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n 4"]:
    """One match of those that are the same; those with most company come first and shut out what contradicts them."""
    if not len(places):
        return places
    cells = np.round(places / (2 * _SAME)).astype(np.int64)
    _, index, company = np.unique(cells, axis=0, return_index=True, return_counts=True)
    kept: list[int] = []
    taken: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for group in np.argsort(-company, kind="stable"):
        row = int(index[group])
        here, there = tuple(cells[row, :2].tolist()), tuple(cells[row, 2:].tolist())
        if here not in taken[0] and there not in taken[1]:
            taken[0].add(here)
            taken[1].add(there)
            kept.append(row)
    return places[sorted(kept)]


def with_places(features: Features, places: Float[np.ndarray, "m 2"]) -> tuple[Features, Int[np.ndarray, " m"]]:
    """The features and, at the end, those of the places that are not theirs; and which feature stands for each place.

    Added features have no descriptor: they are matched already.
    """
    if not len(places):
        return features, np.zeros(0, np.int64)
    own, asked = torch.from_numpy(features.keypoints[:, :2]), torch.from_numpy(places.astype(np.float32))
    rows = np.full(len(places), -1, np.int64)
    if len(own):
        distance, nearest = torch.cdist(asked, own).min(dim=1)
        near = (distance <= _SAME).numpy()
        rows[near] = nearest.numpy()[near]
    added: dict[tuple[int, int], int] = {}
    extra: list[tuple[float, ...]] = []
    for i in np.flatnonzero(rows < 0):
        cell = tuple(np.round(places[i] / _SAME).astype(int).tolist())
        if cell not in added:
            added[cell] = len(features.keypoints) + len(extra)
            extra.append((*places[i], 1.0, 0.0))
        rows[i] = added[cell]
    keypoints = np.concatenate((features.keypoints, np.array(extra, np.float32).reshape(-1, 4)))
    return Features(keypoints=keypoints, descriptors=features.descriptors), rows
