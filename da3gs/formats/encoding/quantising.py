"""Quantisation shared by the formats that store splats in few bits."""

from __future__ import annotations

import numpy as np
import torch

from da3gs.errors import InputError
from da3gs.formats.splats.ply import unit_quaternions
from da3gs.gaussians import Gaussians

HALF_ROOT = 0.5**0.5
"""No component but the largest of a unit quaternion is larger than this."""


def finite_arrays(gaussians: Gaussians, name: str) -> dict[str, np.ndarray]:
    """The splats as float32 arrays by field, quaternions of unit length; ``name`` is what messages call the file.

    Raises:
        InputError: a number is not finite, or a scale not positive: few bits cannot say so.
    """
    part = gaussians.detach().to("cpu", torch.float32)
    arrays = {
        "means": part.means.numpy(),
        "scales": part.scales.numpy(),
        "quaternions": unit_quaternions(part.quaternions.numpy()),
        "opacities": part.opacities.numpy(),
        "harmonics": part.harmonics.numpy(),
    }
    bad = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays.values())
    if bad:
        raise InputError(f"{name} cannot hold the {bad} numbers of these splats that are not finite; clean them first")
    return arrays


def log_scales(scales: np.ndarray) -> np.ndarray:
    """Natural logarithms; a scale of 0 counts as 1e-38."""
    logs: np.ndarray = np.log(np.maximum(scales, np.float32(1e-38)))
    return logs


def quantised(values: np.ndarray, factor: float | int, offset: float | int) -> np.ndarray:
    """``round(values * factor + offset)`` held within a byte."""
    result: np.ndarray = np.clip(np.rint(values * np.float32(factor) + np.float32(offset)), 0, 255).astype(np.uint8)
    return result


def largest_first(quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each quaternion's largest component, and the other three in order, that one being made positive."""
    largest = np.abs(quaternions).argmax(1)
    rows = np.arange(len(quaternions))
    signed = np.where(quaternions[rows, largest] < 0, -1, 1)[:, None] * quaternions
    others = np.ones(quaternions.shape, bool)
    others[rows, largest] = False
    return largest.astype(np.uint32), signed[others].reshape(-1, 3)


def with_largest(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The unit quaternions that ``largest_first`` was given, up to sign and precision."""
    rows = np.arange(len(others))
    kept = np.ones((len(others), 4), bool)
    kept[rows, largest] = False
    quaternions = np.empty((len(others), 4), np.float32)
    quaternions[kept] = others.reshape(-1)
    quaternions[rows, largest] = np.sqrt(np.maximum(0, 1 - np.square(others).sum(1)))
    return quaternions


def to_gaussians(arrays: dict[str, np.ndarray]) -> Gaussians:
    """A record of arrays by field."""
    return Gaussians(**{name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()})
