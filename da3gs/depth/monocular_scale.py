"""The scale of monocular depth under given cameras, told by the photos: at its true depth a surface looks alike."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from da3gs.cameras import Cameras
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.views import Views

_LONG_SIDE = 84  # pixels at which photos are compared
_OTHERS = 4  # views that each is compared with
_REACH, _STEPS = 6.0, 97  # how far, and how finely, the logarithm of the scale is searched
_ROUNDS = ((1.0, 0.125), (0.125, 0.02))  # then around the best: share of the first step, and step
_APART = 0.7  # a view's own factor that is further from the others' than this is a mistake
_LEAST_SEEN = 0.2  # of a view's pixels have to be seen by the other one
_WINDOW = 5


def agreeing_depth(
    depth: Float[Tensor, "V H W"], views: Views, *, sky: Bool[Tensor, "V H W"] | None, together: bool
) -> tuple[Float[Tensor, "V H W"], float]:
    """Depth in the units of the given cameras, and the median factor that took it there.

    Each view's depth is multiplied by the factor at which its pixels, seen from the nearest other cameras, look most
    alike (zero-mean normalised cross-correlation of small windows). Where the cameras stand on one spot nothing tells,
    and the factor is 1.

    Args:
        depth: up to a factor a view.
        views: with given cameras.
        sky: pixels that do not count.
        together: one factor for all views (metric depth, whose scale is one), not one each.
    """
    cameras = views.cameras
    assert cameras is not None
    small = _Small.of(depth, views, sky)
    centers = small.cameras.centers
    distance = torch.cdist(centers, centers)
    if not bool(distance.max() > 1e-9):
        return depth, 1.0
    # where depth is about as far as the cameras are from each other, parallax tells
    middle = torch.stack(
        [d[v].median() if v.any() else d.median() for d, v in zip(small.depth, small.valid, strict=True)]
    )
    start = (distance.max() / middle.median().clamp(min=1e-12)).log()
    steps = start + torch.linspace(-_REACH / 2, _REACH, _STEPS)
    relative = (middle.median() / middle.clamp(min=1e-12)).log() if not together else torch.zeros_like(middle)
    curves = torch.stack([_curve(small, i, (steps + relative[i]).exp()) for i in range(len(depth))])
    best = _lowest(curves.mean(0), steps)
    if together:
        fine = best + torch.linspace(-0.1, 0.1, 21)
        best = _lowest(torch.stack([_curve(small, i, fine.exp()) for i in range(len(depth))]).mean(0), fine)
        factors = best.expand(len(depth))
    else:
        own = torch.stack([_own(small, i, best + relative[i]) for i in range(len(depth))]) - relative
        typical = own.median()  # a view that none of the others sees well takes the others' factor
        factors = torch.where((own - typical).abs() < _APART, own, typical) + relative
    scale = factors.exp().to(depth)
    return depth * scale[:, None, None], float(scale.median())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Small:
    """Everything at a size at which comparing is quick."""

    grey: Float[Tensor, "V h w"]
    depth: Float[Tensor, "V h w"]
    valid: Bool[Tensor, "V h w"]
    cameras: Cameras

    @staticmethod
    def of(depth: Tensor, views: Views, sky: Tensor | None) -> _Small:
        """The views at the size that is compared."""
        assert views.cameras is not None
        factor = min(1.0, _LONG_SIDE / max(views.height, views.width))
        size = (max(8, round(views.height * factor)), max(8, round(views.width * factor)))
        wanted = torch.ones(depth.shape, dtype=torch.bool) if views.masks is None else views.masks.cpu()
        if sky is not None:
            wanted = wanted & ~sky.cpu()
        grey = functional.interpolate(views.images.cpu().mean(1, keepdim=True), size, mode="area")[:, 0]
        share = functional.interpolate(wanted[:, None].float(), size, mode="area")[:, 0]
        nearest = functional.interpolate(depth.cpu()[:, None].float(), size, mode="nearest")[:, 0]
        return _Small(
            grey=grey, depth=nearest, valid=share > 0.99, cameras=views.cameras.to("cpu").resized(*size)
        )  # fmt: skip


def _neighbors(small: _Small, view: int) -> list[int]:
    """The nearest cameras that stand somewhere else and look a similar way."""
    centers, forward = small.cameras.centers, small.cameras.forward
    distance = (centers - centers[view]).norm(dim=-1)
    turned = 1 - (forward @ forward[view]).clamp(max=1)
    cost = distance / distance.max().clamp(min=1e-12) + turned
    cost[distance < 1e-3 * distance.max()] = torch.inf
    order = torch.argsort(cost).tolist()
    return [i for i in order if torch.isfinite(cost[i])][:_OTHERS]


def _curve(small: _Small, view: int, scales: Float[Tensor, "S"]) -> Float[Tensor, "S"]:
    """How badly the view agrees with its neighbours for each scale of its depth: 1 − correlation; 1 where unseen."""
    height, width = small.grey.shape[-2:]
    camera = small.cameras[view]
    rays = camera_directions(camera.intrinsics, pixel_centers(height, width)) * small.depth[view, ..., None]
    rays = rays @ camera.cam_to_world[:3, :3].T
    costs = []
    for other in _neighbors(small, view):
        target = small.cameras[other]
        direction, start = rays @ target.world_to_cam[:3, :3].T, target.world_to_cam[:3, :3] @ camera.centers
        start = start + target.world_to_cam[:3, 3]
        local = scales[:, None, None, None] * direction + start
        projected = local @ target.intrinsics.T
        ahead = local[..., 2] > 1e-6 * small.depth[view].median().clamp(min=1e-12)
        pixel = (
            projected[..., :2] / torch.where(ahead, projected[..., 2], torch.ones_like(projected[..., 2]))[..., None]
        )
        grid = 2 * pixel / torch.tensor([width, height]) - 1
        inside = ahead & (grid.abs() < 1).all(-1) & small.valid[view]
        seen = functional.grid_sample(
            small.grey[other].expand(len(scales), 1, height, width), grid.clamp(-2, 2), align_corners=False
        )[:, 0]
        costs.append(_unlikeness(small.grey[view], seen, inside))
    return torch.stack(costs).mean(0) if costs else torch.ones(len(scales))


def _unlikeness(photo: Float[Tensor, "h w"], seen: Float[Tensor, "S h w"], inside: Bool[Tensor, "S h w"]) -> Tensor:
    """1 − the correlation of windows, averaged over what is inside; 1 where too little is."""

    def around(x: Tensor) -> Tensor:
        """The mean over a window, of what lies inside the picture."""
        return functional.avg_pool2d(x[:, None], _WINDOW, 1, _WINDOW // 2, count_include_pad=False)[:, 0]

    a = photo[None]
    mean_a, mean_b = around(a), around(seen)
    variance_a, variance_b = around(a * a) - mean_a**2, around(seen * seen) - mean_b**2
    both = around(a * seen) - mean_a * mean_b
    likeness = both / (variance_a.clamp(min=1e-5) * variance_b.clamp(min=1e-5)).sqrt()
    count = inside.flatten(1).sum(-1)
    mean = (likeness * inside).flatten(1).sum(-1) / count.clamp(min=1)
    return torch.where(count > _LEAST_SEEN * photo.numel(), 1 - mean, torch.ones_like(mean))


def _own(small: _Small, view: int, start: Tensor) -> Tensor:
    """A view's own logarithm of scale, near the common one."""
    best = start
    for reach, step in _ROUNDS:
        steps = best + torch.arange(-reach, reach + step / 2, step)
        best = _lowest(_curve(small, view, steps.exp()), steps)
    return best


def _lowest(curve: Float[Tensor, "S"], steps: Float[Tensor, "S"]) -> Tensor:
    return steps[curve.argmin()]
