"""What the network says of some views, laid into the frame that the caller wants."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import BackendError, InputError
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity
from da3gs.pipeline.place import PoseResidual, placed, pose_residual, similarity_between
from da3gs.pipeline.settings import Settings
from da3gs.prediction import Prediction
from da3gs.views import Views

_GUESSED_FOV = 60.0  # degrees along the longer side, for a monocular model and a photo without any focal length


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Placed(TensorRecord):
    """A prediction in the frame of the scene, with everything that splats are made of."""

    depth: Float[Tensor, "V H W"]
    """Along the camera's z axis."""
    cameras: Cameras
    """Given or predicted."""
    confidence: Float[Tensor, "V H W"] | None = None
    """Of the depth, at least 1."""
    sky: Bool[Tensor, "V H W"] | None = None
    """True where sky is."""
    gaussians: Gaussians | None = None
    """From the splat head, a splat a pixel."""
    metric: bool = False
    """Whether lengths are metres."""
    poses: Literal["given", "predicted", "rays"] = "predicted"
    """Where the cameras are from."""
    residual: PoseResidual | None = None
    """Between given and predicted cameras."""

    def transformed(self, similarity: Similarity) -> Placed:
        """The same in a world that went through a similarity."""
        scale = similarity.scale.to(self.depth)
        return dataclasses.replace(
            self,
            depth=self.depth * scale,
            cameras=self.cameras.transformed(similarity),
            gaussians=None if self.gaussians is None else self.gaussians.transformed(similarity),
        )


def predict(network: nn.Module, views: Views, settings: Settings) -> Placed:
    """Depth, cameras and splats of a head: in the caller's frame with given poses, else in the network's.

    Raises:
        InputError: poses or a splat head are asked for that the input or the model does not have.
    """
    given = views.cameras if _uses_given(views, settings) else None
    known = views.intrinsics if views.cameras is None else views.cameras.intrinsics
    prediction = _run(network, dataclasses.replace(views, cameras=given, intrinsics=known), settings)
    confidence, sky = prediction.confidence, prediction.sky
    if prediction.cameras is None:
        prediction = dataclasses.replace(prediction, cameras=_single_camera(views, given, known))
    cameras = prediction.cameras
    assert cameras is not None
    if given is not None:
        residual = pose_residual(cameras, given)
        prediction = placed(prediction, given, similarity_between(cameras, given).scale.to(prediction.depth))
        poses: Literal["given", "predicted", "rays"] = "given"
    else:
        residual, poses = None, "rays" if settings.poses == "rays" else "predicted"
        if known is not None:
            prediction = with_intrinsics(prediction, known)
    assert prediction.cameras is not None
    return Placed(
        depth=prediction.depth, cameras=prediction.cameras, confidence=confidence, sky=sky,
        gaussians=prediction.gaussians, metric=prediction.metric, poses=poses, residual=residual,
    )  # fmt: skip


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
        case "auto":
            return views.cameras is not None
        case "predicted" | "rays":
            return False
        case "colmap":
            raise BackendError("--poses colmap is not available in this version; use --poses auto")


def _run(network: nn.Module, views: Views, settings: Settings) -> Prediction:
    device = next(network.parameters()).device
    has_head = any(getattr(module, "splat_head", None) is not None for module in network.modules())
    if settings.splats == "head" and not has_head:
        raise InputError("--splats head, but the model has no Gaussian head; use --splats depth or another model")
    head = has_head and settings.splats != "depth"
    source = "rays" if settings.poses == "rays" else "camera"
    prediction = network(views.to(device), poses=source, splats=head, upstream=settings.upstream)
    assert isinstance(prediction, Prediction)
    if not bool(torch.isfinite(prediction.depth).all()):
        raise InputError("the network's depth is not finite; the weights or the photos are damaged")
    return prediction


def _single_camera(views: Views, given: Cameras | None, known: Tensor | None) -> Cameras:
    """Cameras for a monocular model: given ones, or for a single photo the origin with the best known focal length."""
    if given is not None:
        return given
    if len(views) > 1:
        raise InputError(f"a monocular model cannot tell the poses of {len(views)} photos; give poses, one photo, or "
                         "an any-view model")  # fmt: skip
    height, width = views.height, views.width
    focal = max(height, width) / 2 / torch.tan(torch.deg2rad(torch.tensor(_GUESSED_FOV / 2)))
    guess = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])[None]
    usable = known is not None and bool(torch.isfinite(known).all())
    intrinsics = known.cpu() if known is not None and usable else guess
    return Cameras(world_to_cam=torch.eye(4)[None], intrinsics=intrinsics, height=height, width=width)


def predicted_cameras(network: nn.Module, views: Views, settings: Settings) -> Cameras:
    """The cameras that the network predicts for these views without looking at given ones."""
    bare = dataclasses.replace(views, cameras=None)
    cameras = predict(network, bare, dataclasses.replace(settings, splats="depth")).cameras
    return cameras
