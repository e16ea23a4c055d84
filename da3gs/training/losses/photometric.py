"""The losses of the splat head: what splats look like from cameras that the network did not see.

The paper trains with MSE and LPIPS on novel views and a scale-shift-invariant depth loss on the context views (section
3 and appendix); it prints no weights. Pixels that no context view can have seen count nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from da3gs.cameras import Cameras
from da3gs.evaluation.perceptual import find_trunk, load_lpips
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import project, unproject
from da3gs.metrics.image import ssim
from da3gs.metrics.lpips import Lpips
from da3gs.network.config import ModelConfig
from da3gs.network.raw import RawOutputs
from da3gs.network.splats import scale_onto, splats_from_channels
from da3gs.rendering import render
from da3gs.training.losses.geometric import Truth, masked_mean

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhotoWeights:
    """Weights of the splat head's losses."""

    color: float = 1.0
    """Of the difference of colours."""
    measure: Literal["l1", "mse"] = "l1"
    """How colours differ: absolutely, or squared as in the paper."""
    structure: float = 0.2
    """Of ``1 − SSIM``."""
    perceptual: float = 0.05
    """Of LPIPS, where its trunk is on this machine; else it counts nothing."""
    depth: float = 0.05
    """Of the splats' depth on the context views, after the best scale and shift."""
    geometry: float = 0.0
    """Of all losses of the geometry stage together; above 0 where both are trained jointly."""


def color_loss(
    image: Float[Tensor, "*batch H W 3"],
    photo: Float[Tensor, "*batch H W 3"],
    seen: Bool[Tensor, "*batch H W"],
    *,
    measure: Literal["l1", "mse"],
) -> Float[Tensor, ""]:
    """Mean absolute or squared difference where ``seen`` holds."""
    match measure:
        case "l1":
            error = (image - photo).abs()
        case "mse":
            error = (image - photo).square()
        case _:
            assert_never(measure)
    return masked_mean(error.mean(-1), seen)


def structure_loss(
    image: Float[Tensor, "*batch H W 3"], photo: Float[Tensor, "*batch H W 3"], seen: Bool[Tensor, "*batch H W"]
) -> Float[Tensor, ""]:
    """``1 − SSIM``; what was not seen is the photo's own in both."""
    return 1 - ssim(torch.where(seen[..., None], image, photo), photo).mean()


def scale_shift_invariant_loss(
    predicted: Float[Tensor, "*batch H W"], depth: Float[Tensor, "*batch H W"], valid: Bool[Tensor, "*batch H W"]
) -> Float[Tensor, ""]:
    """Mean ``|s D̂ + t − D|`` over the mean valid depth, with the least-squares s and t of each picture."""
    weight = valid.to(predicted.dtype)
    count = weight.sum((-2, -1)).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        """The mean over the pixels that count."""
        return (values * weight).sum((-2, -1)) / count

    p, d = mean(predicted), mean(depth)
    centred = predicted - p[..., None, None]
    scale = mean(centred * (depth - d[..., None, None])) / mean(centred.square()).clamp(min=1e-8)
    fitted = scale[..., None, None] * centred + d[..., None, None]
    return masked_mean((fitted - depth).abs() / d.clamp(min=1e-6)[..., None, None], valid)


def seen_by_context(truth: Truth, context: int, *, tolerance: float = 0.05) -> Bool[Tensor, "B T H W"]:
    """Mask of points of target views (those after the first ``context`` ones) in sight of a context view.

    Args:
        truth: of all views, the targets last.
        context: how many views the network sees.
        tolerance: how far two depths of one point may differ, as a share.
    """
    cameras = truth.cameras
    height, width = truth.depth.shape[-2:]
    targets = dataclasses.replace(
        cameras, world_to_cam=cameras.world_to_cam[:, context:], intrinsics=cameras.intrinsics[:, context:]
    )
    points = unproject(truth.depth[:, context:], targets.intrinsics, targets.cam_to_world)
    flat = points.flatten(1, 3)[:, None].expand(-1, context, -1, -1)
    pixels, z = project(flat, cameras.intrinsics[:, :context], cameras.world_to_cam[:, :context])
    grid = 2 * pixels / pixels.new_tensor([width, height]) - 1
    at = F.grid_sample(
        truth.depth[:, :context].flatten(0, 1)[:, None],
        grid.flatten(0, 1)[:, None],
        mode="nearest",
        align_corners=False,
    )
    at = at.reshape(z.shape)
    inside = (grid.abs() < 1).all(-1) & (z > 1e-6)
    visible = (inside & ((at - z).abs() < tolerance * z)).any(1)
    return visible.reshape(points.shape[:-1]) & (truth.depth[:, context:] > 0)


def true_cameras_in_network_scale(outputs: RawOutputs, truth: Truth, context: int) -> Cameras:
    """The true cameras of all views, their distances in the unit of the predicted depth.

    By the median ratio of depths where the true depth is known, else by how far the cameras stand apart.
    """
    cameras = truth.cameras
    ratios = []
    for i in range(len(outputs.depth)):
        valid = truth.depth[i, :context] > 0
        if bool(valid.any()):
            predicted, depth = outputs.depth[i].detach()[valid], truth.depth[i, :context][valid]
            ratios.append((predicted / depth).median())
        else:
            assert outputs.cameras is not None
            given = cameras.centers[i : i + 1, :context]
            ratios.append(scale_onto(given, outputs.cameras.centers[i : i + 1].detach(), clamp=False)[0])
    scaled = cameras.world_to_cam.clone()
    scaled[..., :3, 3] *= torch.stack(ratios)[:, None, None]
    return dataclasses.replace(cameras, world_to_cam=scaled)


def splats_of(outputs: RawOutputs, cameras: Cameras, config: ModelConfig) -> Gaussians:
    """The splats of the context views under these cameras, which are in the unit of the predicted depth."""
    assert outputs.splats is not None
    assert config.splats is not None
    views = outputs.depth.shape[1]
    context = dataclasses.replace(
        cameras, world_to_cam=cameras.world_to_cam[:, :views], intrinsics=cameras.intrinsics[:, :views]
    )
    return splats_from_channels(
        outputs.splats,
        outputs.depth,
        context,
        config.splats,
        quaternions=config.quaternions,
        depth_along=config.depth_along,
    )


def render_targets(splats: Gaussians, cameras: Cameras, context: int) -> Float[Tensor, "B T H W 3"]:
    """Pictures of every scene's splats from its target cameras."""
    targets = dataclasses.replace(
        cameras, world_to_cam=cameras.world_to_cam[:, context:], intrinsics=cameras.intrinsics[:, context:]
    )
    return render(splats, targets).color


def splat_loss(
    outputs: RawOutputs, truth: Truth, images: Float[Tensor, "B V 3 H W"], config: ModelConfig, weights: PhotoWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the splat head's losses, and each of them alone.

    Args:
        outputs: of the context views, with splats.
        truth: of all views; those after the context are targets.
        images: of all views.
        config: of the network.
        weights: what each loss counts.
    """
    context = outputs.depth.shape[1]
    cameras = true_cameras_in_network_scale(outputs, truth, context)
    pictures = render_targets(splats_of(outputs, cameras, config), cameras, context)
    photos = images[:, context:].movedim(2, -1)
    known = bool((truth.depth > 0).any())
    seen = seen_by_context(truth, context) if known else torch.ones_like(photos[..., 0], dtype=torch.bool)
    assert outputs.splats is not None
    assert config.splats is not None
    offset = outputs.splats[..., config.splats.channels - 2]
    valid = truth.valid[:, :context]
    parts = {
        "color": color_loss(pictures, photos, seen, measure=weights.measure),
        "structure": structure_loss(pictures, photos, seen),
        "splat_depth": scale_shift_invariant_loss(outputs.depth + offset, truth.depth[:, :context], valid),
    }
    total = (
        weights.color * parts["color"] + weights.structure * parts["structure"] + weights.depth * parts["splat_depth"]
    )
    network = lpips_network(images.device) if weights.perceptual else None
    if network is not None:
        parts["perceptual"] = perceptual_loss(pictures, photos, network)
        total = total + weights.perceptual * parts["perceptual"]
    squares = masked_mean((pictures.detach().clamp(0, 1) - photos).square().mean(-1), seen)
    return total, {**parts, "psnr": -10 * squares.clamp(min=1e-10).log10()}


@functools.lru_cache(maxsize=1)
def lpips_network(device: torch.device) -> Lpips | None:
    """LPIPS where its weights are on this machine; None, with a line in the log, where they are not."""
    trunk, reason = find_trunk(None)
    if trunk is None:
        _log.info("trained without the perceptual loss: %s", reason)
        return None
    return load_lpips(trunk.file).to(device)


def perceptual_loss(
    image: Float[Tensor, "*batch H W 3"], photo: Float[Tensor, "*batch H W 3"], network: Lpips
) -> Float[Tensor, ""]:
    """Mean LPIPS of pictures in [0, 1]."""
    pairs = zip(image.clamp(0, 1).flatten(0, -4), photo.flatten(0, -4), strict=True)
    return torch.stack([network(a, b) for a, b in pairs]).mean()
