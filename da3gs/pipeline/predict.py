"""Prediction of some views, in the frame that the caller wants."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs.cameras import Cameras
from da3gs.depth.monocular_scale import agreeing_depth
from da3gs.errors import InputError
from da3gs.network.metric import metric_depth
from da3gs.pipeline.metric_scale import focal_residual, is_metric_by_focal, is_monocular, refuse_metres
from da3gs.pipeline.settings import Settings
from da3gs.poses.pose_alignment import placed, pose_residual, similarity_between
from da3gs.prediction import Placed, Prediction
from da3gs.upstream import official_placement
from da3gs.views import Views

_GUESSED_FOV = 60.0  # degrees along the longer side, for a monocular model and a photo without any focal length


def predict(network: nn.Module, views: Views, settings: Settings) -> Placed:
    """Depth, cameras and splats of a head: in the caller's frame with given poses, else in the network's.

    Raises:
        InputError: poses, metres or a splat head are asked for that the input or the model does not have.
    """
    given, known = refuse_impossible(network, views, settings)
    if is_monocular(network):
        result = _predict_monocular(network, views, given, known, settings)
    else:
        result = _predict_any_view(network, views, given, known, settings)
    return dataclasses.replace(result, metric=False) if settings.metric == "off" else result


def refuse_impossible(
    network: nn.Module, views: Views, settings: Settings
) -> tuple[Cameras | None, Float[Tensor, "V 3 3"] | None]:
    """Refuse what the model and the input do not have; returns the given cameras and the known intrinsics to use.

    Raises:
        InputError: poses, metres or a splat head are asked for and not there.
    """
    given = views.cameras if _uses_given(views, settings) else None
    known = views.intrinsics if views.cameras is None else views.cameras.intrinsics
    if settings.upstream and given is None:
        known = None  # the official program ignores intrinsics without poses
    refuse_metres(network, views, known, settings)
    if is_monocular(network):
        _refuse_monocular(network, views, given, settings)
    if settings.splats == "head" and not _has_head(network):
        raise InputError("--splats head, but the model has no Gaussian head; use --splats depth or another model")
    return given, known


def _has_head(network: nn.Module) -> bool:
    return any(getattr(module, "splat_head", None) is not None for module in network.modules())


def _predict_any_view(
    network: nn.Module, views: Views, given: Cameras | None, known: Tensor | None, settings: Settings
) -> Placed:
    prediction = _run(network, dataclasses.replace(views, cameras=given, intrinsics=known), settings)
    predicted = prediction.cameras
    assert predicted is not None
    known = None if known is None else known.to(predicted.intrinsics)
    focal = None if known is None else focal_residual(predicted, known)
    facts: dict[str, Any] = {"confidence": prediction.confidence, "sky": prediction.sky, "focal": focal}
    if given is None:
        if known is not None:
            prediction = with_intrinsics(prediction, known)
        facts["metric"] = prediction.metric
        facts["poses"] = "rays" if settings.poses == "rays" else "predicted"
    else:
        given = given.to(predicted.world_to_cam.device)
        scale = similarity_between(predicted, given).scale.to(prediction.depth)
        facts["residual"] = pose_residual(predicted, given)
        facts["metres"] = 1 / float(scale) if prediction.metric else None
        facts["poses"] = "given"
        place = official_placement if settings.upstream else functools.partial(placed, scale=scale)
        prediction = place(prediction, given)
    cameras = prediction.cameras
    assert cameras is not None
    return Placed(depth=prediction.depth, cameras=cameras, gaussians=prediction.gaussians, **facts)


def _predict_monocular(
    network: nn.Module, views: Views, given: Cameras | None, known: Tensor | None, settings: Settings
) -> Placed:
    """Depth of each photo by itself, under given cameras or, for a single photo, one at the origin."""
    prediction = _run(network, dataclasses.replace(views, cameras=None, intrinsics=None), settings)
    cameras = _single_camera(views, known) if given is None else given
    cameras = cameras.to(prediction.depth.device)
    depth, metric, metres = prediction.depth, False, None
    if is_metric_by_focal(network) and not settings.upstream and known is not None and _all_known(known):
        depth, metric, metres = metric_depth(depth, cameras.intrinsics), given is None, 1.0
    if len(views) > 1:
        photos = dataclasses.replace(views, cameras=cameras)
        depth, scale = agreeing_depth(depth, photos, sky=prediction.sky, together=metres is not None)
        metres = None if metres is None else 1 / scale
    return Placed(
        depth=depth, cameras=cameras, sky=prediction.sky, metric=metric, metres=metres if given is not None else None,
        poses="predicted" if given is None else "given",
    )  # fmt: skip


def _refuse_monocular(network: nn.Module, views: Views, given: Cameras | None, settings: Settings) -> None:
    name = getattr(getattr(network, "config", None), "name", "this model")
    if given is None and len(views) > 1:
        raise InputError(
            f"{name} looks at one photo at a time and cannot tell the poses of {len(views)} photos; name one photo, "
            "give poses (a transforms.json or a COLMAP model), or use an any-view model"
        )
    if settings.poses == "rays":
        raise InputError(f"--poses rays, but {name} predicts no rays; use --poses auto or an any-view model")
    if settings.upstream and given is not None:
        raise InputError(f"--upstream: the official program takes no given poses with {name}; use --poses predicted")


def with_intrinsics(prediction: Prediction, intrinsics: Float[Tensor, "V 3 3"]) -> Prediction:
    """The prediction with known intrinsics in place of its own; views whose row is NaN keep theirs.

    Depth is multiplied by ``f_known / f_predicted``, so that things keep their lateral size.
    """
    cameras = prediction.cameras
    assert cameras is not None
    known = torch.isfinite(intrinsics).all(-1).all(-1)[:, None, None]
    used = torch.where(known, intrinsics.to(cameras.intrinsics), cameras.intrinsics)
    return placed(prediction, dataclasses.replace(cameras, intrinsics=used), 1.0)


def _uses_given(views: Views, settings: Settings) -> bool:
    match settings.poses:
        case "given":
            if views.cameras is None:
                raise InputError("--poses given, but the input has no poses; use --poses predicted, or name a "
                                 "transforms.json or a COLMAP model")  # fmt: skip
            return True
        case "auto" | "colmap":
            return views.cameras is not None
        case "predicted" | "rays":
            return False


def _run(network: nn.Module, views: Views, settings: Settings) -> Prediction:
    device = next(network.parameters()).device
    head = _has_head(network) and settings.splats != "depth"
    source = "rays" if settings.poses == "rays" else "camera"
    prediction = network(views.to(device), poses=source, splats=head, upstream=settings.upstream)
    assert isinstance(prediction, Prediction)
    if not bool(torch.isfinite(prediction.depth).all()):
        raise InputError("the network's depth is not finite; the weights or the photos are damaged")
    return prediction


def _all_known(known: Float[Tensor, "V 3 3"]) -> bool:
    return bool(torch.isfinite(known).all())


def _single_camera(views: Views, known: Tensor | None) -> Cameras:
    """A camera at the origin for a monocular model's photo, with the best known focal length."""
    height, width = views.sizes[0]
    focal = max(height, width) / 2 / math.tan(math.radians(_GUESSED_FOV / 2))
    guess = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])[None]
    intrinsics = known.cpu() if known is not None and _all_known(known) else guess
    return Cameras(world_to_cam=torch.eye(4)[None], intrinsics=intrinsics, height=views.height, width=views.width)


def predicted_cameras(network: nn.Module, views: Views, settings: Settings) -> Cameras:
    """The cameras that the network predicts for these views without looking at given ones."""
    bare = dataclasses.replace(views, cameras=None)
    cameras = predict(network, bare, dataclasses.replace(settings, splats="depth")).cameras
    return cameras
