"""The source of the cameras: given, the network's own, or estimated from the photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from da3gs._progress import Progress
from da3gs.cameras import Cameras
from da3gs.checkpoints import ModelCard
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.photos import LoadedPhotos
from da3gs.pipeline.metric_scale import is_monocular
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.settings import Settings
from da3gs.poses.ladder import NetworkView
from da3gs.poses.structure_from_motion import structure_from_motion
from da3gs.prediction import Placed, Prediction

CameraSource = Literal["given", "network", "photos"]
"""Where cameras come from: the input, the network's prediction, or a search through the photos."""


def camera_source(settings: Settings, card: ModelCard, *, posed: bool) -> CameraSource:
    """Source of cameras that ``--poses`` means for this model and these photos."""
    match settings.poses:
        case "given":
            return "given"
        case "predicted" | "rays":
            return "network"
        case "colmap":
            return "photos"
        case "auto":
            if posed:
                return "given"
            return "network" if card.trusted_cameras or settings.upstream else "photos"


def with_cameras(photos: LoadedPhotos, ready: LoadedModel, settings: Settings, progress: Progress) -> LoadedPhotos:
    """The photos that can be placed with estimated cameras; as they are where cameras come from elsewhere."""
    card = ready.card
    if camera_source(settings, card, posed=photos.views.cameras is not None) != "photos":
        return photos
    return structure_from_motion(
        photos,
        resolution=card.resolution if settings.resolution == "auto" else settings.resolution,
        views=card.views if settings.views == "auto" else settings.views,
        shared_focal=settings.shared_focal,
        alone=settings.poses == "auto",
        network=None if is_monocular(ready.network) else network_view(ready.network, photos, most=card.views),
        features=settings.features,
        up=settings.up,
        seed=settings.seed,
        progress=progress,
    )


def network_view(network: nn.Module, photos: LoadedPhotos, *, most: int) -> NetworkView:
    """What an any-view network tells of photos without looking at given cameras, at most so many at once; photos that
    were not seen together lie in worlds of their own."""
    bare = dataclasses.replace(photos.views, cameras=None, intrinsics=None)
    device = next(network.parameters()).device

    def told(positions: Sequence[int]) -> Prediction:
        """The network's view of these photos."""
        parts = []
        for start in range(0, len(positions), most):
            views = bare[list(positions[start : start + most])]
            with torch.inference_mode():
                parts.append(network(views.to(device), poses="camera", splats=False, upstream=False).to("cpu"))
        return parts[0] if len(parts) == 1 else _joined(parts)

    return told


def _joined(parts: Sequence[Prediction]) -> Prediction:
    cameras = [part.cameras for part in parts if part.cameras is not None]
    confidences = [part.confidence for part in parts if part.confidence is not None]
    first = parts[0]
    return Prediction(
        depth=torch.cat([part.depth for part in parts]),
        confidence=torch.cat(confidences) if len(confidences) == len(parts) else None,
        cameras=Cameras(
            world_to_cam=torch.cat([c.world_to_cam for c in cameras]),
            intrinsics=torch.cat([c.intrinsics for c in cameras]),
            height=cameras[0].height,
            width=cameras[0].width,
        ),
        metric=first.metric,
    )


def on_a_sphere(result: Placed) -> Placed:
    """Photos from one place, all of them on a sphere of radius 1 about it: right from where they were taken, since
    nothing tells how far away anything is."""
    cameras = result.cameras
    rays = camera_directions(cameras.intrinsics, pixel_centers(cameras.height, cameras.width).to(cameras.intrinsics))
    return dataclasses.replace(
        result, depth=1 / rays.norm(dim=-1), confidence=None, sky=None, gaussians=None, metric=False, metres=None
    )
