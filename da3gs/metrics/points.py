"""Point cloud errors against the truth: accuracy, completeness, F1."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from da3gs._optional import require


def point_errors(
    predicted: Float[np.ndarray, "N 3"], true: Float[np.ndarray, "M 3"], *, distance: float
) -> dict[str, float]:
    """Accuracy, completeness, chamfer (their mean), and precision, recall and F1 at a distance, in the points' unit.

    Accuracy is the mean distance from predicted points to the nearest true one, completeness the other way round;
    precision and recall are the shares nearer than ``distance``, F1 = 2PR / (P + R). No predicted point at all: F1 is
    0 and the distances are infinite.

    >>> e = point_errors(np.zeros((1, 3)), np.array([[0.0, 0, 1], [0, 0, 3]]), distance=2.0)
    >>> e["accuracy"], e["completeness"], e["precision"], e["recall"], round(e["f1"], 3)
    (1.0, 2.0, 1.0, 0.5, 0.667)
    """
    if not len(predicted) or not len(true):
        return {"accuracy": np.inf, "completeness": np.inf, "chamfer": np.inf,
                "precision": 0.0, "recall": 0.0, "f1": 0.0}  # fmt: skip
    spatial = require("scipy.spatial", why="the nearest neighbours of points")
    there = spatial.cKDTree(true).query(predicted)[0]
    back = spatial.cKDTree(predicted).query(true)[0]
    precision, recall = float((there < distance).mean()), float((back < distance).mean())
    accuracy, completeness = float(there.mean()), float(back.mean())
    total = precision + recall
    return {
        "accuracy": accuracy,
        "completeness": completeness,
        "chamfer": (accuracy + completeness) / 2,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total > 0 else 0.0,
    }


def thinned_points(points: Float[np.ndarray, "N 3"], voxel: float) -> Float[np.ndarray, "M 3"]:
    """One point, the mean, for every cube of side ``voxel`` that holds any."""
    if not len(points):
        return points
    cell = np.floor((points - points.min(0)) / voxel).astype(np.int64)
    size = cell.max(0) + 1
    key = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(group, points[:, axis], len(count)) for axis in range(3)], -1)
    return sums / count[:, None]
