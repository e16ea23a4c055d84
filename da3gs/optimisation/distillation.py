"""Distillation: a few steps that make fewer splats show what many showed, towards renders of the many."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.optimisation.optimizer import Limit, Options, SplatOptimizer
from da3gs.rendering import Backend, render
from da3gs.views import Views

POLISHED_SPLATS = 1_000_000
"""More are left as they are: the descent would take longer, and more memory, than all the rest."""
POLISHED_PHOTOS = 24
"""At most so many photos, evenly spread, are what the splats are to show."""
_RATES = {"means": 0.1, "scales": 0.08, "quaternions": 0.04, "opacities": 0.1, "harmonics": 0.04}
"""Few steps have to do: they are longer than those of refinement, but for the means, which are right."""
_BACKGROUNDS = (0.0, 1.0)
"""In turn: holes and dimming show before one of them."""
_STEPS = (20, 60)
"""Least and most."""
_WORK = 30_000_000
"""Splats, and twice the pixels, that all steps together go through: some 5 seconds of two processor cores."""


@torch.inference_mode(False)
@torch.no_grad()
def polished(
    fewer: Gaussians,
    whole: Gaussians,
    cameras: Cameras,
    views: Views,
    *,
    backend: Backend = "auto",
    progress: Progress = silent,
) -> tuple[Gaussians, Int[Tensor, "M"]]:
    """Splats that show the photos' cameras what ``whole`` shows them, and which of ``fewer`` each one is.

    Nothing is learnt from the photos themselves: the targets are renders. The number of steps depends on the numbers
    of splats and pixels alone. Splats that fade away go.

    Args:
        fewer: where to start.
        whole: what to look like.
        cameras: one a photo.
        views: the photos; only their sizes and masks matter.
    """
    if len(fewer) > POLISHED_SPLATS or not len(fewer) or not len(views):
        return fewer, torch.arange(len(fewer), device=fewer.device)
    stride = -(-len(views) // POLISHED_PHOTOS)
    chosen = list(range(len(views)))[::stride]
    cameras = cameras[chosen]
    greys = [_BACKGROUNDS[i % len(_BACKGROUNDS)] for i in range(len(chosen))]
    pictures = [render(whole, cameras[i], background=(g, g, g), backend=backend).color for i, g in enumerate(greys)]
    targets = torch.stack(pictures).movedim(-1, 1).clamp(0, 1)
    views = dataclasses.replace(views[chosen], images=targets, cameras=None, intrinsics=None)
    options = Options(
        exposure=False, faint=0.0, large=0.0, anchor=0.0, rates=dict(_RATES), backgrounds=_BACKGROUNDS, backend=backend
    )
    optimizer = SplatOptimizer(fewer, cameras, views, options)
    most = _WORK // (len(fewer) + 2 * targets[0, 0].numel())
    optimizer.run(
        Limit(steps=min(max(most, _STEPS[0]), _STEPS[1])),
        lambda step, share: progress("polishing merged splats", round(100 * share), 100),
    )
    return optimizer.splats().detach(), optimizer.origins
