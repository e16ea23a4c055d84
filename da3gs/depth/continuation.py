"""Soft extrapolation beyond the photos' frames: surfaces go on, blurred, where no photo shows anything."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from da3gs.cameras import Cameras
from da3gs.depth import _completion as _kernels
from da3gs.depth.patch_match import StereoDepth
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import project
from da3gs.network.depth_splats import splats_from_depth

FINEST = 63
"""Cells along the long side of a photo, where there may be so many splats."""
_CELLS = 2.7  # cells round a photo, by the square of those along its long side
_MARGIN = 0.5  # how far it goes on, in long sides
_ROUNDS = 200
_BEHIND = 1.03  # how much deeper than the surface it goes on from: what photos show hides it
_CLEAR = 1.08  # and than what another photo shows where it is in its frame
_REACH = 1  # cells that a splat covers to each side
_FOOTPRINT, _OPACITY = 1.0, 0.95
_NEAREST, _FARTHEST = 1.1, 0.25  # of the greatest and the least inverse depth: bounds


def continued(
    image: UInt8[np.ndarray, "h w 3"],
    inverse: Float[np.ndarray, "h w"],
    camera: Cameras,
    stereo: StereoDepth,
    cameras: Cameras,
    view: int,
    *,
    most: int,
) -> tuple[Gaussians, Int[Tensor, "n 2"]]:
    """Splats round a photo's frame, and the row and column of the pixel of the frame that each goes on from.

    A membrane from depth, its slopes and colours at the frame, outwards and a little behind; left out where another
    photo shows what is there.

    Args:
        image: the photo.
        inverse: its inverse depth.
        camera: its camera, with a leading axis.
        stereo: of all views.
        cameras: of all views.
        view: which of them it is.
        most: about how many splats there may be.
    """
    h, w = inverse.shape
    side = min(FINEST, max(8, int((most / _CELLS) ** 0.5)))
    factor = side / max(h, w)
    rows, columns = max(2, round(h * factor)), max(2, round(w * factor))
    margin = round(_MARGIN * side)
    camera = camera.resized(rows, columns).cropped(-margin, -margin, rows + 2 * margin, columns + 2 * margin)
    small = cv2.resize(inverse, (columns, rows), interpolation=cv2.INTER_AREA)
    colors = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    inside = np.pad(np.full((rows, columns), 100, np.float32), margin)
    smooth = cv2.GaussianBlur(small, (0, 0), 2.0)
    flat = np.zeros_like(inside)
    slopes = [_extended(np.gradient(smooth, axis=axis), inside, margin, flat, flat) for axis in (1, 0)]
    far = np.clip(_extended(small, inside, margin, *slopes), _FARTHEST * small.min(), _NEAREST * small.max())
    picture = np.stack([_extended(colors[..., i], inside, margin, flat, flat) for i in range(3)])
    depth = torch.from_numpy(np.float32(_BEHIND) / far)[None]
    splats = splats_from_depth(torch.from_numpy(picture)[None].clamp(0, 1), depth, camera, footprint=_FOOTPRINT)
    seen = _in_sight(splats.means, stereo, cameras, view).view(1, *inside.shape).float()
    near = functional.max_pool2d(seen, 2 * _REACH + 1, 1, _REACH)[0] > 0
    keep = (torch.from_numpy(inside == 0) & ~near).flatten().nonzero()[:, 0]
    splats = splats.masked(keep)
    splats.opacities.fill_(_OPACITY)
    row = ((keep // inside.shape[1] - margin).clamp(0, rows - 1) * h) // rows
    column = ((keep % inside.shape[1] - margin).clamp(0, columns - 1) * w) // columns
    return splats, torch.stack((row, column), -1)


def _extended(
    values: Float[np.ndarray, "h w"],
    trust: Float[np.ndarray, "H W"],
    margin: int,
    across: Float[np.ndarray, "H W"],
    down: Float[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """The smoothest values with these slopes that are those given inside."""
    data = np.pad(values.astype(np.float32), margin)
    result = np.pad(values.astype(np.float32), margin, mode="edge")
    one = np.ones_like(data)
    _kernels.relax(result, data, trust, one, one, across, down, _ROUNDS)
    return result


def _in_sight(points: Float[Tensor, "N 3"], stereo: StereoDepth, cameras: Cameras, view: int) -> Bool[Tensor, "N"]:
    """Whether a point is in the frame of another view and not well behind what that shows."""
    bad = torch.zeros(len(points), dtype=torch.bool)
    for other in range(len(cameras)):
        if other == view:
            continue
        fx, fy, cx, cy = stereo.level.lens[other].tolist()
        intrinsics = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        pixels, z = project(points, intrinsics, cameras.world_to_cam[other].float())
        h, w = stereo.level.sizes[other]
        column, row = pixels.nan_to_num(-1).clamp(-1, 1e6).floor().long().unbind(-1)
        inside = (z > 0) & (column >= 0) & (row >= 0) & (column < w) & (row < h)
        there = torch.from_numpy(stereo.planes[other, ..., 0])[row.clamp(0, h - 1), column.clamp(0, w - 1)]
        bad |= inside & (z * there < _CLEAR)
    return bad
