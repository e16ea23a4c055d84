"""Robust least squares by Levenberg and Marquardt's method, for states of a handful of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Float

State = TypeVar("State")
_STEPS, _TRIES = 12, 6
_DIFFERENCE = 1e-6
_ENOUGH = 1e-4  # of the cost: a smaller gain ends the search


def robust_minimum(
    start: State,
    residuals: Callable[[State], Float[np.ndarray, "M R"]],
    moved: Callable[[State, Float[np.ndarray, "S P"]], State],
    *,
    parameters: int,
    known: int,
) -> State:
    """The state of least ``Σ r² / (1 + r²)`` near the start: Geman and McClure's loss, blind to what is far out.

    Args:
        start: a single state; functions take and return several at once, a row each.
        residuals: of states, each divided by what is still an inlier.
        moved: a state after each of some small steps, a row a step.
        parameters: numbers in a step.
        known: how many of the residuals, the last ones, are prior knowledge and count as plain squares.
    """
    damping, current, values = 1e-3, start, residuals(start)[0]
    for _ in range(_STEPS):
        weights, cost = _weighted(values, known)
        ahead = residuals(moved(current, _DIFFERENCE * np.eye(parameters)))
        table = ((ahead - values) / _DIFFERENCE).T
        normal, slope = (table * weights[:, None]).T @ table, (table * weights[:, None]).T @ values
        for _ in range(_TRIES):
            damped = normal + damping * np.diag(np.diag(normal) + 1e-9)
            try:
                step = np.linalg.solve(damped, -slope)
            except np.linalg.LinAlgError:
                return current
            tried = moved(current, step[None])
            new_values = residuals(tried)[0]
            new_cost = _weighted(new_values, known)[1]
            if new_cost < cost:
                break
            damping *= 6
        else:
            return current
        current, values, damping = tried, new_values, max(damping / 5, 1e-9)
        if cost - new_cost < _ENOUGH * cost:
            break
    return current


def _weighted(values: Float[np.ndarray, "R"], known: int) -> tuple[Float[np.ndarray, "R"], float]:
    """What each residual counts for in the next step, and the cost."""
    squares = values**2
    plain = np.arange(len(values)) >= len(values) - known
    weights = np.where(plain, 1.0, 1 / (1 + squares) ** 2)
    return weights, float(np.where(plain, squares, squares / (1 + squares)).sum())
