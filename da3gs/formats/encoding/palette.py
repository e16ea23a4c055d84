"""Codebooks and palettes: numbers, or vectors, as indexes into a short list of representatives."""

from __future__ import annotations

import typing

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numba import njit

ENTRIES = 256
"""Of a codebook."""

_LLOYD = 60
_BINS = 2048
_EVEN = 0.25  # of the entries, before Lloyd's algorithm moves them
_REFINEMENTS = 2
_NEAR = 12  # centroids that a vector may move to in a refinement, beside its own
_GROUP = 64  # centroids that follow one another in the tree
_GROUPS = 6  # of them that are searched for neighbours

_kernel = njit(cache=True, nogil=True, fastmath={"contract", "reassoc"}, error_model="numpy")


def codebook(values: Float32[np.ndarray, "*shape"]) -> tuple[Float32[np.ndarray, "256"], UInt8[np.ndarray, "*shape"]]:
    """256 numbers that stand for all values with little squared error, ascending, and each value's nearest.

    Lloyd's algorithm on the sorted values, from quantiles of the cube root of their density (Panter and Dite 1951), a
    quarter of them spread evenly, so that rare values have some near by. The least and the largest value are entries;
    up to 256 different values are kept as they are, each as several entries of which the middle one is used: browsers
    that read a picture by way of a canvas may be off by one.
    """
    ordered = np.sort(values, axis=None)
    entries = np.unique(ordered) if len(ordered) else np.zeros(1, np.float32)
    if len(entries) > ENTRIES:
        entries = _lloyd(ordered)
    ends = np.arange(len(entries) + 1) * ENTRIES // len(entries)
    places = (ends[:-1] + ends[1:] - 1) // 2
    labels = places[np.searchsorted((entries[1:] + entries[:-1]) / 2, values)].astype(np.uint8)
    return np.repeat(entries, np.diff(ends)), labels


def _lloyd(ordered: np.ndarray) -> np.ndarray:
    """The entries for more than 256 different values."""
    counts, edges = np.histogram(ordered, _BINS)
    density = np.cbrt(counts)
    share = np.concatenate(([0], np.cumsum(density / density.sum() + _EVEN / (1 - _EVEN) / _BINS)))
    middles = (np.arange(ENTRIES) + 0.5) / ENTRIES * share[-1]
    entries = np.interp(middles, share, edges)
    sums = np.concatenate(([0], np.cumsum(ordered, dtype=np.float64)))
    for _ in range(_LLOYD):
        bounds = np.searchsorted(ordered, ((entries[1:] + entries[:-1]) / 2).astype(np.float32))
        bounds = np.concatenate(([0], bounds, [len(ordered)]))
        size = np.diff(bounds)
        entries = np.where(size > 0, np.diff(sums[bounds]) / np.maximum(size, 1), entries)
    entries[[0, -1]] = ordered[[0, -1]]
    return np.sort(entries).astype(np.float32)


def palette(
    vectors: Float32[np.ndarray, "N D"], size: int
) -> tuple[Float32[np.ndarray, "K D"], Int64[np.ndarray, "N"]]:
    """At most ``size`` vectors that stand for all of them with little squared error, and each one's index.

    Cells are halved at their mean along the direction of their largest spread, always the cell of the largest error
    next (tree-structured vector quantisation). Then a few rounds of k-means, in which a vector may move to its
    centroid's neighbours only: no search of all centroids, which is what makes k-means slow.
    """
    if len(vectors) <= size:
        return vectors.copy(), np.arange(len(vectors))
    axes = _principal_axes(vectors)
    rows = np.ascontiguousarray(vectors @ axes)
    members, starts = np.arange(len(rows)), np.zeros(size + 1, np.int64)
    cells = split_cells(rows, members, starts)
    labels = np.empty(len(rows), np.int64)
    labels[members] = np.repeat(np.arange(cells), np.diff(starts[: cells + 1]))
    del rows
    projected = np.ascontiguousarray(vectors @ axes)
    centroids = np.zeros((cells, vectors.shape[1]), np.float32)
    cell_means(projected, labels, centroids)
    for _ in range(_REFINEMENTS):
        near = np.empty((cells, min(_NEAR + 1, cells)), np.int64)
        find_neighbours(centroids, near)
        reassign(projected, centroids, near, labels)
        cell_means(projected, labels, centroids)
    return centroids @ axes.T, labels


def _principal_axes(vectors: np.ndarray) -> np.ndarray:
    """An orthonormal basis, the direction of the largest spread first."""
    sample = vectors[:: 1 + len(vectors) // 200_000].astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(sample, rowvar=False))
    basis: np.ndarray = axes[:, ::-1].astype(np.float32)
    return basis


@_kernel
@typing.no_type_check
def split_cells(rows, members, starts) -> int:
    """Put rows into cells, as many as there is room for in ``starts``; the number of cells.

    Args:
        rows: (N, D), brought into the order of the cells.
        members: (N,) the rows' numbers, brought into the same order.
        starts: (K + 1,) int64, written: where each cell begins, and the end.
    """
    most = len(starts) - 1
    first, last = np.zeros(most, np.int64), np.zeros(most, np.int64)
    error, middle = np.zeros(most, np.float64), np.zeros(most, np.float32)
    axis = np.zeros(most, np.int64)
    heap = np.zeros(most, np.int64)
    last[0] = len(rows)
    error[0], axis[0], middle[0] = _spread(rows, 0, len(rows))
    cells = 1
    while cells < most and error[heap[0]] > 0:
        cell = heap[0]
        cut = _partition(rows, members, first[cell], last[cell], axis[cell], middle[cell])
        if cut == first[cell] or cut == last[cell]:  # rounding: they cannot be told apart
            error[cell] = 0
            _sink(heap, cells, error, 0)
            continue
        first[cells], last[cells], last[cell] = cut, last[cell], cut
        error[cell], axis[cell], middle[cell] = _spread(rows, first[cell], cut)
        error[cells], axis[cells], middle[cells] = _spread(rows, cut, last[cells])
        _sink(heap, cells, error, 0)
        heap[cells] = cells
        _rise(heap, error, cells)
        cells += 1
    order = np.argsort(first[:cells])
    for k in range(cells):
        starts[k] = first[order[k]]
    starts[cells] = len(rows)
    return cells


@_kernel
@typing.no_type_check
def _spread(rows, first, last) -> tuple[float, int, float]:
    """The squared error of a cell about its mean, the axis of the largest share in it, and the mean there."""
    best, at, middle, total = -1.0, 0, np.float32(0), 0.0
    count = last - first
    sums, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for i in range(first, last):
        for j in range(rows.shape[1]):
            x = np.float64(rows[i, j])
            sums[j] += x
            squares[j] += x * x
    for j in range(rows.shape[1]):
        share = max(squares[j] - sums[j] * sums[j] / count, 0.0)
        total += share
        if share > best:
            best, at, middle = share, j, np.float32(sums[j] / count)
    return total if count > 1 else 0.0, at, middle


@_kernel
@typing.no_type_check
def _partition(rows, members, first, last, axis, middle) -> int:
    """Rows below the middle go first; where the others begin."""
    low, high = first, last - 1
    while low <= high:
        if rows[low, axis] < middle:
            low += 1
            continue
        for j in range(rows.shape[1]):
            kept = rows[low, j]
            rows[low, j] = rows[high, j]
            rows[high, j] = kept
        number = members[low]
        members[low] = members[high]
        members[high] = number
        high -= 1
    return low


@_kernel
@typing.no_type_check
def _sink(heap, size, error, at) -> None:
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and error[heap[child + 1]] > error[heap[child]]:
            child += 1
        if error[heap[child]] <= error[heap[at]]:
            return
        kept = heap[at]
        heap[at] = heap[child]
        heap[child] = kept
        at = child


@_kernel
@typing.no_type_check
def _rise(heap, error, at) -> None:
    while at > 0 and error[heap[(at - 1) // 2]] < error[heap[at]]:
        kept = heap[at]
        heap[at] = heap[(at - 1) // 2]
        heap[(at - 1) // 2] = kept
        at = (at - 1) // 2


@_kernel
@typing.no_type_check
def cell_means(rows, labels, centroids) -> None:
    """Write the mean of the rows of each label; a label without rows keeps its centroid."""
    sums, counts = np.zeros(centroids.shape), np.zeros(len(centroids), np.int64)
    for i in range(len(rows)):
        counts[labels[i]] += 1
        for j in range(rows.shape[1]):
            sums[labels[i], j] += rows[i, j]
    for k in range(len(centroids)):
        if counts[k]:
            for j in range(rows.shape[1]):
                centroids[k, j] = sums[k, j] / counts[k]


@_kernel
@typing.no_type_check
def reassign(rows, centroids, near, labels) -> None:
    """Give each row the nearest of its centroid and that one's neighbours.

    Args:
        rows: (N, D).
        centroids: (K, D).
        near: (K, M) int64, numbers of centroids near each.
        labels: (N,) int64, changed.
    """
    for i in range(len(rows)):
        own, nearest = labels[i], labels[i]
        best = _distance(rows[i], centroids[own])
        for m in range(near.shape[1]):
            distance = _distance(rows[i], centroids[near[own, m]])
            if distance < best:
                best, nearest = distance, near[own, m]
        labels[i] = nearest


@_kernel
@typing.no_type_check
def find_neighbours(centroids, near) -> None:
    """Write the nearest centroids of each, itself among them, of those in the nearest groups of the tree.

    Args:
        centroids: (K, D), in the order of the tree.
        near: (K, M) int64, written; the nearest first.
    """
    count, width = centroids.shape
    groups = (count + _GROUP - 1) // _GROUP
    middles = np.zeros((groups, width), np.float32)
    for g in range(groups):
        end = min(count, (g + 1) * _GROUP)
        for k in range(g * _GROUP, end):
            for j in range(width):
                middles[g, j] += centroids[k, j] / (end - g * _GROUP)
    chosen, reach = np.empty(min(_GROUPS, groups), np.int64), np.empty(min(_GROUPS, groups), np.float32)
    distances = np.empty(near.shape[1], np.float32)
    for k in range(count):
        reach[:], distances[:], near[k] = np.inf, np.inf, k
        for g in range(groups):
            _insert(_distance(middles[g], centroids[k]) if g != k // _GROUP else -1.0, g, reach, chosen)
        for g in chosen:
            for other in range(g * _GROUP, min(count, (g + 1) * _GROUP)):
                _insert(_distance(centroids[other], centroids[k]), other, distances, near[k])


@_kernel
@typing.no_type_check
def _distance(a, b) -> float:
    total = np.float32(0)
    for j in range(len(a)):
        step = a[j] - b[j]
        total += step * step
    return total


@_kernel
@typing.no_type_check
def _insert(distance, number, distances, numbers) -> None:
    """Keep the least distances in order, with their numbers."""
    at = len(distances) - 1
    if distance >= distances[at]:
        return
    while at > 0 and distances[at - 1] > distance:
        distances[at], numbers[at] = distances[at - 1], numbers[at - 1]
        at -= 1
    distances[at], numbers[at] = distance, number
