"""Metres and sky: what the metric branch knows, brought to the any-view branch."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.errors import InputError

SKY_THRESHOLD = 0.3
"""A pixel with more likeness of sky than this is sky."""
CANONICAL_FOCAL = 300.0
"""The focal length in pixels at which the metric network's depth is in metres."""
_FEWEST = 10  # fewer pixels than this many plus one say nothing
_SAMPLES = 100_000  # above this many values the official code takes quantiles of a random part
_SKY_QUANTILE = 0.99
_FARTHEST_SKY = 200.0


def metric_depth(
    depth: Float[Tensor, "*batch H W"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch H W"]:
    """The metric network's depth in metres: times the mean focal length (pixels of the same image) over 300."""
    focal = intrinsics[..., (0, 1), (0, 1)].mean(-1)
    return depth * (focal / CANONICAL_FOCAL)[..., None, None]


def is_sky(sky: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    """Mask of sky that the network sees."""
    return ~(sky < SKY_THRESHOLD)


def quantile(values: Float[Tensor, "N"], share: float) -> Float[Tensor, ""]:
    """The quantile between neighbouring values, for any number of them."""
    place = share * (len(values) - 1)
    low = int(place)
    lower = values.kthvalue(low + 1).values
    if low + 1 >= len(values):
        return lower
    upper = values.kthvalue(low + 2).values
    return torch.lerp(lower, upper, place - low)


def _sampled(values: Float[Tensor, "N"], generator: torch.Generator | None) -> Float[Tensor, "M"]:
    """100 000 draws with replacement where a generator is given and there are more values; else all."""
    if generator is None or len(values) <= _SAMPLES:
        return values
    index = torch.randint(0, len(values), (_SAMPLES,), generator=generator)
    return values[index.to(values.device)]


def filled_sky(
    depth: Float[Tensor, "*batch"], sky: Bool[Tensor, "*batch"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch"]:
    """Depth with the sky behind nearly everything else: at the 0.99 quantile of what is not sky, all views together.

    Unchanged where ten or fewer pixels are sky, or are not.

    Args:
        depth: of one scene.
        sky: where the sky is.
        generator: draws the sample that the official code takes of many values; None: all.
    """
    if int((~sky).sum()) <= _FEWEST or int(sky.sum()) <= _FEWEST:
        return depth
    far = quantile(_sampled(depth[~sky], generator), _SKY_QUANTILE)
    return torch.where(sky, far, depth)


def metric_scale(
    depth: Float[Tensor, "*batch"],
    confidence: Float[Tensor, "*batch"],
    metric: Float[Tensor, "*batch"],
    sky: Bool[Tensor, "*batch"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The factor that takes depth to metres: least squares over the surer half of the pixels that are not sky.

    Args:
        depth: any-view depth of one scene.
        confidence: of that depth.
        metric: the metric branch's depth in metres.
        sky: where the sky is.
        generator: draws the sample that the official code takes of many values; None: all.

    Raises:
        InputError: everything is sky.
    """
    if int((~sky).sum()) <= _FEWEST:
        raise InputError("the views show nothing but sky, so there is no metric scale; use an any-view model")
    values = confidence[~sky]
    if generator is not None and len(values) > _SAMPLES:
        values = values[torch.randperm(len(values), generator=generator)[:_SAMPLES].to(values.device)]
    sure = (confidence >= quantile(values, 0.5)) & ~sky & (metric > 1e-2) & (depth > 1e-3)
    a, b = depth[sure], metric[sure]
    return (a * b).sum() / a.square().sum().clamp(min=1e-12)


def far_sky(
    depth: Float[Tensor, "*batch"],
    confidence: Float[Tensor, "*batch"],
    sky: Bool[Tensor, "*batch"],
    *,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Metric depth with the sky behind nearly everything, 200 m at most, and the confidence with 1, the lowest, there.

    Args:
        depth: in metres, of one scene.
        confidence: of that depth.
        sky: where the sky is.
        generator: draws the sample that the official code takes of many values; None: all.
    """
    far = quantile(_sampled(depth[~sky], generator), _SKY_QUANTILE).clamp(max=_FARTHEST_SKY)
    return torch.where(sky, far, depth), torch.where(sky, torch.ones_like(confidence), confidence)
