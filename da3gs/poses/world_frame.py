"""The world frame of an unposed scene: upright, at the first camera, of a handy size."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.similarity import Similarity

Up = Literal["auto", "camera", "given"]
"""How a world without given poses is turned: along estimated gravity, like the first camera, or as it came."""


def estimated_down(cameras: Cameras) -> Float[Tensor, "3"]:
    """Gravity's direction in the world, judged by how people hold cameras.

    People pitch cameras up and down but keep the horizon level: gravity is at right angles to every camera's x axis,
    which tells it well when the cameras look in different directions; where they all look the same way, the mean of
    their y axes decides. Minimises ``Σ (g·xᵢ)² + ε ‖g − ȳ‖²`` over unit g, to first order.
    """
    rotation = cameras.world_to_cam[..., :3, :3].double().reshape(-1, 3, 3)
    x, y = rotation[:, 0], torch.nn.functional.normalize(rotation[:, 1].mean(0), dim=0)
    if not torch.isfinite(y).all() or y.norm() < 0.5:
        return rotation[0, 1].to(cameras.world_to_cam.dtype)
    ridge = 0.05
    normal = x.T @ x / len(x) + ridge * torch.eye(3, dtype=x.dtype, device=x.device)
    down = torch.nn.functional.normalize(torch.linalg.solve(normal, ridge * y), dim=0)
    return down.to(cameras.world_to_cam.dtype)


def upright_frame(
    cameras: Cameras,
    depth: Float[Tensor, "V H W"],
    *,
    up: Literal["auto", "camera"] = "auto",
    keep_scale: bool = False,
    valid: Tensor | None = None,
) -> Similarity:
    """The map from the network's world to the scene's: origin at the first camera, +y down, +z where it looks.

    Args:
        cameras: predicted cameras.
        depth: their depth, by whose median the scene is sized to 1.
        up: ``auto`` levels the world by ``estimated_down``; ``camera`` takes the first camera's axes.
        keep_scale: do not resize (metres stay metres).
        valid: bool, which pixels' depth counts.
    """
    first = cameras.cam_to_world[0].double()
    rotation = first[:3, :3].T
    if up == "auto":
        down, forward = estimated_down(cameras).double(), first[:3, 2]
        level = forward - (forward @ down) * down
        if level.norm() < 1e-3:  # the first camera looks straight up or down: its own image axes tell the heading
            level = first[:3, 1] - (first[:3, 1] @ down) * down
        z = torch.nn.functional.normalize(level, dim=0)
        rotation = torch.stack((torch.linalg.cross(down, z), down, z))
    values = depth[valid] if valid is not None else depth
    values = values[torch.isfinite(values) & (values > 0)]
    median = values.double().median() if len(values) else torch.ones((), dtype=torch.float64)
    scale = torch.ones_like(median) if keep_scale else 1 / median
    return Similarity(scale=scale, rotation=rotation, translation=-scale * (rotation @ first[:3, 3]))
