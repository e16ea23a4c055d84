"""What a reconstruction would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from da3gs.checkpoints import ModelCard
from da3gs.photos import load_photos
from da3gs.pipeline.loading import loaded_model
from da3gs.pipeline.predict import refuse_impossible
from da3gs.pipeline.reconstruct import Source
from da3gs.pipeline.settings import Settings, split_holdout

_BYTES = 4
_HEAD_PIXELS = 250_000  # how many pixels' maps a dense head holds at once
_SPLAT_FLOATS = 14 + 6  # a splat of degree 0 and what is noted beside it
_VIEW_FLOATS = 3 + 4 + 4  # image, depth, confidence, masks, renders


def plan(
    source: Source, *, model: str | Path = "da3gs-nano", masks: str | Path | None = None, **flags: Any
) -> dict[str, Any]:
    """What ``reconstruct`` would read, pick and load with these flags, and about how much memory it would need.

    Raises:
        InputError, CheckpointError: what ``reconstruct`` would refuse at once.
    """
    flags.pop("threads", None)
    settings = Settings(**flags)
    ready = loaded_model(model, settings)
    card = ready.card
    resolution = card.resolution if settings.resolution == "auto" else settings.resolution
    wanted = card.views if settings.views == "auto" else settings.views
    folder = None if masks is None else Path(masks)
    photos = load_photos(source, resolution=resolution, views=wanted, fps=settings.fps, masks=folder)
    context, held = split_holdout(settings.holdout, photos.views.names)
    given = photos.views.cameras is not None and settings.poses in ("auto", "given")
    refuse_impossible(ready.network, photos.views[context], settings)
    height, width = photos.views.height, photos.views.width
    return {
        "input": photos.kind,
        "views": [photos.views.names[i] for i in context],
        "holdout": [photos.views.names[i] for i in held],
        "dropped": [f"{photo.name} {photo.reason}" for photo in photos.dropped],
        "size": f"{width}x{height}",
        "poses": "given" if given else settings.poses if settings.poses in ("rays", "colmap") else "predicted",
        "model": card.name,
        "licence": card.licence,
        "device": str(next(ready.network.parameters()).device),
        "splats_at_most": len(context) * height * width,
        "memory_mb": _memory_mb(card, ready.network, len(context), height, width),
    }


def _memory_mb(card: ModelCard, network: torch.nn.Module, views: int, height: int, width: int) -> float:
    """About how much memory the run needs on top of the imports: weights, views, splats, and one head's maps."""
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    pixels = height * width
    config = getattr(network, "config", None)
    config = getattr(config, "geometry", config)
    features = config.head.pyramid.features if config is not None else 64
    tokens = config.backbone.feature_width * 6 if config is not None else 4608
    head = max(_HEAD_PIXELS, pixels) * (features * 3 + 64) * _BYTES
    everything = views * pixels * (_VIEW_FLOATS + 2 * _SPLAT_FLOATS) * _BYTES + views * pixels / 196 * tokens * _BYTES
    return round((weights + head + everything) / 1e6, 0)
