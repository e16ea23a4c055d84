"""The CPU backend: arrays in, pictures out, around the kernels."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from da3gs.rendering import _backward, _blend, _project, _project_backward, _weigh
from da3gs.rendering._jit import announce_compilation, run_parallel, worker_count

_ENTRIES_AT_ONCE = 1 << 26
"""Tile lists longer than this in all (512 MiB) are made and blended a band of tile rows at a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Splats:
    """One scene's splats as contiguous float32 arrays."""

    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    features: np.ndarray
    """(N, C), C may be 0."""


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor as a contiguous float32 array on the CPU; shares memory where it can."""
    array: np.ndarray = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
    return array


def camera_array(world_to_cam: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray:
    """The 24 numbers that the kernels want of a camera, computed in float64.

    Rotation row by row, translation, fx, fy, skew, cx, cy, the four limits of x/z and y/z for the projection's
    derivative (left, right, up, down), and the camera's centre.
    """
    pose, k = world_to_cam.astype(np.float64), intrinsics.astype(np.float64)
    rotation, translation = pose[:3, :3], pose[:3, 3]
    fx, fy, skew, cx, cy = k[0, 0], k[1, 1], k[0, 1], k[0, 2], k[1, 2]
    beyond = 0.3 * 0.5 * np.array([width / fx, width / fx, height / fy, height / fy])
    limits = np.array([cx / fx, (width - cx) / fx, cy / fy, (height - cy) / fy]) + beyond
    lens = np.array([fx, fy, skew, cx, cy])
    parts = [rotation.ravel(), translation, lens, limits, -rotation.T @ translation]
    return np.concatenate(parts).astype(np.float32)


class Workspace:
    """Buffers that are kept between frames: fresh memory costs more than filling it."""

    def __init__(self) -> None:
        self.records = np.empty((0, _project.RECORD), np.float32)
        self.tiles = np.empty((0, 4), np.uint16)
        self.entries = np.empty(0, np.uint64)

    def reserve(self, splats: int) -> None:
        """Make room for the records of so many splats, each on a cache line of its own."""
        if len(self.records) < splats:
            splats = -(-splats // 16) * 16
            memory = np.empty(splats * _project.RECORD + 16, np.float32)
            offset = -memory.ctypes.data % 64 // 4
            self.records = memory[offset : offset + splats * _project.RECORD].reshape(splats, _project.RECORD)
            self.tiles = np.empty((splats, 4), np.uint16)

    def reserve_entries(self, entries: int) -> None:
        """Make room for the tile lists."""
        if len(self.entries) < entries:
            self.entries = np.empty(entries + entries // 8, np.uint64)


_idle: list[Workspace] = []
_idle_lock = threading.Lock()


def borrow_workspace() -> Workspace:
    """Buffers of an earlier picture, or new ones."""
    with _idle_lock:
        return _idle.pop() if _idle else Workspace()


def return_workspace(workspace: Workspace) -> None:
    """Let the next picture use the buffers."""
    with _idle_lock:
        if not _idle:
            _idle.append(workspace)


def drop_workspaces() -> None:
    """Give up the buffers that wait for the next picture."""
    with _idle_lock:
        _idle.clear()


def _counter() -> np.ndarray:
    return np.zeros(1, np.int64)


def _bands(counts: np.ndarray, across: int, down: int) -> list[tuple[int, int]]:
    """Ranges of tile rows whose lists fit into memory together; a single row is never split."""
    per_row = counts.sum(0).reshape(down, across).sum(1)
    bands: list[tuple[int, int]] = []
    first, held = 0, 0
    for row, entries in enumerate(per_row.tolist()):
        if row > first and held + entries > _ENTRIES_AT_ONCE:
            bands.append((first, row))
            first, held = row, 0
        held += entries
    return [*bands, (first, down)]


@dataclasses.dataclass(frozen=True, slots=True)
class Canvas:
    """Canvas of one picture: contiguous float32 arrays."""

    color: np.ndarray
    """(H, W, 3)."""
    depth: np.ndarray
    """(H, W)."""
    alpha: np.ndarray
    """(H, W)."""
    extra: np.ndarray
    """(H, W, C), the blended features."""


@dataclasses.dataclass(frozen=True, slots=True)
class Band:
    """Tiles ``first`` to ``last`` with their sorted lists."""

    first: int
    last: int
    starts: np.ndarray
    entries: np.ndarray


@dataclasses.dataclass(slots=True)
class Drawn:
    """Record of one picture for the way back."""

    workspace: Workspace
    """Records and tiles of the splats."""
    bands: list[Band]
    across: int
    """Tiles in a row."""
    stops: np.ndarray
    rests: np.ndarray
    used: np.ndarray


def rasterise(
    splats: Splats,
    camera: np.ndarray,
    background: np.ndarray,
    canvas: Canvas,
    *,
    antialias: bool = False,
    threads: int | None = None,
    keep: bool = False,
) -> Drawn | None:
    """Draw one scene from one camera (see ``camera_array``) on ``canvas``; with ``keep``, what the way back needs."""
    announce_compilation(_project.project)
    workers = worker_count(threads)
    workspace = borrow_workspace()
    try:
        counts = _project_all(splats, camera, canvas.alpha.shape, antialias, workers, workspace)
        drawn = _draw_tiles(splats, background, canvas, counts, workers, workspace, keep)
    except BaseException:
        return_workspace(workspace)
        raise
    if keep:
        return drawn
    return_workspace(workspace)
    return None


def weigh(
    splats: Splats,
    camera: np.ndarray,
    counts: np.ndarray,
    sums: np.ndarray,
    *,
    antialias: bool = False,
    threads: int | None = None,
) -> None:
    """Add to ``sums`` (N) what each splat contributes to the picture: its weights times ``counts`` (H, W), summed.

    Needs the memory of a picture and no more; the number of threads changes no byte.
    """
    announce_compilation(_project.project)
    workers, number = worker_count(threads), len(splats.means)
    workspace = borrow_workspace()
    try:
        in_tiles = _project_all(splats, camera, counts.shape, antialias, workers, workspace)
        records = workspace.records[:number]
        for band in _lists(number, in_tiles, counts.shape, workers, workspace):
            weighing = functools.partial(
                _weigh.weigh, _counter(), band.first, band.last, _tiles(counts.shape)[0], band.starts, band.entries,
                records.ravel(), records.view(np.int32).ravel(), counts,
            )  # fmt: skip
            run_parallel(weighing, workers)
            _weigh.collect(band.entries, band.starts[band.last], sums)
    finally:
        return_workspace(workspace)


def _tiles(size: tuple[int, int]) -> tuple[int, int]:
    """How many tiles a picture of (height, width) has across and down."""
    height, width = size
    return -(-width // _project.TILE), -(-height // _project.TILE)


def _project_all(
    splats: Splats, camera: np.ndarray, size: tuple[int, int], antialias: bool, workers: int, workspace: Workspace
) -> np.ndarray:
    """Fill the workspace; how many splats each piece of the work has in each tile."""
    across, down = _tiles(size)
    number = len(splats.means)
    workspace.reserve(number)
    pieces = 1 if workers == 1 else 4 * workers
    counts = np.empty((pieces, across * down), np.int64)
    counter = _counter()
    run_parallel(
        lambda: _project.project(
            counter, pieces, splats.means.ravel(), splats.scales.ravel(), splats.quaternions.ravel(), splats.opacities,
            splats.harmonics.ravel(), splats.harmonics.shape[1], camera, size, antialias,
            workspace.records.ravel(), workspace.tiles.ravel(), counts, across,
        ),
        workers,
    )  # fmt: skip
    return counts


def _lists(
    number: int, counts: np.ndarray, size: tuple[int, int], workers: int, workspace: Workspace, *, keep: bool = False
) -> Iterator[Band]:
    """Bands of tiles with the lists of their splats, in memory of their own with ``keep``, else in the workspace's."""
    across, down = _tiles(size)
    records, tiles = workspace.records[:number], workspace.tiles[:number]
    for first_row, last_row in _bands(counts, across, down):
        first, last = first_row * across, last_row * across
        starts = np.empty(across * down + 1, np.int64)
        total = _blend.place(counts, starts, first, last)
        if keep:
            entries = np.empty(total, np.uint64)
        else:
            workspace.reserve_entries(total)
            entries = workspace.entries
        filling = functools.partial(
            _blend.fill, _counter(), records.view(np.uint32), tiles, counts, across, first_row, last_row, entries
        )
        run_parallel(filling, workers)
        yield Band(first, last, starts, entries)


def _draw_tiles(
    splats: Splats,
    background: np.ndarray,
    canvas: Canvas,
    counts: np.ndarray,
    workers: int,
    workspace: Workspace,
    keep: bool,
) -> Drawn:
    across, down = _tiles(canvas.alpha.shape)
    number = len(splats.means)
    records = workspace.records[:number]
    pixels = across * down * _project.TILE**2 if keep else 0
    drawn = Drawn(
        workspace=workspace,
        bands=[],
        across=across,
        stops=np.empty(pixels, np.float32),
        rests=np.empty(pixels, np.float32),
        used=np.empty(across * down if keep else 0, np.int64),
    )
    for band in _lists(number, counts, canvas.alpha.shape, workers, workspace, keep=keep):
        if keep:
            drawn.bands.append(band)
        blending = functools.partial(
            _blend.blend, _counter(), band.first, band.last, across, band.starts, band.entries, records.ravel(),
            records.view(np.int32).ravel(), splats.features.ravel(), background,
            canvas.color, canvas.depth, canvas.alpha, canvas.extra, drawn.stops, drawn.rests, drawn.used,
        )  # fmt: skip
        run_parallel(blending, workers)
    return drawn


@dataclasses.dataclass(frozen=True, slots=True)
class SplatGradients:
    """Gradients of one scene, added up over its pictures; flat float32 arrays."""

    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    features: np.ndarray


def rasterise_back(
    splats: Splats,
    camera: np.ndarray,
    background: np.ndarray,
    canvas: Canvas,
    by_canvas: Canvas,
    drawn: Drawn,
    gradients: SplatGradients,
    *,
    antialias: bool = False,
    threads: int | None = None,
) -> np.ndarray:
    """Add the gradients of one picture to ``gradients``; return those by the camera (``CAMERA`` numbers)."""
    announce_compilation(_backward.blend_back)
    workers = worker_count(threads)
    number, channels = len(splats.means), canvas.extra.shape[2]
    records, tiles = drawn.workspace.records[:number], drawn.workspace.tiles[:number]
    slots = np.empty(number, np.int64)
    sums = np.empty(_backward.number_slots(tiles, slots) * (_backward.SUMS + channels), np.float32)
    pixel_grads = (by_canvas.color, by_canvas.depth, by_canvas.alpha, by_canvas.extra, canvas.depth, canvas.alpha)
    for band in drawn.bands:
        work = functools.partial(
            _backward.blend_back, _counter(), band.first, band.last, drawn.across, band.starts, band.entries,
            drawn.used, records.ravel(), records.view(np.int32).ravel(), tiles, splats.features.ravel(), background,
            drawn.stops, drawn.rests, pixel_grads, slots, sums,
        )  # fmt: skip
        run_parallel(work, workers)
    by_camera = np.zeros((-(-number // _project_backward.CHUNK), _project_backward.CAMERA))
    work = functools.partial(
        _project_backward.project_back, _counter(), splats.means.ravel(), splats.scales.ravel(),
        splats.quaternions.ravel(), splats.opacities, splats.harmonics.ravel(), splats.harmonics.shape[1], camera,
        antialias, records.ravel(), tiles, slots, sums, channels, gradients.means, gradients.scales,
        gradients.quaternions, gradients.opacities, gradients.harmonics, gradients.features, by_camera,
    )  # fmt: skip
    run_parallel(work, workers)
    return by_camera.sum(0)
