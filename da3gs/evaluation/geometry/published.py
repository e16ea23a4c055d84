"""Poses and surfaces as the official benchmark printed them, shown beside ours and never mixed with them.

Shares from 0 to 1; of the paper's tables 2 and 3. DTU's surfaces were printed in millimetres under its own masks, which
nothing here measures.
"""

from __future__ import annotations

from typing import Any

RESOLUTION = 504
SCENES = {"dtu": 13, "eth3d": 11, "7scenes": 7, "scannetpp": 20}
"""How many scenes the official benchmark has of each; of DTU those of its pose task, with 64 photos each."""

_SETS = ("eth3d", "dtu", "7scenes", "scannetpp")
_POSES: dict[str, tuple[tuple[float, float], ...]] = {
    "DUSt3R": ((4.3, 27.3), (4.0, 74.3), (6.9, 61.6), (8.1, 33.9)),
    "Fast3R": ((8.1, 44.4), (9.5, 79.1), (19.0, 78.6), (17.9, 72.5)),
    "MapAnything": ((19.2, 77.4), (6.5, 72.7), (12.6, 79.7), (20.2, 84.1)),
    "Pi3": ((35.2, 87.3), (62.5, 94.9), (25.5, 86.3), (50.7, 92.1)),
    "VGGT": ((26.3, 80.8), (79.2, 99.8), (23.9, 85.0), (62.6, 95.1)),
    "Depth Anything 3 small": ((8.59, 62.1), (30.6, 91.2), (14.0, 78.7), (10.9, 71.9)),
    "Depth Anything 3 base": ((15.1, 74.6), (60.1, 95.9), (20.1, 82.9), (25.1, 83.4)),
    "Depth Anything 3 large": ((32.2, 86.9), (70.2, 96.7), (29.2, 86.6), (60.2, 94.7)),
    "Depth Anything 3 giant": ((48.4, 91.2), (94.1, 99.4), (28.5, 86.8), (85.0, 98.1)),
}
"""AUC3 and AUC30 in percent, a column a set."""

_SURFACES: dict[str, dict[str, tuple[float, float]]] = {
    "DUSt3R": {"eth3d": (19.7, 18.8), "7scenes": (26.6, 39.8), "scannetpp": (18.9, 27.3)},
    "Fast3R": {"eth3d": (38.5, 50.3), "7scenes": (41.0, 49.8), "scannetpp": (37.1, 53.7)},
    "Pi3": {"eth3d": (72.7, 80.6), "7scenes": (44.2, 57.5), "scannetpp": (63.1, 73.3)},
    "VGGT": {"eth3d": (57.2, 66.7), "7scenes": (47.9, 51.4), "scannetpp": (66.4, 70.7)},
    "MapAnything": {"eth3d": (54.8, 71.9), "7scenes": (44.8, 55.2), "scannetpp": (39.4, 71.3)},
    "Depth Anything 3 small": {"eth3d": (41.6, 63.4), "7scenes": (41.0, 46.8), "scannetpp": (32.3, 53.8)},
    "Depth Anything 3 base": {"eth3d": (49.5, 66.7), "7scenes": (49.9, 50.6), "scannetpp": (47.2, 67.8)},
    "Depth Anything 3 large": {"eth3d": (65.8, 75.2), "7scenes": (56.3, 49.2), "scannetpp": (67.9, 75.7)},
    "Depth Anything 3 giant": {"eth3d": (79.0, 87.1), "7scenes": (53.5, 56.5), "scannetpp": (77.0, 79.3)},
}
"""F1 in percent, with predicted and with given poses."""

_ALWAYS = {
    "eth3d": "photos as stored, their distortion ignored; ours undistorted ones",
    "scannetpp": "frames of a telephone, undistorted to 1024x768; ours those of the DSLR",
}
"""What the official loader does otherwise than ours."""


def beside_geometry(
    task: str, dataset: str, *, poses: str, resolution: int, scenes: int, frames: int
) -> list[dict[str, Any]]:
    """The printed rows of a data set, each with what its protocol does otherwise than ours (empty: the same).

    Args:
        task: pose, depth or points.
        dataset: its layout.
        poses: whether ours got the cameras.
        resolution: our long side for the network.
        scenes: how many of ours are done.
        frames: the most that one of our scenes has.
    """
    if dataset not in SCENES:
        return []
    facts = [
        (dataset in _ALWAYS, _ALWAYS.get(dataset, "")),
        (scenes != SCENES[dataset], f"{SCENES[dataset]} scenes, ours {scenes}"),
        (resolution != RESOLUTION, f"photos at {RESOLUTION}, ours at {resolution}"),
    ]
    found: list[dict[str, Any]] = []
    match task:
        case "pose":
            facts.append((dataset == "dtu" and frames != 64, f"64 photos a scene, ours at most {frames}"))
            column = _SETS.index(dataset)
            for method, row in _POSES.items():
                auc3, auc30 = row[column]
                found.append({"method": method, "auc3": round(auc3 / 100, 4), "auc30": round(auc30 / 100, 4),
                              "note": "", "differences": [words for differs, words in facts if differs]})  # fmt: skip
        case "points":
            for method, sets in _SURFACES.items():
                for kind, value in zip(("predicted", "given"), sets.get(dataset, ()), strict=False):
                    other = [(kind != poses, f"cameras {kind}, ours {poses}")]
                    found.append({"method": method, "f1": round(value / 100, 4), "note": f"{kind} poses",
                                  "differences": [words for differs, words in other + facts if differs]})  # fmt: skip
    return found
