"""Opacities of guesses: what stands before a wall that another photo shows fades, what is needed stays."""

from __future__ import annotations

import torch

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.rendering import render
from da3gs.splats.opacity_fit import fitted_opacities

SIDE, FOCAL, FAR, NEAR = 24, 24.0, 4.0, 2.0


def grid(at: float, step: float, middle: float, count: int, grey: float) -> Gaussians:
    """A square of round splats at a depth."""
    axis = (torch.arange(count) - (count - 1) / 2) * step
    y, x = torch.meshgrid(axis, axis + middle, indexing="ij")
    means = torch.stack((x, y, torch.full_like(x, at)), -1).reshape(-1, 3)
    count = len(means)
    return Gaussians(
        means=means,
        scales=torch.full((count, 3), 0.7 * step),
        quaternions=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        opacities=torch.full((count,), 0.99),
        harmonics=torch.full((count, 1, 3), (grey - 0.5) / C0),
        antialiased=True,
    )


def test_a_guess_before_a_wall_that_a_photo_shows_fades_and_one_out_of_sight_stays() -> None:
    intrinsics = torch.tensor([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]]).expand(2, 3, 3)
    world_to_cam = torch.eye(4).repeat(2, 1, 1)
    world_to_cam[1, 0, 3] = -1.0
    cameras = Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=SIDE, width=SIDE)
    wall, guess, aside = grid(FAR, 0.16, 0.5, 60, 0.8), grid(NEAR, 0.08, 0.5, 8, 0.2), grid(NEAR, 0.08, 9.0, 3, 0.2)
    whole = Gaussians.concatenated((wall, guess, aside))
    free = torch.arange(len(whole)) >= len(wall)
    photos = [render(wall, cameras[view]).color for view in range(2)]
    masks = [None, torch.ones(SIDE, SIDE, dtype=torch.bool)]
    found = fitted_opacities(whole, free, [cameras[0], cameras[1]], photos, masks)
    assert torch.equal(found[~free], whole.opacities[~free])
    assert float(found[len(wall) : len(wall) + len(guess)].max()) < 0.05
    assert torch.allclose(found[-len(aside) :], whole.opacities[-len(aside) :], atol=1e-5)


def test_a_photo_that_is_masked_there_says_nothing() -> None:
    intrinsics = torch.tensor([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])[None]
    cameras = Cameras(world_to_cam=torch.eye(4)[None], intrinsics=intrinsics, height=SIDE, width=SIDE)
    wall, guess = grid(FAR, 0.16, 0.0, 40, 0.8), grid(NEAR, 0.08, 0.0, 4, 0.2)
    free = torch.arange(len(wall) + len(guess)) >= len(wall)
    found = fitted_opacities(
        Gaussians.concatenated((wall, guess)),
        free,
        [cameras[0]],
        [render(wall, cameras[0]).color],
        [torch.zeros(SIDE, SIDE, dtype=torch.bool)],
    )
    assert torch.allclose(found[free], torch.full((len(guess),), 0.99), atol=1e-5)
