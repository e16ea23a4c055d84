"""Photos laid into another camera: by one plane, or pixel by pixel with known depth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import camera_directions, pixel_centers, project, unproject


def plane_depth(cameras: Sequence[Cameras], camera: Cameras) -> float:
    """Depth, in front of ``camera``, of the point that the viewing axes pass nearest to.

    Least squares over the axes; where they are parallel, or meet behind the camera, the cameras' extent (1 for one
    camera).
    """
    centers = torch.stack([c.centers.double() for c in cameras])
    axes = torch.stack([c.forward.double() for c in cameras])
    extent = float((centers - centers.mean(0)).norm(dim=-1).max()) or 1.0
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    normal, right = across.sum(0), (across @ centers[..., None]).sum(0)
    if float(torch.linalg.eigvalsh(normal)[0]) < 1e-3:
        return extent
    meeting = torch.linalg.solve(normal, right).squeeze(-1)
    depth = float((meeting - camera.centers.double()) @ camera.forward.double())
    return depth if depth > 0.1 * extent else extent


def warped_photos(
    photos: Sequence[tuple[Float[Tensor, "h w 3"], Cameras]], camera: Cameras, depth: float
) -> Float[Tensor, "H W 3"]:
    """Picture of ``camera`` if all stood on a plane at ``depth`` before it; earlier photos win, black elsewhere."""
    pixels = pixel_centers(camera.height, camera.width, dtype=torch.float64)
    local = camera_directions(camera.intrinsics.double(), pixels) * depth
    pose = camera.cam_to_world.double()
    points = (local @ pose[:3, :3].T + pose[:3, 3]).reshape(-1, 3)
    color = torch.zeros(camera.height, camera.width, 3)
    empty = torch.ones(camera.height, camera.width, dtype=torch.bool)
    for photo, other in photos:
        at, z = project(points, other.intrinsics.double(), other.world_to_cam.double())
        size = torch.tensor([other.width, other.height], dtype=torch.float64)
        grid = (2 * at / size - 1).reshape(1, camera.height, camera.width, 2).float()
        inside = (grid[0].abs().amax(-1) <= 1) & (z.reshape(camera.height, camera.width) > 0) & empty
        seen = torch.nn.functional.grid_sample(
            photo.movedim(-1, 0)[None], grid.clamp(-2, 2), padding_mode="border", align_corners=False
        )[0].movedim(0, -1)
        color[inside] = seen[inside]
        empty &= ~inside
    return color


def warped_points(
    images: Float[Tensor, "V 3 h w"],
    depth: Float[Tensor, "V h w"],
    cameras: Sequence[Cameras],
    camera: Cameras,
    sizes: Sequence[tuple[int, int]],
) -> Float[Tensor, "H W 3"]:
    """Every pixel with depth drawn as a point of one pixel, the nearest on top; holes get their nearest neighbour."""
    colors, places, depths = [], [], []
    for i, (h, w) in enumerate(sizes):
        lifted = unproject(
            depth[i, :h, :w].double(), cameras[i].intrinsics.double(), cameras[i].cam_to_world.double()
        ).reshape(-1, 3)
        at, z = project(lifted, camera.intrinsics.double(), camera.world_to_cam.double())
        column, row = at[:, 0].floor().nan_to_num(-1), at[:, 1].floor().nan_to_num(-1)
        good = (z > 1e-6) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        places.append((row[good].long() * camera.width + column[good].long()).numpy())
        depths.append(z[good].numpy())
        colors.append(images[i, :, :h, :w].movedim(0, -1).reshape(-1, 3)[good].numpy())
    place, order = np.concatenate(places), np.argsort(-np.concatenate(depths), kind="stable")
    color = np.zeros((camera.height * camera.width, 3), np.float32)
    color[place[order]] = np.concatenate(colors)[order]
    filled = np.zeros(camera.height * camera.width, bool)
    filled[place] = True
    size = (camera.height, camera.width)
    return torch.from_numpy(_without_holes(color.reshape(*size, 3), filled.reshape(size)))


def _without_holes(picture: Float[np.ndarray, "H W 3"], filled: np.ndarray) -> Float[np.ndarray, "H W 3"]:
    """Pixels that nothing fell on take the colour of the nearest that something did."""
    if filled.all() or not filled.any():
        return picture
    _, labels = cv2.distanceTransformWithLabels(
        (~filled).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(int(labels.max()) + 1, np.int64)
    source[labels[filled]] = np.flatnonzero(filled)
    return picture.reshape(-1, 3)[source[labels]].reshape(picture.shape)
