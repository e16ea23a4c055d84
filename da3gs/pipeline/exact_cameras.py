"""Surfaces where cameras are exact: depth by stereo, completed by the network, and splats at the photos' detail."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._progress import Progress
from da3gs.depth.alignment import honest_depth, telling_pixels, with_depth
from da3gs.depth.disparity_plane import surface_depth
from da3gs.depth.patch_match import StereoDepth, stereo_depth, stereo_sides
from da3gs.depth.surfels import surfel_views
from da3gs.depth.triangulation import LONG_SIDE, MatchedPoints, Sharp, matched_points, sharp_photos, smaller_photo
from da3gs.photos import LoadedPhotos
from da3gs.pipeline.settings import REFINED, Settings
from da3gs.prediction import Placed
from da3gs.splats.from_prediction import Assembled, assembled_views
from da3gs.splats.sky_shell import has_sky
from da3gs.views import Views

AUTO_DETAIL = 1008
"""Long side of the splats' grid that ``auto`` means, where photos are as large and the budget allows it."""
_TELLING = 100  # points of each view, from which on none are matched afresh
_CONFIRMED = 0.02  # share of the pixels that another view must bear out for stereo to mean anything


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Surfaces:
    """What is known of the surfaces that exact cameras see."""

    result: Placed
    """With the depth that the photos agree on."""
    record: dict[str, Any]
    """What was done, for scene.json."""
    stereo: StereoDepth | None = None
    """What stereo found, where views overlap."""
    sharp: tuple[Sharp, ...] = ()
    """The photos at the detail of the splats."""

    def splats(self, views: Views, settings: Settings, most: int) -> list[Assembled] | None:
        """The splats of each view, at most about so many; None where they are to be made from the prediction."""
        if self.stereo is None or settings.splats == "head":
            return None
        parts = surfel_views(self.result, views, self.stereo, self.sharp, most=most, backend=settings.backend)
        if settings.sky != "shell" or not has_sky(self.result.sky, views):
            return parts
        bare = dataclasses.replace(self.result, gaussians=None)
        shell = assembled_views(bare, views, sky="shell", backend=settings.backend)
        return [_with_shell(part, sky) for part, sky in zip(parts, shell, strict=True)]

    def finer_views(self, views: Views) -> Views:
        """The photos at about the detail of the splats, as far as a CPU can refine splats against them."""
        sizes = [max(photo.image.shape[:2]) / max(photo.height, photo.width) for photo in self.sharp]
        factor = min(REFINED / max(views.height, views.width), max(sizes))
        if factor <= 1:
            return views
        height, width = round(views.height * factor), round(views.width * factor)
        images, extents = torch.zeros(len(views), 3, height, width), []
        for view, photo in enumerate(self.sharp):
            h, w = min(height, round(photo.height * factor)), min(width, round(photo.width * factor))
            own = cv2.resize(photo.image, (w, h), interpolation=cv2.INTER_AREA)
            images[view, :, :h, :w] = torch.from_numpy(own).movedim(-1, 0).float() / 255
            extents.append((h, w))
        masks = views.masks
        if masks is not None:
            rows = ((torch.arange(height) + 0.5) / factor).long().clamp(max=views.height - 1)
            columns = ((torch.arange(width) + 0.5) / factor).long().clamp(max=views.width - 1)
            masks = masks[:, rows[:, None], columns[None]]
        return Views(images=images, names=views.names, masks=masks, photo_sizes=tuple(extents))


def _with_shell(part: Assembled, sky: Assembled) -> Assembled:
    """A view's splats with the far ones in place of those of sky pixels."""
    ground, far = part.masked(~part.provenance.sky), sky.masked(sky.provenance.sky)
    rows = {
        field.name: torch.cat((getattr(ground.provenance, field.name), getattr(far.provenance, field.name)))
        for field in dataclasses.fields(ground.provenance)
    }
    return Assembled(
        gaussians=type(ground.gaussians).concatenated((ground.gaussians, far.gaussians)),
        wanted=torch.cat((ground.wanted, far.wanted)),
        provenance=dataclasses.replace(ground.provenance, **rows),
    )


def surfaces(
    result: Placed,
    views: Views,
    photos: LoadedPhotos,
    context: list[int],
    offset: tuple[float, float, float],
    settings: Settings,
    progress: Progress,
) -> Surfaces:
    """Depth of the context views, which look the same in it from each other.

    Stereo begins with the network's depth laid on matched points, and is completed by it. Where views hardly overlap
    that, or what the smooth-field search makes of it, is all there is.

    Args:
        result: in the frame of exact cameras.
        views: the context views.
        photos: all that were read; points that only the held-out ones show are not looked at.
        context: which of them the views are.
        offset: what was subtracted from the caller's world.
        settings: the flags.
        progress: told about the levels.
    """
    points, matches = None, None
    if photos.points is not None:
        known = photos.points.seen_by(context)
        points = torch.from_numpy((known.positions - np.array(offset)) * result.resized)
        if photos.estimated and known.visible is not None and known.visible.sum(1).min() >= _TELLING:
            matches = MatchedPoints(positions=points, visible=torch.from_numpy(known.visible))
    detail = AUTO_DETAIL if settings.detail == "auto" else settings.detail
    sharp = sharp_photos(photos.photos, context, max(detail, LONG_SIDE))
    small = [smaller_photo(photo, LONG_SIDE) for photo in sharp]
    if len(views) == 1:
        progress("fitting depth to the photos", 0, 1)
        aligned, done = honest_depth(result, views, points, sharp=small, seed=settings.seed)
        progress("fitting depth to the photos", 1, 1)
        return Surfaces(result=aligned, record=done)
    start, done = _start(result, views, points, matches, small, settings, progress)
    masks, sides = telling_pixels(result, views), stereo_sides(small)
    stereo = stereo_depth(
        small, views, result.cameras.to("cpu"), start, masks=masks, sides=sides, seed=settings.seed, progress=progress
    )
    shares = [
        round(float((stereo.votes[view, :h, :w] > 0).mean()), 4) for view, (h, w) in enumerate(stereo.level.sizes)
    ]
    done["stereo"] = {"confirmed": shares, "size": max(stereo.votes.shape[1:])}
    if sum(shares) < _CONFIRMED * len(shares):
        return Surfaces(result=with_depth(result, start.to(result.depth)), record=done)
    depth = stereo.depth((views.height, views.width)).to(result.depth)
    fine = tuple(smaller_photo(photo, detail) for photo in sharp)
    return Surfaces(result=with_depth(result, depth), record=done, stereo=stereo, sharp=fine)


def _start(
    result: Placed,
    views: Views,
    points: Float[Tensor, "N 3"] | None,
    matches: MatchedPoints | None,
    sharp: list[Sharp],
    settings: Settings,
    progress: Progress,
) -> tuple[Float[Tensor, "V H W"], dict[str, Any]]:
    """The depth that stereo begins with, and what was done; points are matched where none came with the cameras."""
    progress("fitting depth to the photos", 0, 1)
    telling = telling_pixels(result, views)
    if matches is None:
        matches = matched_points(views.images, result.cameras, telling, sharp=sharp)
    depth, counts = surface_depth(
        result.depth, result.cameras, matches.positions, visible=matches.visible, masks=telling, seed=settings.seed
    )
    done: dict[str, Any] = {"surface": counts}
    if min(counts) == 0:  # too little texture, or too wide apart, for features
        aligned, more = honest_depth(result, views, points, sharp=sharp, seed=settings.seed)
        depth, done = aligned.depth, {**more, **done}
    progress("fitting depth to the photos", 1, 1)
    return depth.detach().cpu(), done
