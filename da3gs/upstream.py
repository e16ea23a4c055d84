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
from da3gs.formats.splats.upstream_ply import official_pixels
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


def official_render_cameras(cameras: Cameras) -> Cameras:
    """The cameras that the official renderer makes of these: centred, with the angle between the image's edges.

    The focal length is ``size / (2 tan(fov / 2))`` with fov the angle between the rays through the middles of opposite
    edges; the principal point is lost, and where it was off centre the focal length changes a little.
    """
    height, width = cameras.height, cameras.width
    inverse = torch.linalg.inv(cameras.intrinsics.double())
    edges = torch.tensor(
        [[0, height / 2, 1], [width, height / 2, 1], [width / 2, 0, 1], [width / 2, height, 1]], dtype=torch.float64
    ).to(inverse.device)
    rays = torch.nn.functional.normalize(edges @ inverse.mT, dim=-1)
    fov = torch.stack(((rays[:, 0] * rays[:, 1]).sum(-1), (rays[:, 2] * rays[:, 3]).sum(-1)), -1).clamp(-1, 1).acos()
    size = torch.tensor([width, height], dtype=torch.float64, device=inverse.device)
    intrinsics = torch.zeros_like(inverse)
    intrinsics[:, (0, 1), (0, 1)] = size / (2 * (fov / 2).tan())
    intrinsics[:, :2, 2] = size / 2
    intrinsics[:, 2, 2] = 1
    return dataclasses.replace(cameras, intrinsics=intrinsics.to(cameras.intrinsics))
