"""View pyramid: all views at one resolution, and their neighbours by overlap."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from da3gs.cameras import Cameras
from da3gs.geometry.projection import camera_directions, pixel_centers, rigid_inverse


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Level:
    """All views at one resolution."""

    grey: Float[np.ndarray, "V h w"]
    valid: Bool[np.ndarray, "V h w"]
    rays: Float[np.ndarray, "V h w 2"]
    matrices: Float[np.ndarray, "V V 3 3"]
    """``K' R`` from the first view's camera to the second's."""
    offsets: Float[np.ndarray, "V V 3"]
    """``K' t``."""
    centers: Float[np.ndarray, "V V 3"]
    """The second view's camera centre in the first's camera."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.grey.shape[1], self.grey.shape[2]


def level_of(images: Tensor, cameras: Cameras, masks: Tensor | None, long_side: int) -> Level:
    """The views at this long side, or at their own size where that is smaller.

    Args:
        images: (V, 3, H, W), sRGB in [0, 1].
        cameras: exact.
        masks: (V, H, W), False where a pixel says nothing.
        long_side: pixels.
    """
    factor = min(1.0, long_side / max(images.shape[2:]))
    size = (max(4, round(images.shape[2] * factor)), max(4, round(images.shape[3] * factor)))
    grey = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    valid = torch.ones_like(grey) if masks is None else masks.float()
    mean = (grey * valid).sum((1, 2), keepdim=True) / valid.sum((1, 2), keepdim=True).clamp(min=1)
    grey = functional.interpolate(((grey - mean) * valid)[:, None], size, mode="area")[:, 0]
    valid = functional.interpolate(valid[:, None], size, mode="area")[:, 0] > 0.999
    cams = cameras.resized(*size)
    poses, intrinsics = cams.world_to_cam.double(), cams.intrinsics.double()
    relative = poses[None] @ rigid_inverse(poses)[:, None]  # [i, j]: from camera i to camera j
    return Level(
        grey=grey.contiguous().numpy(),
        valid=valid.numpy(),
        rays=camera_directions(cams.intrinsics, pixel_centers(*size))[..., :2].float().contiguous().numpy(),
        matrices=(intrinsics[None] @ relative[..., :3, :3]).float().numpy(),
        offsets=(intrinsics[None] @ relative[..., :3, 3:])[..., 0].float().numpy(),
        centers=rigid_inverse(relative)[..., :3, 3].float().numpy(),
    )


def resized_depth(depth: Float[Tensor, "V H W"], size: tuple[int, int]) -> Float[Tensor, "V h w"]:
    """Depth of the nearest pixels: never a mean over an edge."""
    return functional.interpolate(depth[:, None], size, mode="nearest-exact")[:, 0]


def neighbors_of(level: Level, depth: Float[Tensor, "V h w"], count: int) -> list[list[int]]:
    """For every view the others that see much of what it sees, from an angle that tells depth: best first.

    Angles of more than 4 degrees count in full, those of more than some 35 hardly.
    """
    stride = max(1, level.size[0] // 20)
    result = []
    for view in range(len(depth)):
        rays = level.rays[view, ::stride, ::stride]
        inside = level.valid[view, ::stride, ::stride]
        directions = np.concatenate((rays, np.ones_like(rays[..., :1])), -1)
        points = (directions * depth[view, ::stride, ::stride].numpy()[..., None])[inside]
        scores = [_overlap(level, points, view, other) if other != view else 0.0 for other in range(len(depth))]
        order = sorted(range(len(depth)), key=lambda other: -scores[other])
        result.append([other for other in order if scores[other] > 0.01][:count])
    return result


def _overlap(level: Level, points: Float[np.ndarray, "n 3"], view: int, other: int) -> float:
    if not len(points):
        return 0.0
    local = points @ level.matrices[view, other].T + level.offsets[view, other]
    pixels = local[:, :2] / np.maximum(local[:, 2:], 1e-12)
    seen = (local[:, 2] > 0) & (pixels > 0).all(-1) & (pixels < (level.size[1], level.size[0])).all(-1)
    away = points - level.centers[view, other]
    lengths = np.linalg.norm(points, axis=-1) * np.linalg.norm(away, axis=-1)
    angle = np.degrees(np.arccos(np.clip((points * away).sum(-1) / np.maximum(lengths, 1e-12), -1, 1)))
    return float((seen * np.minimum(1, angle / 4) * np.exp(-((angle / 35) ** 2))).mean())
