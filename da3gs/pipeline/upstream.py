"""``--upstream``: what the official program does with photos and its network's answers, to the letter.

For comparisons; README tells what da3gs does instead, and why.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.upstream_ply import official_pixels
from da3gs.network.upstream_api import with_given_cameras
from da3gs.photos import LoadedPhotos
from da3gs.prediction import Prediction
from da3gs.views import Views


def cropped_to_smallest(photos: LoadedPhotos) -> LoadedPhotos:
    """Photos of different sizes cut to the smallest height and the smallest width, about their middles."""
    views = photos.views
    sizes = views.sizes
    height, width = min(h for h, _ in sizes), min(w for _, w in sizes)
    if all(size == (views.height, views.width) for size in sizes):
        return photos
    corners = [((h - height) // 2, (w - width) // 2) for h, w in sizes]
    images = torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(views.images, corners, strict=True)]
    )
    masks = None
    if views.masks is not None:
        masks = torch.stack([m[y : y + height, x : x + width] for m, (y, x) in zip(views.masks, corners, strict=True)])
        masks = None if bool(masks.all()) else masks
    shift = torch.tensor([[x, y] for y, x in corners], dtype=torch.float64)
    known = photos.intrinsics_known
    if known is not None:
        known = known.copy()
        known[:, :2, 2] -= shift.numpy()
    cameras, intrinsics = views.cameras, views.intrinsics
    if cameras is not None:
        moved = _shifted(cameras.intrinsics, shift)
        cameras = dataclasses.replace(cameras, intrinsics=moved, height=height, width=width)
    if intrinsics is not None:
        intrinsics = _shifted(intrinsics, shift)
    cut = Views(
        images=images,
        names=views.names,
        cameras=cameras,
        intrinsics=intrinsics,
        masks=masks,
        photo_sizes=((height, width),) * len(views),
    )
    used = tuple(dataclasses.replace(photo, height=height, width=width) for photo in photos.photos)
    return dataclasses.replace(photos, views=cut, photos=used, intrinsics_known=known)


def _shifted(intrinsics: Float[Tensor, "V 3 3"], shift: Float[Tensor, "V 2"]) -> Float[Tensor, "V 3 3"]:
    moved = intrinsics.clone()
    moved[:, :2, 2] -= shift.to(moved)
    return moved


def official_placement(prediction: Prediction, given: Cameras | None) -> Prediction:
    """The prediction as the official program hands it out: depth in the given cameras' scale, splats where they were.

    Raises:
        InputError: given cameras that it fails with (one, or all on one spot).
    """
    if given is None:
        return prediction
    try:
        return with_given_cameras(prediction, given)[0]
    except InputError as error:
        raise InputError(
            f"--upstream with {len(given)} given cameras: the official alignment fails on them ({error}); leave "
            "--upstream out, or use --poses predicted"
        ) from error


def official_pruning(depth: Float[Tensor, "V H W"]) -> Bool[Tensor, "N"]:
    """The pixels whose splats the official exporter writes: not at the border, not in the farthest tenth of a view."""
    return official_pixels(depth).flatten()
