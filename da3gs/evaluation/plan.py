"""Plan of an evaluation, settled and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from da3gs.checkpoints import BUNDLED, MODELS, ModelCard
from da3gs.errors import InputError
from da3gs.evaluation.data import EvalScene, Scenes, open_scenes
from da3gs.evaluation.geometry.tasks import planned_geometry
from da3gs.evaluation.protocol import Poses, Protocol, Targets, network_size
from da3gs.evaluation.published import family_of
from da3gs.evaluation.reports.report import digest
from da3gs.evaluation.request import EvaluationRequest, Plan, chosen_scenes, few
from da3gs.evaluation.splits import Split, parse_split, rule_frames
from da3gs.photos.naming import shown
from da3gs.pipeline.model_loading import LoadedModel


def planned(
    request: EvaluationRequest, ready: LoadedModel | None, find_cameras: Callable[[EvalScene], EvalScene | None]
) -> Plan:
    """The plan.

    Args:
        request: what the caller wants.
        ready: the model, where it is loaded already.
        find_cameras: the one scene of an input without poses, with cameras found in its photos, or None.

    Raises:
        InputError: the data, the split and the wishes do not go together; the message says why.
    """
    if request.size is not None and not all(32 <= side <= 8192 for side in request.size):
        raise InputError(f"--size is HEIGHTxWIDTH from 32 to 8192 pixels, got {request.size[0]}x{request.size[1]}")
    if request.resolution is not None and not 56 <= request.resolution <= 4096:
        raise InputError(f"--resolution is a long side from 56 to 4096 pixels, got {request.resolution}")
    if request.context is not None and not 1 <= request.context <= 10_000:
        raise InputError(f"--context is a number of views from 1 to 10000, got {request.context}")
    card = ready.card if ready is not None else MODELS.get(request.method.model.lower(), MODELS[BUNDLED])
    if request.task != "views":
        return planned_geometry(request, card)
    split = parse_split(request.split, context=request.context)
    found = open_scenes(request.root)
    opened = {key: found[key] for key in _wanted(request.scenes, split, found)}
    searched: EvalScene | None = None
    if request.poses == "auto" and len(found) == 1 and (only := next(iter(opened.values()))).cam_to_world is None:
        searched = find_cameras(only)
    if searched is not None:
        opened = {searched.key: searched}
    posed = [scene.cam_to_world is not None for scene in opened.values()]
    poses, targets = _columns(request, all(posed))
    if searched is not None and targets == "given":
        targets = "found"
    frames = {key: _frames(split, scene, key, card) for key, scene in opened.items()}
    fingerprint = "da3-12" if split.format == "da3-12" else split.digest[:16]
    family = family_of(fingerprint)
    size = request.size or (family.size if family is not None else None)
    protocol = Protocol(
        size=size,
        network=network_size(size, request.resolution),
        resolution=request.resolution or card.resolution,
        undistort=family.undistort if family is not None else True,
        poses=poses,
        targets=targets,
    )
    return Plan(
        scenes=frames,
        protocol=protocol,
        settings=_settings(request, split, frames, protocol, card, found.title),
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
            f"{split.name} asks for {len(missing)} scenes that {found.title} does not have ({few(missing)}; it has "
            f"{few(list(found))}); name those to evaluate with --scenes"
        )
    return sorted(known)


def _columns(request: EvaluationRequest, posed: bool) -> tuple[Poses, Targets]:
    """Whether the context's cameras are given, and where the targets' come from."""
    if request.poses == "given" and not posed:
        raise InputError("--poses given, but the input has no poses; use --poses predicted, or name a transforms.json")
    poses: Poses = "given" if posed and request.poses != "predicted" else "predicted"
    if request.align_targets:
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
    request: EvaluationRequest, split: Split, frames: dict[str, Any], protocol: Protocol, card: ModelCard, title: str
) -> dict[str, Any]:
    method = request.method
    uses = method.uses_model and request.own is None
    return {
        "task": request.task,
        "root": title,
        "split": split.name,
        "split_format": split.format,
        "scenes": len(frames),
        "frames_digest": digest(sorted([key, *map(list, shots)] for key, shots in frames.items())),
        "method": request.own.name if request.own is not None else method.kind,
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
