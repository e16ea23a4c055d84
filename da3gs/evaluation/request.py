"""Request and plan of an evaluation: what the caller wants, and what will be done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from da3gs.errors import InputError
from da3gs.evaluation.baselines import Baseline, Method
from da3gs.evaluation.data import EvalScene
from da3gs.evaluation.geometry.published import beside_geometry
from da3gs.evaluation.protocol import Protocol
from da3gs.evaluation.published import beside
from da3gs.evaluation.reports.report import VIEW_METRICS
from da3gs.photos.naming import shown

_MOST_SCENES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """Request for an evaluation."""

    root: Path
    task: Literal["views", "pose", "depth", "points"]
    split: str
    poses: Literal["auto", "given", "predicted"]
    align_targets: bool
    scenes: str | None
    context: int | None
    size: tuple[int, int] | None
    resolution: int | None
    dataset: str
    method: Method
    own: Baseline | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Plan of an evaluation."""

    scenes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Context and target positions of every scene."""
    protocol: Protocol
    """Sizes and cameras."""
    settings: dict[str, Any]
    """Everything that the figures depend on; a report is made with one set of them."""
    rules: list[str]
    """The protocol in words."""
    fingerprint: str
    """Of the split, for what others have printed on it."""
    dataset: str = "posed"
    """Layout of a geometry data set."""
    metrics: tuple[str, ...] = VIEW_METRICS
    """What is measured."""
    searched: EvalScene | None = None
    """The scene of an input without poses, with the cameras that were found in its photos."""

    def published(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Published figures on these data, held against what was done."""
        protocol, settings = self.protocol, self.settings
        done = [record for record in records if record["status"] == "done"]
        if settings["task"] != "views":
            return beside_geometry(
                settings["task"], self.dataset, poses=protocol.poses, resolution=protocol.resolution, scenes=len(done),
                frames=max((len(record["frames"]) for record in done), default=0),
            )  # fmt: skip
        size = protocol.size
        enlarged = size is not None and any(
            stored < wanted for record in done for stored, wanted in zip(record["smallest_photo"], size, strict=True)
        )
        return beside(
            self.fingerprint,
            size=size,
            poses=protocol.poses,
            targets=protocol.targets,
            scenes=[record["name"] for record in done],
            left_out=sum(len(record["dropped"]) for record in done),
            undistorted=protocol.undistort,
            refine=settings["refine"],
            enlarged=enlarged,
        )


def chosen_scenes(names: str | None, known: list[str]) -> list[str]:
    """Those of the scenes that are named; all where none is.

    Raises:
        InputError: a name is unknown, or there are too many.
    """
    if names is not None:
        wanted = list(dict.fromkeys(name for name in (part.strip() for part in names.split(",")) if name))
        strange = [name for name in wanted if name not in known]
        if strange or not wanted:
            raise InputError(f"--scenes names {shown(names)!r}, which is no scene here; there are: {few(known)}")
        known = wanted
    if len(known) > _MOST_SCENES:
        raise InputError(f"{len(known)} scenes are more than {_MOST_SCENES}; name fewer with --scenes")
    return known


def few(names: list[str]) -> str:
    """The first names of a list, for messages."""
    listed = ", ".join(name if len(name) <= 24 else f"{name[:16]}..." for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")
