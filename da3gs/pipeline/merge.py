"""Fewer splats for the same picture: neighbours and duplicate layers become one, then the least seen go."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.pipeline.score import photo_psnr
from da3gs.rendering import contributions
from da3gs.scene import Provenance
from da3gs.views import Views

DEFAULT_BUDGET = 1_500_000
"""More splats than that are too many for most viewers."""
_MOST_OPAQUE = 0.99
_CHUNK = 1 << 17
"""Splats, or cells, that are worked on at a time."""
_UNSEEN = 0.01
"""Splats that cover less of a pixel than this, over all photos, go before any are merged."""
_OVERLAP = 1.25
"""Merged splats of cells of a pixel and more grow by this, so that the coarser grid has no gaps."""


def footprints(means: Float[Tensor, "N 3"], cameras: Cameras) -> Float[Tensor, "N"]:
    """How large a pixel is at each point, for the camera that shows the point largest; cameras with a leading axis."""
    focal = cameras.intrinsics[:, (0, 1), (0, 1)].mean(-1).to(means)
    centers = cameras.centers.to(means)
    sizes = torch.empty_like(means[:, 0])
    for start in range(0, len(means), _CHUNK):
        away = torch.cdist(means[start : start + _CHUNK], centers, compute_mode="donot_use_mm_for_euclid_dist")
        sizes[start : start + _CHUNK] = (away / focal).amin(-1)
    return sizes.clamp_(min=1e-12)


def cell_keys(means: Float[Tensor, "N 3"], sizes: Float[Tensor, "N"], factor: float = 1.0) -> Int[Tensor, "N"]:
    """The cell of each point in a grid whose cells are about ``factor`` times as large as ``sizes`` says there.

    Sizes are rounded to powers of the square root of 2, so that points of one place share one grid. A key is a hash
    of 64 bits: of some millions of cells hardly ever two share one.
    """
    keys = torch.empty(len(means), dtype=torch.int64, device=means.device)
    for start in range(0, len(means), _CHUNK):
        part = slice(start, start + _CHUNK)
        level = torch.round(2 * torch.log2(factor * sizes[part].double()))
        cells = torch.floor(means[part].double() / torch.exp2(level / 2)[:, None])
        key = torch.zeros_like(level, dtype=torch.int64)
        for number in torch.cat((level[:, None], cells), -1).to(torch.int64).unbind(-1):
            key = (key ^ number) * 0x2545F4914F6CDD1D  # wraps round
            key = key ^ (key >> 29 & (1 << 35) - 1)  # without the mask a number and its complement would be one
        keys[part] = key
    return keys


def _cells(keys: Int[Tensor, "N"]) -> int:
    """How many different keys there are."""
    ordered = keys.sort().values
    return int((ordered[1:] != ordered[:-1]).sum()) + 1 if len(keys) else 0


def _summed(values: Tensor, group: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, group, values)


def _covariances(gaussians: Gaussians) -> Float[Tensor, "N 3 3"]:
    axes = quaternion_to_matrix(gaussians.quaternions) * gaussians.scales[:, None, :]
    return axes @ axes.mT


def grouped(gaussians: Gaussians, group: Int[Tensor, "N"], count: int, *, overlap: float = 1.0) -> Gaussians:
    """One splat a group with the mass, mean and spread of its members; every group has at least one.

    The mass of a splat is its opacity times its area (the product of its two larger sizes). Members of one place add
    up until opaque; members side by side make a wider splat, widened further by ``overlap``.
    """
    area = gaussians.scales.sort(-1).values[:, 1:].prod(-1)
    mass = (gaussians.opacities * area).clamp(min=1e-30)
    total = _summed(mass, group, count)
    share = mass / total[group]
    means = _summed(share[:, None] * gaussians.means, group, count)
    away = gaussians.means - means[group]
    spread = _covariances(gaussians) + away[:, :, None] * away[:, None, :]
    covariance = _summed(share[:, None, None] * spread, group, count)
    values, vectors = torch.linalg.eigh(covariance.double())
    scales = values.clamp(min=1e-30).sqrt().float()
    flip = torch.det(vectors).sign()
    vectors = vectors * torch.stack((torch.ones_like(flip), torch.ones_like(flip), flip), -1)[:, None, :]
    members = torch.bincount(group, minlength=count)
    scales = torch.where(members[:, None] > 1, scales * overlap, scales)
    opacity = (total / scales.sort(-1).values[:, 1:].prod(-1).clamp(min=1e-30)).clamp(max=_MOST_OPAQUE)
    one = members == 1
    merged = Gaussians(
        means=means,
        scales=scales,
        quaternions=matrix_to_quaternion(vectors).float(),
        opacities=opacity,
        harmonics=_summed(share[:, None, None] * gaussians.harmonics, group, count),
    )
    first = _first_of(group, count)
    return Gaussians(
        **{
            field.name: torch.where(
                one.reshape(-1, *[1] * (getattr(merged, field.name).ndim - 1)),
                getattr(gaussians, field.name)[first],
                getattr(merged, field.name),
            )
            for field in dataclasses.fields(Gaussians)
        }
    )


def _first_of(group: Int[Tensor, "N"], count: int) -> Int[Tensor, "M"]:
    """The first member of each group."""
    first = torch.full((count,), len(group), dtype=torch.int64)
    return first.scatter_reduce_(0, group, torch.arange(len(group)), "amin")


def _grouped_rows(rows: Provenance, group: Int[Tensor, "N"], count: int) -> Provenance:
    """Where merged splats come from: the first member's pixel, view -1 where members come from several views."""
    first = _first_of(group, count)
    own = rows.view[first]
    mixed = torch.zeros(count, dtype=torch.bool).index_put_((group,), rows.view != own[group], accumulate=True)
    return dataclasses.replace(rows.map(lambda t: t[first]), view=torch.where(mixed, torch.full_like(own, -1), own))


def merged_cells(
    gaussians: Gaussians,
    provenance: Provenance | None,
    keys: Int[Tensor, "N"],
    *,
    keep: Bool[Tensor, "N"] | None = None,
    overlap: float = 1.0,
) -> tuple[Gaussians, Provenance | None]:
    """One splat for each cell of ``keys``, in the order of the first members; those that are not kept count nowhere.

    Works piece by piece: beside the splats and the result there are 16 bytes a splat.
    """
    members = torch.arange(len(keys)) if keep is None else keep.nonzero()[:, 0]
    order = keys[members].argsort(stable=True)
    members = members[order]
    del order
    ordered = keys[members]
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), (ordered[1:] != ordered[:-1]).nonzero()[:, 0] + 1))
    del ordered
    ends = torch.cat((starts[1:], starts.new_tensor([len(members)])))
    places = members[starts].argsort().argsort()  # where each cell's splat goes
    result = gaussians.map(lambda t: torch.empty(len(starts), *t.shape[1:], dtype=t.dtype))
    rows = None
    if provenance is not None:
        rows = provenance.map(lambda t: torch.empty(len(starts), *t.shape[1:], dtype=t.dtype))
    for first in range(0, len(starts), _CHUNK):
        last = min(first + _CHUNK, len(starts))
        inside = members[starts[first] : ends[last - 1]]
        group = torch.repeat_interleave(torch.arange(last - first), ends[first:last] - starts[first:last])
        part = gaussians.map(lambda t, inside=inside: t[inside])  # type: ignore[misc]
        _put(result, grouped(part, group, last - first, overlap=overlap), places[first:last])
        if provenance is not None and rows is not None:
            part_rows = provenance.map(lambda t, inside=inside: t[inside])  # type: ignore[misc]
            _put(rows, _grouped_rows(part_rows, group, last - first), places[first:last])
    return result, rows


def _put(whole: TensorRecord, part: TensorRecord, places: Int[Tensor, "M"]) -> None:
    for field in dataclasses.fields(whole):  # type: ignore[arg-type]
        getattr(whole, field.name)[places] = getattr(part, field.name)


def thinned(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    most: int,
    *,
    keep: Bool[Tensor, "N"] | None = None,
) -> tuple[Gaussians, Provenance | None]:
    """At most ``most`` splats, of those to keep: neighbours merge in cells as large as it takes."""
    count = len(gaussians) if keep is None else int(keep.sum())
    if count <= most:
        if keep is None or count == len(gaussians):
            return gaussians, provenance
        return gaussians.masked(keep), None if provenance is None else provenance.map(lambda t: t[keep])
    sizes = footprints(gaussians.means, cameras)

    def keys_of(factor: float) -> Int[Tensor, "N"]:
        """Keys of cells so many footprints large."""
        return cell_keys(gaussians.means, sizes, factor)

    def cells(factor: float) -> int:
        """How many cells of that size hold splats to keep."""
        keys = keys_of(factor)
        return _cells(keys if keep is None else keys[keep])

    low, high = 0.25, 64.0
    while cells(high) > most and high < 1e12:
        high *= 16
    for _ in range(8):
        middle = math.sqrt(low * high)
        count = cells(middle)
        low, high = (low, middle) if count <= most else (middle, high)
        if 0.95 * most <= count <= most:
            break
    overlap = 1 + (_OVERLAP - 1) * min(max((high - 0.7) / 0.3, 0.0), 1.0)
    return merged_cells(gaussians, provenance, keys_of(high), keep=keep, overlap=overlap)


def splats_in(megabytes: float, bands: int) -> int:
    """How many splats of so many harmonics a .ply file of this size holds, its header and comments included."""
    return max(1, int((megabytes * 1e6 - 4096) // (4 * (14 + 3 * bands))))


def check_budget(budget: int | None, max_mb: float | None) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: naming the flag, its value and the range.
    """
    if budget is not None and budget < 1:
        raise InputError(f"--budget is a number of splats from 1 up, got {budget}")
    if max_mb is not None and not 0.01 <= max_mb <= 1e6:
        raise InputError(f"--max-mb is the size of a file from 0.01 to 1000000 MB, got {max_mb:g}")
    if budget is not None and max_mb is not None:
        raise InputError("--budget and --max-mb exclude each other; give one of them")


def bounded(
    gaussians: Gaussians, provenance: Provenance | None, cameras: Cameras, budget: int
) -> tuple[Gaussians, Provenance | None]:
    """Few enough splats for ``merge``, which draws them all: photos by the hundred make more than memory may hold.

    That is twice the budget, or twice the usual one where that is more.
    """
    return thinned(gaussians, provenance, cameras, 2 * max(budget, DEFAULT_BUDGET))


def merge(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    views: Views,
    budget: int,
    *,
    progress: Progress = silent,
) -> tuple[Gaussians, Provenance | None, float]:
    """At most ``budget`` splats, and what that costs: the mean PSNR at the photos before, less that after, in dB.

    Splats that no photo shows go first; then those of one place become one, whichever photos they come from (their
    provenance is then view -1), in cells as large as it takes. Cutting by contribution alone would be far worse: the
    layers of a surface share it, and a cut leaves holes. The price is below 0 where the photos are shown better for it.
    """
    if len(gaussians) <= budget:
        return gaussians, provenance, 0.0
    before = photo_psnr(gaussians, cameras, views)
    seen = contributions(gaussians, cameras, pixel_weights=_wanted(views), progress=progress) >= _UNSEEN
    fewer, rows = thinned(gaussians, provenance, cameras, budget, keep=seen)
    after = photo_psnr(fewer, cameras, views)
    return fewer, rows, (sum(before) - sum(after)) / len(before)


def _wanted(views: Views) -> Float[Tensor, "V H W"] | None:
    """1 where a pixel counts."""
    return None if views.masks is None else views.masks.float()
