"""Depth made honest: laid on sparse points, and on what neighbouring views show.

A network's depth is right only up to scale, and up to slow errors on top. Where the cameras are known exactly, the
photos tell how much: a surface at its true depth looks alike in every view that sees it. What is searched for is the
multiple of the network's depth, as a smooth field over each view, so that the network still decides on edges and on
whatever has no texture.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.depth import _plane_sweep as _sweep
from da3gs.depth.cost_volume import per_view, searched_field, steps_of, volume_of
from da3gs.depth.disparity_plane import surface_depth
from da3gs.depth.scale_shift import align_to_points
from da3gs.depth.triangulation import Sharp, matched_points
from da3gs.depth.view_pyramid import Level, level_of, neighbors_of, resized_depth
from da3gs.prediction import Placed
from da3gs.views import Views

_COARSE = (1.4, 0.1)  # reach and step of the logarithm of a whole view's scale
_SIDES = (80, 160, 256)  # the long side of the levels
_FINER = ((0.24, 0.03), (0.09, 0.0125))  # reach and step of the field at the second and the third
_TO_ONE, _TO_SCENE, _OWN = (
    0.02,
    0.2,
    0.5,
)  # pull of a view's scale: to the start, to the scene's, and its share of votes
_STAY, _STEP, _JUMP = 0.15, 0.15, 0.6  # pull of a pixel to its start; penalties of a change by a label, and by more
_NEIGHBORS, _COARSE_NEIGHBORS = 4, 6
_CHANCE = 0.02  # how much more alike a search makes windows that have nothing to do with each other
_GAIN = 0.003  # by how much the cost has to fall, or the network's depth is the start


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ConsistentDepth(TensorRecord):
    """Depth that views agree on."""

    depth: Float[Tensor, "V H W"]
    """Along the camera's z axis."""
    scales: Float[Tensor, "V"]
    """The median of what each view's depth was multiplied by."""
    before: float
    """Mean disagreement of the photos at the start, 0 to 1."""
    after: float
    """The same at the end."""
    starts: tuple[str, ...]
    """Where the search began in each view: the network's depth, the same ``scaled``, or one of the other starts."""
    refined: bool
    """Whether a field over each view came on top."""

    def as_dict(self) -> dict[str, Any]:
        """For scene.json."""
        scales = [round(s, 4) for s in self.scales.tolist()]
        return {
            "starts": list(self.starts), "refined": self.refined, "scales": scales,
            "disagreement_before": round(self.before, 4), "disagreement": round(self.after, 4),
        }  # fmt: skip


def honest_depth(
    result: Placed,
    views: Views,
    points: Float[Tensor, "N 3"] | None = None,
    *,
    sharp: Sequence[Sharp] | None = None,
    seed: int = 0,
) -> tuple[Placed, dict[str, Any]]:
    """The prediction with depth, and the splats of a head, laid on points and on what neighbouring views show.

    Args:
        result: in the frame of exact cameras.
        views: the photos.
        points: world coordinates of sparse points, where there are any.
        sharp: the photos at a larger size, which show more features.
        seed: of RANSAC's samples.

    Returns:
        The prediction, and what was done, for scene.json.
    """
    telling = telling_pixels(result, views)
    done: dict[str, Any] = {}
    starts: dict[str, Tensor] = {}
    if len(views) > 1:
        matches = matched_points(views.images, result.cameras, telling, sharp=sharp)
        fitted = align_to_points(
            result.depth, result.cameras, matches.positions, visible=matches.visible, masks=telling, seed=seed
        )
        starts["matches"], done["matches"] = fitted.depth, fitted.as_dict()
        starts["surface"], done["surface"] = surface_depth(
            result.depth, result.cameras, matches.positions, visible=matches.visible, masks=telling, seed=seed
        )
    if points is not None and len(points):
        fitted = align_to_points(result.depth, result.cameras, points, masks=telling, seed=seed)
        starts["points"], done["points"] = fitted.depth, fitted.as_dict()
        everywhere = torch.ones(len(views), len(points), dtype=torch.bool)
        starts["points' surface"], done["points' surface"] = surface_depth(
            result.depth, result.cameras, points, visible=everywhere, masks=telling, seed=seed
        )
        if len(views) == 1:
            return with_depth(result, fitted.depth), done
    consistent = consistent_depth(views.images, result.depth, result.cameras, telling, starts=starts)
    done["views"] = consistent.as_dict()
    return with_depth(result, consistent.depth), done


def telling_pixels(result: Placed, views: Views) -> Bool[Tensor, "V H W"] | None:
    """Where pixels tell something of depth: wanted and no sky; None: everywhere."""
    telling = None if views.masks is None else views.masks.cpu()
    if result.sky is not None:
        ground = ~result.sky.cpu()
        telling = ground if telling is None else telling & ground
    return telling


def with_depth(result: Placed, depth: Float[Tensor, "V H W"]) -> Placed:
    """The prediction with another depth; a head's splats, one a pixel, move along their pixels' rays and grow alike."""
    gaussians = result.gaussians
    if gaussians is not None:
        factors = (depth / result.depth).flatten()[:, None]
        centers = result.cameras.centers.to(gaussians.means).repeat_interleave(depth[0].numel(), 0)
        gaussians = dataclasses.replace(
            gaussians, means=centers + factors * (gaussians.means - centers), scales=gaussians.scales * factors
        )
    return dataclasses.replace(result, depth=depth, gaussians=gaussians)


def consistent_depth(
    images: Float[Tensor, "V 3 H W"],
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    masks: Bool[Tensor, "V H W"] | None = None,
    *,
    starts: Mapping[str, Float[Tensor, "V H W"]] | None = None,
) -> ConsistentDepth:
    """Depth at which the views look alike, near the given one; the given one where that is not clearly better.

    Each pixel's window is compared (ZNCC: exposure does not matter) with the better half of up to four neighbours at
    many multiples of its depth: first one multiple for a view, then, from coarse to fine and from the best start, a
    field that semi-global matching keeps smooth: at the coarsest level over a wide range (``searched_field``), at the
    others nearby and free to jump where the depth does. What does not make the photos clearly more alike is left out.
    It works at a long side of at most 256 pixels.

    Args:
        images: sRGB in [0, 1].
        depth: positive, in the cameras' units.
        cameras: exact.
        masks: False where a pixel says nothing.
        starts: other depth to begin from where the photos like it better, by name.
    """
    if len(depth) < 2:
        return _unchanged(depth, 0.0)
    photos, cams = images.detach().cpu().float(), cameras.to("cpu")
    mask = None if masks is None else masks.cpu()
    levels = [level_of(photos, cams, mask, long_side) for long_side in _SIDES]
    finest = levels[-1]
    raw = depth.detach().cpu().float()
    factors = _view_scales(levels[0], resized_depth(raw, levels[0].size)).exp()
    tried = {"network": raw, "scaled": raw * factors[:, None, None]}
    tried |= {name: start.detach().cpu().float() for name, start in (starts or {}).items()}
    # at the finest level all that is off by a few pixels looks equally wrong
    coarse = torch.stack([_costs_of(level, list(tried.values())) for level in levels[:-1]]).mean(0)
    chosen = torch.where(coarse.amin(0) < coarse[0] - _GAIN, coarse.argmin(0), 0)
    start = torch.stack([list(tried.values())[pick][view] for view, pick in enumerate(chosen.tolist())])
    small = [resized_depth(one, levels[0].size) for one in (start, *list(tried.values())[1:])]
    logs = searched_field(levels[0], small, _NEIGHBORS)
    for level, (reach, step) in zip(levels[1:], _FINER, strict=True):
        logs = _field(level, resized_depth(start, level.size), _enlarged(logs, level.size), steps_of(reach, step))
    near = resized_depth(start, finest.size)
    fields = [resized_depth(raw, finest.size), near, near * logs.exp()]
    costs = torch.stack([_costs_of(level, fields).mean(1) for level in levels])
    before, kept, refined = costs[-1].tolist()
    better = bool(costs[:, 2].mean() < costs[:, 1].mean() - _CHANCE)
    if not (chosen.any() or better):
        return _unchanged(depth, before)
    final = start * _enlarged(logs, (depth.shape[1], depth.shape[2])).exp() if better else start
    return ConsistentDepth(
        depth=final.to(depth),
        scales=(final / raw).flatten(1).median(1).values.to(depth),
        before=before,
        after=refined if better else kept,
        starts=tuple(list(tried)[pick] for pick in chosen.tolist()),
        refined=better,
    )


def _costs_of(level: Level, depths: Sequence[Float[Tensor, "V H W"]]) -> Float[Tensor, "S V"]:
    """What each depth costs each view."""
    return torch.stack(_disagreements(level, [resized_depth(depth, level.size) for depth in depths]))


def _unchanged(depth: Float[Tensor, "V H W"], cost: float) -> ConsistentDepth:
    scales = torch.ones_like(depth[:, 0, 0])
    starts = ("network",) * len(depth)
    return ConsistentDepth(depth=depth, scales=scales, before=cost, after=cost, starts=starts, refined=False)


def _enlarged(field: Float[Tensor, "V H W"], size: tuple[int, int]) -> Float[Tensor, "V h w"]:
    if tuple(field.shape[1:]) == size:
        return field
    return functional.interpolate(field[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _view_scales(level: Level, depth: Float[Tensor, "V h w"]) -> Float[Tensor, "V"]:
    """The logarithm of each view's scale, not far from the one that suits all views."""
    count, steps = len(depth), steps_of(*_COARSE)
    near = np.linalg.norm(level.centers, axis=-1).argsort(1)[:, 1 : _COARSE_NEIGHBORS + 1]

    def curve(view: int) -> Float[np.ndarray, " L"]:
        """What each scale of a view's depth costs."""
        if not level.valid[view].any():
            return np.ones(len(steps), np.float32)
        volume = volume_of(level, depth, view, [int(j) for j in near[view] if j != view], steps)
        return volume[level.valid[view]].mean(0)

    curves = np.stack(per_view(curve, count))
    together = curves.mean(0)
    common = steps[(together + _TO_ONE * steps**2).argmin()]
    own = curves + _OWN * together + _TO_SCENE * (steps - common) ** 2
    return torch.from_numpy(steps[own.argmin(1)])


def _field(
    level: Level, start: Float[Tensor, "V h w"], logs: Float[Tensor, "V h w"], steps: Float[np.ndarray, " L"]
) -> Float[Tensor, "V h w"]:
    """The logarithm of the multiple of ``start``, searched for around ``logs``, smooth but where ``start`` jumps."""
    depth = start * logs.exp()
    neighbors = neighbors_of(level, depth, _NEIGHBORS)
    edges = start.clamp(min=1e-12).log()
    across = edges.diff(dim=2, prepend=edges[:, :, :1]).abs().numpy()
    down = edges.diff(dim=1, prepend=edges[:, :1]).abs().numpy()
    stay = (_STAY * np.abs(steps / steps[-1])).astype(np.float32)

    def change(view: int) -> Float[np.ndarray, "h w"]:
        """The factors that a view's depth should change by."""
        volume = volume_of(level, depth, view, neighbors[view], steps) + stay
        total, out = np.zeros_like(volume), np.zeros(level.size, np.float32)
        _sweep.smooth_costs(volume, across[view], down[view], _STEP, _JUMP, total)
        _sweep.best_step(total, steps, out)
        return out

    return _median(logs + torch.from_numpy(np.stack(per_view(change, len(start)))))


def _median(field: Float[Tensor, "V h w"]) -> Float[Tensor, "V h w"]:
    """The median of 3x3 pixels."""
    padded = functional.pad(field[:, None], (1, 1, 1, 1), mode="replicate")
    return functional.unfold(padded, 3).median(1).values.reshape(field.shape)


def _disagreements(level: Level, fields: Sequence[Float[Tensor, "V h w"]]) -> list[Float[Tensor, "V"]]:
    """Each view's mean cost of each depth, all judged by the same neighbours."""
    lists = [neighbors_of(level, field, _NEIGHBORS) for field in fields]
    neighbors = [sorted(set().union(*each)) for each in zip(*lists, strict=True)]
    here = np.zeros(1, np.float32)

    def mean(depth: Tensor, view: int) -> float:
        """The mean disagreement of a view, 1 where nothing can be compared."""
        costs = volume_of(level, depth, view, neighbors[view], here)[level.valid[view]]
        return float(costs.mean()) if len(costs) else 1.0

    return [torch.tensor(per_view(functools.partial(mean, field), len(field))) for field in fields]
