"""Fewer splats: those of a place that look alike become one."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.scene import Provenance
from da3gs.splats._merge_tree import joining_prices, place_keys

_MOST_OPAQUE = 0.99
_CHUNK = 1 << 17
"""Splats, or cells, that are worked on at a time."""
_WIDER = 3.0
"""At most so much is the squared distance of members from their mean multiplied: a square of uniform mass has a
standard deviation of 0.29 of its side, a Gaussian that tiles a plane without gaps one of half of it."""
_BLUR = 0.01
"""Mean squared colour error of a pixel that is off by one pixel: what place counts against colour."""


def footprints(means: Float[Tensor, "N 3"], cameras: Cameras) -> Float[Tensor, "N"]:
    """Pixel size at each point, for the camera that shows the point largest; cameras with a leading axis."""
    focal = cameras.intrinsics[:, (0, 1), (0, 1)].mean(-1).to(means)
    centers = cameras.centers.to(means)
    sizes = torch.empty_like(means[:, 0])
    for start in range(0, len(means), _CHUNK):
        away = torch.cdist(means[start : start + _CHUNK], centers, compute_mode="donot_use_mm_for_euclid_dist")
        sizes[start : start + _CHUNK] = (away / focal).amin(-1)
    return sizes.clamp_(min=1e-12)


def agreeing_cells(
    gaussians: Gaussians,
    cameras: Cameras,
    most: int,
    *,
    keep: Bool[Tensor, "N"] | None = None,
    weights: Float[Tensor, "N"] | None = None,
) -> tuple[Int[Tensor, "M"], Int[Tensor, "C"]]:
    """At most ``most`` cells of splats that can stand for one another: the splats cell by cell, and where cells start.

    Cells nest, each halving one axis of the next larger one. Of all ways to cut this tree the one is taken that
    joins what costs the picture least, by ``Σ w (|c - c̄|² + β |x - x̄|²)`` over the members of a cell, with colours c
    and places x in pixels: where splats agree cells are large, at edges and in texture they stay small (the pruning
    of Chou, Lookabaugh and Gray 1989, in one pass over the splats).

    Args:
        cameras: with a leading axis; they tell how large a pixel is at a splat.
        keep: only these count.
        weights: how much each splat shows, in pixels; by default its opacity times its area.
    """
    members = torch.arange(len(gaussians)) if keep is None else keep.nonzero()[:, 0]
    means = np.ascontiguousarray(gaussians.means.detach().numpy())
    sizes = footprints(gaussians.means.detach(), cameras)
    if weights is None:
        weights = _masses(gaussians) / sizes.square()
    smallest = float(sizes[sizes.isfinite()].amin()) if bool(sizes.isfinite().any()) else 1.0
    keys = torch.empty(len(members), dtype=torch.int64)
    place_keys(means, sizes.numpy(), smallest, members.numpy(), keys.numpy())
    del sizes
    keys, order = keys.sort(stable=True)
    members = members[order]
    del order
    prices = np.empty(len(members), np.float32)
    joining_prices(
        keys.numpy(), members.numpy(), means, np.ascontiguousarray(gaussians.harmonics.detach().numpy()),
        weights.detach().numpy(), smallest, _BLUR, prices,
    )  # fmt: skip
    del keys
    if len(prices) <= most:
        return members, torch.arange(len(members))
    bound = np.partition(prices, len(prices) - most - 1)[len(prices) - most - 1]
    return members, torch.from_numpy(np.flatnonzero(prices > bound))


def _masses(gaussians: Gaussians) -> Float[Tensor, "N"]:
    """Opacity times area: the product of the two larger sizes."""
    masses = gaussians.opacities.detach().clone()
    for start in range(0, len(masses), _CHUNK):
        masses[start : start + _CHUNK] *= _areas(gaussians.scales[start : start + _CHUNK].detach())
    return masses


def _areas(scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    return scales.sort(-1).values[:, 1:].prod(-1)


def _summed(values: Tensor, group: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, group, values)


def _flat_area(covariance: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N"]:
    """The product of the two larger sizes of splats that are much thinner than wide: of the eigenvalues' pair products
    the square root."""
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (0.5 * (trace.square() - covariance.square().sum((-2, -1)))).clamp(min=0).sqrt()


def _covariances(gaussians: Gaussians) -> Float[Tensor, "N 3 3"]:
    axes = quaternion_to_matrix(gaussians.quaternions) * gaussians.scales[:, None, :]
    return axes @ axes.mT


def grouped(gaussians: Gaussians, group: Int[Tensor, "N"], count: int) -> Gaussians:
    """One splat a group with the mass, mean and spread of its members; every group has some.

    The mass of a splat is its opacity times its area (the product of its two larger sizes). Members of one place add
    up until opaque; members side by side make a wider splat, and where that cannot be as opaque as they are together,
    as on a wall of one layer, it reaches further between its neighbours.
    """
    mass = _masses(gaussians).clamp(min=1e-30)
    total = _summed(mass, group, count)
    share = mass / total[group]
    means = _summed(share[:, None] * gaussians.means, group, count)
    away = gaussians.means - means[group]
    own = _summed(share[:, None, None] * _covariances(gaussians), group, count)
    apart = _summed(share[:, None, None] * away[:, :, None] * away[:, None, :], group, count)
    surplus = total / (_MOST_OPAQUE * _flat_area(own + apart)).clamp(min=1e-30)
    covariance = own + surplus.clamp(1.0, _WIDER)[:, None, None] * apart
    values, vectors = torch.linalg.eigh(covariance.double().nan_to_num(0.0, 1e30, 0.0))
    scales = values.clamp(min=1e-30).sqrt().float()
    flip = torch.det(vectors).sign()
    vectors = vectors * torch.stack((torch.ones_like(flip), torch.ones_like(flip), flip), -1)[:, None, :]
    return Gaussians(
        means=means,
        scales=scales,
        quaternions=matrix_to_quaternion(vectors).float(),
        opacities=(total / _areas(scales).clamp(min=1e-30)).clamp(max=_MOST_OPAQUE),
        harmonics=_summed(share[:, None, None] * gaussians.harmonics, group, count),
        antialiased=gaussians.antialiased,
    )


def merged_cells(
    gaussians: Gaussians,
    provenance: Provenance | None,
    members: Int[Tensor, "M"],
    starts: Int[Tensor, "C"],
) -> tuple[Gaussians, Provenance | None]:
    """One splat for each cell, in the order of the cells; splats that are alone in theirs stay as they are.

    Where a merged splat comes from: the pixel of the cell's first member, view -1 where they come from several views.
    Works piece by piece: beside the splats and the result there are 8 bytes a splat and 32 a cell.

    Args:
        members: rows of the splats, cell by cell.
        starts: where in ``members`` each cell starts; the first one at 0.
    """
    ends = torch.cat((starts[1:], starts.new_tensor([len(members)])))
    firsts = members[starts]
    result = gaussians.map(lambda t: t[firsts])
    rows = None if provenance is None else provenance.map(lambda t: t[firsts])
    shared = (ends - starts > 1).nonzero()[:, 0]
    for cells in shared.split(_CHUNK // 2):
        sizes = ends[cells] - starts[cells]
        group = torch.repeat_interleave(torch.arange(len(cells)), sizes)
        within = torch.arange(len(group)) - (sizes.cumsum(0) - sizes)[group]
        inside = members[starts[cells][group] + within]
        part = gaussians.map(lambda t, inside=inside: t[inside])  # type: ignore[misc]
        merged = grouped(part, group, len(cells))
        for field in dataclasses.fields(Gaussians):
            if isinstance(column := getattr(result, field.name), Tensor):
                column[cells] = getattr(merged, field.name)
        if provenance is not None and rows is not None:
            rows.view[cells[group[provenance.view[inside] != rows.view[cells][group]]]] = -1
    return result, rows


def thinned(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    most: int,
    *,
    keep: Bool[Tensor, "N"] | None = None,
    weights: Float[Tensor, "N"] | None = None,
) -> tuple[Gaussians, Provenance | None]:
    """At most ``most`` splats, of those to keep: neighbours that agree become one; see ``agreeing_cells``.

    Sorting and pooling run on the CPU; the result lies where the splats did.
    """
    count = len(gaussians) if keep is None else int(keep.sum())
    if count <= most:
        if keep is None or count == len(gaussians):
            return gaussians, provenance
        return gaussians.masked(keep), None if provenance is None else provenance.map(lambda t: t[keep])
    device = gaussians.device
    own, rows = gaussians.to("cpu"), None if provenance is None else provenance.to("cpu")
    keep, weights = None if keep is None else keep.cpu(), None if weights is None else weights.cpu()
    cells = agreeing_cells(own, cameras.to("cpu"), most, keep=keep, weights=weights)
    fewer, rows = merged_cells(own, rows, *cells)
    return fewer.to(device), None if rows is None else rows.to(device)
