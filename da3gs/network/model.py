"""The networks as a whole: views in, depth, cameras and splats out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.network.backbone import Backbone, BackboneOutputs
from da3gs.network.camera import CameraDecoder, CameraEncoder, decode_cameras, encode_cameras, normalized_cameras
from da3gs.network.config import ModelConfig, ReferenceStrategy
from da3gs.network.depth_ray import DepthRayHead
from da3gs.network.depth_sky import DepthSkyHead
from da3gs.network.gaussian_head import GaussianHead
from da3gs.network.initialization import initialize
from da3gs.network.metric import filled_sky, is_sky
from da3gs.network.ray_pose import cameras_from_rays
from da3gs.network.splats import scale_onto, splats_from_channels
from da3gs.prediction import Prediction
from da3gs.views import Views

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of the images that the backbone was made for (ImageNet), per colour."""
IMAGE_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""

PoseSource = Literal["camera", "rays"]
"""Where predicted cameras come from: the camera decoder, or the ray maps."""

_UPSTREAM_SKY = 0.5  # where the official prediction cuts its sky mask; inside it cuts at SKY_THRESHOLD
_PIXELS_AT_ONCE = 250_000  # a head's maps of so many pixels are in memory together; one view of 504×378 at the least


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RawOutputs(TensorRecord):
    """Everything the network says, before any post-processing; for training and for comparisons."""

    depth: Float[Tensor, "B V H W"]
    """Depth in the network's own scale."""
    confidence: Float[Tensor, "B V H W"] | None = None
    """Above 1; any-view models."""
    sky: Float[Tensor, "B V H W"] | None = None
    """At least 0; monocular models."""
    rays: Float[Tensor, "B V y x 6"] | None = None
    """Directions (any length, world frame) and origins at 8 rays a patch side, when asked for."""
    ray_confidence: Float[Tensor, "B V y x"] | None = None
    """Above 1, when rays were asked for."""
    pose_encoding: Float[Tensor, "B V 9"] | None = None
    """What the camera decoder said: translation, quaternion (x, y, z, w) of any length, vertical and horizontal fov."""
    cameras: Cameras | None = None
    """The decoded cameras."""
    splats: Float[Tensor, "B V H W C"] | None = None
    """Raw channels of the Gaussian head, when asked for."""
    reference: Int[Tensor, "B"] | None = None
    """The chosen reference view; None where the first view is it without a choice."""
    features: tuple[Tensor, ...] = ()
    """Normalised patch tokens (B, V, rows, columns, C) of the layers asked for, in input order."""


class DepthAnything3(nn.Module):
    """One network: backbone, depth head, and where configured camera encoder and decoder and Gaussian head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        feature_width = config.backbone.feature_width
        self.backbone = Backbone(config.backbone)
        head = DepthRayHead if config.head.kind == "depth_ray" else DepthSkyHead
        self.depth_head: DepthRayHead | DepthSkyHead = head(feature_width, config.head)
        self.camera_decoder = None if config.camera is None else CameraDecoder(feature_width)
        self.camera_encoder = None if config.camera is None else CameraEncoder(width, config.camera)
        self.splat_head = None if config.splats is None else GaussianHead(feature_width, config.splats)
        initialize(self)

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
        """Depth, confidence and cameras of views, and splats where asked for, in the network's own frame and scale.

        Nothing is resized. Cameras in ``views`` condition the network; those that come back are the predicted ones.

        Args:
            views: of one scene, or with a leading axis for several.
            upstream: the official behaviour to the letter: splats take the given cameras' scale while depth and cameras
                do not, sky is cut at 0.5 while its depth is filled from 0.3, quantiles come from a random sample.
            poses: predicted cameras come from the camera decoder or from the ray maps.
            splats: whether the Gaussian head runs.
            reference: how the reference among three or more views without cameras is chosen.
            generator: for whatever is drawn; None seeds one with 0. On the CPU.
        """
        batched = views.images.ndim == 5
        images = views.images if batched else views.images[None]
        cameras = views.cameras if batched or views.cameras is None else views.cameras.map(lambda t: t[None])
        given = None if cameras is None else normalized_cameras(cameras, self.config.pose_unit)
        raw = self.raw(images, given, rays=poses == "rays", splats=splats, reference=reference)
        prediction = self.finished(raw, given=given, upstream=upstream, poses=poses, generator=generator)
        return prediction if batched else prediction.map(lambda t: t[0])

    def finished(
        self,
        raw: RawOutputs,
        *,
        given: Cameras | None = None,
        upstream: bool = False,
        poses: PoseSource = "camera",
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """The prediction that raw outputs amount to: cameras, splats, sky.

        Args:
            raw: of this network; with rays where ``poses`` asks for them.
            given: the cameras that went in.
            upstream: the official behaviour to the letter.
            poses: where the predicted cameras come from.
            generator: for whatever is drawn; None seeds one with 0. On the CPU.
        """
        generator = generator or torch.Generator().manual_seed(0)
        height, width = raw.depth.shape[-2:]
        cameras = raw.cameras
        if poses == "rays":
            if raw.rays is None or raw.ray_confidence is None:
                raise InputError(f"{self.config.name} predicts no rays; take the cameras from the camera decoder")
            cameras = cameras_from_rays(raw.rays, raw.ray_confidence, generator=generator).cameras(height, width)
        gaussians = None
        if raw.splats is not None and cameras is not None and self.config.splats is not None:
            gaussians = splats_from_channels(
                raw.splats,
                raw.depth,
                cameras,
                self.config.splats,
                quaternions=self.config.quaternions,
                depth_along=self.config.depth_along,
                scale=scale_onto(cameras.centers, given.centers) if upstream and given is not None else None,
            )
        depth, sky = raw.depth, None
        if raw.sky is not None:
            sky = is_sky(raw.sky)
            depth = torch.stack(
                [filled_sky(d, s, generator=generator if upstream else None) for d, s in zip(depth, sky, strict=True)]
            )
            sky = raw.sky >= _UPSTREAM_SKY if upstream else sky
        return Prediction(depth=depth, confidence=raw.confidence, sky=sky, cameras=cameras, gaussians=gaussians)

    def raw(
        self,
        images: Float[Tensor, "B V 3 H W"],
        cameras: Cameras | None = None,
        *,
        rays: bool = False,
        splats: bool = False,
        features: Sequence[int] = (),
        reference: ReferenceStrategy = "saddle_balanced",
        mixed_heads: bool = False,
    ) -> RawOutputs:
        """Run the network; differentiable.

        Under autocast only the backbone runs in the lower precision, unless ``mixed_heads`` is set; weights that are
        themselves in a lower precision switch autocast on by themselves.

        Args:
            images: sRGB in [0, 1], sides multiples of the patch.
            cameras: known cameras (B, V), already as the network wants them (``normalized_cameras``).
            rays: whether the ray branch runs.
            splats: whether the Gaussian head runs; it has to be there.
            features: blocks whose outputs are wanted.
            reference: how the reference among three or more views is chosen.
            mixed_heads: let autocast reach the heads too (training).
        """
        self._check(images, cameras, splats=splats)
        normalized = normalize_images(images)
        with self._mixed_precision():
            outputs = self.backbone(
                [normalized],
                [torch.arange(images.shape[1], device=images.device)],
                camera_tokens=None if cameras is None else self._encode(cameras),
                reference=reference,
                exported=features,
            )
        with contextlib.nullcontext() if mixed_heads else _full_precision(images.device):
            return self._heads(normalized, outputs, rays=rays, splats=splats, mixed=mixed_heads, order=features)

    def _heads(
        self,
        images: Float[Tensor, "B V 3 H W"],
        outputs: BackboneOutputs,
        *,
        rays: bool,
        splats: bool,
        mixed: bool,
        order: Sequence[int],
    ) -> RawOutputs:
        batch, views, _, height, width = images.shape
        patch = self.config.backbone.patch
        grid = (height // patch, width // patch)
        levels = [level[0].flatten(0, 1) if mixed else level[0].flatten(0, 1).float() for level in outputs.features]

        def per_view(head: Callable[..., tuple[Tensor | None, ...]]) -> tuple[Tensor | None, ...]:
            """Run a head on as many views at a time as memory should hold; all at once where gradients are recorded."""
            count = batch * views
            step = count if torch.is_grad_enabled() else max(1, _PIXELS_AT_ONCE // (height * width))
            parts = [head(slice(i, i + step)) for i in range(0, count, step)]
            joined = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
            return tuple(None if t is None else t.unflatten(0, (batch, views)) for t in joined)

        def depth_ray(part: slice) -> tuple[Tensor | None, ...]:
            dense = self.depth_head([level[part] for level in levels], grid, (height, width), rays=rays)
            return dense.depth, dense.confidence, dense.rays, dense.ray_confidence

        def depth_sky(part: slice) -> tuple[Tensor | None, ...]:
            dense = self.depth_head([level[part] for level in levels], grid, (height, width))
            return dense.depth, dense.sky

        def splat(part: slice) -> tuple[Tensor | None, ...]:
            assert self.splat_head is not None
            return (self.splat_head([level[part] for level in levels], grid, images.flatten(0, 1)[part]),)

        names = ("depth", "confidence", "rays", "ray_confidence")
        if isinstance(self.depth_head, DepthSkyHead):
            dense = dict(zip(("depth", "sky"), per_view(depth_sky), strict=True))
        else:
            dense = dict(zip(names, per_view(depth_ray), strict=True))
        encoding = None
        if self.camera_decoder is not None:
            with _full_precision(images.device):
                encoding = self.camera_decoder(outputs.camera_tokens.float())
        return RawOutputs(
            **dense,
            splats=per_view(splat)[0] if splats else None,
            pose_encoding=encoding,
            cameras=None if encoding is None else decode_cameras(encoding, height, width),
            reference=outputs.reference,
            features=tuple(outputs.exported[i][0].unflatten(2, grid) for i in order),
        )

    def _encode(self, cameras: Cameras) -> Float[Tensor, "B V C"]:
        assert self.camera_encoder is not None
        with _full_precision(cameras.world_to_cam.device):
            return self.camera_encoder(encode_cameras(cameras))

    @contextlib.contextmanager
    def _mixed_precision(self) -> Iterator[None]:
        """Autocast to the weights' own precision where that is a low one; otherwise the caller's autocast stands."""
        weight = self.backbone.patch_embed.weight
        if weight.dtype == torch.float32:
            yield
        else:
            with torch.autocast(weight.device.type, dtype=weight.dtype):
                yield

    def _check(self, images: Tensor, cameras: Cameras | None, *, splats: bool) -> None:
        patch = self.config.backbone.patch
        height, width = images.shape[-2:]
        if height % patch or width % patch or not height or not width:
            raise InputError(f"image sides must be multiples of {patch}, got {width}x{height}; resize the views first")
        if cameras is not None and self.camera_encoder is None:
            raise InputError(f"{self.config.name} is monocular and takes no cameras; leave them out")
        if splats and self.splat_head is None:
            raise InputError(f"{self.config.name} has no Gaussian head; make splats from depth instead")


def normalize_images(images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """Images in [0, 1] as the backbone wants them: minus the mean, divided by the standard deviation of ImageNet."""
    mean = images.new_tensor(IMAGE_MEAN)[:, None, None]
    return (images - mean) / images.new_tensor(IMAGE_STD)[:, None, None]


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
