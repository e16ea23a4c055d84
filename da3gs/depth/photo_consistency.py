"""Photo-consistency of pixels: sharp splats from depth where it holds, those of a Gaussian head elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from da3gs.depth.cost_volume import per_view, volume_of
from da3gs.depth.view_pyramid import level_of, neighbors_of, resized_depth
from da3gs.prediction import Placed
from da3gs.views import Views

_SIDE = 256  # the long side at which photos are compared, pixels
_NEIGHBORS = 4
_WINDOW = 9  # pixels whose mean cost decides
_ALIKE = 0.6  # cost, 0 to 1, below which photos agree


def with_sharp_splats(result: Placed, views: Views) -> Placed:
    """The prediction with the pixels marked whose depth the photos agree on: there splats are made from depth.

    Splats from depth are sharp, and win where depth is right; those of a small head are soft, and forgive: they cover
    what lies open behind an edge, and blur what would be torn. A pixel's depth is right where its surroundings look
    the same from the views that see it. A single photo gets sharp ones alone.

    Args:
        result: with the splats of a head.
        views: the photos.
    """
    if result.gaussians is None or len(views) == 1:
        return dataclasses.replace(result, gaussians=None)
    return dataclasses.replace(result, sharp=_agreed(result, views))


def _agreed(result: Placed, views: Views) -> Bool[Tensor, "V H W"]:
    """Where views look alike at their depth."""
    masks = None if views.masks is None else views.masks.cpu()
    level = level_of(views.images.detach().cpu().float(), result.cameras.to("cpu"), masks, _SIDE)
    depth = resized_depth(result.depth.detach().cpu().float(), level.size)
    neighbors, here = neighbors_of(level, depth, _NEIGHBORS), np.zeros(1, np.float32)

    def costs(view: int) -> np.ndarray:
        """How little a view's pixels look like their neighbours'."""
        return volume_of(level, depth, view, neighbors[view], here)[..., 0]

    cost = torch.from_numpy(np.stack(per_view(costs, len(views))))[:, None]
    cost = functional.avg_pool2d(cost, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
    cost = functional.interpolate(cost, result.depth.shape[1:], mode="bilinear", align_corners=False)
    return (cost[:, 0] < _ALIKE).to(result.depth.device)
