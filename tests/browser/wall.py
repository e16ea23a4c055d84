"""A scene small enough for a browser without a graphics card, and whose picture tells up from down."""

from __future__ import annotations

import math

import torch

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.scene import Scene
from da3gs.views import Views

SIDE = 40
WIDTH, HEIGHT = 64, 48


def wall_scene(names: tuple[str, ...] = ("left", "middle", "right")) -> Scene:
    """A wall of coloured squares, red above and blue below, seen by as many cameras in a row; +y is down."""
    steps = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    means = torch.stack((4 * x, 3 * y, torch.full_like(x, 4.0)), -1).reshape(-1, 3)
    squares = ((torch.floor(8 * (x + 0.5)) + torch.floor(8 * (y + 0.5))) % 2).reshape(-1)
    above = (y < 0).float().reshape(-1)
    colors = torch.stack((above, squares, 1 - above), -1)
    gaussians = Gaussians(
        means=means,
        scales=torch.tensor([0.06, 0.05, 0.005]).expand(len(means), 3).contiguous(),
        quaternions=torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4).contiguous(),
        opacities=torch.full((len(means),), 0.95),
        harmonics=((colors - 0.5) / C0)[:, None],
    )
    count = len(names)
    eyes = torch.stack([torch.tensor([i - (count - 1) / 2, -0.2, 0.0]) for i in range(count)])
    focal = WIDTH / (2 * math.tan(math.radians(30)))
    cameras = Cameras(
        world_to_cam=look_at(eyes, torch.tensor([0.0, 0, 4]).expand(count, 3), torch.tensor([0.0, -1, 0])),
        intrinsics=torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]).expand(count, 3, 3),
        height=HEIGHT,
        width=WIDTH,
    )
    images = torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return Scene(
        gaussians=gaussians,
        cameras=cameras,
        views=Views(images=images, names=names),
        record={"frame": {"up": "auto"}},
    )
