"""A corner of a room with printed walls, photographed by formula: photos and true cameras for structure-from-motion."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from da3gs.cameras import Cameras, look_at

SIZE = (150, 200)
FOCAL = 190.0
_TEXELS = 110  # a unit of length
_WALLS = (((-0.5, 0, 1), 5.0), ((0.5, 0, 1), 5.0), ((0, 1, 0), 1.0))  # normal and offset


def print_of(seed: int, side: int = 640) -> np.ndarray:
    """Noise at several scales: enough corners for features, and no two places alike."""
    noise = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3), np.float32)
    for cells, strength in ((10, 0.5), (40, 0.7), (110, 1.0)):
        coarse = noise.random((cells, cells, 3)).astype(np.float32)
        picture += strength * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    picture -= picture.min()
    return picture / picture.max()


def corner_cameras(eyes: list[tuple[float, float, float]], target: tuple[float, float, float] = (0, 0, 4)) -> Cameras:
    """Cameras at these places that look at the corner."""
    eye = torch.tensor(eyes, dtype=torch.float64)
    pose = look_at(eye, torch.tensor([target], dtype=torch.float64).expand(len(eyes), 3),
                   torch.tensor([[0.0, -1, 0]], dtype=torch.float64))  # fmt: skip
    height, width = SIZE
    intrinsics = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(world_to_cam=pose, intrinsics=intrinsics.repeat(len(eyes), 1, 1), height=height, width=width)


def turned_cameras(degrees: list[tuple[float, float]]) -> Cameras:
    """Cameras in one place, turned to the right and down by these angles."""
    cameras = corner_cameras([(0, 0, 0)] * len(degrees))
    right, down = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)).unbind(-1)
    target = torch.stack((right.sin() * down.cos(), down.sin(), right.cos() * down.cos()), dim=-1)
    pose = look_at(torch.zeros_like(target), target, torch.tensor([[0.0, -1, 0]], dtype=torch.float64))
    return dataclasses.replace(cameras, world_to_cam=pose)


def photographed(cameras: Cameras, *, seed: int = 0) -> list[np.ndarray]:
    """What the cameras see: two walls that meet at x = 0 and recede from z = 5, and a floor at y = 1.

    Everything is shown at twice the size and shrunk, so that features see no steps.
    """
    prints = [print_of(seed * 3 + i) for i in range(3)]
    pictures = []
    height, width = 2 * cameras.height, 2 * cameras.width
    v, u = np.mgrid[:height, :width] + 0.5
    for pose, intrinsics in zip(cameras.cam_to_world.numpy(), cameras.intrinsics.numpy(), strict=True):
        local = np.stack(((u / 2 - intrinsics[0, 2]) / intrinsics[0, 0], (v / 2 - intrinsics[1, 2]) / intrinsics[1, 1],
                          np.ones_like(u)), axis=-1)  # fmt: skip
        rays, origin = local @ pose[:3, :3].T, pose[:3, 3]
        depth, color = np.full(u.shape, np.inf), np.zeros((*u.shape, 3), np.float32)
        for (normal, offset), texture in zip(_WALLS, prints, strict=True):
            n = np.array(normal)
            along = (offset - origin @ n) / np.where(np.abs(rays @ n) < 1e-9, 1e-9, rays @ n)
            nearer = (along > 0.1) & (along < depth)
            points = origin + along[..., None] * rays
            across, up = points[..., 0], points[..., 2 if n[1] else 1]
            grid = [(w.astype(np.float32) * _TEXELS) % 640 for w in (across + 50, up + 50)]
            shown = cv2.remap(texture, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            depth, color = np.where(nearer, along, depth), np.where(nearer[..., None], shown, color)
        small = cv2.resize(color, (cameras.width, cameras.height), interpolation=cv2.INTER_AREA)
        pictures.append((small * 255).round().clip(0, 255).astype(np.uint8))
    return pictures


def corner_depth(cameras: Cameras, index: int, height: int, width: int) -> torch.Tensor:
    """Depth along z of what one camera sees, at another size."""
    pose, intrinsics = cameras.cam_to_world[index].numpy(), cameras.intrinsics[index].numpy()
    v, u = (np.mgrid[:height, :width] + 0.5) * np.array([cameras.height / height, cameras.width / width])[:, None, None]
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack((x, y, np.ones_like(u)), axis=-1) @ pose[:3, :3].T
    along = np.stack([(offset - pose[:3, 3] @ np.array(n)) / (rays @ np.array(n)) for n, offset in _WALLS])
    return torch.from_numpy(np.where(along > 0.1, along, np.inf).min(0)).float()


def saved(pictures: list[np.ndarray], folder: Path, *, name: str = "photo") -> Path:
    """The photos as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{name}_{number}.png")
    return folder
