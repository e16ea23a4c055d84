"""Geometry tasks: camera poses, depth maps, reconstructed surfaces, as the official benchmark measures them."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.checkpoints import ModelCard
from da3gs.depth.tsdf_fusion import DepthMap, fuse, sampled
from da3gs.errors import InputError
from da3gs.evaluation.baselines import Method
from da3gs.evaluation.geometry.datasets import RULES, Dataset, Rules, TrueScene, dataset_of, open_true_scenes
from da3gs.evaluation.geometry.files import SAMPLES
from da3gs.evaluation.geometry.robust_similarity import robust_similarity
from da3gs.evaluation.protocol import Picture, Protocol, camera_of, scene_input, split_pictures
from da3gs.evaluation.reports.report import digest
from da3gs.evaluation.request import EvaluationRequest, Plan, chosen_scenes
from da3gs.geometry.projection import rigid_inverse
from da3gs.metrics.depth import Alignment, depth_errors
from da3gs.metrics.points import point_errors, thinned_points
from da3gs.metrics.pose import pose_auc, relative_pose_errors
from da3gs.photos.naming import shown
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.predict import predict
from da3gs.prediction import Placed
from da3gs.views import Views

MOST_FRAMES = 100
ALIGNMENTS: tuple[Alignment, ...] = ("none", "median", "scale", "affine")
METRICS: dict[str, tuple[str, ...]] = {
    "pose": ("auc3", "auc5", "auc15", "auc30"),
    "depth": tuple(f"{m}_{a}" for a in ALIGNMENTS for m in ("absrel", "sqrel", "delta1")),
    "points": ("f1", "precision", "recall", "accuracy", "completeness", "chamfer"),
}


def planned_geometry(request: EvaluationRequest, card: ModelCard) -> Plan:
    """Plan of a geometry task, checked.

    Raises:
        InputError: the data have no such truth, or the wishes do not go together.
    """
    if request.method.kind != "model" or request.own is not None:
        raise InputError(f"--task {request.task} measures models; leave --baseline out")
    for flag, value in (("--size", request.size), ("--align-targets", request.align_targets or None)):
        if value is not None:
            raise InputError(f"{flag} belongs to --task views, not to --task {request.task}")
    dataset = dataset_of(request.root, request.dataset)
    openers = open_true_scenes(request.root, dataset)
    keys = chosen_scenes(request.scenes, list(openers))
    rules = RULES[dataset] or Rules(voxel=0, truncation=0, distance=0, thinning=0)
    frames = {key: _checked(request, openers[key](), key, rules) for key in keys}
    poses = "predicted" if request.task == "pose" or request.poses == "predicted" else "given"
    protocol = Protocol(
        size=None, network=None, resolution=request.resolution or card.resolution, undistort=True,
        poses=cast(Any, poses), targets="given",
    )  # fmt: skip
    settings = {
        "task": request.task,
        "root": shown(request.root.resolve().name),
        "dataset": dataset,
        "scenes": len(keys),
        "frames_digest": digest(sorted([key, *map(list, shots)] for key, shots in frames.items())),
        "method": "model",
        "model": card.name,
        "licence": card.licence,
        "poses": poses,
        "resolution": protocol.resolution,
        "dtype": request.method.dtype,
        "device": request.method.device,
        "seed": request.method.seed,
    }
    return Plan(
        scenes=frames,
        protocol=protocol,
        settings=settings,
        rules=_rules(request.task, dataset, poses, rules, protocol),
        fingerprint="",
        dataset=dataset,
        metrics=METRICS[request.task],
    )


def _checked(
    request: EvaluationRequest, true: TrueScene, key: str, rules: Rules
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The frames of a scene that will be used: every so many-th, at most 100 by the official draw."""
    if true.scene.cam_to_world is None:
        raise InputError(f"{key} has no true cameras to measure against; name data with poses")
    if request.task == "depth" and true.depth is None:
        raise InputError(f"{key} has no true depth maps; --task depth needs 7Scenes or DTU's layout")
    if request.task == "points" and true.points is None and true.depth is None:
        raise InputError(f"{key} has no true surface; --task points needs DTU's, ETH3D's, 7Scenes' or ScanNet++'s")
    frames = drawn(list(range(0, len(true.scene), rules.every)), request.context or MOST_FRAMES)
    if rules.first in frames:
        frames = [rules.first, *(frame for frame in frames if frame != rules.first)]
    if len(frames) < 2 and request.task == "pose":
        raise InputError(f"{key} has {len(frames)} frame, and poses are measured between frames; give more")
    return tuple(frames), ()


def drawn(frames: list[int], most: int) -> list[int]:
    """At most so many, shuffled with the seed 42 and sorted again, as the official benchmark draws them."""
    if len(frames) <= most:
        return frames
    frames = list(frames)
    random.Random(42).shuffle(frames)
    return sorted(frames[:most])


def _rules(task: str, dataset: str, poses: str, rules: Rules, protocol: Protocol) -> list[str]:
    size = f"photos resized to a long side of {protocol.resolution} for the network"
    frames = f"every {rules.every}th frame, at most {MOST_FRAMES} drawn with seed 42, all in one pass"
    given = "cameras given to the model" if poses == "given" else "nothing known of the cameras"
    lines = [f"data set layout: {dataset}", f"{size}; {frames}; {given}"]
    match task:
        case "pose":
            lines.append(
                "error of a pair: the larger of the angles between relative rotations and relative translations "
                "(these without sign); AUC@T: the share of pairs below 1, 2 ... T degrees, averaged"
            )
        case "depth":
            lines.append("per image, then per scene: AbsRel, SqRel, delta1; aligned by nothing, the ratio of medians, "
                         "a least-squares scale, or scale and shift")  # fmt: skip
        case "points":
            cameras = "given cameras, depth times the ratio of the cameras' spreads" if poses == "given" else (
                "predicted cameras laid on the true ones by a similarity (RANSAC over half the cameras, seed 42)"
            )  # fmt: skip
            lines.append(
                f"{cameras}; depth (where the true depth maps, if there are any, know it) fused at the network's size, "
                f"voxel {rules.voxel:.4g}, truncation "
                f"{rules.truncation:.4g}; {SAMPLES} points on the mesh, one a cube of {rules.thinning:.4g}; "
                f"precision and recall at {rules.distance:g}"
            )
    if rules.first:
        lines.append(f"photo {rules.first} first")
    return [*lines, rules.note] if rules.note and (task == "points" or dataset != "dtu") else lines


def score_geometry(
    task: str,
    dataset: str,
    root: str,
    key: str,
    frames: tuple[int, ...],
    protocol: Protocol,
    model: LoadedModel,
    method: Method,
) -> dict[str, Any]:
    """One scene's record.

    Raises:
        InputError: a photo or a piece of the truth cannot be read.
    """
    kind = cast(Dataset, dataset)
    true = open_true_scenes(Path(root), kind)[key]()
    read = split_pictures(true.scene, frames, frames, protocol)
    pictures = list(read.context)
    dropped = [{**left, "role": "frame"} for left in read.dropped if left["role"] == "context"]
    frames = tuple(picture.index for picture in pictures)
    if len(frames) < 2 and task == "pose":
        raise InputError(f"{key} has one photo that can be read, and poses are measured between photos")
    views = scene_input(key, pictures, protocol, poses=protocol.poses == "given").context.views
    start = time.perf_counter()
    with torch.inference_mode():
        result = predict(model.network, views, method.settings()).to("cpu")
    seconds = time.perf_counter() - start
    cameras = _stacked([camera_of(p) for p in pictures])
    extra: dict[str, Any] = {}
    match task:
        case "pose":
            errors = relative_pose_errors(result.cameras.world_to_cam.double(), cameras.world_to_cam)
            figures: dict[str, Any] = pose_auc(*errors)
        case "depth":
            rows = _depth_rows(result, views, true, frames)
            names = METRICS["depth"]
            figures = {name: sum(row[name] for row in rows) / len(rows) for name in names}
            extra["views"] = [{**row, **{name: round(row[name], 6) for name in names}} for row in rows]
        case _:
            rules = RULES[kind]
            assert rules is not None
            figures = _point_figures(result, views, cameras, true, frames, rules, given=protocol.poses == "given")
    figures = {name: round(float(value), 6) if np.isfinite(value) else None for name, value in figures.items()}
    facts = {"name": key, "status": "done", "frames": list(frames), "dropped": dropped}
    return {**facts, **figures, "seconds": {"fit": round(seconds, 3)}, **extra}


def _stacked(cameras: list[Cameras]) -> Cameras:
    return Cameras(
        world_to_cam=torch.stack([c.world_to_cam for c in cameras]),
        intrinsics=torch.stack([c.intrinsics for c in cameras]),
        height=cameras[0].height,
        width=cameras[0].width,
    )


def _depth_rows(result: Placed, views: Views, true: TrueScene, frames: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every metric under every alignment, a row an image; images without any true depth have none."""
    assert true.depth is not None
    rows: list[dict[str, Any]] = []
    for i, index in enumerate(frames):
        truth = true.depth(index)
        h, w = views.sizes[i]
        own = result.depth[i, :h, :w].numpy().astype(np.float32)
        grown = cv2.resize(own, (truth.shape[1], truth.shape[0]), interpolation=cv2.INTER_NEAREST)
        valid = (truth > 0) & np.isfinite(grown) & (grown > 0)
        if not valid.any():
            continue
        row: dict[str, Any] = {"index": index, "name": true.scene.names[index]}
        for alignment in ALIGNMENTS:
            errors = depth_errors(_tensor(grown), _tensor(truth), torch.from_numpy(valid), alignment=alignment)
            row |= {f"{name}_{alignment}": value for name, value in errors.items()}
        rows.append(row)
    if not rows:
        raise InputError(f"{true.scene.key} has no pixel with true depth in the frames that are used")
    return rows


def _tensor(array: Float[np.ndarray, "H W"]) -> Float[Tensor, "H W"]:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _point_figures(
    result: Placed,
    views: Views,
    cameras: Cameras,
    true: TrueScene,
    frames: tuple[int, ...],
    rules: Rules,
    *,
    given: bool,
) -> dict[str, float]:
    """The fused surface against the true one."""
    placed = result if given else result.transformed(robust_similarity(result.cameras, cameras))
    maps = []
    for i in range(len(frames)):
        h, w = views.sizes[i]
        keep = np.ones((h, w), bool) if placed.sky is None else ~placed.sky[i, :h, :w].numpy()
        if true.depth is not None:  # as in the official code, only what the sensor knows is compared
            known = (true.depth(frames[i]) > 0).astype(np.uint8)
            keep = keep & (cv2.resize(known, (w, h), interpolation=cv2.INTER_NEAREST) > 0)
        maps.append(_map(placed.depth[i, :h, :w].numpy(), keep, placed.cameras[i], rules))
    points = thinned_points(
        sampled(fuse(maps, voxel=rules.voxel, truncation=rules.truncation), SAMPLES), rules.thinning
    )
    truth = true.points() if true.points is not None else _fused_truth(true, frames, rules)
    truth = thinned_points(truth, rules.thinning)
    if rules.max_depth is not None and len(truth):  # the official crop to the true surface's box
        inside = ((points > truth.min(0) - 0.1) & (points < truth.max(0) + 0.1)).all(1)
        points = points[inside]
    return point_errors(points, truth, distance=rules.distance)


def _map(depth: Float[np.ndarray, "h w"], keep: Bool[np.ndarray, "h w"], camera: Cameras, rules: Rules) -> DepthMap:
    good = keep & np.isfinite(depth) & (depth > 0)
    if rules.max_depth is not None:
        good &= depth < rules.max_depth
    return DepthMap(
        depth=np.where(good, depth, 0),
        intrinsics=camera.intrinsics.double().numpy(),
        world_to_cam=camera.world_to_cam.double().numpy(),
    )


def _fused_truth(true: TrueScene, frames: tuple[int, ...], rules: Rules) -> Float[np.ndarray, "N 3"]:
    """A true surface from true depth maps, where a data set has no mesh."""
    assert true.depth is not None
    assert true.scene.cam_to_world is not None
    maps = []
    for index in frames:
        frame: Picture | Any = true.scene.read(index, True)
        depth, k = true.depth(index), frame.intrinsics
        scale = np.array([[depth.shape[1] / frame.image.shape[1]], [depth.shape[0] / frame.image.shape[0]], [1.0]])
        pose = rigid_inverse(torch.from_numpy(true.scene.cam_to_world[index])).numpy()
        maps.append(DepthMap(depth=depth, intrinsics=k * scale, world_to_cam=pose))
    return sampled(fuse(maps, voxel=rules.voxel, truncation=rules.truncation), SAMPLES)
