"""Cameras estimated from the photos themselves, in an upright world of a handy size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos import Dropped, LoadedPhotos, Placement, SparsePoints
from da3gs.photos.picking import covering
from da3gs.photos.reposed import reposed
from da3gs.poses.camera_estimate import CameraEstimate
from da3gs.poses.features.database import Pair
from da3gs.poses.features.learned import FeatureKind
from da3gs.poses.ladder import NetworkView, estimated_cameras
from da3gs.poses.turning import widest_turn
from da3gs.poses.world_frame import Up, upright_frame

MOST_PHOTOS = 300
"""More are not matched: some minutes on two cores."""
VIDEO_FPS = 4.0
"""Frames a second that are taken from a video unless said otherwise."""
_TURN = 1.0  # degrees: photos from one place that turn less show the same view
_SAME = "shows the same view from the same place as the photo that is kept"
_UNTIED = "nothing ties it to the photo that is shown, which stands alone"
_UNPLACED = "could not be placed: too little of it matches the other photos"


def structure_from_motion(
    photos: LoadedPhotos,
    *,
    resolution: int,
    views: int,
    shared_focal: bool = False,
    alone: bool = False,
    network: NetworkView | None = None,
    features: FeatureKind = "auto",
    up: Up = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> LoadedPhotos:
    """The photos that can be placed, with their cameras, free of the lens distortion that was found, and their points.

    The world is like that of predicted poses: upright, origin at the first camera; the points' median depth is 1.

    Args:
        photos: all that there are, poses or not.
        resolution: long side of the views in pixels.
        views: at most so many are kept, spread over the cameras.
        shared_focal: one camera took all photos (they have to be of one size). Without it that is assumed where sizes
            and EXIF focal lengths are the same, or where none has one.
        alone: where no two photos can be placed, the photo with most matches comes back alone and without a camera,
            in place of an error.
        network: what a network tells of the photos, asked where it helps.
        features: what is matched beside SIFT.
        up: ``camera`` takes the first camera's axes.
        seed: of the random samples.
        progress: told how many photos are placed.

    Raises:
        InputError: no two photos could be placed.
    """
    total = len(photos.photos)
    sizes = {(photo.original_height, photo.original_width) for photo in photos.photos}
    if shared_focal and len(sizes) > 1:
        raise InputError(f"--shared-focal, but the photos have {len(sizes)} different sizes; leave it out")
    if total < 2:
        if alone:
            return photos
        raise InputError(f"--poses colmap needs at least 2 photos, got {total}; use --poses predicted")
    estimate, ties = estimated_cameras(
        photos.photos, shared_focal=shared_focal or photos.kind == "video", network=network,
        ordered=photos.kind == "video", features=features, seed=seed, progress=progress,
    )  # fmt: skip
    same = estimate is not None and estimate.one_spot and widest_turn(estimate) < _TURN
    if same and alone:
        return _alone(photos, ties, _SAME)
    if estimate is None or same:
        if alone:
            return _alone(photos, ties, _UNTIED)
        raise InputError(
            f"--poses colmap could place none of the {total} photos: too little in them matches; take photos that "
            "overlap more"
        )
    return _with_estimate(photos, estimate, resolution=resolution, views=views, up=up)


def _alone(photos: LoadedPhotos, ties: dict[Pair, int], reason: str) -> LoadedPhotos:
    """The photo that has most in common with the others, and nothing else; of equals the first."""
    votes = [sum(count for pair, count in ties.items() if i in pair) for i in range(len(photos.photos))]
    best = int(np.argmax(votes))
    dropped = [Dropped(name=_name(photos, i), reason=reason) for i in range(len(photos.photos)) if i != best]
    known = photos.intrinsics_known
    height, width = photos.photos[best].height, photos.photos[best].width
    views = photos.views[[best]]
    masks = None if views.masks is None else views.masks[:, :height, :width]
    views = dataclasses.replace(
        views, images=views.images[:, :, :height, :width], cameras=None,
        masks=None if masks is None or bool(masks.all()) else masks,
    )  # fmt: skip
    photo = dataclasses.replace(photos.photos[best], placement=Placement(placed="predicted"))
    return dataclasses.replace(
        photos, views=views, photos=(photo,), dropped=(*photos.dropped, *dropped), points=None,
        cam_to_world_given=None, intrinsics_known=None if known is None else known[[best]],
    )  # fmt: skip


def _name(photos: LoadedPhotos, index: int) -> str:
    photo = photos.photos[index]
    return photo.name if photos.kind == "video" else photo.file


def _with_estimate(
    photos: LoadedPhotos, estimate: CameraEstimate, *, resolution: int, views: int, up: Up
) -> LoadedPhotos:
    """The placed photos in their cameras and an upright world."""
    poses = torch.from_numpy(estimate.world_to_cam)
    cam_to_world = rigid_inverse(poses).numpy()
    chosen = list(range(len(estimate)))
    if len(chosen) > views:
        chosen = covering(cam_to_world, views)
    keep = [estimate.positions[i] for i in chosen]
    positions = torch.from_numpy(estimate.points)
    unit = torch.eye(3, dtype=torch.float64).repeat(len(keep), 1, 1)
    cameras = Cameras(world_to_cam=poses[chosen], intrinsics=unit, height=1, width=1)
    depth = torch.einsum("vj,nj->vn", poses[chosen][:, 2, :3], positions) + poses[chosen][:, 2, 3:]
    seen = torch.from_numpy(estimate.seen[chosen])
    world = upright_frame(cameras, depth[:, None], up="camera" if up == "camera" else "auto", valid=seen[:, None])
    points = SparsePoints(
        positions=world.apply(positions).numpy(), colors=estimate.colors, errors=estimate.errors,
        visible=estimate.seen[chosen],
    )  # fmt: skip
    moved = world.apply_to_cameras(torch.from_numpy(cam_to_world[chosen])).numpy()
    found = reposed(
        photos, keep, [estimate.lenses[i] for i in chosen], moved, [estimate.placements[i] for i in chosen],
        points=points, dropped=_dropped(photos, estimate.positions, keep, views), resolution=resolution,
    )  # fmt: skip
    return dataclasses.replace(found, one_spot=estimate.one_spot)


def _dropped(photos: LoadedPhotos, placed: Sequence[int], keep: Sequence[int], views: int) -> list[Dropped]:
    named = functools.partial(_name, photos)
    many = f"is not among the {views} that cover the scene best"
    dropped = [Dropped(name=named(i), reason=_UNPLACED) for i in range(len(photos.photos)) if i not in placed]
    return dropped + [Dropped(name=named(i), reason=many) for i in placed if i not in keep]
