"""The losses of the any-view model (Depth Anything 3, section 3): depth, rays, points, cameras, gradients.

All lengths are in units of the scene: its mean point distance from the first camera, which is the world's origin.
Every loss is a mean over valid entries, so that none depends on the batch's size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.geometry.projection import camera_directions, pixel_centers, rigid_inverse, unproject
from da3gs.network.camera import encode_cameras, normalized_cameras
from da3gs.network.config import PoseUnit
from da3gs.network.model import RawOutputs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """Weights of the losses."""

    depth: float = 1.0
    rays: float = 1.0
    points: float = 1.0
    camera: float = 1.0
    gradient: float = 1.0
    gradient_steps: tuple[int, ...] = (1,)
    """Distances in pixels over which gradients are taken; the paper's is 1."""
    world: float = 0.0
    """Points from depth and the decoded camera, as splats are made; not in the paper."""
    matching: float = 0.0
    """Of attention that looks at the same point in another view (``matching``); not in the paper."""
    motion: float = 0.0
    """Of tokens that tell how far their patch has moved; not in the paper."""
    confidence: float = 0.2
    """λ in ``c |error| − λ log c``; not printed in the paper, 0.2 as in DUSt3R."""
    relative: bool = False
    """Errors of lengths are divided by the true depth, so that near and far things count alike; not in the paper."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Truth(TensorRecord):
    """Ground truth in the first camera's frame and the scene's unit."""

    depth: Float[Tensor, "B V H W"]
    """Depth along z; 0 where there is none."""
    cameras: Cameras
    """True cameras (B, V); the first of each scene is the world."""

    @property
    def valid(self) -> Bool[Tensor, "B V H W"]:
        """Mask of known depth."""
        return self.depth > 0


def scene_truth(depth: Float[Tensor, "B V H W"], cameras: Cameras) -> Truth:
    """Truth in the first camera's frame, divided by the mean distance of the valid points from that camera.

    A scene without any depth is divided by the mean distance of its other cameras.
    """
    relative = cameras.world_to_cam @ rigid_inverse(cameras.world_to_cam[:, :1])
    moved = dataclasses.replace(cameras, world_to_cam=relative)
    points = unproject(depth, moved.intrinsics, moved.cam_to_world)
    valid = depth > 0
    distance = torch.where(valid, points.norm(dim=-1), 0).sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp(min=1)
    apart = relative[..., :3, 3].norm(dim=-1).sum(1) / max(1, relative.shape[1] - 1)
    distance = torch.where(valid.flatten(1).any(1), distance, apart)
    unit = torch.where(distance > 1e-6, distance, 1.0)[:, None]
    relative = relative.clone()
    relative[..., :3, 3] /= unit[..., None]
    return Truth(depth=depth / unit[..., None, None], cameras=dataclasses.replace(moved, world_to_cam=relative))


def conditioning(cameras: Cameras, unit: PoseUnit = "mean") -> Cameras:
    """True cameras as they are given to the network: without their scale, in the network's own unit."""
    return normalized_cameras(cameras, unit)


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The mean where the mask holds; 0 where it holds nowhere."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def confident(
    error: Float[Tensor, "*shape"], confidence: Float[Tensor, "*shape"], weight: float
) -> Float[Tensor, "*shape"]:
    """``c e − λ log c``: where the model is sure its errors cost more, and being unsure costs too."""
    return confidence * error - weight * confidence.log()


def depth_error(
    predicted: Float[Tensor, "*shape"], depth: Float[Tensor, "*shape"], *, relative: bool
) -> Float[Tensor, "*shape"]:
    """``|D̂ − D|``, or divided by D."""
    error = (predicted - depth).abs()
    return error / depth.clamp(min=1e-3) if relative else error


def gradient_loss(
    predicted: Float[Tensor, "B V H W"],
    depth: Float[Tensor, "B V H W"],
    *,
    relative: bool,
    steps: Sequence[int] = (1,),
) -> Float[Tensor, ""]:
    """``‖∂x D̂ − ∂x D‖₁ + ‖∂y D̂ − ∂y D‖₁`` between pixels that both have a depth; of log depth when relative.

    ``steps`` are the distances in pixels between the two; the result is the sum over them. The paper takes neighbours;
    longer steps see how far things stand apart, whatever the scene's scale.
    """
    valid = depth > 0
    ratio = predicted.clamp(min=1e-6) / depth.clamp(min=1e-6)
    difference = ratio.log() if relative else predicted - depth
    total = predicted.new_zeros(())
    for k in steps:
        across = (difference[..., k:] - difference[..., :-k]).abs()
        down = (difference[..., k:, :] - difference[..., :-k, :]).abs()
        total = total + masked_mean(across, valid[..., k:] & valid[..., :-k])
        total = total + masked_mean(down, valid[..., k:, :] & valid[..., :-k, :])
    return total


def camera_loss(encoding: Float[Tensor, "B V 9"], cameras: Cameras) -> Float[Tensor, ""]:
    """ℓ1 on the nine numbers of a camera: translation, quaternion, field of view."""
    return (encoding - encode_cameras(cameras)).abs().mean()


def ray_map(cameras: Cameras, rows: int, columns: int) -> Float[Tensor, "*batch rows columns 6"]:
    """True rays of a coarser grid: direction ``R K⁻¹ p`` (not of unit length) and origin."""
    pixels = pixel_centers(rows, columns, device=cameras.world_to_cam.device)
    pixels = pixels * pixels.new_tensor([cameras.width / columns, cameras.height / rows])
    cam_to_world = cameras.cam_to_world
    directions = camera_directions(cameras.intrinsics, pixels) @ cam_to_world[..., None, :3, :3].mT
    return torch.cat((directions, cameras.centers[..., None, None, :].expand_as(directions)), -1)


def _coarse(maps: Float[Tensor, "B V H W"], rows: int, columns: int) -> Float[Tensor, "B V rows columns"]:
    return F.interpolate(maps, size=(rows, columns), mode="nearest-exact")


def total_loss(outputs: RawOutputs, truth: Truth, weights: LossWeights) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all losses, and each of them alone."""
    assert outputs.confidence is not None
    assert outputs.rays is not None
    assert outputs.ray_confidence is not None
    assert outputs.pose_encoding is not None
    assert outputs.cameras is not None
    relative = weights.relative
    error = depth_error(outputs.depth, truth.depth, relative=relative)
    rows, columns = outputs.rays.shape[-3:-1]
    rays = ray_map(truth.cameras, rows, columns)
    ray_error = (outputs.rays - rays).abs().mean(-1)
    depth, predicted = _coarse(truth.depth, rows, columns), _coarse(outputs.depth, rows, columns)
    seen = depth > 0
    unit = depth.clamp(min=1e-3) if relative else torch.ones_like(depth)
    points = depth[..., None] * rays[..., :3] + rays[..., 3:]
    from_rays = predicted[..., None] * outputs.rays[..., :3] + outputs.rays[..., 3:]
    decoded = ray_map(outputs.cameras, rows, columns) if weights.world else rays
    from_cameras = predicted[..., None] * decoded[..., :3] + decoded[..., 3:]
    parts = {
        "depth": masked_mean(confident(error, outputs.confidence, weights.confidence), truth.valid),
        "rays": confident(ray_error, outputs.ray_confidence, weights.confidence).mean(),
        "points": masked_mean((from_rays - points).abs().mean(-1) / unit, seen),
        "camera": camera_loss(outputs.pose_encoding, truth.cameras),
        "gradient": gradient_loss(outputs.depth, truth.depth, relative=relative, steps=weights.gradient_steps),
        "world": masked_mean((from_cameras - points).abs().mean(-1) / unit, seen),
    }
    total = sum((getattr(weights, name) * value for name, value in parts.items()), torch.zeros(()))
    plain = {"depth_error": masked_mean(error, truth.valid), "ray_error": ray_error.mean()}
    return total, {**parts, **plain}
