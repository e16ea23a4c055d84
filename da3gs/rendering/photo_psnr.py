"""PSNR of a splat's renders against the photos."""

from __future__ import annotations

import torch

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.metrics.image import psnr
from da3gs.rendering.rasterise import Backend, render
from da3gs.views import Views


def photo_psnr(
    gaussians: Gaussians, cameras: Cameras, views: Views, *, antialias: bool | None = None, backend: Backend = "auto"
) -> list[float]:
    """PSNR in dB of the splat's render against each view's photo, inside its mask, in view order."""
    scores = []
    for index in range(len(views)):
        rendering = render(gaussians, cameras[index], antialias=antialias, backend=backend)
        photo = views.images[index].movedim(0, -1)
        mask = None if views.masks is None else views.masks[index]
        with torch.no_grad():
            scores.append(float(psnr(rendering.color.cpu(), photo.cpu(), mask)))
    return scores
