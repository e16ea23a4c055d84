"""Cameras of procedural scenes, and the photographs that they take."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from da3gs.procedural import _raycast, _shading
from da3gs.procedural.photographic import Camera, developed, exposed
from da3gs.procedural.solids import ProceduralScene
from da3gs.procedural.textures import TextureBank

MOTION = (0.06, 0.9)
"""How far cameras go, least and most, in shares of the distance to what they look at (radians, round it)."""
_COARSE = 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Quality of a drawn picture, by the work in it."""

    side: int = 2
    """Samples along each side of a pixel."""
    everywhere: bool = False
    """Whether pixels inside a face get all samples too, and not only those at edges."""
    shadows: bool = True
    """Whether lamps throw shadows."""
    sky_rays: int = 0
    """Rays for the light that arrives from everywhere (ambient occlusion); 0: none."""


FAST = Quality(shadows=False)
PLAIN = Quality()
FINE = Quality(side=4, everywhere=True, sky_rays=2)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shots:
    """Cameras of one scene, of one image size."""

    cam_to_world: NDArray[np.float64]
    """[views, 4, 4], OpenCV axes."""
    focals: NDArray[np.float64]
    """[views, 2] in pixels."""
    height: int
    width: int


def aim(eye: NDArray, target: NDArray, roll: float = 0.0) -> NDArray[np.float64]:
    """The pose of a camera that looks at a target with the sky upward, then rolls about its axis."""
    z = target - eye
    z = z / (np.linalg.norm(z) + 1e-12)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / np.linalg.norm(x) if np.linalg.norm(x) > 1e-6 else np.array([1.0, 0, 0])
    y = np.cross(z, x)
    pose = np.eye(4)
    c, s = math.cos(roll), math.sin(roll)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = c * x + s * y, -s * x + c * y, z, eye
    return pose


def _inverse(pose: NDArray) -> NDArray[np.float64]:
    result = np.eye(4)
    result[:3, :3] = pose[:3, :3].T
    result[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return result


def depth_map(
    scene: ProceduralScene, cam_to_world: NDArray, focal: NDArray, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Depth along z at every pixel's centre, exact (0 where the ray leaves the scene), and what it meets there."""
    return _raycast.cast_depth(
        height, width, scene.kinds, scene.inward, scene.frames, scene.centers, scene.radii, scene.corners,
        cam_to_world, _inverse(cam_to_world), np.asarray(focal, float), np.array([width / 2, height / 2]),
    )  # fmt: skip


def color_map(
    scene: ProceduralScene, bank: TextureBank, cam_to_world: NDArray, focal: NDArray,
    hits: tuple[NDArray[np.float32], NDArray[np.int32]], *, quality: Quality = PLAIN, seed: int = 0,
) -> NDArray[np.float32]:  # fmt: skip
    """Linear colour, not exposed: what reaches the sensor. ``hits`` is what ``depth_map`` gave for this camera."""
    depth, met = hits
    height, width = depth.shape
    return _shading.cast_color(
        height, width, scene.kinds, scene.inward, scene.frames, scene.centers, scene.radii, scene.corners,
        scene.halves, scene.gloss, scene.faces, scene.materials, scene.mixes, scene.lights, scene.ambient,
        scene.corner_shade, bank.atlas, bank.size, bank.level_starts, cam_to_world, _inverse(cam_to_world),
        np.asarray(focal, float), np.array([width / 2, height / 2]), depth, met, quality.side, quality.everywhere,
        quality.shadows, quality.sky_rays, seed % 65536,
    )  # fmt: skip


def _stands_free(scene: ProceduralScene, eye: NDArray) -> bool:
    if (eye < scene.room[0] + 0.12).any() or (eye > scene.room[1] - 0.12).any():
        return False
    local = np.einsum("pij,pj->pi", scene.frames, eye - scene.centers)
    margin = 1 + 0.06 * np.abs(scene.frames).max((1, 2))
    return not ((np.abs(local).max(1) < margin) & ~scene.inward).any()


def _overlap(first: NDArray, depth: NDArray, focal: NDArray, second: NDArray, other: NDArray) -> float:
    """The share of the first camera's coarse points that the second one sees too."""
    size = depth.shape[0]
    v, u = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5, indexing="ij")
    rays = np.stack(((u - size / 2) / focal[0], (v - size / 2) / focal[1], np.ones_like(u)), -1)
    points = rays * depth[..., None] @ first[:3, :3].T + first[:3, 3]
    local = (points - second[:3, 3]) @ second[:3, :3]
    z = np.maximum(local[..., 2], 1e-6)
    x, y = local[..., 0] / z * focal[0] + size / 2, local[..., 1] / z * focal[1] + size / 2
    inside = (local[..., 2] > 0.01) & (x > 0) & (x < size) & (y > 0) & (y < size)
    row, column = np.clip(y.astype(int), 0, size - 1), np.clip(x.astype(int), 0, size - 1)
    seen = np.abs(other[row, column] - local[..., 2]) < 0.25 * local[..., 2]
    return float((inside & seen & (depth > 0)).mean())


def _moved(g: np.random.Generator, base: NDArray, target: NDArray, style: int, amount: float) -> NDArray[np.float64]:
    """Another pose near the base one: round the target, sideways, forward, or anyhow."""
    eye, offset = base[:3, 3], base[:3, 3] - target
    distance = float(np.linalg.norm(offset))
    roll = g.normal(0, 0.04)
    if style == 0:  # an arc round the target
        a, lift = amount * g.choice([-1, 1]) * g.uniform(0.4, 1.0), amount * g.normal(0, 0.25)
        c, s = math.cos(a), math.sin(a)
        turned = np.array([c * offset[0] - s * offset[1], s * offset[0] + c * offset[1], offset[2] + lift * distance])
        return aim(target + turned * g.uniform(0.85, 1.15), target + g.normal(0, 0.06, 3) * distance, roll)
    if style == 1:  # sideways, same direction of view
        step = base[:3, 0] * g.uniform(-1, 1) + base[:3, 1] * g.uniform(-0.5, 0.5)
        new = eye + step * amount * distance
        return aim(new, new + (target - eye) + g.normal(0, 0.08, 3) * distance, roll)
    if style == 2:  # forward or back
        new = eye + (target - eye) * g.uniform(-0.9, 0.5) * min(1.0, 1.5 * amount) + g.normal(0, 0.04, 3) * distance
        return aim(new, target + g.normal(0, 0.12, 3) * distance, roll)
    new = eye + g.normal(0, 0.45, 3) * amount * distance
    return aim(new, target + g.normal(0, 0.25, 3) * amount * distance, roll)


def take_shots(
    g: np.random.Generator, scene: ProceduralScene, views: int, height: int, width: int,
    motion: tuple[float, float] = MOTION,
) -> Shots | None:  # fmt: skip
    """Cameras that overlap, stand in free space and look at something; None when this scene gives none.

    The first camera is the reference: each other one sees a good part of what it sees. ``motion`` is the range of how
    far they go, in shares of the distance to what they look at.
    """
    fov = math.radians(min(88.0, max(24.0, 56.0 * 2 ** g.normal(0, 0.4))))
    focal = max(height, width) / 2 / math.tan(fov / 2)
    focals = np.full((views, 2), focal) * (1 if g.random() < 0.85 else 2 ** g.normal(0, 0.2, (views, 1)))
    coarse = focals * _COARSE / np.array([width, height])
    for _ in range(12):
        spot = scene.focus[int(g.integers(len(scene.focus)))]
        reach = spot[3] * g.uniform(0.7, 2.2) / math.tan(fov / 2) + 0.2
        a, rise = g.uniform(0, 2 * math.pi), g.uniform(-0.1, 0.9)
        away = np.array([math.cos(a) * math.cos(rise), math.sin(a) * math.cos(rise), math.sin(rise)])
        target = spot[:3] + g.normal(0, 0.2, 3) * spot[3]
        poses = [aim(target + reach * away, target, g.normal(0, 0.06))]
        if not _stands_free(scene, poses[0][:3, 3]):
            continue
        depths = [depth_map(scene, poses[0], coarse[0], _COARSE, _COARSE)[0]]
        if np.quantile(depths[0], 0.03) < 0.2 or (depths[0] > 0).mean() < 0.98:
            continue
        middle = float(np.median(depths[0]))
        if middle > 1e3:  # little but sky
            continue
        pivot = poses[0][:3, 3] + poses[0][:3, 2] * middle
        style, amount = int(g.integers(4)), g.uniform(*motion)
        for _ in range(10 * views):
            if len(poses) == views:
                return Shots(cam_to_world=np.stack(poses), focals=focals, height=height, width=width)
            pose = _moved(g, poses[0], pivot, style, amount)
            if not _stands_free(scene, pose[:3, 3]):
                continue
            depth, _ = depth_map(scene, pose, coarse[len(poses)], _COARSE, _COARSE)
            if np.quantile(depth, 0.03) < 0.15 or (depth > 0).mean() < 0.98:
                continue
            if _overlap(poses[0], depths[0], coarse[0], pose, depth) < 0.3:
                amount *= 0.85
                continue
            poses.append(pose)
        if len(poses) == views:
            return Shots(cam_to_world=np.stack(poses), focals=focals, height=height, width=width)
    return None


def rolled(g: np.random.Generator, cam_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses [views, 4, 4] of a hand that holds the camera askew: all views by one angle, and each a little more."""
    angles = g.normal(0, 0.3 if g.random() < 0.15 else 0.06) + g.normal(0, 0.02, len(cam_to_world))
    turns = np.zeros((len(angles), 4, 4))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0], turns[:, 0, 1] = np.sin(angles), -np.sin(angles)
    turns[:, 2, 2] = turns[:, 3, 3] = 1
    return cam_to_world @ turns


def develop(
    g: np.random.Generator, colors: list[NDArray[np.float32]], *, plain: bool = False, camera: Camera | None = None
) -> NDArray[np.float32]:
    """Photographs [views, H, W, 3] in [0, 1] from linear colour: exposure, white balance, contrast, blur, noise, JPEG.

    ``plain`` leaves out everything random but the exposure; a ``camera`` adds its own effects.
    """
    bright = max(float(np.mean(colors[0])), 1e-4)
    level = 0.21 if plain else 0.2 * 2 ** g.normal(0, 0.4)
    balance = np.ones(3) if plain else np.clip(1 + g.normal(0, 0.06, 3), 0.8, 1.2)
    gamma = 1 / 2.2 if plain else 1 / g.uniform(1.9, 2.5)
    jitter = 0.0 if plain or g.random() < 0.6 else 0.15
    noise = 0.0 if plain else float(g.choice([0.0, 0.005, 0.01, 0.025]))
    other = g.spawn(1)[0]  # numbers of its own: held-out scenes stay what they were before JPEG
    quality = 0 if plain or other.random() < 0.5 else int(other.integers(40, 97))
    photos = np.empty((len(colors), *colors[0].shape), np.float32)
    for index, color in enumerate(colors):
        gain = level / bright * 2 ** g.normal(0, jitter) * balance
        x = color * gain.astype(np.float32)
        if camera is not None:
            x = exposed(g, x, camera)
        x = x * (1 + x * 0.04) / (1 + 0.35 * x)  # a soft shoulder instead of burnt highlights
        photo = np.clip(x, 0, 1) ** np.float32(gamma)
        if camera is not None:
            photo = developed(photo, camera)
        if not plain and g.random() < 0.15:
            photo[1:-1] = 0.25 * photo[:-2] + 0.5 * photo[1:-1] + 0.25 * photo[2:]
            photo[:, 1:-1] = 0.25 * photo[:, :-2] + 0.5 * photo[:, 1:-1] + 0.25 * photo[:, 2:]
        if noise:
            photo += noise * g.standard_normal(photo.shape, dtype=np.float32)
        photos[index] = compressed(np.clip(photo, 0, 1), quality) if quality else np.clip(photo, 0, 1)
    return photos


def compressed(photo: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    """A photograph [H, W, 3] in [0, 1] as it comes back from a JPEG file of this quality, 1 to 100."""
    file = io.BytesIO()
    Image.fromarray((255 * photo + 0.5).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / np.float32(255)
