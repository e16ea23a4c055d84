"""Validation on held-out scenes, in figures that need no scale."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.geometry.rotations import angle_between
from da3gs.metrics.image import psnr
from da3gs.network.depth_splats import splats_from_depth
from da3gs.network.metric import is_sky
from da3gs.network.model import DepthAnything3, PoseSource
from da3gs.rendering import render
from da3gs.training.data.batch import Batch
from da3gs.training.losses.alignment import absolute_alignment
from da3gs.training.losses.geometric import conditioning, scene_truth
from da3gs.training.losses.photometric import render_targets, seen_by_context, splats_of, true_cameras_in_network_scale


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Means over scenes."""

    absrel: float
    """``|s D̂ − D| / D`` with one scale s for all views of a scene (the median ratio)."""
    delta1: float
    """Share of pixels with ``max(s D̂ / D, D / (s D̂)) < 1.25``."""
    constant_absrel: float
    """AbsRel of a depth that is the same everywhere: what any model has to beat."""
    silog: float
    """Standard deviation of ``log D̂ − log D`` within a scene."""
    constant_silog: float
    """The same for a constant depth."""
    rotation: float
    """Mean angle between predicted and true rotations relative to the first view, degrees."""
    direction: float
    """Mean angle between predicted and true directions of travel from the first view, degrees."""
    auc5: float
    """Area under the curve of the larger of the two angles up to 5 degrees."""
    auc30: float
    """The same up to 30 degrees."""


def aligned_depth_errors(
    predicted: Float[Tensor, "V H W"], depth: Float[Tensor, "V H W"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """AbsRel and δ1 of a scene after one scale, the median of ``D / D̂``, for all its views."""
    valid = depth > 0
    p, d = predicted[valid], depth[valid]
    p = p * (d / p.clamp(min=1e-9)).median()
    ratio = torch.maximum(p / d, d / p.clamp(min=1e-9))
    return ((p - d).abs() / d).mean(), (ratio < 1.25).float().mean()


def scale_invariant_error(predicted: Float[Tensor, "V H W"], depth: Float[Tensor, "V H W"]) -> Float[Tensor, ""]:
    """Standard deviation of ``log D̂ − log D`` over a scene's pixels (Eigen et al. 2014, without the scale)."""
    valid = depth > 0
    return (predicted[valid].clamp(min=1e-9).log() - depth[valid].log()).std(correction=0)


def validate(
    model: DepthAnything3, batches: list[Batch], *, posed: bool = False, poses: PoseSource = "camera"
) -> Figures:
    """Run the network on held-out scenes.

    Args:
        model: any-view.
        batches: held-out scenes.
        posed: whether the true poses are given.
        poses: where the judged cameras come from.
    """
    rows: list[list[float]] = []
    angles: list[Tensor] = []
    for batch in batches:
        truth = scene_truth(batch.depth, batch.cameras)
        with torch.no_grad():
            given = conditioning(batch.cameras, model.config.pose_unit) if posed else None
            out = model.raw(batch.images, given, rays=poses == "rays", reference="first")
            cameras = model.finished(out, poses=poses).cameras
        assert cameras is not None
        for i in range(len(batch.images)):
            absrel, delta1 = aligned_depth_errors(out.depth[i], truth.depth[i])
            flat = torch.ones_like(truth.depth[i])
            constant, _ = aligned_depth_errors(flat, truth.depth[i])
            silog, constant_silog = (scale_invariant_error(d, truth.depth[i]) for d in (out.depth[i], flat))
            found, true = cameras.cam_to_world[i], truth.cameras.cam_to_world[i]
            turn = angle_between(found[:1, :3, :3].mT @ found[1:, :3, :3], true[1:, :3, :3])
            travel = (found[:1, :3, :3].mT @ (found[1:, :3, 3:] - found[:1, :3, 3:])).squeeze(-1)
            cosine = torch.nn.functional.cosine_similarity(travel, true[1:, :3, 3], dim=-1)
            angles.append(torch.stack((turn, torch.arccos(cosine.clamp(-1, 1))), -1) * (180 / math.pi))
            rows.append([float(x) for x in (absrel, delta1, constant, silog, constant_silog)])
    absrel, delta1, constant, silog, constant_silog = torch.tensor(rows).mean(0).tolist()
    both = torch.cat(angles)
    worst = both.max(-1).values
    auc5, auc30 = (float((1 - worst / limit).clamp(min=0).mean()) for limit in (5, 30))
    rotation, direction = both.mean(0).tolist()
    return Figures(
        absrel=absrel,
        delta1=delta1,
        constant_absrel=constant,
        silog=silog,
        constant_silog=constant_silog,
        rotation=rotation,
        direction=direction,
        auc5=auc5,
        auc30=auc30,
    )


def validate_splats(model: DepthAnything3, batches: list[Batch], *, posed: bool = False) -> dict[str, float]:
    """PSNR at unseen views, over pixels that a context view can have seen, beside what costs nothing.

    ``copy`` is the context photo whose camera is nearest, as it is; ``from_depth`` are splats from the predicted depth
    without the head; ``true_depth`` are those from the true depth, which is what better geometry could reach.
    """
    sums: dict[str, list[float]] = {"psnr": [], "copy": [], "from_depth": [], "true_depth": []}
    for batch in batches:
        truth, context = scene_truth(batch.depth, batch.cameras), batch.context
        seen = seen_by_context(truth, context)
        first = dataclasses.replace(
            batch.cameras,
            world_to_cam=batch.cameras.world_to_cam[:, :context],
            intrinsics=batch.cameras.intrinsics[:, :context],
        )
        with torch.no_grad():
            given = conditioning(first, model.config.pose_unit) if posed else None
            out = model.raw(batch.images[:, :context], given, splats=True, reference="first")
            cameras = true_cameras_in_network_scale(out, truth, context)
            mine = render_targets(splats_of(out, cameras, model.config), cameras, context)
        photos = batch.images[:, context:].movedim(2, -1)
        for i in range(len(photos)):
            splats = splats_from_depth(
                batch.images[i, :context], truth.depth[i, :context].clamp(min=1e-3), truth.cameras[i][:context]
            )
            bound = render(splats, truth.cameras[i][context:]).color
            surety = None if out.confidence is None else out.confidence[i]
            plain = splats_from_depth(batch.images[i, :context], out.depth[i], cameras[i][:context], confidence=surety)
            bare = render(plain, cameras[i][context:]).color
            apart = (truth.cameras.centers[i, context:, None] - truth.cameras.centers[i, None, :context]).norm(dim=-1)
            nearest = batch.images[i, apart.argmin(-1)].movedim(1, -1)
            for name, pictures in (("psnr", mine[i]), ("copy", nearest), ("from_depth", bare), ("true_depth", bound)):
                values = psnr(pictures, photos[i], seen[i])
                sums[name] += [float(value) for value in values if value == value]
    return {name: sum(values) / max(1, len(values)) for name, values in sums.items()}


def validate_monocular(model: DepthAnything3, batches: list[Batch]) -> dict[str, float]:
    """AbsRel and δ1 after the best scale and shift of each view, beside those of a constant depth, and sky IoU."""
    rows, hits, either = [], 0, 0
    for batch in batches:
        with torch.no_grad():
            out = model.raw(batch.images.flatten(0, 1)[:, None])
        depth, told = batch.depth.flatten(0, 1), out.depth[:, 0]
        for true, predicted in zip(depth, told, strict=True):
            valid = true > 0
            p, d = predicted[valid], true[valid]
            steps = slice(None, None, max(1, len(p) // 400))
            scale, shift = absolute_alignment(p[None, steps], d[None, steps], 1 / d[None, steps])
            p = (scale * p + shift).clamp(min=1e-3)
            ratio = torch.maximum(p / d, d / p)
            constant = ((d.median() - d).abs() / d).mean()
            rows.append([float(x) for x in (((p - d).abs() / d).mean(), (ratio < 1.25).float().mean(), constant)])
        if batch.sky is not None and out.sky is not None:
            found, sky = is_sky(out.sky[:, 0]), batch.sky.flatten(0, 1)
            hits, either = hits + int((found & sky).sum()), either + int((found | sky).sum())
    absrel, delta1, constant = torch.tensor(rows).mean(0).tolist()
    return {
        "absrel": absrel, "delta1": delta1, "constant_absrel": constant, "sky_iou": hits / either if either else 1.0
    }  # fmt: skip
