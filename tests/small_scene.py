"""A scene small enough to be made anew for every test: a few hundred splats, four photos of unequal sizes."""

from __future__ import annotations

import atexit
import functools
import math
import os
import shutil
import tempfile
from pathlib import Path

import torch

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.scene import Provenance, Scene
from da3gs.views import Views

HEIGHT, WIDTH = 42, 56


def small_gaussians(count: int = 300, bands: int = 9, seed: int = 0) -> Gaussians:
    """A ball of coloured splats round the origin."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=normal(count, 3) * 0.4,
        scales=torch.exp(normal(count, 3) * 0.3 - 2.5),
        quaternions=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        opacities=torch.rand(count, generator=generator) * 0.9 + 0.05,
        harmonics=normal(count, bands, 3) * torch.tensor([0.8, *[0.1] * (bands - 1)])[:, None],
    )


def small_cameras(views: int = 4, dtype: torch.dtype = torch.float32) -> Cameras:
    """Cameras on a ring, looking at the origin, +y down, with an off-centre principal point."""
    angles = torch.arange(views, dtype=dtype) * (math.tau / 7)
    eyes = torch.stack((2.5 * angles.sin(), -0.4 + 0.1 * angles, -2.5 * angles.cos()), -1)
    intrinsics = torch.tensor([[60.0, 0, 27], [0, 62, 22], [0, 0, 1]], dtype=dtype)
    return Cameras(
        world_to_cam=look_at(eyes, torch.zeros_like(eyes), torch.tensor([0.0, -1, 0], dtype=dtype)),
        intrinsics=intrinsics.expand(views, 3, 3).clone(),
        height=HEIGHT,
        width=WIDTH,
    )


def small_scene(views: int = 4, count: int = 300) -> Scene:
    """Photos are random; the second is lower, the third narrower than the canvas, the last has an unwanted patch."""
    generator = torch.Generator().manual_seed(1)
    gaussians, cameras = small_gaussians(count), small_cameras(views)
    masks = torch.ones(views, HEIGHT, WIDTH, dtype=torch.bool)
    if views >= 4:
        masks[1, 30:] = False
        masks[2, :, 40:] = False
        masks[3, 5:9, 5:9] = False
    images = (torch.rand(views, 3, HEIGHT, WIDTH, generator=generator) * 255).round() / 255
    return Scene(
        gaussians=gaussians,
        cameras=cameras,
        views=Views(images=images, names=tuple(f"photo {i}" for i in range(views)), masks=masks),
        record={"settings": {"views": "auto"}, "frame": {"axes": "opencv", "up": "auto", "unit": "arbitrary"}},
        provenance=Provenance(
            view=torch.arange(count).remainder(views).to(torch.int16),
            pixel=torch.arange(count, dtype=torch.int32),
            confidence=torch.rand(count, generator=generator).half() + 1,
            edge=torch.rand(count, generator=generator).half(),
            sky=torch.arange(count) % 7 == 0,
        ),
        depth=torch.rand(views, HEIGHT, WIDTH, generator=generator) + 1,
        confidence=torch.rand(views, HEIGHT, WIDTH, generator=generator) + 1,
        sky=torch.rand(views, HEIGHT, WIDTH, generator=generator) < 0.1,
    )


@functools.cache
def _saved() -> Path:
    holder, owner = tempfile.mkdtemp(), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not at the end of a forked child
            shutil.rmtree(holder, ignore_errors=True)

    atexit.register(remove)
    path = Path(holder) / "scene"
    small_scene().save(path)
    return path


def small_scene_folder(path: Path) -> Path:
    """A copy, at ``path``, of the small scene's folder."""
    shutil.copytree(_saved(), path)
    return path
