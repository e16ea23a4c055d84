"""How much each splat adds to pictures: what merging and budgets go by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering.rasterise import Backend, render


def contributions(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    pixel_weights: Float[Tensor, "V H W"] | None = None,
    backend: Backend = "auto",
    antialias: bool = False,
    progress: Progress = silent,
) -> Float[Tensor, "N"]:
    """The blending weights of each splat, summed over all pixels of all cameras: a splat nobody sees has 0.

    A splat that alone covers one pixel of one camera has 1. One camera is drawn at a time.

    Args:
        cameras: with one leading axis.
        pixel_weights: how much each pixel counts; 1 when absent. With an error map the result is each splat's share
            of it.
    """
    marks = torch.zeros(len(gaussians), 1, device=gaussians.means.device, requires_grad=True)
    total = torch.zeros(len(gaussians), device=gaussians.means.device)
    plain = gaussians.detach()
    for index in range(len(cameras)):
        with torch.enable_grad():
            picture = render(plain, cameras[index], features=marks, backend=backend, antialias=antialias)
        assert picture.features is not None
        weights = torch.ones_like(picture.alpha) if pixel_weights is None else pixel_weights[index].to(picture.alpha)
        (share,) = torch.autograd.grad(picture.features, marks, weights[..., None].to(picture.features))
        total += share[:, 0]
        progress("weighing splats", index + 1, len(cameras))
    return total
