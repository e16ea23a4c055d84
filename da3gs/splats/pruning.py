"""Pruning of splats: one rule for the command line, the viewer and the exports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Int16
from torch import Tensor

from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.scene import Provenance, Scene

DEFAULT_EDGE = 0.12
"""A pixel whose depth is between those of its neighbours, and farther from both than this share, is a flyer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds that a splat has to keep; None leaves a criterion out."""

    min_opacity: float | None = None
    """Splats fainter than this go."""
    min_confidence: float | None = None
    """Splats of pixels whose depth confidence (at least 1) is below this go."""
    edge: float | None = DEFAULT_EDGE
    """Splats of pixels that hang in a jump of depth, farther than this share from both of its sides, go."""
    sky: bool = True
    """Splats of sky go."""
    max_size: float | None = None
    """Splats whose largest standard deviation is above this, in the unit of the scene, go."""
    outliers: int | None = None
    """Splats with fewer others than this around them go; see ``neighbours``."""
    crop: tuple[float, float, float, float, float, float] | None = None
    """Splats whose centre is outside of this box go: the lowest x, y, z, then the highest."""
    views: tuple[int, ...] | None = None
    """Splats of other views than these go; those merged from several stay."""

    def __post_init__(self) -> None:
        """Refuse bounds that mean nothing."""
        if self.max_size is not None and not 0 < self.max_size < float("inf"):
            raise InputError(f"--max-size is a length above 0, got {self.max_size:g}")
        if self.outliers is not None and not 0 <= self.outliers <= 1_000_000:
            raise InputError(f"--outliers is a number of neighbours from 0 to 1000000, got {self.outliers}")
        if self.crop is not None:
            _check_box(self.crop)
        if self.min_opacity is not None and not 0 <= self.min_opacity <= 1:
            raise InputError(f"--min-opacity is a share from 0 to 1, got {self.min_opacity:g}")
        if self.min_confidence is not None and not 0 <= self.min_confidence < float("inf"):
            raise InputError(f"--min-confidence is a number from 0 up, got {self.min_confidence:g}")
        if self.edge is not None and not 0 < self.edge < float("inf"):
            raise InputError(f"--edge is a positive share of the depth, got {self.edge:g}")

    @property
    def needs_rows(self) -> str | None:
        """The flag that cannot do without ``splats.npz``; None where none is set."""
        if self.min_confidence is not None:
            return "--min-confidence"
        if self.edge is not None:
            return "--edge"
        return "--photos" if self.views is not None else None

    def as_dict(self) -> dict[str, object]:
        """For scene.json."""
        return dataclasses.asdict(self)


NO_LIMITS = Limits(edge=None, sky=False)
"""Bounds that every sound splat keeps."""


def _check_box(box: Sequence[float]) -> None:
    low, high = box[:3], box[3:]
    if len(box) != 6 or not all(map(math.isfinite, box)) or any(a >= b for a, b in zip(low, high, strict=True)):
        raise InputError(f"--crop is x0,y0,z0,x1,y1,z1 with each first number below its second, got {box}")


def parse_crop(text: str) -> tuple[float, float, float, float, float, float]:
    """The box of ``x0,y0,z0,x1,y1,z1``.

    >>> parse_crop("-1,-1,0,1,1,4.5")
    (-1.0, -1.0, 0.0, 1.0, 1.0, 4.5)

    Raises:
        InputError: there are not six numbers, or the box is empty.
    """
    try:
        x0, y0, z0, x1, y1, z1 = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--crop takes six numbers x0,y0,z0,x1,y1,z1, got {text!r}") from None
    _check_box((x0, y0, z0, x1, y1, z1))
    return x0, y0, z0, x1, y1, z1


def parse_photos(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """Positions of the photos in a list of names or positions with commas between.

    >>> parse_photos("b,0", ["a", "b"])
    (0, 1)

    Raises:
        InputError: the list is empty, or a photo is not among ``names``.
    """
    known = {name: index for index, name in enumerate(names)}
    found = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        stem = word.rpartition(".")[0] or word
        index = known.get(word, known.get(stem, int(word) if word.isascii() and word.isdigit() else -1))
        if not 0 <= index < len(names):
            raise InputError(f"--photos names {word!r}, no photo of the scene: {', '.join(names[:6])}")
        found.add(index)
    if not found:
        raise InputError(f"--photos is a list of names or positions with commas between, got {text!r}")
    return tuple(sorted(found))


def kept_splats(
    gaussians: Gaussians,
    *,
    wanted: Bool[Tensor, "N"] | None = None,
    confidence: Float[Tensor, "N"] | None = None,
    edge: Float[Tensor, "N"] | None = None,
    sky: Bool[Tensor, "N"] | None = None,
    view: Int16[Tensor, "N"] | None = None,
    around: Int[Tensor, "N"] | None = None,
    limits: Limits | None,
) -> tuple[Bool[Tensor, "N"], dict[str, int]]:
    """Mask of splats that stay, and how many go for which reason; each is counted once, under the first that applies.

    Args:
        gaussians: the candidates.
        wanted: False where the pixel is padding or masked out.
        confidence: of the pixel's depth.
        edge: ``depth_flyers`` of the pixel.
        sky: True where the pixel is sky.
        view: of the photo; -1 where splats of several were merged.
        around: ``neighbours``, where they are known already.
        limits: the bounds; None drops nothing but the non-finite and the unwanted.
    """
    keep = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
    counts: dict[str, int] = {}

    def drop(reason: str, bad: Tensor) -> None:
        """Leave splats out and count those that were still in."""
        nonlocal keep
        counts[reason] = int((keep & bad).sum())
        keep &= ~bad

    if wanted is not None:
        drop("masked", ~wanted)
    drop("non_finite", ~gaussians.finite)
    if limits is None:
        return keep, counts
    drop("non_positive", (gaussians.scales <= 0).any(-1) | (gaussians.opacities <= 0))
    if limits.sky and sky is not None:
        drop("sky", sky)
    if limits.edge is not None and edge is not None:
        drop("edge", edge > limits.edge)
    if limits.min_confidence is not None and confidence is not None:
        drop("confidence", confidence < limits.min_confidence)
    if limits.min_opacity is not None:
        drop("opacity", gaussians.opacities < limits.min_opacity)
    if limits.max_size is not None:
        drop("size", gaussians.scales.amax(-1) > limits.max_size)
    if limits.views is not None and view is not None:
        wanted_views = torch.tensor((-1, *limits.views), dtype=view.dtype, device=view.device)
        drop("photos", ~torch.isin(view, wanted_views))
    if limits.crop is not None:
        low, high = gaussians.means.new_tensor(limits.crop).reshape(2, 3)
        drop("crop", ((gaussians.means < low) | (gaussians.means > high)).any(-1))
    if limits.outliers is not None:
        drop("outliers", (neighbours(gaussians) if around is None else around) < limits.outliers)
    return keep, counts


def cleaned(
    gaussians: Gaussians,
    provenance: Provenance | None,
    limits: Limits | None,
    *,
    around: Int[Tensor, "N"] | None = None,
) -> tuple[Bool[Tensor, "N"], dict[str, int]]:
    """Mask of a finished scene's splats that stay, and how many go for which reason; None keeps all.

    This is what the command line, the exports and the viewer go by. ``neighbours`` are those among all splats given.

    Raises:
        InputError: a bound needs to know where the splats come from, and nobody does.
    """
    if limits is None:
        return torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.means.device), {}
    if provenance is None and (flag := limits.needs_rows) is not None:
        raise InputError(f"{flag} needs a scene folder with splats.npz, which is not there")
    return kept_splats(
        gaussians,
        confidence=None if provenance is None else provenance.confidence.float(),
        edge=None if provenance is None else provenance.edge.float(),
        sky=None if provenance is None else provenance.sky,
        view=None if provenance is None else provenance.view,
        around=around,
        limits=limits,
    )


def cleaned_scene(scene: Scene, limits: Limits | None) -> Scene:
    """The scene with only the splats that stay, and in its record what went.

    Raises:
        InputError: a bound needs what the scene lacks, or nothing is left.
    """
    if limits is None:
        return scene
    keep, counts = cleaned(scene.gaussians, scene.provenance, limits)
    dropped = {reason: number for reason, number in counts.items() if number}
    if not bool(keep.any()):
        why = ", ".join(f"{reason} {number}" for reason, number in dropped.items())
        raise InputError(f"none of {len(keep)} splats is left ({why}); loosen the cleaning")
    rows = scene.provenance
    return dataclasses.replace(
        scene,
        gaussians=scene.gaussians.masked(keep),
        provenance=None if rows is None else rows.map(lambda t: t[keep]),
        record={**scene.record, "cleaning": {"limits": limits.as_dict(), "dropped": dropped}},
    )


_REACH = 4.0
"""Cells of the grid in which neighbours are counted are so many times as wide as the splat itself."""


def neighbours(gaussians: Gaussians) -> Int[Tensor, "N"]:
    """Number of other splats around each: in the 27 cells about it of a grid whose cells are 4 times its own size.

    Size is the largest standard deviation, rounded to a power of two, so that near and far surfaces, whose splats lie
    as far apart as they are wide, are counted alike: a splat of a surface has some hundred around it, a flyer few.
    """
    count = torch.zeros(len(gaussians), dtype=torch.int64)
    sound = torch.nonzero(gaussians.finite.cpu() & (gaussians.scales.amax(-1) > 0).cpu()).squeeze(-1)
    means, sizes = gaussians.means[sound].cpu().double(), gaussians.scales[sound].amax(-1).cpu().double()
    if not len(sound):
        return count
    means = means - means.amin(0)
    levels = torch.log2(sizes).round()
    smallest = math.log2(max(float(means.amax()), 1e-30) / _REACH) - 19  # 2^20 cells an axis fit one number
    levels = levels.clamp(min=math.ceil(smallest))
    steps = torch.tensor([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
    for level in levels.unique().tolist():
        cells = torch.floor(means / (_REACH * 2.0**level)).long() + 1
        occupied, inside = torch.unique(_cell_keys(cells), return_counts=True)
        own = torch.nonzero(levels == level).squeeze(-1)
        total = torch.full((len(own),), -1)  # the splat itself is none of its neighbours
        for step in steps:
            key = _cell_keys(cells[own] + step)
            place = torch.searchsorted(occupied, key).clamp(max=len(occupied) - 1)
            total += torch.where(occupied[place] == key, inside[place], 0)
        count[sound[own]] = total
    return count


def _cell_keys(cells: Int[Tensor, "N 3"]) -> Int[Tensor, "N"]:
    """One number a cell, of coordinates from 0 to below 2^21."""
    x, y, z = cells.unbind(-1)
    return (x << 42) | (y << 21) | z
