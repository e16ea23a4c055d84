"""Record of a scene: the content of scene.json."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from da3gs import __version__
from da3gs._files import FORMAT_VERSION
from da3gs._memory import peak_memory_mb
from da3gs.checkpoints import ModelCard
from da3gs.photos import LoadedPhotos, Placement
from da3gs.photos.accounts import recorded
from da3gs.pipeline.settings import Settings
from da3gs.prediction import Placed
from da3gs.scene import SceneRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """PSNR in dB, a number a photo."""

    input: list[float]
    """Of the photos that the splats are made from."""
    holdout: list[float] | None = None
    """Of the photos kept out."""
    holdout_poses: Literal["given", "aligned"] | None = None
    """Where the held-out cameras are from."""


def scene_record(
    card: ModelCard,
    photos: LoadedPhotos,
    context: list[int],
    held: list[int],
    settings: Settings,
    result: Placed,
    dropped: dict[str, int],
    scores: Scores,
    seconds: dict[str, float],
    *,
    antialiased: bool = False,
) -> SceneRecord:
    """The content of scene.json: where everything came from and how good it is."""
    given = result.poses == "given" and not photos.estimated
    unit = "metre" if result.metric else "given" if given else "arbitrary"
    origin, up = ("given", "given") if given else ("first view", settings.up)
    if settings.upstream and not given:
        origin, up = "network", "network"
    return {
        "format_version": FORMAT_VERSION,
        "da3gs_version": __version__,
        "settings": settings.as_dict(),
        "input": photos.kind,
        "model": {"name": card.name, "licence": card.licence, "commercial_use": card.commercial},
        "frame": {
            "axes": "opencv",
            "origin": origin,
            "up": up,
            "unit": unit,
            "metric": result.metric,
            "metres_per_given_unit": None if result.metres is None else float(f"{result.metres:.6g}"),
            "given_times": result.resized,
        },
        "poses": {
            "source": "colmap" if photos.estimated else result.poses,
            "cameras": [_camera(photos, index, result) for index in sorted([*context, *held])],
            "one_spot": photos.one_spot,
            "residual": None if result.residual is None else result.residual.as_dict(),
            "focal": _focal(photos, context, result),
        },
        "views": {
            "kept": [_photo(photos, index, "context") for index in context]
            + [_photo(photos, index, "holdout") for index in held],
            "dropped": recorded(photos.dropped),
            "read": list(photos.read),
            "notes": list(photos.notes),
        },
        "splats_from": _origin(result, antialiased=antialiased),
        "cleaned": dropped,
        "psnr": {
            "input": [_rounded(score) for score in scores.input],
            "input_mean": _mean(scores.input),
            "holdout": None if scores.holdout is None else [_rounded(score) for score in scores.holdout],
            "holdout_mean": None if scores.holdout is None else _mean(scores.holdout),
            "holdout_poses": scores.holdout_poses,
        },
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
    }


def _origin(result: Placed, *, antialiased: bool) -> str:
    """What the splats were made from; those that are drawn antialiased are surfels."""
    if antialiased:
        return "stereo"
    return "depth" if result.gaussians is None else "head" if result.sharp is None else "both"


def _focal(photos: LoadedPhotos, context: list[int], result: Placed) -> dict[str, Any] | None:
    """How far predicted focal lengths are from the known ones, and where these are from."""
    if result.focal is None:
        return None
    sources = sorted({str(photos.photos[i].focal_source) for i in context if photos.photos[i].focal_source})
    return {"source": " and ".join(sources) or None, **result.focal.as_dict()}


def _photo(photos: LoadedPhotos, index: int, role: str) -> dict[str, Any]:
    photo = photos.photos[index]
    return {"name": photo.name, "file": photo.file, "sha256": photo.sha256, "role": role}


def _camera(photos: LoadedPhotos, index: int, result: Placed) -> dict[str, Any]:
    """How a photo came by its camera."""
    photo = photos.photos[index]
    how = photo.placement or Placement(placed="given" if result.poses == "given" else "predicted")
    return {"photo": photo.name, **dataclasses.asdict(how)}


def _rounded(value: float) -> float:
    return round(value, 3)


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)
