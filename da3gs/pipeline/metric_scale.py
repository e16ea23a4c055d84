"""Metric scale: the models that know metres, and what they need for it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs.cameras import Cameras
from da3gs.checkpoints import MODELS
from da3gs.errors import InputError
from da3gs.network.config import ModelConfig, NestedConfig
from da3gs.pipeline.settings import Settings
from da3gs.prediction import FocalResidual
from da3gs.views import Views

_NESTED, _METRIC = "da3nested-giant-large-1.1", "da3metric-large"


def focal_residual(predicted: Cameras, known: Float[Tensor, "V 3 3"]) -> FocalResidual | None:
    """The residual where focal lengths are known; views whose row is NaN do not count."""
    ratio = mean_focal(predicted.intrinsics.cpu()) / mean_focal(known.cpu())
    ratio = ratio[torch.isfinite(ratio)]
    if not len(ratio):
        return None
    percent = 100 * (ratio.double() - 1)
    largest = percent[percent.abs().argmax()].abs()
    return FocalResidual(percent=percent.quantile(0.5).item(), largest=largest.item(), views=len(ratio))


def mean_focal(intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """The mean of both focal lengths, in pixels."""
    return intrinsics[..., (0, 1), (0, 1)].mean(-1)


def is_monocular(network: nn.Module) -> bool:
    """Whether the network looks at one photo at a time and knows nothing of cameras."""
    config = getattr(network, "config", None)
    return isinstance(config, ModelConfig) and config.camera is None


def is_metric_by_focal(network: nn.Module) -> bool:
    """Whether its depth is metres once a focal length is known (metres = focal · depth / 300)."""
    card = MODELS.get(getattr(getattr(network, "config", None), "name", ""))
    return is_monocular(network) and card is not None and "metric" in card.heads


def is_nested(network: nn.Module) -> bool:
    """Whether its predictions are metres by themselves."""
    return isinstance(getattr(network, "config", None), NestedConfig)


def refuse_metres(network: nn.Module, views: Views, known: Float[Tensor, "V 3 3"] | None, settings: Settings) -> None:
    """Refuse ``--metric on`` where the model and the input cannot tell metres.

    Args:
        network: the model.
        views: the photos.
        known: intrinsics that are known; NaN where they are not.
        settings: what was asked for.

    Raises:
        InputError: they cannot; the message says what would.
    """
    if settings.metric != "on" or is_nested(network):
        return
    if not is_metric_by_focal(network):
        name = getattr(getattr(network, "config", None), "name", "this model")
        raise InputError(
            f"--metric on, but {name} does not know metres; use --model {_NESTED}, or for single photos with a known "
            f"focal length --model {_METRIC}"
        )
    if settings.upstream:
        raise InputError(
            "--metric on with --upstream: the official program leaves this depth unscaled; drop one of them"
        )
    focal = None if known is None else mean_focal(known)
    unknown = [n for i, n in enumerate(views.names) if focal is None or not bool(torch.isfinite(focal[i]))]
    if unknown:
        raise InputError(
            f"--metric on needs the focal length of {unknown[0]}, which has none in its EXIF; give it in a "
            f"transforms.json, or use --model {_NESTED}"
        )
