"""Opacities of splats whose depth is a guess, by descent on the photos: what spoils other photos fades."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering import Backend, render

_ROUNDS, _AT_ONCE = 6, 8  # steps, and photos looked at for each
_STEP, _SOFT = 3.0, 0.15  # logits at most; the gradient, in grey values summed over pixels, that makes half of it
_FAINTEST, _MOST = 0.005, 0.99


@torch.inference_mode(False)
def fitted_opacities(
    splats: Gaussians,
    free: Bool[Tensor, "N"],
    cameras: Sequence[Cameras],
    photos: Sequence[Float[Tensor, "_ _ 3"]],
    masks: Sequence[Bool[Tensor, "_ _"] | None],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "N"]:
    """Opacities with which the splats show the photos better: ``min Σ |C(o) - photo|`` over those that are free.

    Every step moves a free splat's logit by ``g / (|g| + s)``, g the gradient to its opacity summed over a few photos:
    by about as much where it spoils one pixel as where it spoils many. A splat that its own photo needs and others do
    not see stays.

    Args:
        splats: drawn antialiased where they are made for it.
        free: whose opacity may change.
        cameras: of each photo, without a leading axis.
        photos: from 0 to 1.
        masks: False where a photo says nothing.
        backend: draws the splats.
    """
    splats = splats.map(lambda values: values.detach().clone())
    logits = torch.logit(splats.opacities.clamp(_FAINTEST, _MOST))
    low, high = torch.logit(torch.tensor([_FAINTEST, _MOST])).tolist()
    apart = -(-len(photos) // _AT_ONCE)
    for step in range(_ROUNDS):
        opacities = torch.sigmoid(logits).requires_grad_()
        for view in range(step % apart, len(photos), apart):
            with torch.enable_grad():
                shown = render(dataclasses.replace(splats, opacities=opacities), cameras[view], backend=backend).color
            way = (shown.detach() - photos[view]).sign() / 3
            mask = masks[view]
            shown.backward(way if mask is None else way * mask[..., None])
        slope = torch.zeros_like(logits) if opacities.grad is None else opacities.grad
        logits = torch.where(free, (logits - _STEP * slope / (slope.abs() + _SOFT)).clamp(low, high), logits)
    return torch.where(free, torch.sigmoid(logits), splats.opacities)
