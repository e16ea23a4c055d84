"""An any-view network that gets its scale and its sky from a metric one."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.network.camera import normalized_cameras
from da3gs.network.config import NestedConfig, ReferenceStrategy
from da3gs.network.metric import far_sky, is_sky, metric_depth, metric_scale
from da3gs.network.model import DepthAnything3, PoseSource
from da3gs.network.raw import RawOutputs
from da3gs.network.sizes import Sizes, inside, photo_sizes
from da3gs.prediction import Prediction
from da3gs.views import Views


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class NestedOutputs(TensorRecord):
    """Outputs of both networks, before they are brought together."""

    geometry: RawOutputs
    """The any-view branch."""
    metric: RawOutputs
    """The metric branch."""


class NestedDepthAnything3(nn.Module):
    """Depth, cameras and splats in metres."""

    def __init__(self, config: NestedConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = DepthAnything3(config.geometry)
        self.metric = DepthAnything3(config.metric)

    def forward(
        self,
        views: Views,
        *,
        upstream: bool = False,
        poses: PoseSource = "camera",
        splats: bool = False,
        reference: ReferenceStrategy = "saddle_balanced",
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Depth, cameras and splats of the views of one scene, in the network's own frame and in metres.

        Arguments as for ``DepthAnything3``; ``upstream`` also leaves the splats in the any-view network's own scale.
        """
        if views.images.ndim == 5:
            raise InputError(f"{self.config.name} takes one scene at a time, got {len(views.images)} together")
        given = None if views.cameras is None else normalized_cameras(views.cameras.map(lambda t: t[None]))
        sizes = photo_sizes(views, self.config.geometry.backbone.patch)
        raw = self.raw(views.images[None], given, rays=poses == "rays", splats=splats, reference=reference, sizes=sizes)
        prediction, _ = self.finished(raw, given=given, upstream=upstream, poses=poses, generator=generator)
        return prediction.map(lambda t: t[0])

    def raw(
        self,
        images: Float[Tensor, "B V 3 H W"],
        cameras: Cameras | None = None,
        *,
        rays: bool = False,
        splats: bool = False,
        features: tuple[int, ...] = (),
        reference: ReferenceStrategy = "saddle_balanced",
        sizes: Sizes | None = None,
    ) -> NestedOutputs:
        """Run both networks; cameras go to the any-view one only. Arguments as for ``DepthAnything3.raw``."""
        geometry = self.geometry.raw(
            images, cameras, rays=rays, splats=splats, features=features, reference=reference, sizes=sizes
        )
        return NestedOutputs(geometry=geometry, metric=self.metric.raw(images, sizes=sizes))

    def finished(
        self,
        raw: NestedOutputs,
        *,
        given: Cameras | None = None,
        upstream: bool = False,
        poses: PoseSource = "camera",
        generator: torch.Generator | None = None,
    ) -> tuple[Prediction, Float[Tensor, ""]]:
        """The prediction in metres, and the factor that took it there.

        The focal length that turns the metric branch's depth into metres is the predicted one, also where cameras are
        given. Sky lies behind nearly everything, 200 m at most, with the lowest confidence.
        """
        generator = generator or torch.Generator().manual_seed(0)
        drawn = generator if upstream else None
        geometry = self.geometry.finished(
            raw.geometry, given=given, upstream=upstream, poses=poses, generator=generator
        )
        metric = self.metric.finished(raw.metric, upstream=upstream, generator=generator)
        assert geometry.cameras is not None
        assert geometry.confidence is not None
        assert raw.metric.sky is not None
        sky = is_sky(raw.metric.sky)
        seen = torch.ones_like(sky[0])
        if raw.geometry.sizes is not None:
            seen = inside(raw.geometry.sizes, sky.shape[-2], sky.shape[-1], sky.device)
        metres = metric_depth(metric.depth, geometry.cameras.intrinsics)
        scale = metric_scale(
            geometry.depth[:, seen], geometry.confidence[:, seen], metres[:, seen], sky[:, seen], generator=drawn
        )
        scaled = geometry.scaled(scale)
        depth, confidence = scaled.depth.clone(), geometry.confidence.clone()
        depth[:, seen], confidence[:, seen] = far_sky(
            depth[:, seen], confidence[:, seen], sky[:, seen], generator=drawn
        )
        prediction = dataclasses.replace(
            scaled,
            depth=depth,
            confidence=confidence,
            sky=None if upstream else sky,
            gaussians=geometry.gaussians if upstream else scaled.gaussians,
            metric=True,
        )
        return prediction, scale
