"""The CPU backend as a function of tensors, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering._cpu import (
    Canvas,
    Drawn,
    SplatGradients,
    Splats,
    as_array,
    camera_array,
    rasterise,
    rasterise_back,
    return_workspace,
    weigh,
)

Pictures = tuple[Tensor, Tensor, Tensor, Tensor]
"""Colour, depth, alpha and further channels."""


def render_cpu(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Tensor,
    features: Tensor | None,
    *,
    antialias: bool,
    threads: int | None,
) -> Pictures:
    """Pictures with the leading axes of ``cameras``; shapes are checked by the caller.

    Gradients flow to every tensor that asks for them; the way back runs once, and only where one does.
    """
    batch = cameras.world_to_cam.shape[:-2]
    scenes = gaussians.means.shape[:-2].numel()

    def flat(tensor: Tensor, axes: int) -> Tensor:
        tail = tensor.shape[tensor.ndim - axes :]
        return tensor.to(device="cpu", dtype=torch.float32).reshape(scenes, *tail)

    if features is None:
        features = gaussians.means.new_zeros(*gaussians.means.shape[:-1], 0)
    inputs = (
        flat(gaussians.means, 2),
        flat(gaussians.scales, 2),
        flat(gaussians.quaternions, 2),
        flat(gaussians.opacities, 1),
        flat(gaussians.harmonics, 3),
        flat(features, 2),
        cameras.world_to_cam.to(device="cpu", dtype=torch.float64).reshape(-1, 4, 4),
        cameras.intrinsics.to(device="cpu", dtype=torch.float64).reshape(-1, 3, 3),
        background.to(device="cpu", dtype=torch.float32).reshape(-1, 3),
    )
    options = (cameras.height, cameras.width, antialias, threads)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        pictures = _Render.apply(*inputs, *options)
    else:
        pictures = _draw(*inputs, *options, keep=False)[0]
    color, depth, alpha, extra = (picture.reshape(*batch, *picture.shape[1:]) for picture in pictures)
    return color, depth, alpha, extra


def weigh_cpu(gaussians: Gaussians, camera: Cameras, weights: Tensor, total: Tensor, *, antialias: bool) -> None:
    """Add each splat's blending weights in one picture, times those of the pixels (H, W), to ``total`` (N) in place."""
    g = gaussians
    none = g.means.new_zeros(len(g), 0)
    columns = [as_array(t) for t in (g.means, g.scales, g.quaternions, g.opacities, g.harmonics, none)]
    pose, intrinsics = camera.world_to_cam.detach().cpu().numpy(), camera.intrinsics.detach().cpu().numpy()
    sums = as_array(total)
    weigh(
        Splats(*columns),
        camera_array(pose, intrinsics, camera.height, camera.width),
        as_array(weights),
        sums,
        antialias=antialias,
    )
    total.copy_(torch.from_numpy(sums))


def _draw(
    means: Tensor,
    scales: Tensor,
    quaternions: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    features: Tensor,
    world_to_cam: Tensor,
    intrinsics: Tensor,
    background: Tensor,
    height: int,
    width: int,
    antialias: bool,
    threads: int | None,
    *,
    keep: bool,
) -> tuple[Pictures, list[Drawn | None]]:
    views = len(world_to_cam)
    color, depth = torch.empty(views, height, width, 3), torch.empty(views, height, width)
    alpha, extra = torch.empty(views, height, width), torch.empty(views, height, width, features.shape[-1])
    pictures = color, depth, alpha, extra
    columns = [as_array(t) for t in (means, scales, quaternions, opacities, harmonics, features)]
    colors = as_array(background)
    drawn = []
    for view in range(views):
        drawn.append(
            rasterise(
                _scene(columns, view, views),
                camera_array(world_to_cam[view].detach().numpy(), intrinsics[view].detach().numpy(), height, width),
                colors[view],
                Canvas(*(picture[view].numpy() for picture in pictures)),
                antialias=antialias,
                threads=threads,
                keep=keep,
            )
        )
    return pictures, drawn


def _scene(columns: list[np.ndarray], view: int, views: int) -> Splats:
    """The scene that a view shows: the views of the first scene come first."""
    return Splats(*(column[view * len(column) // views] for column in columns))


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Pictures:
        pictures, ctx.drawn = _draw(*arguments, keep=True)
        ctx.save_for_backward(*arguments[:9], pictures[1], pictures[2])
        ctx.options = arguments[9:]
        return pictures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by_pictures: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, depth, alpha = ctx.saved_tensors
        height, width, antialias, threads = ctx.options
        columns, (world_to_cam, intrinsics, background) = [as_array(t) for t in inputs[:6]], inputs[6:]
        gradients = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in inputs]
        views, colors = len(world_to_cam), as_array(background)
        by_arrays = [as_array(picture) for picture in by_pictures]
        for view in range(views):
            drawn = ctx.drawn[view]
            if drawn is None:
                raise RuntimeError("the pictures were differentiated before; render again")
            scene = view * len(columns[0]) // views
            nothing = np.empty((height, width, columns[5].shape[-1]), np.float32)
            by_camera = rasterise_back(
                _scene(columns, view, views),
                camera_array(world_to_cam[view].numpy(), intrinsics[view].numpy(), height, width),
                colors[view],
                Canvas(np.empty((0, 0, 3), np.float32), depth[view].numpy(), alpha[view].numpy(), nothing),
                Canvas(*(array[view] for array in by_arrays)),
                drawn,
                SplatGradients(*(gradient[scene].numpy().reshape(-1) for gradient in gradients[:6])),
                antialias=antialias,
                threads=threads,
            )
            return_workspace(drawn.workspace)
            ctx.drawn[view] = None
            _add_camera(gradients[6][view], gradients[7][view], torch.from_numpy(by_camera))
            rest = (1 - alpha[view]).unsqueeze(-1)
            gradients[8][view] = (torch.from_numpy(by_arrays[0][view]).double() * rest).sum((0, 1)).float()
        return (*gradients, None, None, None, None)


def _add_camera(pose: Tensor, intrinsics: Tensor, by_camera: Tensor) -> None:
    """Put the gradients by a camera, in the order of ``camera_array``, where they belong."""
    pose[:3, :3] = by_camera[:9].reshape(3, 3)
    pose[:3, 3] = by_camera[9:12]
    for value, (row, column) in zip(by_camera[12:], ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)), strict=True):
        intrinsics[row, column] = value
