"""The CUDA backend: gsplat, called so that it means the same as the CPU backend."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor

from da3gs._optional import require
from da3gs.cameras import Cameras
from da3gs.errors import BackendError
from da3gs.gaussians import Gaussians

_log = logging.getLogger(__name__)

DEVICES = frozenset({"cuda"})
"""Kinds of device that gsplat's kernels run on."""
_PACK_FROM = 4_000_000
"""With more (splat, camera) pairs than this, gsplat keeps only the visible ones: slower a little, smaller a lot."""


@functools.cache
def is_available() -> bool:
    """Whether gsplat can be imported and its CUDA kernels can be loaded or compiled; says so once where they cannot."""
    try:
        backend = require("gsplat.cuda._backend", why="drawing on CUDA")
    except Exception as error:  # whatever a compiler run inside an import may raise
        _log.warning("gsplat is not usable (%s); drawing on the CPU", error)
        return False
    return getattr(backend, "_C", None) is not None


def render_gsplat(
    gaussians: Gaussians, cameras: Cameras, background: Tensor, features: Tensor | None, *, antialias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour, depth, alpha and further channels with the leading axes of ``cameras``; shapes are checked by the caller.

    Gradients flow to everything but intrinsics.
    """
    rasterization: Any = require("gsplat", why="backend='gsplat'").rasterization
    if bool((cameras.intrinsics[..., 0, 1] != 0).any()):
        raise BackendError("backend='gsplat' cannot draw cameras with skew; use backend='cpu'")
    device, scenes = gaussians.means.device, gaussians.means.shape[:-2]
    batch = cameras.world_to_cam.shape[:-2]
    poses = cameras.world_to_cam.to(device, torch.float32).reshape(*scenes, -1, 4, 4)
    usable = _usable(gaussians)
    splats = {
        "means": torch.where(usable[..., None], gaussians.means, 0.0).float(),
        "quats": torch.where(usable[..., None], gaussians.quaternions, 1.0).float(),
        "scales": torch.where(usable[..., None], gaussians.scales, 1.0).float(),
        "opacities": torch.where(usable, gaussians.opacities, 0.0).float(),
        "viewmats": poses,
        "Ks": cameras.intrinsics.to(device, torch.float32).reshape(*scenes, -1, 3, 3),
        "width": cameras.width,
        "height": cameras.height,
        "packed": gaussians.opacities.numel() * poses.shape[-3] > _PACK_FROM,
        "rasterize_mode": "antialiased" if antialias else "classic",
    }
    pictures, alpha, _ = rasterization(
        colors=torch.where(usable[..., None, None], gaussians.harmonics, 0.0).float(),
        sh_degree=gaussians.degree,
        backgrounds=background.to(device).reshape(*scenes, -1, 3),
        render_mode="RGB+ED",
        **splats,
    )
    shape = (*batch, cameras.height, cameras.width)
    if features is None or features.shape[-1] == 0:
        extra = pictures.new_zeros(*shape, 0)
    else:
        extra = rasterization(
            colors=torch.where(usable[..., None], features.to(device), 0.0).float(), render_mode="RGB", **splats
        )[0]
    return (
        pictures[..., :3].reshape(*shape, 3),
        pictures[..., 3].reshape(shape),
        alpha.reshape(shape),
        extra.reshape(*shape, -1 if extra.numel() else 0),
    )


def _usable(gaussians: Gaussians) -> Tensor:
    """Which splats the CPU backend would draw: finite ones with a size and an orientation."""
    g = gaussians.detach()
    finite = g.means.isfinite().all(-1) & g.scales.isfinite().all(-1) & g.quaternions.isfinite().all(-1)
    finite &= g.opacities.isfinite() & g.harmonics.isfinite().flatten(-2).all(-1)
    return finite & (g.scales != 0).any(-1) & (g.quaternions != 0).any(-1)
