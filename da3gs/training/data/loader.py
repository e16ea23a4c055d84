"""Batches of procedural or real photographs, made by threads ahead of the training step.

What a step sees follows from the run's seed and the step's number alone, so that a resumed run goes on exactly.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse
from da3gs.procedural.cameras import (
    FAST,
    FINE,
    MOTION,
    PLAIN,
    Quality,
    color_map,
    depth_map,
    develop,
    rolled,
    take_shots,
)
from da3gs.procedural.outdoors import SKY_RADIUS
from da3gs.procedural.photographic import Camera
from da3gs.procedural.scenes import SceneKind, checked_kinds, make_scene
from da3gs.procedural.textures import TextureBank, make_textures
from da3gs.procedural.user_textures import texture_files, with_photos
from da3gs.training.config import TrainConfig
from da3gs.training.data.batch import Batch
from da3gs.training.data.real import RealScenes
from da3gs.views import Views

_TRAIN, _VALIDATE, _PUBLIC = 1, 2, 3  # streams of seeds that never meet


def _photograph(
    g: np.random.Generator, bank: TextureBank, views: int, height: int, width: int, *,
    quality: Quality, kind: SceneKind | None = None, plain: bool = False, motion: tuple[float, float] = MOTION,
    camera: Camera | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:  # fmt: skip
    """Photos [V, H, W, 3], depth [V, H, W], poses [V, 4, 4] and focal lengths [V, 2] of a new scene."""
    shots = None
    while shots is None:
        scene = make_scene(g, bank, kind)
        shots = take_shots(g, scene, views, height, width, motion)
    poses = shots.cam_to_world if camera is None else rolled(g, shots.cam_to_world)
    pairs = list(zip(poses, shots.focals, strict=True))
    hits = [depth_map(scene, pose, focal, height, width) for pose, focal in pairs]
    far = scene.radii > SKY_RADIUS
    colors = [
        color_map(scene, bank, pose, focal, hit, quality=quality, seed=int(g.integers(65536)))
        for (pose, focal), hit in zip(pairs, hits, strict=True)
    ]
    depths = np.stack([np.where(far[np.maximum(met, 0) // 8], 0, depth) for depth, met in hits])
    return develop(g, colors, plain=plain, camera=camera), depths, poses, shots.focals


def _cameras(poses: NDArray, focals: NDArray, height: int, width: int) -> Cameras:
    """Cameras in the first camera's frame (computed in float64, kept in float32)."""
    cam_to_world = torch.from_numpy(np.ascontiguousarray(poses))
    world_to_cam = rigid_inverse(cam_to_world) @ cam_to_world[..., :1, :, :]
    intrinsics = torch.zeros(*focals.shape[:-1], 3, 3)
    intrinsics[..., (0, 1), (0, 1)] = torch.from_numpy(focals).float()
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1.0
    return Cameras(world_to_cam=world_to_cam.float(), intrinsics=intrinsics, height=height, width=width)


def _batch(
    g: np.random.Generator, bank: TextureBank, scenes: int, views: int, size: tuple[int, int],
    kinds: Sequence[tuple[SceneKind, float]] = (), motion: tuple[float, float] = MOTION, handheld: float = 0.0,
) -> Batch:  # fmt: skip
    parts = []
    for _ in range(scenes):
        quality = PLAIN if g.random() < 0.5 else FAST
        kind = _drawn_kind(g, kinds)
        camera = Camera.drawn(g) if handheld and g.random() < handheld else None
        parts.append(_photograph(g, bank, views, *size, quality=quality, kind=kind, motion=motion, camera=camera))
    photos, depth, poses, focals = (np.stack(column) for column in zip(*parts, strict=True))
    return Batch(
        images=torch.from_numpy(photos).permute(0, 1, 4, 2, 3),
        depth=torch.from_numpy(depth),
        cameras=_cameras(poses, focals, *size),
        posed=False,
        sky=torch.from_numpy(depth == 0),  # torch would start threads of this thread's own, for good
    )


def _drawn_kind(g: np.random.Generator, kinds: Sequence[tuple[SceneKind, float]]) -> SceneKind | None:
    if not kinds:
        return None
    odds = np.array([share for _, share in kinds])
    return kinds[int(g.choice(len(odds), p=odds / odds.sum()))][0]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What a batch shall look like."""

    size: tuple[int, int]
    views: int
    targets: int
    scenes: int
    posed: bool
    motion: tuple[float, float]


class Batches:
    """The batches of a run from any step on; use as a context manager, so that the threads end.

    Args:
        config: of the run.
        threads: that make batches.
        ahead: for how many steps they are made before they are asked for.
        bursts: make them while the run waits, ``ahead`` steps at a time, and not beside it: for a run on the same
            cores. Threads of OpenMP wait for the slowest of them, and one that has to share its core is slow.
        rank: which of the run's processes this is; each sees scenes of its own, of the same shape.
        ranks: how many processes there are.
    """

    def __init__(
        self, config: TrainConfig, *, threads: int = 1, ahead: int = 3, bursts: bool = False, rank: int = 0,
        ranks: int = 1,
    ) -> None:  # fmt: skip
        self.config = config
        self.waited = 0.0
        """Seconds spent waiting for data so far."""
        self._ahead, self._bursts = ahead, bursts
        self._rank, self._ranks = rank, ranks
        self._kinds = checked_kinds(config.scenes)
        self._photos = texture_files(Path(config.photos)) if config.photos else []
        self._real = RealScenes(Path(config.data)) if config.data else None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scenes")
        self._banks: dict[int, TextureBank] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def bank(self, step: int) -> TextureBank:
        """The textures that a step's scenes wear."""
        epoch = step // self.config.texture_steps
        with self._lock:
            if epoch not in self._banks:
                g = np.random.default_rng([self.config.seed, _TRAIN, 0, epoch])
                self._banks = {k: v for k, v in self._banks.items() if k == epoch - 1}
                bank = make_textures(g, self.config.textures)
                self._banks[epoch] = with_photos(bank, g, self._photos) if self._photos else bank
            return self._banks[epoch]

    def _shape(self, g: np.random.Generator, step: int) -> _Shape:
        stage = self.config.stage(step)
        odds = np.array([size[2] for size in stage.sizes])
        height, width, _ = stage.sizes[int(g.choice(len(odds), p=odds / odds.sum()))]
        if g.random() < 0.35:
            height, width = width, height
        views = int(g.integers(stage.views[0], stage.views[1] + 1))
        scenes = max(1, round(stage.pixels / (views * height * width)))
        posed = bool(g.random() < self.config.posed) and views > 1
        targets = int(g.integers(stage.targets[0], stage.targets[1] + 1)) if stage.targets[1] else 0
        return _Shape(
            size=(height, width), views=views, targets=targets, scenes=scenes, posed=posed, motion=stage.motion
        )

    def batch(self, step: int, part: int = 0) -> Batch:
        """A batch of a step, made here and now; ``part`` counts those of an accumulated step."""
        g = np.random.default_rng([self.config.seed, _TRAIN, 1, step])
        shape = self._shape(g, step)
        place = part * self._ranks + self._rank
        if place:
            g = np.random.default_rng([self.config.seed, _TRAIN, 1, step, place])
        views = shape.views + shape.targets
        if self._real is not None and g.random() < self.config.data_share:
            batch = self._real.batch(g, shape.scenes, views, shape.size, targets=shape.targets)
        else:
            batch = _batch(
                g, self.bank(step), shape.scenes, views, shape.size, self._kinds, shape.motion, self.config.handheld
            )
        return dataclasses.replace(batch, posed=shape.posed, targets=shape.targets, number=step)

    def step(self, step: int) -> list[Batch]:
        """All batches of a step."""
        return [self.batch(step, part) for part in range(self.config.accumulate)]

    def from_step(self, step: int) -> Iterator[list[Batch]]:
        """The batches of this step and all later ones, in order."""
        coming: collections.deque[Future[list[Batch]]] = collections.deque()
        while True:
            missing = 0 if self._bursts and coming else self._ahead - len(coming)
            coming.extend(self._pool.submit(self.step, step + number) for number in range(missing))
            step += missing
            start = time.monotonic()
            if self._bursts:
                wait(coming)
            batches = coming.popleft().result()
            self.waited += time.monotonic() - start
            yield batches


def validation_batches(
    scenes: int,
    size: tuple[int, int],
    *,
    views: int = 3,
    at_once: int = 4,
    targets: int = 0,
    kinds: Sequence[tuple[SceneKind, float]] = (),
) -> list[Batch]:
    """Held-out scenes: the same ones for every run; ``views`` are seen, ``targets`` are not."""
    g = np.random.default_rng([_VALIDATE, *size, views + targets])
    bank = make_textures(g, 66)
    groups = [min(at_once, scenes - start) for start in range(0, scenes, at_once)]
    made = [_batch(g, bank, count, views + targets, size, kinds) for count in groups]
    return [dataclasses.replace(batch, targets=targets) for batch in made]


def procedural_scene(
    seed: int, views: int, height: int, width: int, *, kind: SceneKind | None = None, fine: bool = False
) -> tuple[Views, Float[Tensor, "V H W"]]:
    """Photographs of a new scene with true cameras (metres, the first camera is the world), and their true depth.

    These scenes are held out: no training run sees them. Depth is along z, exact at pixel centres; photos are
    supersampled, without noise, equally exposed.

    Args:
        seed: each seed is another scene.
        views: how many photographs, which overlap.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        kind: what sort of scene; drawn when None.
        fine: many samples, soft shadows and ambient occlusion (some twenty times slower).
    """
    g = np.random.default_rng([_PUBLIC, seed])
    bank = make_textures(g, 44, 512 if max(height, width) > 400 else 256)
    photos, depth, poses, focals = _photograph(
        g, bank, views, height, width, quality=FINE if fine else PLAIN, kind=kind, plain=True
    )
    names = tuple(f"view_{index:02d}" for index in range(views))
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous()
    return Views(images=images, names=names, cameras=_cameras(poses, focals, height, width)), torch.from_numpy(depth)
