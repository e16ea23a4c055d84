"""Splats and cameras to pictures: one function for every backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import BackendError, InputError
from da3gs.gaussians import Gaussians

Backend = Literal["auto", "cpu", "gsplat"]

MAX_PIXELS = 100_000_000
"""The largest picture that is drawn."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Rendering(TensorRecord):
    """Pictures of splats."""

    color: Float[Tensor, "*batch H W 3"]
    """Blended colour over the background, not clamped: bright splats may exceed 1."""
    depth: Float[Tensor, "*batch H W"]
    """Expected z of what is seen, along the camera's axis; 0 where alpha is 0."""
    alpha: Float[Tensor, "*batch H W"]
    """How much of the background is covered, in [0, 1]."""
    features: Float[Tensor, "*batch H W C"] | None = None
    """The splats' further channels, blended like colour over 0; None where there are none."""


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Sequence[float] | Tensor | None = None,
    backend: Backend = "auto",
    features: Float[Tensor, "*batch N C"] | None = None,
    antialias: bool | None = None,
    threads: int | None = None,
) -> Rendering:
    """Pictures of splats from cameras, by alpha blending from front to back.

    Splats are projected by the local affine approximation (EWA, Zwicker et al. 2001) with a blur of 0.3 px² of
    variance, as gsplat and the 3D Gaussian Splatting paper do; α = min(0.999, opacity · exp(−σ)), contributions under
    1/255 are left out and a pixel is finished when less than 1e-4 of the light would get through. Splats that are not
    finite, have no size or a zero quaternion are left out. Everything is differentiable, the cameras too (with gsplat
    their poses, not their intrinsics).

    Args:
        gaussians: one scene ``(N)``, or a batch ``(*B, N)``.
        cameras: ``(*V)``, or ``(*B, *V)`` for batched splats; every scene is drawn from each of its cameras. One camera
            without a leading axis gives pictures without one.
        background: colour (3) or one a camera; black when absent.
        backend: ``"auto"`` draws with gsplat where the splats lie on a CUDA device and gsplat is installed, else
            on the CPU.
        features: further channels of the splats, blended with the weights of their colours.
        antialias: make splats that the blur widens fainter, as gsplat's ``rasterize_mode="antialiased"``; None: where
            the splats are made for it.
        threads: how many threads the CPU backend uses; as many as torch by default. The result does not depend on it.

    Raises:
        InputError: shapes do not fit together, cameras are not usable, or a picture has more than 100 million pixels.
        BackendError: the chosen backend cannot run here.
    """
    batch = _checked_batch(gaussians, cameras, features)
    colors = _background(background, batch, gaussians.means.device)
    antialias = gaussians.antialiased if antialias is None else antialias
    match choose_backend(backend, gaussians):
        case "cpu":
            from da3gs.rendering._autograd import render_cpu

            pictures = render_cpu(gaussians, cameras, colors, features, antialias=antialias, threads=threads)
        case "gsplat":
            from da3gs.rendering._gsplat import render_gsplat

            pictures = render_gsplat(gaussians, cameras, colors, features, antialias=antialias)
        case other:
            assert_never(other)
    device, dtype = gaussians.means.device, gaussians.means.dtype
    color, depth, alpha, extra = (picture.to(device, dtype) for picture in pictures)
    return Rendering(color=color, depth=depth, alpha=alpha, features=None if features is None else extra)


def _checked_batch(gaussians: Gaussians, cameras: Cameras, features: Tensor | None) -> tuple[int, ...]:
    """The leading axes of the result, after every check of the input."""
    batch, scenes = cameras.world_to_cam.shape[:-2], gaussians.means.shape[:-2]
    if batch[: len(scenes)] != scenes or cameras.intrinsics.shape[:-2] != batch:
        raise InputError(
            f"cameras of shape {tuple(batch)} do not fit splats of shape {tuple(scenes)}; "
            "a batch of scenes needs cameras with the same leading axes"
        )
    height, width = cameras.height, cameras.width
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise InputError(
            f"a picture of {width}x{height} pixels cannot be drawn; both sides must be at least 1 and "
            f"their product at most {MAX_PIXELS}"
        )
    if features is not None and features.shape[:-1] != gaussians.means.shape[:-1]:
        raise InputError(
            f"features of shape {tuple(features.shape)} do not fit splats of shape {tuple(gaussians.means.shape[:-1])}"
        )
    k, pose = cameras.intrinsics.detach(), cameras.world_to_cam.detach()
    if not (k.isfinite().all() and pose.isfinite().all()):
        raise InputError("a camera's pose or intrinsics are not finite; leave that camera out")
    if not (k[..., (0, 1), (0, 1)] > 0).all():
        focal = k[..., (0, 1), (0, 1)].min().item()
        raise InputError(f"a camera's focal length is {focal:g} pixels; it must be positive")
    bands = gaussians.harmonics.shape[-2]
    if bands not in (1, 4, 9, 16):
        raise InputError(f"{bands} spherical harmonics a colour; expected 1, 4, 9 or 16 (degree 0 to 3)")
    return tuple(batch)


def _background(value: Sequence[float] | Tensor | None, batch: tuple[int, ...], device: torch.device) -> Tensor:
    """One colour a camera, (*batch, 3)."""
    color = torch.as_tensor(0.0 if value is None else value, dtype=torch.float32, device=device)
    try:
        color = color.expand(*batch, 3)
    except RuntimeError as error:
        raise InputError(
            f"a background of shape {tuple(color.shape)} does not fit; expected 3 numbers, or 3 a camera"
        ) from error
    if not bool(color.detach().isfinite().all()):
        raise InputError("the background colour is not finite")
    return color


def choose_backend(backend: Backend, gaussians: Gaussians) -> Literal["cpu", "gsplat"]:
    """Backend that ``auto`` means for these splats.

    Raises:
        BackendError: the chosen backend cannot draw them.
    """
    from da3gs.rendering import _gsplat

    device = gaussians.means.device.type
    match backend:
        case "auto":
            return "gsplat" if device in _gsplat.DEVICES and _gsplat.is_available() else "cpu"
        case "cpu":
            return "cpu"
        case "gsplat":
            if device not in _gsplat.DEVICES:
                raise BackendError(
                    f"backend='gsplat' needs CUDA tensors, got {device}; "
                    "use --device cuda (from Python: move the scene with .to('cuda')), or backend='cpu'"
                )
            return "gsplat"
        case other:
            assert_never(other)
