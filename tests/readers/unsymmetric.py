"""An unsymmetric scene: what is turned, mirrored, or has its colours swapped looks different."""

from __future__ import annotations

import math

import torch

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

WIDTH, HEIGHT, FOV = 480, 360, 45.0
EYE, TARGET, UP = (0.7, -0.5, -2.6), (0.0, 0.0, 0.0), (0.0, -1.0, 0.0)
"""Of the fixed camera, in a PLY's axes: in front, a little to the right and above."""

_STROKES = (  # from, to, colour: a letter F with a red stem, a green and a blue arm
    ((-0.5, -0.7), (-0.5, 0.7), (0.9, 0.15, 0.1)),
    ((-0.4, -0.65), (0.5, -0.65), (0.15, 0.8, 0.2)),
    ((-0.4, -0.05), (0.2, -0.05), (0.15, 0.3, 0.95)),
)
_SPINDLES = (  # place, half axes, angle about z and about y in degrees, colour
    ((0.55, 0.35, 0.0), (0.4, 0.04, 0.04), -30.0, 0.0, (0.95, 0.85, 0.1)),
    ((0.1, 0.6, -0.3), (0.04, 0.04, 0.3), 0.0, 50.0, (0.9, 0.4, 0.9)),
    ((-0.75, 0.35, -0.7), (0.12, 0.12, 0.12), 0.0, 0.0, (0.2, 0.85, 0.9)),
)


def unsymmetric_gaussians(degree: int = 3) -> Gaussians:
    """An F, upright before the camera, with a yellow and a violet spindle at its right and a ball at its left.

    Harmonics make each colour depend on where it is seen from, more in the ball than elsewhere.
    """
    generator = torch.Generator().manual_seed(4)
    means, scales, quaternions, colors = [], [], [], []
    for (x0, y0), (x1, y1), color in _STROKES:
        for share in torch.linspace(0, 1, 60).tolist():
            jitter = torch.randn(3, generator=generator) * 0.02
            means.append(torch.tensor([x0 + share * (x1 - x0), y0 + share * (y1 - y0), 0.0]) + jitter)
            scales.append(torch.full((3,), 0.05))
            quaternions.append(torch.tensor([1.0, 0, 0, 0]))
            colors.append(torch.tensor(color))
    for place, axes, about_z, about_y, color in _SPINDLES:
        z, y = math.radians(about_z) / 2, math.radians(about_y) / 2
        means.append(torch.tensor(place))
        scales.append(torch.tensor(axes))
        quaternions.append(
            torch.tensor(
                [
                    math.cos(z) * math.cos(y), -math.sin(z) * math.sin(y),
                    math.cos(z) * math.sin(y), math.sin(z) * math.cos(y),
                ]
            )
        )  # fmt: skip
        colors.append(torch.tensor(color))
    count = len(means)
    bands = (degree + 1) ** 2
    harmonics = torch.randn(count, bands, 3, generator=generator) * 0.03
    harmonics[-1, 1:] = torch.randn(bands - 1, 3, generator=generator) * 0.25
    harmonics[:, 0] = (torch.stack(colors) - 0.5) / C0
    return Gaussians(
        means=torch.stack(means),
        scales=torch.stack(scales),
        quaternions=torch.stack(quaternions),
        opacities=torch.full((count,), 0.9),
        harmonics=harmonics,
    )


def fixed_camera() -> Cameras:
    """The camera that all programs get."""
    focal = HEIGHT / 2 / math.tan(math.radians(FOV) / 2)
    eye, target, up = (torch.tensor(point, dtype=torch.float64) for point in (EYE, TARGET, UP))
    return Cameras(
        world_to_cam=look_at(eye, target, up).float(),
        intrinsics=torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]),
        height=HEIGHT,
        width=WIDTH,
    )
