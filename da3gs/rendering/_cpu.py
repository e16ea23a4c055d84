"""The CPU backend: arrays in, pictures out, around the kernels."""

from __future__ import annotations

import dataclasses
import functools
import threading

import numpy as np
import torch
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering import _blend, _project
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


class _Workspace:
    """Buffers that are kept between frames: fresh memory costs more than filling it."""

    def __init__(self) -> None:
        self.records = np.empty((0, _project.RECORD), np.float32)
        self.tiles = np.empty((0, 4), np.uint16)
        self.entries = np.empty(0, np.uint64)

    def reserve(self, splats: int) -> None:
        """Make room for the records of so many splats, each on a cache line of its own."""
        if len(self.records) < splats:
            memory = np.empty(splats * _project.RECORD + 16, np.float32)
            offset = -memory.ctypes.data % 64 // 4
            self.records = memory[offset : offset + splats * _project.RECORD].reshape(splats, _project.RECORD)
            self.tiles = np.empty((splats, 4), np.uint16)

    def reserve_entries(self, entries: int) -> None:
        """Make room for the tile lists."""
        if len(self.entries) < entries:
            self.entries = np.empty(entries + entries // 8, np.uint64)


_idle: list[_Workspace] = []
_idle_lock = threading.Lock()


def _borrow() -> _Workspace:
    with _idle_lock:
        return _idle.pop() if _idle else _Workspace()


def _give_back(workspace: _Workspace) -> None:
    with _idle_lock:
        if not _idle:
            _idle.append(workspace)


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
    """Where one picture is drawn: contiguous float32 arrays."""

    color: np.ndarray
    """(H, W, 3)."""
    depth: np.ndarray
    """(H, W)."""
    alpha: np.ndarray
    """(H, W)."""


def rasterise(
    splats: Splats,
    camera: np.ndarray,
    background: np.ndarray,
    canvas: Canvas,
    *,
    antialias: bool = False,
    threads: int | None = None,
) -> None:
    """Draw one scene from one camera (see ``camera_array``) on ``canvas``."""
    announce_compilation(_project.project)
    workspace = _borrow()
    try:
        _rasterise(splats, camera, background, canvas, antialias, worker_count(threads), workspace)
    finally:
        _give_back(workspace)


def _rasterise(
    splats: Splats,
    camera: np.ndarray,
    background: np.ndarray,
    canvas: Canvas,
    antialias: bool,
    workers: int,
    workspace: _Workspace,
) -> None:
    height, width = canvas.alpha.shape
    across, down = -(-width // _project.TILE), -(-height // _project.TILE)
    number = len(splats.means)
    workspace.reserve(number)
    records, tiles = workspace.records[:number], workspace.tiles[:number]
    boxes, bits = records.view(np.int32), records.view(np.uint32)
    pieces = 1 if workers == 1 else 4 * workers
    counts = np.empty((pieces, across * down), np.int64)
    counter = _counter()
    run_parallel(
        lambda: _project.project(
            counter, pieces, splats.means.ravel(), splats.scales.ravel(), splats.quaternions.ravel(), splats.opacities,
            splats.harmonics.ravel(), splats.harmonics.shape[1], camera, (height, width), antialias, records.ravel(),
            boxes.ravel(), tiles, counts, across,
        ),
        workers,
    )  # fmt: skip
    starts = np.empty(across * down + 1, np.int64)
    for first_row, last_row in _bands(counts, across, down):
        first, last = first_row * across, last_row * across
        workspace.reserve_entries(_blend.place(counts, starts, first, last))
        lists = (across, starts, workspace.entries, records, boxes, background)
        filling = functools.partial(
            _blend.fill, _counter(), bits, tiles, counts, across, first_row, last_row, workspace.entries
        )
        run_parallel(filling, workers)
        blending = functools.partial(
            _blend.blend, _counter(), first, last, *lists, canvas.color, canvas.depth, canvas.alpha
        )
        run_parallel(blending, workers)


def render_cpu(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Tensor,
    *,
    antialias: bool,
    threads: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, depth and alpha with the leading axes of ``cameras``; shapes are checked by the caller."""
    batch = cameras.world_to_cam.shape[:-2]
    scenes = gaussians.means.shape[:-2].numel()
    color = torch.empty(*batch, cameras.height, cameras.width, 3)
    depth, alpha = torch.empty(color.shape[:-1]), torch.empty(color.shape[:-1])
    fields = (gaussians.means, gaussians.scales, gaussians.quaternions, gaussians.opacities, gaussians.harmonics)
    columns = [as_array(f).reshape(scenes, *f.shape[gaussians.means.ndim - 2 :]) for f in fields]
    poses = cameras.world_to_cam.detach().cpu().double().reshape(-1, 4, 4).numpy()
    intrinsics = cameras.intrinsics.detach().cpu().double().reshape(-1, 3, 3).numpy()
    colors = as_array(background).reshape(-1, 3)
    for index, (pose, k) in enumerate(zip(poses, intrinsics, strict=True)):
        scene = index * scenes // len(poses)
        picture = (t.flatten(0, len(batch) - 1)[index] if batch else t for t in (color, depth, alpha))
        rasterise(
            Splats(*(c[scene] for c in columns)),
            camera_array(pose, k, cameras.height, cameras.width),
            colors[index],
            Canvas(*(p.numpy() for p in picture)),
            antialias=antialias,
            threads=threads,
        )
    return color, depth, alpha
