"""What will be evaluated, settled and checked before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from da3gs.checkpoints import BUNDLED, MODELS, ModelCard
from da3gs.errors import InputError
from da3gs.evaluation.baselines import Baseline, Method
from da3gs.evaluation.data import EvalScene, Scenes, open_scenes
from da3gs.evaluation.geometry.published import beside_geometry
from da3gs.evaluation.protocol import Poses, Protocol, Targets, network_size
from da3gs.evaluation.published import beside, family_of
from da3gs.evaluation.reports.report import VIEW_METRICS, digest
from da3gs.evaluation.splits import Split, parse_split, rule_frames
from da3gs.photos.naming import shown
from da3gs.pipeline.model_loading import LoadedModel

_MOST_SCENES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the caller wants."""

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
    """What will be done."""

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
        """What others have printed on these data, held against what was done."""
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


def planned(asked: Asked, ready: LoadedModel | None, find_cameras: Callable[[EvalScene], EvalScene | None]) -> Plan:
    """The plan.

    Args:
        asked: what the caller wants.
        ready: the model, where it is loaded already.
        find_cameras: the one scene of an input without poses, with cameras found in its photos, or None.

    Raises:
        InputError: the data, the split and the wishes do not go together; the message says why.
    """
    if asked.size is not None and not all(32 <= side <= 8192 for side in asked.size):
        raise InputError(f"--size is HEIGHTxWIDTH from 32 to 8192 pixels, got {asked.size[0]}x{asked.size[1]}")
    if asked.resolution is not None and not 56 <= asked.resolution <= 4096:
        raise InputError(f"--resolution is a long side from 56 to 4096 pixels, got {asked.resolution}")
    if asked.context is not None and not 1 <= asked.context <= 10_000:
        raise InputError(f"--context is a number of views from 1 to 10000, got {asked.context}")
    card = ready.card if ready is not None else MODELS.get(asked.method.model.lower(), MODELS[BUNDLED])
    if asked.task != "views":
        from da3gs.evaluation.geometry.tasks import planned_geometry

        return planned_geometry(asked, card)
    split = parse_split(asked.split, context=asked.context)
    found = open_scenes(asked.root)
    opened = {key: found[key] for key in _wanted(asked.scenes, split, found)}
    searched: EvalScene | None = None
    if asked.poses == "auto" and len(found) == 1 and (only := next(iter(opened.values()))).cam_to_world is None:
        searched = find_cameras(only)
    if searched is not None:
        opened = {searched.key: searched}
    posed = [scene.cam_to_world is not None for scene in opened.values()]
    poses, targets = _columns(asked, all(posed))
    if searched is not None and targets == "given":
        targets = "found"
    frames = {key: _frames(split, scene, key, card) for key, scene in opened.items()}
    fingerprint = "da3-12" if split.format == "da3-12" else split.digest[:16]
    family = family_of(fingerprint)
    size = asked.size or (family.size if family is not None else None)
    protocol = Protocol(
        size=size,
        network=network_size(size, asked.resolution),
        resolution=asked.resolution or card.resolution,
        undistort=family.undistort if family is not None else True,
        poses=poses,
        targets=targets,
    )
    return Plan(
        scenes=frames,
        protocol=protocol,
        settings=_settings(asked, split, frames, protocol, card, found.title),
        rules=[*_split_rules(split, family.name if family else None), *_pose_rules(protocol), *protocol.rules()],
        fingerprint=fingerprint,
        searched=searched,
    )


def _wanted(names: str | None, split: Split, found: Scenes) -> list[str]:
    """The scenes to evaluate; those of the split, or all that there are."""
    listed = [scene.name for scene in split.scenes]
    known = chosen_scenes(names, listed or list(found))
    missing = [key for key in known if key not in found]
    if missing:
        raise InputError(
            f"{split.name} asks for {len(missing)} scenes that {found.title} does not have ({_few(missing)}; it has "
            f"{_few(list(found))}); name those to evaluate with --scenes"
        )
    return sorted(known)


def chosen_scenes(names: str | None, known: list[str]) -> list[str]:
    """Those of the scenes that are named; all where none is.

    Raises:
        InputError: a name is unknown, or there are too many.
    """
    if names is not None:
        wanted = list(dict.fromkeys(name for name in (part.strip() for part in names.split(",")) if name))
        strange = [name for name in wanted if name not in known]
        if strange or not wanted:
            raise InputError(f"--scenes names {shown(names)!r}, which is no scene here; there are: {_few(known)}")
        known = wanted
    if len(known) > _MOST_SCENES:
        raise InputError(f"{len(known)} scenes are more than {_MOST_SCENES}; name fewer with --scenes")
    return known


def _few(names: list[str]) -> str:
    listed = ", ".join(name if len(name) <= 24 else f"{name[:16]}..." for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _columns(asked: Asked, posed: bool) -> tuple[Poses, Targets]:
    """Whether the context's cameras are given, and where the targets' come from."""
    if asked.poses == "given" and not posed:
        raise InputError("--poses given, but the input has no poses; use --poses predicted, or name a transforms.json")
    poses: Poses = "given" if posed and asked.poses != "predicted" else "predicted"
    if asked.align_targets:
        if not posed:
            raise InputError("--align-targets begins at given target cameras, which the input does not have")
        return poses, "optimised"
    if poses == "given":
        return poses, "given"
    return poses, "aligned" if posed else "second pass"


def _frames(split: Split, scene: EvalScene, key: str, card: ModelCard) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for listed in split.scenes:
        if listed.name == key:
            return split.frames(listed, len(scene))
    usable = scene.usable
    poses = None if scene.cam_to_world is None else scene.cam_to_world[list(usable)]
    context, target = rule_frames(split, poses, len(usable), most=card.views)
    return tuple(usable[i] for i in context), tuple(usable[i] for i in target)


def _settings(
    asked: Asked, split: Split, frames: dict[str, Any], protocol: Protocol, card: ModelCard, title: str
) -> dict[str, Any]:
    method = asked.method
    uses = method.uses_model and asked.own is None
    return {
        "task": asked.task,
        "root": title,
        "split": split.name,
        "split_format": split.format,
        "scenes": len(frames),
        "frames_digest": digest(sorted([key, *map(list, shots)] for key, shots in frames.items())),
        "method": asked.own.name if asked.own is not None else method.kind,
        "method_folder": None if method.folder is None else shown(Path(method.folder).resolve().name),
        "model": card.name if uses else None,
        "licence": card.licence if uses else None,
        "splats": method.splats,
        "refine": method.refine,
        "budget": method.budget,
        "dtype": method.dtype,
        "device": method.device,
        "backend": method.backend,
        "seed": method.seed,
        "poses": protocol.poses,
        "targets": protocol.targets,
        "size": None if protocol.size is None else list(protocol.size),
        "network_size": None if protocol.network is None else list(protocol.network),
        "resolution": protocol.resolution,
        "undistort": protocol.undistort,
    }


def _split_rules(split: Split, family: str | None) -> list[str]:
    match split.format:
        case "da3-12":
            return [
                "Depth Anything 3's protocol regenerated: every 8th frame is a target; 12 context views among the rest "
                "by farthest-point sampling, distance |c_i - c_j| / largest + angle / 180 degrees, beginning with the "
                "first, the earlier of equals"
            ]
        case "every":
            return [
                f"every {split.every}th frame is a target; context is the rest, or as many as the model takes, by "
                "farthest-point sampling of the cameras (evenly without poses)"
            ]
    return [f"split {split.name} ({family})" if family else f"split {split.name}, not a published one"]


def _pose_rules(protocol: Protocol) -> list[str]:
    context = "context cameras given" if protocol.poses == "given" else "nothing known of the context cameras"
    match protocol.targets:
        case "given":
            return [f"{context}; target cameras of the data set"]
        case "found":
            return [
                "the data have no cameras: those of all frames, targets too, were found together in the photos by "
                "structure-from-motion, and the context's were given"
            ]
        case "aligned":
            return [f"{context}; target cameras of the data set, laid on the predicted ones by a similarity"]
        case "optimised":
            return [
                f"{context}; target cameras moved to fit the target photo (Adam, 100 steps of 0.005, squared error): "
                "not to be compared with other columns"
            ]
    return [f"{context}; target cameras from a second pass over all photos, laid on the context by a similarity"]
