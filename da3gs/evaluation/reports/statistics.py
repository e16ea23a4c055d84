"""Statistics of many scores: means and their confidence intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
_EXACT = 14
_DRAWS = 20_000


def mean(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return math.fsum(values) / len(values) if values else None


def median(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return float(np.median(np.asarray(values))) if values else None


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean by Student's t; None for fewer than two values.

    >>> low, high = confidence_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    if len(values) < 2:
        return None
    array = np.asarray(values, np.float64)
    half = student_quantile(len(values) - 1) * float(array.std(ddof=1)) / math.sqrt(len(values))
    return float(array.mean()) - half, float(array.mean()) + half


def student_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Standard errors that hold so much of Student's t on both sides.

    >>> round(student_quantile(2), 3), round(student_quantile(100), 3)
    (4.303, 1.984)
    """
    low, high = 0.0, 1000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def _inside(t: float, freedom: int) -> float:
    """P(|T| < t), by integrating over the angle: T = sqrt(n) tan(a) has a density of cos(a)^(n-1)."""
    angles = np.linspace(0, math.atan(t / math.sqrt(freedom)), 2001)
    log_density = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(math.pi)
    density = np.exp(log_density + (freedom - 1) * np.log(np.cos(angles)))
    step = angles[1] - angles[0]
    simpson = density[0] + density[-1] + 4 * density[1:-1:2].sum() + 2 * density[2:-1:2].sum()
    return float(2 * simpson * step / 3)


def sign_flip_probability(differences: Sequence[float], *, seed: int = 0) -> float | None:
    """Probability of a mean at least as far from zero if each difference may as well have the other sign.

    All sign patterns up to 14 differences, 20 000 drawn ones above; None of nothing.

    >>> sign_flip_probability([1.0, 1.0, 1.0])
    0.25
    """
    array = np.asarray(differences, np.float64)
    if not len(array):
        return None
    if len(array) <= _EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(array))))
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (_DRAWS, len(array))) * 2.0 - 1
        signs[0] = 1
    reached = np.abs(signs @ array) >= abs(float(array.sum())) - 1e-12 * float(np.abs(array).sum())
    return float(reached.mean())
