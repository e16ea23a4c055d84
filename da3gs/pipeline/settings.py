"""Settings of `reconstruct`, checked before anything is read."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from da3gs._tensors import Device
from da3gs.errors import InputError
from da3gs.optimisation.budget import check_budget
from da3gs.optimisation.optimizer import Limit
from da3gs.poses.features.learned import FeatureKind, check_installed
from da3gs.poses.world_frame import Up
from da3gs.rendering import Backend
from da3gs.splats.pruning import DEFAULT_EDGE, Limits, parse_crop

Poses = Literal["auto", "given", "predicted", "rays", "colmap"]
Splats = Literal["auto", "head", "depth"]
Metric = Literal["auto", "on", "off"]
Sky = Literal["drop", "shell"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Images = Literal["used", "original"]
Panoramas = Literal["auto", "always", "never"]


REFINED = 504
"""Long side of the photos that splats are refined against, at most."""
AUTO_SECONDS, _MOST_STEPS = 8.0, 150
"""Of ``--refine auto`` on two cores, without its cross-validation; and its steps at most."""
_STEP_SECONDS = 0.02, 4.5e-7, 3e-7
"""Of a step on two cores, measured: once, for each splat, for each pixel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The flags of ``da3gs reconstruct``, by the same names; kept in scene.json."""

    poses: Poses = "auto"
    features: FeatureKind = "auto"
    shared_focal: bool = False
    splats: Splats = "auto"
    views: int | Literal["auto"] = "auto"
    chunk: int | Literal["auto"] = "auto"
    fps: float | None = None
    resolution: int | Literal["auto"] = "auto"
    detail: int | Literal["auto"] = "auto"
    invert_masks: bool = False
    panoramas: Panoramas = "auto"
    split: str | None = None
    metric: Metric = "auto"
    sky: Sky = "drop"
    up: Up = "auto"
    clean: bool = True
    min_opacity: float | None = None
    min_confidence: float | None = None
    edge: float | None = None
    max_size: float | None = None
    outliers: int | None = None
    crop: str | None = None
    photos: str | None = None
    budget: int | None = None
    max_mb: float | None = None
    refine: float | Literal["auto"] = "auto"
    holdout: str | None = None
    upstream: bool = False
    dtype: DType = "auto"
    images: Images = "used"
    device: Device = "auto"
    backend: Backend = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.views != "auto" and self.views < 1:
            raise InputError(f"--views is a number from 1 up or auto, got {self.views}")
        if self.chunk != "auto" and not 4 <= self.chunk <= 4096:
            raise InputError(f"--chunk is a number of views from 4 to 4096 or auto, got {self.chunk}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"--fps is a number above 0 and up to 1000, got {self.fps:g}")
        if self.resolution != "auto" and not 56 <= self.resolution <= 4096:
            raise InputError(f"--resolution is a long side from 56 to 4096 pixels or auto, got {self.resolution}")
        if self.detail != "auto" and not 56 <= self.detail <= 8192:
            raise InputError(f"--detail is a long side from 56 to 8192 pixels or auto, got {self.detail}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed is a whole number from 0 to 2^63 - 1, got {self.seed}")
        if self.shared_focal and self.poses not in ("auto", "colmap"):
            raise InputError(f"--shared-focal goes with --poses auto or colmap, got --poses {self.poses}")
        if self.features != "auto" and self.poses not in ("auto", "colmap"):
            raise InputError(f"--features goes with --poses auto or colmap, got --poses {self.poses}")
        if self.features == "xfeat" or self.features == "aliked":
            check_installed(self.features)
        if self.refine != "auto" and not 0 <= self.refine <= 86_400:
            raise InputError(f"--refine is a number of seconds from 0 (off) to 86400, or auto; got {self.refine:g}")
        check_budget(self.budget, self.max_mb)
        if self.upstream and (self.refine not in (0, "auto") or self.budget is not None or self.max_mb is not None):
            raise InputError("--upstream is the official behaviour, without --refine, --budget and --max-mb")
        if self.holdout is not None:
            parse_holdout(self.holdout)
        self.limits  # noqa: B018  (checks its own values)

    @property
    def limits(self) -> Limits | None:
        """The cleaning bounds; None where cleaning is off."""
        if not self.clean:
            return None
        return Limits(
            min_opacity=self.min_opacity,
            min_confidence=self.min_confidence,
            edge=DEFAULT_EDGE if self.edge is None else self.edge,
            sky=self.sky == "drop",
            max_size=self.max_size,
            outliers=self.outliers,
            crop=None if self.crop is None else parse_crop(self.crop),
        )

    def refines(self, *, bundled: bool, exact: bool) -> bool:
        """Whether splats are refined; ``--refine auto`` does with the bundled model and exact cameras."""
        return bundled and exact and not self.upstream if self.refine == "auto" else self.refine > 0

    def refinement(self, *, splats: int, pixels: int) -> Limit:
        """How long so many splats are refined against photos of so many pixels; ``auto`` counts in steps, so that the
        same photos give the same splats on a busy machine, too."""
        if self.refine != "auto":
            return Limit(seconds=self.refine)
        once, each, drawn = _STEP_SECONDS
        return Limit(steps=max(1, round(min(_MOST_STEPS, AUTO_SECONDS / (once + each * splats + drawn * pixels)))))

    def as_dict(self) -> dict[str, object]:
        """For scene.json."""
        return dataclasses.asdict(self)


def parse_holdout(text: str) -> int | tuple[str, ...]:
    """The K of ``every:K``, or the names of a comma-separated list.

    >>> parse_holdout("every:8"), parse_holdout("a,b")
    (8, ('a', 'b'))
    """
    if match := re.fullmatch(r"every:(\d{1,9})", text):
        every = int(match[1])
        if every < 2:
            raise InputError(f"--holdout every:K needs K of 2 or more, got {text!r}")
        return every
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    if not names or text.startswith("every:"):
        raise InputError(f"--holdout is every:K (K of 2 or more) or names with commas between, got {text!r}")
    return names


def split_holdout(holdout: str | None, names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Positions of the context views and of the held-out ones; ``every:K`` holds out 0, K, 2K, ...

    Raises:
        InputError: a name that no kept view has, or no context view is left.
    """
    if holdout is None:
        return list(range(len(names))), []
    match parse_holdout(holdout):
        case int(every):
            held = set(range(0, len(names), every))
        case wanted:
            position = {name: index for index, name in enumerate(names)}
            stems = {name.rpartition(".")[0] or name: name for name in wanted}
            held = set()
            for stem, name in stems.items():
                index = position.get(name, position.get(stem))
                if index is None:
                    raise InputError(f"--holdout names {name!r}, no kept view's name: {', '.join(names[:6])}")
                held.add(index)
    context = [index for index in range(len(names)) if index not in held]
    if not context:
        raise InputError(
            f"--holdout {holdout!r} leaves none of {len(names)} photos to reconstruct from; hold out fewer"
        )
    return context, sorted(held)
