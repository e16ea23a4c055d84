"""PatchMatch stereo: a slanted plane for every pixel, at which the photos look alike, with a network as its prior."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8, UInt32
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.depth import _patch_match as _kernels
from da3gs.depth.cost_volume import per_view
from da3gs.depth.plane_completion import completed, slopes_of, without_specks
from da3gs.depth.triangulation import Sharp
from da3gs.depth.view_pyramid import level_of, neighbors_of, resized_depth
from da3gs.geometry.projection import rigid_inverse
from da3gs.rendering._jit import run_parallel, worker_count
from da3gs.views import Views

SIDES = (126, 252, 504)
"""Long sides of the levels, pixels."""
_SMALLEST = 48  # long side of a level that still tells anything
_SWEEPS = ((6, 2), (2, 2), (1, 2))
"""Sweeps of each level without and with the other views' depth."""
_REACH = (0.3, 0.06, 0.02)
"""Relative changes of inverse depth that the first sweep of each level draws at random."""
_SOURCES, _BEST = 5, 2
"""Other views that a pixel is compared with, and how many of them, those that fit best, count."""
_PRIOR_WEIGHT = 0.08
_ROWS = 16  # of a piece of work
_SPACING = 2  # pixels between the samples of a window
_APART, _ALIKE = 1.0, 0.5  # pixels of reprojection error, and cost, within which a view bears a plane out
_SPECKS = (8, 20, 60)  # pixels that a surface has at least, at each level
_PLAIN = 25.0  # variance of a window (of 255 grey values) that tells nothing


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StereoLevel:
    """All photos at one size."""

    grey: Float[np.ndarray, "V h w"]
    """Grey values 0 to 1; NaN where there is no photo or it does not count."""
    lens: Float[np.ndarray, "V 4"]
    """Focal lengths and principal point in pixels of this size."""
    matrices: Float[np.ndarray, "V V 3 3"]
    """``K' R K⁻¹`` from the first view to the second."""
    offsets: Float[np.ndarray, "V V 3"]
    """``K' t`` of the same, in the unit of inverse depth."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each photo on this grid, without padding."""


def stereo_level(
    sharp: Sequence[Sharp],
    cameras: Cameras,
    masks: Bool[Tensor, "V H W"] | None,
    side: int,
    unit: float = 1.0,
) -> StereoLevel:
    """The photos at a long side of the canvas, and how pixels of one view go over into another."""
    factor = side / max(cameras.height, cameras.width)
    height, width = round(cameras.height * factor), round(cameras.width * factor)
    grey, sizes = np.full((len(sharp), height, width), np.nan, np.float32), []
    k = cameras.intrinsics.double().cpu().numpy().copy()
    for view, photo in enumerate(sharp):
        h, w = max(2, round(photo.height * factor)), max(2, round(photo.width * factor))
        smaller = h < photo.image.shape[0]
        image = cv2.resize(photo.image, (w, h), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        own = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        if masks is not None:
            mask = masks[view, : photo.height, : photo.width].cpu().numpy().astype(np.uint8)
            own[cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST) == 0] = np.nan
        grey[view, :h, :w] = own
        sizes.append((h, w))
        k[view, 0] *= w / photo.width
        k[view, 1] *= h / photo.height
    poses = cameras.world_to_cam.double().cpu()
    relative = (poses[None] @ rigid_inverse(poses)[:, None]).numpy()
    matrices = k[None] @ relative[..., :3, :3] @ np.linalg.inv(k)[:, None]
    offsets = (k[None] @ relative[..., :3, 3:])[..., 0] / unit
    lens = np.stack((k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]), -1)
    lens, matrices, offsets = (a.astype(np.float32) for a in (lens, matrices, offsets))
    return StereoLevel(grey=grey, lens=lens, matrices=matrices, offsets=offsets, sizes=tuple(sizes))


def stereo_sides(sharp: Sequence[Sharp], most: int = SIDES[-1]) -> tuple[int, ...]:
    """Long sides of the levels for these photos: ``SIDES``, or as far apart below a finest level of fewer pixels."""
    finest = min(most, max(max(photo.image.shape[:2]) for photo in sharp))
    return tuple(side for side in (finest // 4, finest // 2, finest) if side >= _SMALLEST) or (finest,)


def resized_planes(planes: Float[np.ndarray, "V h w 3"], size: tuple[int, int]) -> Float[np.ndarray, "V H W 3"]:
    """Planes on a finer or coarser grid: that of the pixel that a pixel lies in, carried over to its centre."""
    height, width = planes.shape[1:3]
    rows, columns = (np.arange(size[0]) + 0.5) * height / size[0], (np.arange(size[1]) + 0.5) * width / size[1]
    j, i = rows.astype(int), columns.astype(int)
    found = planes[:, j[:, None], i[None]].copy()
    found[..., 0] += found[..., 1] * (columns - i - 0.5)[None, None] + found[..., 2] * (rows - j - 0.5)[None, :, None]
    found[..., 1] *= width / size[1]
    found[..., 2] *= height / size[0]
    return np.ascontiguousarray(found, np.float32)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StereoDepth:
    """What stereo and the network together know of some views."""

    planes: Float[np.ndarray, "V h w 3"]
    """Inverse depth at each pixel's centre, and how much it changes by a pixel to the right and downwards."""
    votes: UInt8[np.ndarray, "V h w"]
    """How many other views bear the plane out; 0: it is a guess."""
    level: StereoLevel
    """The photos at this size, in the cameras' unit."""

    def ways(self, view: int) -> Float[np.ndarray, "V 12"]:
        """From pixels of a view to those of each: ``K' R K⁻¹`` and ``K' t``, row by row."""
        level = self.level
        there = np.concatenate((level.matrices[view], level.offsets[view, :, :, None]), -1)
        return np.ascontiguousarray(there.reshape(len(there), 12), np.float32)

    def depth(self, size: tuple[int, int]) -> Float[Tensor, "V H W"]:
        """Along the cameras' z axes, of the nearest pixels: never a mean over an edge."""
        inverse = torch.from_numpy(self.planes[..., 0]).clamp(min=1e-12)
        return resized_depth(1 / inverse, size)


def stereo_depth(
    sharp: Sequence[Sharp],
    views: Views,
    cameras: Cameras,
    start: Float[Tensor, "V H W"],
    *,
    masks: Bool[Tensor, "V H W"] | None = None,
    sides: Sequence[int] = SIDES,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
) -> StereoDepth:
    """Planes at which the photos look alike, from coarse to fine, each level with the one before as its prior.

    PatchMatch multi-view stereo (Schönberger et al. 2016; ACMM, Xu and Tao 2019): slanted planes, bilaterally weighted
    NCC, the best views of each pixel, geometric consistency in the last sweeps. Where no view bears a plane out, the
    known ones are continued up to the edges of photo and expected depth. The result does not depend on the threads.

    Args:
        sharp: the photos at full size.
        views: the same at the network's size.
        cameras: of ``views``, exact.
        start: the expected depth, aligned to the cameras.
        masks: where pixels count.
        sides: long sides of the levels, at most three; see ``stereo_sides``.
        seed: of the planes drawn at random.
        threads: as many as torch uses by default.
    """
    depth = start.detach().cpu().float()
    unit = float(depth.median())
    coarse = level_of(views.images.cpu(), cameras.to("cpu"), masks, sides[0])
    neighbors = neighbors_of(coarse, resized_depth(depth, coarse.size), _SOURCES)
    first = stereo_level(sharp, cameras, masks, sides[0], unit)
    planes = prior = slopes_of(unit / resized_depth(depth, (first.grey.shape[1], first.grey.shape[2])).numpy())
    known: tuple[UInt8[np.ndarray, "V h w"], Float[np.ndarray, "V h w 3"]] | None = None
    for step, side in enumerate(sides):
        progress("stereo", step, len(sides))
        level = stereo_level(sharp, cameras, masks, side, unit)
        size = (level.grey.shape[1], level.grey.shape[2])
        expected = unit / resized_depth(depth, size).numpy()
        planes, prior = resized_planes(planes, size), resized_planes(prior, size)
        at = len(SIDES) - len(sides) + step if step else 0
        search = _Search(level, neighbors, prior, planes, seed=seed + step, wide=step == 0, threads=threads)
        search.sweeps(_SWEEPS[at][0], _REACH[at], geometric=False)
        search.sweeps(_SWEEPS[at][1], _REACH[at] / 2, geometric=True)
        votes, texture = search.votes()
        if known is not None:
            votes, found = _with_plain(votes, search.planes, texture, *known)
        else:
            found = search.planes
        prior = _completed(found, votes, expected, level, _SPECKS[at])
        known, planes = (votes, prior), search.planes
    assert known is not None
    level = dataclasses.replace(level, offsets=level.offsets * np.float32(unit))
    return StereoDepth(planes=prior / np.float32(unit), votes=known[0], level=level)


def _with_plain(
    votes: UInt8[np.ndarray, "V h w"],
    planes: Float[np.ndarray, "V h w 3"],
    texture: Float[np.ndarray, "V h w"],
    before: UInt8[np.ndarray, "V a b"],
    before_planes: Float[np.ndarray, "V a b 3"],
) -> tuple[UInt8[np.ndarray, "V h w"], Float[np.ndarray, "V h w 3"]]:
    """Votes and planes, with those of the coarser level where the finer one has no texture to go by."""
    size = (votes.shape[1], votes.shape[2])
    before = resized_map(before, size)
    take = (votes == 0) & (before > 0) & (texture < _PLAIN)
    return np.where(take, before, votes), np.where(take[..., None], resized_planes(before_planes, size), planes)


def _completed(
    planes: Float[np.ndarray, "V h w 3"],
    votes: UInt8[np.ndarray, "V h w"],
    expected: Float[np.ndarray, "V h w"],
    level: StereoLevel,
    specks: int,
) -> Float[np.ndarray, "V h w 3"]:
    """Planes continued where none has votes; votes of specks are taken back in place."""

    def complete(view: int) -> Float[np.ndarray, "h w 3"]:
        """One view."""
        keep = without_specks(planes[view], votes[view] > 0, specks)
        votes[view][~keep] = 0
        return completed(planes[view], keep, expected[view], level.grey[view])

    return np.stack(per_view(complete, len(planes)))


def resized_map(values: Shaped[np.ndarray, "V h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "V H W"]:
    """The value of the pixel that a pixel lies in."""
    rows = ((np.arange(size[0]) + 0.5) * values.shape[1] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * values.shape[2] / size[1]).astype(int)
    return values[:, rows[:, None], columns[None]]


class _Search:
    """PatchMatch on all views of one size."""

    def __init__(
        self,
        level: StereoLevel,
        neighbors: Sequence[Sequence[int]],
        prior: Float[np.ndarray, "V h w 3"],
        start: Float[np.ndarray, "V h w 3"],
        *,
        seed: int,
        wide: bool,
        threads: int | None,
    ) -> None:
        self.level, self.neighbors, self.prior, self.planes = level, [list(n) for n in neighbors], prior, start
        self.costs = np.full(level.grey.shape, 9.0, np.float32)
        self.words = np.empty(level.grey.shape, np.uint32)
        for grey, words in zip(level.grey, self.words, strict=True):
            _kernels.pack(grey, words)
        self.seed, self.wide, self.workers = seed, wide, worker_count(threads)
        self.prior_weight = np.float32(_PRIOR_WEIGHT)
        inverse = prior[..., 0][np.isfinite(level.grey)]
        self.bounds = np.array([np.quantile(inverse, 0.001) / 8, np.quantile(inverse, 0.999) * 4], np.float32)
        self.views = [v for v in range(len(level.grey)) if len(self.neighbors[v])]
        self.turn = 0

    def _rows(self, work: Callable[[int, int, int], None]) -> None:
        """Call ``work`` for bands of rows of all views, on several threads."""
        height = self.level.grey.shape[1]
        pieces = [(v, y) for y in range(0, height, _ROWS) for v in self.views]
        counter = itertools.count()

        def take() -> None:
            """One band after the other."""
            while (at := next(counter)) < len(pieces):
                view, first = pieces[at]
                work(view, first, min(first + _ROWS, height))

        run_parallel(take, self.workers)

    def _around(
        self, view: int, frozen: Float[np.ndarray, "V h w 3"]
    ) -> tuple[UInt32[np.ndarray, "S h w"], Float[np.ndarray, "S 24"], Float[np.ndarray, "S h w 3"]]:
        """A view's sources: their pictures, the ways there and back, their planes."""
        near, level = self.neighbors[view], self.level
        there = np.concatenate((level.matrices[view, near], level.offsets[view, near, :, None]), -1)
        back = np.concatenate((level.matrices[near, view], level.offsets[near, view, :, None]), -1)
        ways = np.concatenate((there, back), 1).reshape(len(near), 24)
        return self.words[near], np.ascontiguousarray(ways), frozen[near]

    def sweeps(self, count: int, reach: float, *, geometric: bool) -> None:
        """Improve all planes so many times; ``geometric``: consistency with the other views' planes counts, too."""
        for i in range(count):
            frozen = self.planes.copy() if geometric else self.planes
            around = {v: self._around(v, frozen) for v in self.views}
            if i == 0 or geometric:
                self._rows(functools.partial(self._rate, around, geometric))
            for color in (0, 1):
                self.turn += 1
                self._rows(functools.partial(self._improve, around, geometric, color, np.float32(reach * 0.6**i)))

    def _rate(self, around: dict[int, Any], geometric: bool, view: int, first: int, last: int) -> None:
        others, ways, there = around[view]
        _kernels.rate_rows(
            first, last, self.level.grey[view], self.planes[view], self.prior[view], self.prior_weight, _SPACING,
            others, ways, there, geometric, min(_BEST, len(others)), self.costs[view],
        )  # fmt: skip

    def _improve(
        self, around: dict[int, Any], geometric: bool, color: int, reach: np.float32, view: int, first: int, last: int
    ) -> None:
        others, ways, there = around[view]
        _kernels.improve_rows(
            first, last, color, self.seed + 1000 * self.turn + view, reach, self.wide, self.level.grey[view],
            self.planes[view], self.prior[view], self.prior_weight, _SPACING, others, ways, there, geometric,
            min(_BEST, len(others)), self.level.lens[view], self.bounds, self.costs[view],
        )  # fmt: skip

    def votes(self) -> tuple[UInt8[np.ndarray, "V h w"], Float[np.ndarray, "V h w"]]:
        """How many other views bear each plane out, and the variance of the window there."""
        votes = np.zeros(self.level.grey.shape, np.uint8)
        texture = np.zeros(self.level.grey.shape, np.float32)
        around = {v: self._around(v, self.planes) for v in self.views}

        def confirm(view: int, first: int, last: int) -> None:
            """A band of a view."""
            others, ways, there = around[view]
            _kernels.confirm_rows(
                first, last, self.level.grey[view], self.planes[view], _SPACING, others, ways, there,
                np.float32(_APART), np.float32(_ALIKE), votes[view], texture[view],
            )  # fmt: skip

        self._rows(confirm)
        return votes, texture
