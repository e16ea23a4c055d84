"""One scene scored at views that the method has not seen."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.evaluation.baselines import Baseline, Fitted, Method, timed_fit
from da3gs.evaluation.outside import FittedSplats
from da3gs.evaluation.protocol import Picture, Protocol, SceneInput, SplitPictures, camera_of, scene_input
from da3gs.evaluation.target_poses import fitted_to_photo
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.metrics.image import psnr, ssim
from da3gs.metrics.lpips import Lpips
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.predict import predicted_cameras
from da3gs.poses.pose_alignment import similarity_between
from da3gs.rendering import Backend

METRICS = ("psnr", "ssim", "lpips")
THUMBNAIL = 360
"""Width of the pictures in the report."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """Result of a scene: a JSON object, and pictures to be saved."""

    record: dict[str, Any]
    """For scenes/NAME.json."""
    images: dict[str, bytes]
    """PNG files by name, where they are to be saved."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Seen:
    """One target: its score and what was rendered."""

    picture: Picture
    context: bool
    render: Float[Tensor, "H W 3"]
    scores: dict[str, float | None]
    seconds: float


def score_views(
    key: str,
    pictures: SplitPictures,
    protocol: Protocol,
    baseline: Baseline,
    method: Method,
    *,
    model: LoadedModel | None = None,
    lpips: Lpips | None = None,
    lpips_reason: str | None = None,
    save_images: bool = False,
) -> Scored:
    """Fit the method to the context, render every target, score it.

    Raises:
        InputError: the method cannot do the scene; the message says why.
    """
    context, targets = list(pictures.context), list(pictures.target)
    names = tuple(picture.name for picture in targets)
    given = protocol.poses == "given"
    scene = scene_input(key, context, protocol, poses=given, targets=names, one_spot=pictures.one_spot)
    fitted, fit_seconds = timed_fit(baseline, scene)
    cameras = _target_cameras(scene, targets, fitted, protocol, method, model)
    seen_before = {picture.index for picture in context}
    views = [
        _scored(picture, camera, fitted, protocol, lpips, picture.index in seen_before)
        for picture, camera in zip(targets, cameras, strict=True)
    ]
    record = {
        "name": key,
        "status": "done",
        **means([view.scores for view in views]),
        "lpips_reason": lpips_reason,
        "without_context": means([view.scores for view in views if not view.context]),
        "targets": len(views),
        "targets_among_context": sum(view.context for view in views),
        "context": [picture.index for picture in context],
        "smallest_photo": list(min(picture.stored for picture in (*context, *targets))),
        "dropped": list(pictures.dropped),
        "cameras": _found_cameras([*context, *targets]),
        "splats": fitted.splats,
        "megabytes": fitted.megabytes,
        "seconds": {"fit": round(fit_seconds, 3), "render": round(sum(view.seconds for view in views), 3)},
        "refinement": getattr(fitted, "refinement", None),
        "views": [
            {"index": view.picture.index, "name": view.picture.name, **view.scores, "context": view.context}
            for view in views
        ],
        "pictures": _worst_and_best(views),
    }
    images = {}
    if save_images:
        for number, view in enumerate(views):
            images[f"render_{number:05d}.png"] = encoded(view.render.numpy(), "PNG")
            images[f"target_{number:05d}.png"] = encoded(view.picture.tensor.numpy(), "PNG")
    return Scored(record=record, images=images)


def _found_cameras(pictures: list[Picture]) -> list[dict[str, Any]] | None:
    """How the camera of each photo was found; None where cameras were given or predicted."""
    rows = {
        p.index: {"index": p.index, "name": p.name, **dataclasses.asdict(p.placement)}
        for p in pictures
        if p.placement is not None
    }
    return [rows[index] for index in sorted(rows)] or None


def means(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each metric, None where a value is missing or there is no row.

    >>> means([{"psnr": 20.0, "ssim": 0.5, "lpips": None}, {"psnr": 22.0, "ssim": 0.7, "lpips": None}])
    {'psnr': 21.0, 'ssim': 0.6, 'lpips': None}
    """
    result: dict[str, float | None] = {}
    for metric in METRICS:
        values = [row[metric] for row in rows]
        known = [value for value in values if value is not None]
        result[metric] = round(sum(known) / len(known), 6) if known and len(known) == len(values) else None
    return result


def _target_cameras(
    scene: SceneInput,
    targets: list[Picture],
    fitted: Fitted,
    protocol: Protocol,
    method: Method,
    model: LoadedModel | None,
) -> list[Cameras]:
    """Where the targets are in the method's world, by the protocol's column."""
    if protocol.targets == "second pass":
        return _second_pass(scene, targets, fitted, protocol, method, model)
    cameras = [camera_of(picture) for picture in targets]
    if protocol.poses == "given":
        return [_shifted(camera, fitted.offset) for camera in cameras]
    if fitted.cameras is None:
        raise InputError("predicted poses need a method that tells its context cameras; use --poses given")
    if len(scene.pictures) < 2:
        raise InputError(f"{scene.key} has one context view, which tells no scale; use --poses given")
    onto = similarity_between(_stacked([camera_of(p) for p in scene.pictures]), fitted.cameras.to("cpu"))
    return [camera.transformed(onto) for camera in cameras]


def _second_pass(
    scene: SceneInput,
    targets: list[Picture],
    fitted: Fitted,
    protocol: Protocol,
    method: Method,
    model: LoadedModel | None,
) -> list[Cameras]:
    """Cameras that the network predicts when it sees context and targets together, laid on the context's."""
    if model is None or fitted.cameras is None:
        raise InputError("the input has no poses, so targets can be placed for models only; give poses")
    everything = [*scene.pictures, *targets]
    views = scene_input(scene.key, everything, protocol, poses=False).context.views
    with torch.inference_mode():
        predicted = predicted_cameras(model.network, views, method.settings()).to("cpu")
    count = len(scene.pictures)
    onto = similarity_between(predicted[list(range(count))], fitted.cameras.to("cpu"))
    moved = predicted.transformed(onto)
    cameras = []
    for i, picture in enumerate(targets, start=count):
        h, w = views.sizes[i]
        cameras.append(moved[[i]].cropped(0, 0, h, w)[0].resized(*picture.image.shape[:2]))
    return cameras


def _stacked(cameras: list[Cameras]) -> Cameras:
    return dataclasses.replace(
        cameras[0],
        world_to_cam=torch.stack([c.world_to_cam for c in cameras]),
        intrinsics=torch.stack([c.intrinsics for c in cameras]),
    )


def _shifted(camera: Cameras, offset: tuple[float, float, float]) -> Cameras:
    """The camera in a world whose origin was moved by ``offset``."""
    pose = camera.cam_to_world.clone()
    pose[:3, 3] -= torch.tensor(offset, dtype=pose.dtype)
    return dataclasses.replace(camera, world_to_cam=rigid_inverse(pose))


def _scored(
    picture: Picture, camera: Cameras, fitted: Fitted, protocol: Protocol, lpips: Lpips | None, context: bool
) -> _Seen:
    photo = picture.tensor
    mask = None if picture.mask is None else torch.from_numpy(picture.mask.copy())
    camera = camera.to(dtype=torch.float32)
    if protocol.targets == "optimised":
        if not isinstance(fitted.gaussians, Gaussians):
            raise InputError("--align-targets moves cameras to fit splats, which this baseline does not have")
        backend: Backend = fitted.backend if isinstance(fitted, FittedSplats) else "auto"
        camera = fitted_to_photo(fitted.gaussians, camera, photo, mask, backend=backend)
    start = time.perf_counter()
    with torch.no_grad():
        color = fitted.render(camera, picture).detach().cpu()
        seconds = time.perf_counter() - start
        scores = view_scores(color, photo, mask, lpips)
    return _Seen(picture=picture, context=context, render=color, scores=scores, seconds=seconds)


def view_scores(
    color: Float[Tensor, "H W 3"],
    photo: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"] | None,
    lpips: Lpips | Callable[..., Tensor] | None,
) -> dict[str, float | None]:
    """The three metrics of one view. Under a mask LPIPS sees the photo where nothing counts."""
    distance = None
    if lpips is not None:
        shown = color if mask is None else torch.where(mask[..., None], color, photo)
        distance = _finite(lpips(shown, photo))
    return {"psnr": _finite(psnr(color, photo, mask)), "ssim": _finite(ssim(color, photo, mask)), "lpips": distance}


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return round(number, 6) if np.isfinite(number) else None


def _worst_and_best(views: list[_Seen]) -> dict[str, Any]:
    """Small pictures of the view with the lowest PSNR and that with the highest, context frames only if need be."""
    unseen = [v for v in views if not v.context] or views
    ranked = sorted(unseen, key=lambda v: (v.scores["psnr"] or 0.0, v.picture.index))
    chosen = {"worst": ranked[0], "best": ranked[-1]} if len(ranked) > 1 else {"worst": ranked[0]}
    return {role: _shown(view) for role, view in chosen.items()}


def _shown(view: _Seen) -> dict[str, Any]:
    photo, render = view.picture.tensor.numpy(), view.render.numpy().clip(0, 1)
    return {
        "index": view.picture.index,
        "name": view.picture.name,
        "psnr": view.scores["psnr"],
        "photo": thumbnail(photo),
        "render": thumbnail(render),
        "error": thumbnail(error_map(render, photo)),
    }


def error_map(render: Float[np.ndarray, "H W 3"], photo: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Mean absolute error over the channels in colours: black 0, red 0.1, yellow 0.25, white 0.5 and more."""
    error = np.abs(render - photo).mean(-1)
    stops = (0.0, 0.1, 0.25, 0.5)
    channels = ((0.0, 0.8, 1.0, 1.0), (0.0, 0.1, 0.85, 1.0), (0.0, 0.1, 0.1, 1.0))
    return np.stack([np.interp(error, stops, values) for values in channels], -1).astype(np.float32)


def thumbnail(image: Float[np.ndarray, "H W 3"]) -> str:
    """A small JPEG as a data URI."""
    height, width = image.shape[:2]
    size = (THUMBNAIL, max(1, round(height * THUMBNAIL / width))) if width > THUMBNAIL else None
    return "data:image/jpeg;base64," + base64.b64encode(encoded(image, "JPEG", size)).decode("ascii")


def encoded(image: Float[np.ndarray, "H W 3"], kind: str, size: tuple[int, int] | None = None) -> bytes:
    """A picture file in memory."""
    picture = Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8))
    if size is not None:
        picture = picture.resize(size, Image.Resampling.BOX if size[0] < image.shape[1] else Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 82} if kind == "JPEG" else {}))
    return buffer.getvalue()
