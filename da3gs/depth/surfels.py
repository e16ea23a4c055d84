"""Surfels: one layer of splats for what several views see, on the photos' own pixels, and guesses behind them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from da3gs.cameras import Cameras
from da3gs.depth import _surfels as _kernels
from da3gs.depth.continuation import continued
from da3gs.depth.patch_match import StereoDepth
from da3gs.depth.triangulation import Sharp
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.network.depth_splats import depth_flyers, splats_from_depth
from da3gs.prediction import Placed
from da3gs.rendering import Backend, render
from da3gs.rendering._jit import run_parallel, worker_count
from da3gs.scene import Provenance
from da3gs.splats.from_prediction import Assembled
from da3gs.splats.opacity_fit import fitted_opacities
from da3gs.views import Views

_ROWS = 16  # of a piece of work
_SURE, _GUESSED = 0.75, 0.8  # standard deviations in pixels: of the photo at its detail, of the grid of guesses
_OPACITY = 0.99
_PLACINGS = 3  # times that guesses are looked at
_NEAR = 0.98  # quantile of inverse depth that counts as the nearest a view sees
_UNLIKE = 0.03  # difference of grey value that counts like a coarse pixel of distance
_MOST_CHANGE = 0.25  # of the colour range, when colours are sharpened
_COARSEST = 0.25  # of the stereo grid's pixels: the least detail, whatever the budget
_NEARLY = 0.96  # of the budget is filled: what is chosen by coarse pixels is not exact
_FITTED, _FITTED_SPLATS = 0.5, 400_000  # the grid on which opacities of guesses are fitted, by that of stereo; at most
_GUESSES, _INVENTED = 0.4, 0.1  # shares of the budget that guesses, and what no photo shows, may take


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    """Splats of one view on one grid."""

    gaussians: Gaussians
    pixel: Int[Tensor, "n"]
    """Which pixel of the photo, as the network saw it, each comes from."""
    edge: Float[Tensor, "n"]
    grid: Int[Tensor, "n"]
    """Which pixel of the grid."""
    invented: bool = False
    """No photo shows what they show."""
    target: Float[Tensor, "H W 3"] | None = None
    """The picture on that grid that they are to show, where they are to be sharpened."""


def surfel_views(
    result: Placed,
    views: Views,
    stereo: StereoDepth,
    sharp: Sequence[Sharp],
    *,
    most: int,
    backend: Backend = "auto",
) -> list[Assembled]:
    """The splats of each view: what views bear out once, in the view that shows it best; what is guessed, behind that.

    Surfaces that are borne out get a splat a pixel of the photos, sized and turned by their plane, in the mean colour
    in which the views show them. Guesses are as coarse as stereo is; those that would hide a surface from a view that
    sees it move back, or go, and those that spoil other photos fade. Beyond the frames surfaces are continued, blurred.
    All are drawn antialiased.

    Args:
        result: in the frame of exact cameras; only its confidence and sky are used beside them.
        views: the photos as the network saw them.
        stereo: of the same views.
        sharp: the photos at the wanted detail.
        most: about how many splats there may be; the detail is lowered to that.
        backend: draws the splats while their colours are sharpened.
    """
    place, stereo = placed_pixels(stereo)
    cameras = result.cameras.to("cpu")
    few = round(_INVENTED * most / len(views))
    beyond = [_beyond(cameras, views, stereo, sharp[view], view, few) for view in range(len(views))]
    opacities = _opacities(cameras, views, stereo, place, sharp, backend)
    guesses = [
        _guess(cameras, views, stereo, place, sharp[view], view, most, opacities[view]) for view in range(len(views))
    ]
    room = most - sum(len(part.pixel) for part in (*guesses, *beyond))
    photos, sizes = _stacked(_sized(sharp, stereo, place, room), stereo)
    surfaces = [_surface(cameras, views, stereo, place, photos, sizes, view) for view in range(len(views))]
    surfaces = _sharpened(surfaces, guesses, cameras, views, backend)
    parts = zip(surfaces, guesses, beyond, strict=True)
    return [_assembled(result, views, view, each) for view, each in enumerate(parts)]


def _by_rows(views: int, height: int, work: Callable[[int, int, int], None]) -> None:
    """Call ``work`` with a view and a band of its rows, on several threads."""
    pieces = [(view, row) for view in range(views) for row in range(0, height, _ROWS)]
    counter = itertools.count()

    def take() -> None:
        """One band after the other."""
        while (at := next(counter)) < len(pieces):
            view, first = pieces[at]
            work(view, first, min(first + _ROWS, height))

    run_parallel(take, worker_count(None))


def placed_pixels(stereo: StereoDepth) -> tuple[UInt8[np.ndarray, "V h w"], StereoDepth]:
    """KEPT, YIELDED, BARRED, 0 for a guess that stays; and the depth with guesses moved out of other views' sight.

    A guess that moves may come to stand before another that moved too, so that all are looked at several times.
    """
    place, result = np.zeros_like(stereo.votes), np.zeros_like(stereo.votes)
    count, height, _ = place.shape
    ways = [stereo.ways(view) for view in range(count)]
    inverse = (stereo.planes[view, :h, :w, 0] for view, (h, w) in enumerate(stereo.level.sizes))
    nearest = np.array([np.quantile(values, _NEAR) for values in inverse], np.float32)
    planes, moved = stereo.planes, np.ones(stereo.votes.shape, np.float32)

    def put(view: int, first: int, last: int) -> None:
        """Who shows these rows' places."""
        _kernels.place_rows(first, last, view, planes, stereo.votes, nearest, ways[view], place, moved)

    def restore(view: int, first: int, last: int) -> None:
        """Who shows them after all."""
        _kernels.restore_rows(first, last, view, planes, stereo.votes, ways[view], place, result[view])

    for _ in range(_PLACINGS):
        _by_rows(count, height, put)
        planes = planes * moved[..., None]
    _by_rows(count, height, restore)
    return result, dataclasses.replace(stereo, planes=planes)


def _sized(
    sharp: Sequence[Sharp], stereo: StereoDepth, place: UInt8[np.ndarray, "V h w"], most: int
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Photos at the detail at which there are about so many splats of surfaces."""
    kept = int((place == _kernels.KEPT).sum())
    fits = max(_COARSEST, _NEARLY * most / max(kept, 1)) ** 0.5
    images = []
    for photo, (h, w) in zip(sharp, stereo.level.sizes, strict=True):
        factor = min(1.0, fits * max(h, w) / max(photo.image.shape[:2]))
        images.append(_smaller(photo.image, *(max(2, round(side * factor)) for side in photo.image.shape[:2])))
    return images


def _smaller(image: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def _stacked(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], stereo: StereoDepth
) -> tuple[UInt8[np.ndarray, "V H W 3"], Int[np.ndarray, "V 4"]]:
    """The photos on one canvas; and the height and width of each, and of its part of the stereo grid."""
    height, width = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    photos = np.zeros((len(images), height, width, 3), np.uint8)
    for view, image in enumerate(images):
        photos[view, : image.shape[0], : image.shape[1]] = image
    pairs = zip(images, stereo.level.sizes, strict=True)
    return photos, np.array([[*image.shape[:2], *size] for image, size in pairs], np.int64)


def _camera(cameras: Cameras, views: Views, view: int, size: tuple[int, int]) -> Cameras:
    """A view's camera, with a leading axis, for its photo without padding at another size."""
    return cameras[[view]].cropped(0, 0, *views.sizes[view]).resized(*size)


def _surface(
    cameras: Cameras,
    views: Views,
    stereo: StereoDepth,
    place: UInt8[np.ndarray, "V h w"],
    photos: UInt8[np.ndarray, "V H W 3"],
    sizes: Int[np.ndarray, "V 4"],
    view: int,
) -> _Part:
    """What a view shows best of what views bear out, a splat a pixel of its photo."""
    rows, columns, h, w = sizes[view].tolist()
    own = np.ascontiguousarray(photos[view, :rows, :columns])
    planes = np.ascontiguousarray(stereo.planes[view, :h, :w])
    grey = np.ascontiguousarray(stereo.level.grey[view, :h, :w])
    fine = own.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    chosen, inverse = np.empty((rows, columns), np.int64), np.empty((rows, columns), np.float32)
    colors, ways = np.empty((rows, columns, 3), np.float32), stereo.ways(view)

    def refine(_: int, first: int, last: int) -> None:
        """Planes of fine pixels."""
        _kernels.refine_rows(first, last, planes, grey, fine, np.float32(1 / _UNLIKE), 1, chosen, inverse)

    def color(_: int, first: int, last: int) -> None:
        """Their colours."""
        _kernels.color_rows(
            first, last, view, inverse, chosen, stereo.planes, stereo.votes, ways, photos, sizes, own, colors
        )

    _by_rows(1, rows, refine)
    _by_rows(1, rows, color)
    keep = (place[view, :h, :w].reshape(-1)[chosen] == _kernels.KEPT) & (inverse > 0)
    target = torch.from_numpy(colors)
    part = _part(cameras, views, view, inverse, target, keep, _SURE)
    return dataclasses.replace(part, target=target)


def _guess(
    cameras: Cameras,
    views: Views,
    stereo: StereoDepth,
    place: UInt8[np.ndarray, "V h w"],
    photo: Sharp,
    view: int,
    most: int,
    opacities: Float[Tensor, "_ _"],
) -> _Part:
    """What no view bears out, a splat a pixel of the stereo grid, or of a coarser one where these would be too many."""
    coarser = min(1.0, _GUESSES * most / max(int((place == 0).sum()), 1)) ** 0.5
    part, color = _gridded(cameras, views, stereo, place[view] == 0, photo, view, coarser)
    own = functional.interpolate(opacities[None, None], color.shape[:2], mode="nearest-exact").flatten()[part.grid]
    return dataclasses.replace(part, gaussians=dataclasses.replace(part.gaussians, opacities=own))


def _gridded(
    cameras: Cameras,
    views: Views,
    stereo: StereoDepth,
    wanted: Bool[np.ndarray, "h w"],
    photo: Sharp,
    view: int,
    coarser: float,
) -> tuple[_Part, Float[Tensor, "H W 3"]]:
    """Splats of the wanted pixels of a grid that is so much coarser than that of stereo; and the photo on it."""
    h, w = stereo.level.sizes[view]
    rows, columns = max(2, round(h * coarser)), max(2, round(w * coarser))
    j = ((np.arange(rows) + 0.5) * h / rows).astype(int)[:, None]
    i = ((np.arange(columns) + 0.5) * w / columns).astype(int)[None]
    inverse = np.ascontiguousarray(stereo.planes[view, j, i, 0])
    keep = wanted[j, i] & (inverse > 0)
    color = torch.from_numpy(_smaller(photo.image, rows, columns).astype(np.float32) / np.float32(255))
    return _part(cameras, views, view, inverse, color, keep, _GUESSED), color


def _opacities(
    cameras: Cameras,
    views: Views,
    stereo: StereoDepth,
    place: UInt8[np.ndarray, "V h w"],
    sharp: Sequence[Sharp],
    backend: Backend,
) -> list[Float[Tensor, "_ _"]]:
    """Opacities of each view's guesses on a coarse grid, such that they spoil no other photo."""
    coarser = min(_FITTED, (_FITTED_SPLATS / place.size) ** 0.5)
    parts, photos, masks, at = [], [], [], []
    for view, photo in enumerate(sharp):
        for kind in (0, _kernels.KEPT):
            part, color = _gridded(cameras, views, stereo, place[view] == kind, photo, view, coarser)
            parts.append(part)
        photos.append(color)
        at.append(_camera(cameras, views, view, (color.shape[0], color.shape[1]))[0])
        h, w = views.sizes[view]
        mask = None if views.masks is None else views.masks[view : view + 1, None, :h, :w].float()
        masks.append(
            None if mask is None else functional.interpolate(mask, color.shape[:2], mode="nearest-exact")[0, 0] > 0
        )
    free = torch.cat([torch.full((len(part.pixel),), not row % 2) for row, part in enumerate(parts)])
    whole = Gaussians.concatenated([part.gaussians for part in parts])
    found = fitted_opacities(whole, free, at, photos, masks, backend=backend).split([len(p.pixel) for p in parts])
    maps = [torch.full(photo.shape[:2], _OPACITY) for photo in photos]
    for view, picture in enumerate(maps):
        picture.view(-1)[parts[2 * view].grid] = found[2 * view]
    return maps


def _part(
    cameras: Cameras,
    views: Views,
    view: int,
    inverse: Float[np.ndarray, "h w"],
    color: Float[Tensor, "h w 3"],
    keep: Bool[np.ndarray, "h w"],
    footprint: float,
) -> _Part:
    """Splats of the pixels to keep."""
    size = (inverse.shape[0], inverse.shape[1])
    depth = 1 / torch.from_numpy(np.maximum(inverse, np.float32(1e-12)))[None]
    at = torch.from_numpy(np.flatnonzero(keep))
    splats = splats_from_depth(
        color.movedim(-1, 0)[None], depth, _camera(cameras, views, view, size), footprint=footprint
    ).masked(at)
    splats = dataclasses.replace(splats, opacities=torch.full_like(splats.opacities, _OPACITY), antialiased=True)
    row, column = at // size[1], at % size[1]
    h, w = views.sizes[view]
    pixel = (row * h // size[0]) * w + column * w // size[1]
    return _Part(gaussians=splats, pixel=pixel, edge=depth_flyers(depth)[0].flatten()[at], grid=at)


def _beyond(cameras: Cameras, views: Views, stereo: StereoDepth, photo: Sharp, view: int, most: int) -> _Part:
    """Surfaces continued beyond a photo's frame; nothing where a mask says that only a part of it is wanted."""
    (h, w), (rows, columns) = views.sizes[view], stereo.level.sizes[view]
    camera = _camera(cameras, views, view, (rows, columns))
    inverse = np.ascontiguousarray(stereo.planes[view, :rows, :columns, 0])
    splats, place = continued(_smaller(photo.image, rows, columns), inverse, camera, stereo, cameras, view, most=most)
    if views.masks is not None and not bool(views.masks[view, :h, :w].all()):
        splats, place = splats.masked(torch.arange(0)), place[:0]
    pixel = (place[:, 0] * h // rows) * w + place[:, 1] * w // columns
    edge = torch.zeros(len(pixel))
    return _Part(
        gaussians=dataclasses.replace(splats, antialiased=True), pixel=pixel, edge=edge, grid=pixel, invented=True
    )


def _sharpened(
    surfaces: list[_Part], guesses: list[_Part], cameras: Cameras, views: Views, backend: Backend
) -> list[_Part]:
    """The surfaces with colours after a bounded step of deconvolution (van Cittert) with the renderer as the kernel."""
    whole = Gaussians.concatenated([part.gaussians for part in (*surfaces, *guesses)])
    changed = []
    for view, part in enumerate(surfaces):
        assert part.target is not None
        size = (part.target.shape[0], part.target.shape[1])
        picture = render(whole, _camera(cameras, views, view, size)[0], backend=backend).color
        error = (part.target - picture).clamp(-_MOST_CHANGE, _MOST_CHANGE).reshape(-1, 1, 3)[part.grid] / C0
        splats = dataclasses.replace(part.gaussians, harmonics=part.gaussians.harmonics + error)
        changed.append(dataclasses.replace(part, gaussians=splats, target=None))
    return changed


def _assembled(result: Placed, views: Views, view: int, parts: Sequence[_Part]) -> Assembled:
    """A view's splats with what is known of each; what is invented is as little sure as can be."""
    h, w = views.sizes[view]
    pixel = torch.cat([part.pixel for part in parts])
    invented = torch.cat([torch.full_like(part.pixel, part.invented, dtype=torch.bool) for part in parts])
    mask = torch.ones(h * w, dtype=torch.bool) if views.masks is None else views.masks[view, :h, :w].cpu().flatten()

    def at_pixel(field: Tensor | None, unknown: float) -> Tensor:
        """A map's values."""
        return torch.full((len(pixel),), unknown) if field is None else field[view, :h, :w].cpu().flatten()[pixel]

    confidence = at_pixel(result.confidence, torch.nan).float()
    return Assembled(
        gaussians=Gaussians.concatenated([part.gaussians for part in parts]),
        wanted=mask[pixel],
        provenance=Provenance(
            view=torch.full((len(pixel),), view, dtype=torch.int16),
            pixel=pixel.to(torch.int32),
            confidence=torch.where(invented, 1.0, confidence).clamp(max=60000).half(),
            edge=torch.cat([part.edge for part in parts]).clamp(max=60000).half(),
            sky=at_pixel(result.sky, 0.0).bool(),
        ),
    )
