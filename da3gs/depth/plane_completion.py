"""Planes of pixels that no other view bears out, from those that are: continued up to the edges that a photo shows."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

from da3gs.depth import _completion as _kernels

_FACTORS = (32, 16, 8, 4, 2, 1)  # coarse to fine
_ROUNDS = 40
_GREY, _JUMP = 0.04, 0.08  # differences of grey value, and of the expected log depth, over which surfaces part
_PARTED = 0.003  # what still connects pixels over an edge
_TRUST, _SLOPE_TRUST = 10.0, 0.3  # of a known depth, and of a known slope, in connections of neighbours
_NEAREST, _FARTHEST = 1.3, 0.5  # of the greatest and the least known inverse depth: bounds of what is continued
_CONNECTED, _LEAST = 0.02, 60  # relative difference of inverse depth on one surface, and its pixels at the least


def without_specks(
    planes: Float[np.ndarray, "h w 3"], keep: Bool[np.ndarray, "h w"], least: int = _LEAST
) -> Bool[np.ndarray, "h w"]:
    """``keep`` without the pixels whose surface has fewer than ``least`` of them: views agree by chance, too."""
    kept = keep.copy()
    _kernels.forget_specks(
        np.ascontiguousarray(planes[..., 0]), kept, np.float32(_CONNECTED), least, np.zeros_like(kept),
        np.empty(kept.size, np.int64),
    )  # fmt: skip
    return kept


def slopes_of(inverse: Float[np.ndarray, "*v h w"]) -> Float[np.ndarray, "*v h w 3"]:
    """Inverse depth and its slopes, each the smaller one of the differences to both sides."""
    planes = np.zeros((*inverse.shape, 3), np.float32)
    planes[..., 0] = inverse
    for axis, place in ((-1, 1), (-2, 2)):
        step = np.diff(inverse, axis=axis)
        first, last = np.take(step, [0], axis), np.take(step, [-1], axis)
        forward, backward = np.concatenate((step, last), axis), np.concatenate((first, step), axis)
        planes[..., place] = np.where(np.abs(forward) < np.abs(backward), forward, backward)
    return planes


def completed(
    planes: Float[np.ndarray, "h w 3"],
    known: Bool[np.ndarray, "h w"],
    expected: Float[np.ndarray, "h w"],
    grey: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """The planes where they are known; elsewhere the known ones continued, but not over edges of the photo or of the
    expected depth.

    First the slopes are spread smoothly, then inverse depth with these slopes: the minimum of
    ``Σ t (w - d)² + Σ e (w - w' - s (p - p'))²``, from coarse to fine.

    Args:
        planes: inverse depth at the pixel's centre and its slopes.
        known: where they hold.
        expected: inverse depth of a network, up to a factor; only its edges count.
        grey: the photo.
    """
    if not known.any():
        return slopes_of(expected)
    trust = known.astype(np.float32)
    grey, depth = np.nan_to_num(grey).astype(np.float32), np.log(np.maximum(expected, 1e-12)).astype(np.float32)
    low, high = np.quantile(planes[..., 0][known], (0.002, 0.998))
    none = np.zeros((2, 2), np.float32)
    values = [np.full((2, 2), np.median(planes[..., 0][known]), np.float32), none, none]
    for factor in _FACTORS:
        size = (max(2, grey.shape[1] // factor), max(2, grey.shape[0] // factor))
        share = _smaller(trust, size)
        data = [_smaller(planes[..., i] * trust, size) / np.maximum(share, 1e-6) for i in range(3)]
        scale = (grey.shape[1] / size[0], grey.shape[0] / size[1])
        grown = (size[0] / values[0].shape[1], size[1] / values[0].shape[0])
        values = [cv2.resize(value, size, interpolation=cv2.INTER_LINEAR) for value in values]
        across, down = _connections(_smaller(grey, size), _smaller(depth, size))
        flat = np.zeros_like(share)
        for i in (1, 2):
            data[i] *= np.float32(scale[i - 1])
            values[i] /= np.float32(grown[i - 1])
            _kernels.relax(values[i], data[i], _SLOPE_TRUST * share, across, down, flat, flat, _ROUNDS)
        _kernels.relax(values[0], data[0], _TRUST * share, across, down, values[1], values[2], _ROUNDS)
        np.clip(values[0], _FARTHEST * low, _NEAREST * high, out=values[0])
    return np.where(known[..., None], planes, slopes_of(values[0]))


def _smaller(field: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Means over the pixels of a coarser grid, width first."""
    if field.shape == size[::-1]:
        return np.ascontiguousarray(field)
    return np.asarray(cv2.resize(np.ascontiguousarray(field), size, interpolation=cv2.INTER_AREA))


def _connections(
    grey: Float[np.ndarray, "h w"], depth: Float[np.ndarray, "h w"]
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """How closely each pixel goes with its left and with its upper neighbour."""
    found = []
    for axis in (1, 0):
        apart = [np.abs(np.diff(field, axis=axis, prepend=np.take(field, [0], axis))) for field in (grey, depth)]
        weight = np.exp(-apart[0] / np.float32(_GREY) - apart[1] / np.float32(_JUMP))
        found.append(np.maximum(weight, np.float32(_PARTED)))
    return found[0], found[1]
