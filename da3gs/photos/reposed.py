"""Loaded photos with cameras that were found afterwards."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from da3gs.cameras import Cameras
from da3gs.formats.cameras.lens import Lens
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.records import Dropped, LoadedPhotos, Original, Placement, SparsePoints
from da3gs.photos.resampling.sizing import sized_image, sized_intrinsics, sized_mask, sizing_steps
from da3gs.photos.resampling.undistort import undistorted
from da3gs.views import Views


def reposed(
    photos: LoadedPhotos,
    keep: Sequence[int],
    lenses: Sequence[Lens],
    cam_to_world: Float[np.ndarray, "V 4 4"],
    placements: Sequence[Placement],
    *,
    points: SparsePoints,
    dropped: Sequence[Dropped],
    resolution: int,
) -> LoadedPhotos:
    """Some of the photos with the cameras that took them, read again and freed of their lens distortion.

    Args:
        photos: without poses.
        keep: positions of those that stay, ascending.
        lenses: a camera for each of them; the size may differ, the shape may not.
        cam_to_world: their poses, OpenCV axes.
        placements: how each of them came by its camera.
        points: in the same world.
        dropped: those that do not stay, with reasons.
        resolution: long side in pixels.
    """
    used, images, masks, intrinsics = [], [], [], []
    for position, lens, placement in zip(keep, lenses, placements, strict=True):
        photo = photos.photos[position]
        read = functools.partial(_read_undistorted, photo.read, lens)
        original = read()
        height, width = original.image.shape[:2]
        steps = sizing_steps(height, width, resolution=resolution)
        assert original.intrinsics is not None
        images.append(sized_image(original.image, steps))
        masks.append(None if original.mask is None else sized_mask(original.mask, steps))
        intrinsics.append(sized_intrinsics(original.intrinsics, height, width, steps))
        used.append(
            dataclasses.replace(
                photo,
                original_height=height,
                original_width=width,
                height=images[-1].shape[0],
                width=images[-1].shape[1],
                focal_source="given",
                original_intrinsics=original.intrinsics,
                read=read,
                placement=placement,
            )
        )
    height, width = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
    canvas = torch.zeros(len(images), 3, height, width)
    wanted = torch.zeros(len(images), height, width, dtype=torch.bool)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        h, w = image.shape[:2]
        canvas[i, :, :h, :w] = torch.tensor(image).permute(2, 0, 1) / 255
        wanted[i, :h, :w] = True if mask is None else torch.from_numpy(mask)
    known = np.stack(intrinsics)
    cameras = Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(cam_to_world)).float(),
        intrinsics=torch.from_numpy(known).float(), height=height, width=width,
    )  # fmt: skip
    views = Views(
        images=canvas, names=tuple(photo.name for photo in used), cameras=cameras,
        masks=None if wanted.all() else wanted, photo_sizes=tuple((photo.height, photo.width) for photo in used),
    )  # fmt: skip
    return dataclasses.replace(
        photos, views=views, photos=tuple(used), dropped=(*photos.dropped, *dropped), points=points,
        cam_to_world_given=cam_to_world, intrinsics_known=known,
    )  # fmt: skip


def _read_undistorted(read: Callable[[], Original], lens: Lens) -> Original:
    original = read()
    own = lens.resized(*original.image.shape[:2])
    image, mask, intrinsics = undistorted(original.image, original.mask, own)
    return Original(image=image, mask=mask, intrinsics=intrinsics)
