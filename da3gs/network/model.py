"""The networks as a whole: views in, depth, cameras and splats out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.network.backbone import Backbone
from da3gs.network.camera import CameraDecoder, CameraEncoder, decode_cameras, encode_cameras, normalized_cameras
from da3gs.network.chunks import chunk
from da3gs.network.config import IMAGE_MEAN, IMAGE_STD, ModelConfig, ReferenceStrategy
from da3gs.network.heads.depth_ray import DepthRayHead
from da3gs.network.heads.depth_sky import DepthSkyHead
from da3gs.network.heads.gaussian import GaussianHead
from da3gs.network.initialization import initialize
from da3gs.network.metric import filled_sky, is_sky
from da3gs.network.raw import RawOutputs
from da3gs.network.ray_pose import cameras_from_rays
from da3gs.network.sizes import SizeGroup, Sizes, inside, on_canvas, photo_sizes, size_groups
from da3gs.network.splats import scale_onto, splats_from_channels
from da3gs.prediction import Prediction
from da3gs.views import Views

PoseSource = Literal["camera", "rays"]
"""Where predicted cameras come from: the camera decoder, or the ray maps."""

_UPSTREAM_SKY = 0.5  # where the official prediction cuts its sky mask; inside it cuts at SKY_THRESHOLD
_PIXELS_AT_ONCE = 250_000  # a head's maps of so many pixels are in memory together; one view of 504×378 at the least


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
        sizes = photo_sizes(views, self.config.backbone.patch)
        raw = self.raw(images, given, rays=poses == "rays", splats=splats, reference=reference, sizes=sizes)
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
            cameras = self._cameras_from_rays(raw.rays, raw.ray_confidence, raw, generator)
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
            sky, depth = is_sky(raw.sky), raw.depth.clone()
            seen = torch.ones_like(sky[0])
            if raw.sizes is not None:
                seen = inside(raw.sizes, height, width, depth.device)
            for scenes in [slice(None)] if upstream else [slice(i, i + 1) for i in range(len(depth))]:
                values, theirs = depth[scenes][:, seen], sky[scenes][:, seen]
                depth[scenes, seen] = filled_sky(values, theirs, generator=generator if upstream else None)
            sky = raw.sky >= _UPSTREAM_SKY if upstream else sky
        return Prediction(depth=depth, confidence=raw.confidence, sky=sky, cameras=cameras, gaussians=gaussians)

    @staticmethod
    def _cameras_from_rays(
        rays: Float[Tensor, "B V y x 6"],
        confidence: Float[Tensor, "B V y x"],
        raw: RawOutputs,
        generator: torch.Generator,
    ) -> Cameras:
        """Cameras of all views, solved together where they have one size."""
        height, width = raw.depth.shape[-2:]
        groups = size_groups(raw.sizes or ((height, width),) * rays.shape[1], rays.device)
        step = confidence.shape[-2] / height
        parts = []
        for group in groups:
            rows, columns = round(group.height * step), round(group.width * step)
            window = (slice(None), group.slots, slice(rows), slice(columns))
            solved = cameras_from_rays(rays[window], confidence[window], generator=generator)
            parts.append(solved.cameras(group.height, group.width))
        order = torch.argsort(torch.cat([group.slots for group in groups]))
        return Cameras(
            world_to_cam=torch.cat([part.world_to_cam for part in parts], 1)[:, order],
            intrinsics=torch.cat([part.intrinsics for part in parts], 1)[:, order],
            height=height,
            width=width,
        )

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
        sizes: Sizes | None = None,
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
            sizes: the views' own sizes where they are padded to one canvas: the padding is not seen at all.
        """
        self._check(images, cameras, sizes, splats=splats)
        height, width = images.shape[-2:]
        groups = size_groups(sizes or ((height, width),) * images.shape[1], images.device)
        normalized = normalize_images(images)
        parts = [normalized] if sizes is None else [normalized[:, g.slots, :, : g.height, : g.width] for g in groups]
        with self._mixed_precision():
            outputs = self.backbone(
                parts,
                [group.slots for group in groups],
                camera_tokens=None if cameras is None else self._encode(cameras, sizes),
                reference=reference,
                exported=features,
            )
        with contextlib.nullcontext() if mixed_heads else _full_precision(images.device):
            dense = [
                self._dense(part, [level[i] for level in outputs.features], rays=rays, splats=splats)
                for i, part in enumerate(parts)
            ]
        encoding = None
        if self.camera_decoder is not None:
            with _full_precision(images.device):
                encoding = self.camera_decoder(outputs.camera_tokens.float())
        patch = self.config.backbone.patch
        grid = (height // patch, width // patch)
        return RawOutputs(
            **{name: self._joined(name, [d[name] for d in dense], groups, height, width) for name in dense[0]},
            pose_encoding=encoding,
            cameras=None if encoding is None else decode_cameras(encoding, height, width, sizes),
            reference=outputs.reference,
            features=tuple(self._feature_maps(outputs.exported[i], groups, grid) for i in features),
            sizes=sizes,
        )

    def _dense(
        self, images: Float[Tensor, "B S 3 H W"], features: list[Float[Tensor, "B S _ _"]], *, rays: bool, splats: bool
    ) -> dict[str, Tensor]:
        """What the dense heads say about views of one size.

        They run on as many views at a time as memory should hold; on all at once where gradients are recorded.
        """
        batch = images.shape[:2]
        height, width = images.shape[-2:]
        patch = self.config.backbone.patch
        grid = (height // patch, width // patch)
        flat = images.flatten(0, 1)
        levels = [level.flatten(0, 1) for level in features]
        mixed = torch.is_autocast_enabled(images.device.type)
        learning = levels[0].requires_grad or next(self.depth_head.parameters()).requires_grad
        recorded = torch.is_grad_enabled() and learning
        step = len(flat) if recorded else max(1, chunk(_PIXELS_AT_ONCE) // (height * width))
        found: dict[str, list[Tensor]] = {}
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            chosen = [level[part] if mixed else level[part].float() for level in levels]
            if isinstance(self.depth_head, DepthSkyHead):
                values: dict[str, Tensor | None] = dict(self.depth_head(chosen, grid, (height, width)).items())
            else:
                values = dict(self.depth_head(chosen, grid, (height, width), rays=rays).items())
            if splats and self.splat_head is not None:
                values["splats"] = self.splat_head(chosen, grid, flat[part])
            for name, value in values.items():
                if value is not None:
                    found.setdefault(name, []).append(value)
        return {name: torch.cat(values).unflatten(0, batch) for name, values in found.items()}

    def _joined(self, name: str, parts: list[Tensor], groups: list[SizeGroup], height: int, width: int) -> Tensor:
        """An output of all groups on one canvas."""
        patch = self.config.backbone.patch
        on_rays = name in ("rays", "ray_confidence")
        rows, columns = (height // patch * 8, width // patch * 8) if on_rays else (height, width)
        return on_canvas(parts, groups, rows, columns, fill=1.0 if name in ("depth", "confidence") else 0.0)

    def _feature_maps(self, parts: list[Tensor], groups: list[SizeGroup], grid: tuple[int, int]) -> Tensor:
        patch = self.config.backbone.patch
        maps = [part.unflatten(2, (g.height // patch, g.width // patch)) for part, g in zip(parts, groups, strict=True)]
        return on_canvas(maps, groups, *grid)

    def _encode(self, cameras: Cameras, sizes: Sizes | None) -> Float[Tensor, "B V C"]:
        assert self.camera_encoder is not None
        with _full_precision(cameras.world_to_cam.device):
            return self.camera_encoder(encode_cameras(cameras, sizes))

    @contextlib.contextmanager
    def _mixed_precision(self) -> Iterator[None]:
        """Autocast to the weights' own precision where that is a low one; otherwise the caller's autocast stands."""
        weight = self.backbone.patch_embed.weight
        if weight.dtype == torch.float32:
            yield
        else:
            with torch.autocast(weight.device.type, dtype=weight.dtype):
                yield

    def _check(self, images: Tensor, cameras: Cameras | None, sizes: Sizes | None, *, splats: bool) -> None:
        patch = self.config.backbone.patch
        for height, width in (tuple(images.shape[-2:]), *(sizes or ())):
            if height % patch or width % patch or not height or not width:
                raise InputError(
                    f"image sides must be multiples of {patch}, got {width}x{height}; resize the views first"
                )
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
