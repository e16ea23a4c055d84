"""Compilation of every kernel ahead of its first use."""

from __future__ import annotations

import torch

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering.contribution import contributions
from da3gs.rendering.rasterise import render


def warmup() -> None:
    """Compile every kernel of the CPU backend, or load it from the cache, by drawing a tiny scene there and back."""
    splats = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True),
        scales=torch.full((1, 3), 0.1),
        quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        opacities=torch.tensor([0.5]),
        harmonics=torch.zeros(1, 1, 3),
    )
    intrinsics = torch.tensor([[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]])
    camera = Cameras(world_to_cam=torch.eye(4), intrinsics=intrinsics, height=16, width=16)
    with torch.enable_grad():
        render(splats, camera, backend="cpu", threads=1).color.sum().backward()
    contributions(splats.detach(), camera.map(lambda t: t[None]), backend="cpu")
