"""Contribution of each splat to pictures, by which merging and budgets go."""

from __future__ import annotations

from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering.rasterise import Backend, choose_backend, render


def contributions(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    pixel_weights: Float[Tensor, "V H W"] | None = None,
    backend: Backend = "auto",
    antialias: bool | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "N"]:
    """The blending weights of each splat, summed over all pixels of all cameras: a splat nobody sees has 0.

    A splat that alone covers one pixel of one camera has 1. One camera is drawn at a time.

    Args:
        cameras: with one leading axis.
        pixel_weights: how much each pixel counts; 1 when absent. With an error map the result is each splat's share
            of it.
    """
    choice = choose_backend(backend, gaussians)
    antialias = gaussians.antialiased if antialias is None else antialias
    total = torch.zeros(len(gaussians), device=gaussians.means.device)
    for index in range(len(cameras)):
        camera = cameras[index]
        weights = torch.ones(camera.height, camera.width) if pixel_weights is None else pixel_weights[index]
        match choice:
            case "cpu":
                from da3gs.rendering._autograd import weigh_cpu

                weigh_cpu(gaussians, camera, weights, total, antialias=antialias)
            case "gsplat":
                total += _from_gradients(gaussians, camera, weights, backend, antialias)
            case other:
                assert_never(other)
        progress("weighing splats", index + 1, len(cameras))
    return total


def _from_gradients(
    gaussians: Gaussians, camera: Cameras, weights: Float[Tensor, "H W"], backend: Backend, antialias: bool
) -> Float[Tensor, "N"]:
    """Any backend: the gradient by a channel that each splat has to itself."""
    with torch.inference_mode(False), torch.enable_grad():
        plain = gaussians.map(lambda t: t.detach().clone())  # autograd takes no tensors made in inference mode
        camera = camera.map(lambda t: t.detach().clone())
        marks = torch.zeros(len(gaussians), 1, device=gaussians.means.device, requires_grad=True)
        picture = render(plain, camera, features=marks, backend=backend, antialias=antialias)
        assert picture.features is not None
        (share,) = torch.autograd.grad(picture.features, marks, weights[..., None].to(picture.features))
    return share[:, 0]
