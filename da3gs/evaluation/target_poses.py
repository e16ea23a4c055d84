"""Target cameras moved until the splats fit the target photo: the column that pose-free papers print."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering import Backend, render

STEPS = 100
RATE = 5e-3


@torch.inference_mode(False)
def fitted_to_photo(
    gaussians: Gaussians,
    camera: Cameras,
    photo: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"] | None = None,
    *,
    steps: int = STEPS,
    backend: Backend = "auto",
) -> Cameras:
    """The camera whose render is nearest to the photo: Adam, 100 steps of 0.005, mean squared error, best step kept.

    The pose moves by a rotation vector and by a translation in units of the median depth of what it sees. Published
    recipes add LPIPS to the loss; this one leaves it out, so that it needs no weights. Intrinsics stay.
    """
    splats = gaussians.map(lambda t: t.detach().clone())
    start = camera.world_to_cam.detach().clone().float()
    fixed = dataclasses.replace(camera, world_to_cam=start, intrinsics=camera.intrinsics.detach().clone().float())
    photo = photo.detach().to(splats.device, copy=True)
    counts = torch.ones_like(photo[..., 0]) if mask is None else mask.detach().to(photo)
    with torch.no_grad():
        depth = render(splats, fixed, backend=backend).depth
    unit = float(depth[depth > 0].median()) if bool((depth > 0).any()) else 1.0
    move = torch.zeros(6, requires_grad=True)
    adam = torch.optim.Adam([move], lr=RATE)
    best, lowest = start, float("inf")
    with torch.enable_grad():
        for _ in range(steps + 1):
            world_to_cam = _moved(move, unit) @ start
            camera = dataclasses.replace(fixed, world_to_cam=world_to_cam)
            color = render(splats, camera, backend=backend).color
            loss = ((color.clamp(0, 1) - photo).square().mean(-1) * counts).sum() / counts.sum()
            if float(loss.detach()) < lowest:
                best, lowest = world_to_cam.detach().clone(), float(loss.detach())
            adam.zero_grad()
            loss.backward()
            adam.step()
    return dataclasses.replace(fixed, world_to_cam=best)


def _moved(move: Float[Tensor, "6"], unit: float) -> Float[Tensor, "4 4"]:
    """The rigid motion of a rotation vector and a translation."""
    x, y, z = move[:3].unbind()
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero)).reshape(3, 3)
    top = torch.cat((torch.linalg.matrix_exp(skew), move[3:, None] * unit), 1)
    return torch.cat((top, top.new_tensor([[0.0, 0, 0, 1]])))
