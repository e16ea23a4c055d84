"""Dry run: what a reconstruction would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from da3gs.photos import LoadedPhotos, load_photos
from da3gs.photos.accounts import counted, told
from da3gs.pipeline.camera_source import camera_source
from da3gs.pipeline.chunked_prediction import at_once
from da3gs.pipeline.exact_cameras import AUTO_DETAIL
from da3gs.pipeline.memory_estimate import budget_of, predicted_peak
from da3gs.pipeline.model_loading import loaded_model
from da3gs.pipeline.predict import refuse_impossible
from da3gs.pipeline.reconstruct import Source
from da3gs.pipeline.settings import Settings, split_holdout


def plan(
    source: Source,
    *,
    model: str | Path = "auto",
    masks: str | Path | None = None,
    **flags: Any,
) -> dict[str, Any]:
    """Plan of a reconstruction with these flags: what it would read, pick and load, and about how much memory it takes.

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
    photos = load_photos(
        source, resolution=resolution, views=wanted, fps=settings.fps, masks=folder,
        invert_masks=settings.invert_masks, panoramas=settings.panoramas, split=settings.split,
    )  # fmt: skip
    context, held = split_holdout(settings.holdout, photos.views.names)
    came_from = camera_source(settings, card, posed=photos.views.cameras is not None)
    refuse_impossible(ready.network, photos.views[context], settings)
    height, width = photos.views.height, photos.views.width
    fine = None if came_from == "network" else _fine_size(photos, context, settings)
    peak = predicted_peak(
        ready.network, settings, views=len(context), height=height, width=width,
        photos=len(photos.views), by_photos=card.by_photos,
        fine=fine, bundled=card.bundled, together=at_once(card, settings),
    )  # fmt: skip
    return {
        "input": photos.kind,
        "views": [photos.views.names[i] for i in context],
        "holdout": [photos.views.names[i] for i in held],
        "dropped": counted(photos.dropped),
        "left_out": told(photos.dropped),
        "notes": list(photos.notes),
        "size": f"{width}x{height}",
        "poses": {"given": "given", "photos": "colmap", "network": "rays" if settings.poses == "rays" else "predicted"}[
            came_from
        ],
        "model": card.name,
        "licence": card.licence,
        "device": str(next(ready.network.parameters()).device),
        "splats_at_most": min(budget_of(settings), len(context) * fine[0] * fine[1])
        if fine
        else len(context) * height * width,
        "memory_mb": round(peak / 1e6),
    }


def _fine_size(photos: LoadedPhotos, context: list[int], settings: Settings) -> tuple[int, int] | None:
    """Height and width of the photos at the detail of the splats; None where stereo does not make these."""
    if len(context) < 2 or settings.upstream or settings.splats == "head":
        return None
    photo = photos.photos[context[0]]
    detail = AUTO_DETAIL if settings.detail == "auto" else settings.detail
    factor = min(1.0, detail / max(photo.original_height, photo.original_width))
    return round(photo.original_height * factor), round(photo.original_width * factor)
