"""Photometric agreement of estimated cameras: photos warped into one another through the depth of their points."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay, QhullError

from da3gs.poses.camera_estimate import CameraEstimate, pose_of
from da3gs.poses.features.database import FeatureDatabase, position_of

LEAST_EXCESS = 6.0
"""By how many standard deviations of the correlation that chance gives a photo has to agree with a neighbour."""

_LONG_SIDE = 320  # pixels of the copies that are warped
_WINDOW = 9  # pixels of the correlated windows, across
_CONTRAST = 4.0  # grey levels: the standard deviation below which a window shows nothing
_NEIGHBOURS, _OF_MANY = 3, 1  # photos that a photo is compared with: those that show most of its points
_MANY = 40  # photos
_SHIFTS = 10  # displaced comparisons that tell what chance gives
_LEAST_SHIFT, _MOST_SHIFT = 0.06, 0.25  # of the long side
_FRACTION = 4  # bits of a pixel to which triangles are drawn
_FARTHEST = 1e5  # pixels from the corner: what fixed-point numbers hold
_LEAST_AREA = 1e-6  # square pixels: a flatter triangle tells no depth
_FEWEST = 60  # windows that tell anything
# Of smooth photos chance gives anything up to 0.7, so that six deviations more than it are out of reach.
_SURE, _CLEAR = 0.8, 0.1  # a correlation that is enough if it is by so much above all displaced ones


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Picture:
    """A placed photo, small."""

    grey: Float[np.ndarray, "H W"]
    """Grey levels, float32."""
    mean: Float[np.ndarray, "H W"]
    """Of its windows."""
    variance: Float[np.ndarray, "H W"]
    """Of its windows."""
    image: Any
    """pycolmap's ``Image``."""
    camera: Any
    """pycolmap's ``Camera``."""
    factor: float
    """Pixels of this picture in one of the working copy."""


def photometric_excess(estimate: CameraEstimate, database: FeatureDatabase) -> dict[int, float]:
    """Photometric agreement of each placed photo with those that show the same points, above chance.

    The depth between a photo's points is interpolated linearly (of its inverse, over their Delaunay triangles); through
    it the neighbour is warped into the photo, and both are compared by normalised cross-correlation of small windows.
    Chance is what the same windows give when the neighbour is displaced sideways: features played no part in either,
    so that this sign is independent of the matches.

    Args:
        estimate: with its pycolmap model.
        database: of the same photos.

    Returns:
        By position: the excess of the mean correlation over that of displaced comparisons, in their standard
        deviations, with the neighbour where it is largest. Photos with too little texture to tell are left out.
    """
    model = estimate.model
    pictures = {
        position_of(image.name): _picture(database, image, model.cameras[image.camera_id])
        for image in model.images.values()
        if image.has_pose and position_of(image.name) in estimate.positions
    }
    seen = estimate.seen.astype(np.float32)  # whole numbers stay exact, and floats are multiplied far faster
    shared = seen @ seen.T
    told: dict[int, float] = {}
    most = _NEIGHBOURS if len(estimate) <= _MANY else _OF_MANY
    for number, position in enumerate(estimate.positions):
        points = estimate.points[estimate.seen[number]]
        shared[number, number] = 0
        others = [i for i in np.argsort(-shared[number], kind="stable")[:most] if shared[number, i]]
        picture = pictures[position]
        surface = _surface(picture, points)
        found = [_excess(picture, pictures[estimate.positions[i]], surface) for i in others]
        if known := [value for value in found if value is not None]:
            told[position] = max(known)
    return told


def _picture(database: FeatureDatabase, image: Any, camera: Any) -> _Picture:
    copy = database.copies[position_of(image.name)]
    factor = min(1.0, _LONG_SIDE / max(copy.height, copy.width))
    size = (max(1, round(copy.width * factor)), max(1, round(copy.height * factor)))
    grey = cv2.resize(copy.grey(), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    mean, variance = _moments(grey)
    return _Picture(grey=grey, mean=mean, variance=variance, image=image, camera=camera, factor=factor)


def _surface(picture: _Picture, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "H W 3"]:
    """World coordinates of what every pixel shows: ``lifted_points`` of all of them, whose triangles are drawn rather
    than searched for. NaN outside."""
    pose = pose_of(picture.image)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    local = local[local[:, 2] > 0]
    height, width = picture.grey.shape
    surface = np.full((height, width, 3), np.nan)
    places = np.asarray(picture.camera.img_from_cam(local)).reshape(-1, 2) * picture.factor
    inside = (np.abs(places) < _FARTHEST).all(1)  # False for what the lens model shows nowhere, too
    local, places = local[inside], places[inside]
    try:
        corners = Delaunay(places).simplices
    except (QhullError, ValueError):  # fewer than three, or all on one line
        return surface
    number = np.full((height, width), -1, np.int32)
    fixed = np.round((places[corners] - 0.5) * (1 << _FRACTION)).astype(np.int32)
    for index, triangle in enumerate(fixed):
        cv2.fillConvexPoly(number, triangle, index, shift=_FRACTION)
    table = np.concatenate((places[corners], np.ones((len(corners), 3, 1))), axis=2)
    flat = np.abs(np.linalg.det(table)) < _LEAST_AREA
    table[flat] = np.eye(3)
    planes = np.linalg.solve(table, 1 / local[corners, 2][..., None])[..., 0]
    planes[flat] = np.nan
    rows, columns = np.nonzero(number >= 0)
    pixels = np.stack((columns + 0.5, rows + 0.5), axis=1)
    plane = planes[number[rows, columns]]
    depth = 1 / (plane[:, 0] * pixels[:, 0] + plane[:, 1] * pixels[:, 1] + plane[:, 2])
    depth[depth <= 0] = np.nan
    rays = np.asarray(picture.camera.cam_from_img(pixels / picture.factor)).reshape(-1, 2)
    surface[rows, columns] = (np.c_[rays * depth[:, None], depth] - pose[:3, 3]) @ pose[:3, :3]
    return surface


def lifted_points(
    image: Any, camera: Any, points: Float[np.ndarray, "N 3"], pixels: Float[np.ndarray, "M 2"]
) -> Float[np.ndarray, "M 3"]:
    """World coordinates of what pixels show, on the surface between the points that the photo shows.

    Args:
        image: pycolmap's ``Image``.
        camera: pycolmap's ``Camera``.
        points: world coordinates.
        pixels: of the camera.

    Returns:
        NaN outside the points' triangles, everywhere if there is none.
    """
    pose = pose_of(image)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    local = local[local[:, 2] > 0]
    try:
        depth = 1 / LinearNDInterpolator(np.asarray(camera.img_from_cam(local)), 1 / local[:, 2])(pixels)
    except (QhullError, ValueError):  # fewer than three, or all on one line
        return np.full((len(pixels), 3), np.nan)
    rays = np.asarray(camera.cam_from_img(pixels))
    return np.asarray((np.c_[rays * depth[:, None], depth] - pose[:3, 3]) @ pose[:3, :3])


def _excess(picture: _Picture, other: _Picture, surface: Float[np.ndarray, "H W 3"]) -> float | None:
    pose = pose_of(other.image)
    local = surface @ pose[:3, :3].T + pose[:3, 3]
    inside = np.isfinite(local[..., 2]) & (local[..., 2] > 0)
    u, v = np.full((2, *inside.shape), -1e6, np.float32)
    if inside.any():
        u[inside], v[inside] = np.asarray(other.camera.img_from_cam(local[inside])).T * other.factor - 0.5
    true = _correlation(picture, other.grey, u, v)
    if true is None:
        return None
    generator = np.random.default_rng(0)
    long_side, chance = max(picture.grey.shape), []
    for _ in range(_SHIFTS):
        angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(_LEAST_SHIFT, _MOST_SHIFT) * long_side
        right, down = np.float32(length * np.cos(angle)), np.float32(length * np.sin(angle))
        shifted = _correlation(picture, other.grey, u + right, v + down)
        if shifted is not None:
            chance.append(shifted)
    if len(chance) < _SHIFTS // 2:
        return None
    excess = float((true - np.mean(chance)) / max(float(np.std(chance)), 0.01))
    sure = true >= _SURE and true > max(chance) + _CLEAR
    return max(excess, LEAST_EXCESS) if sure else excess


def _correlation(
    picture: _Picture, other: Float[np.ndarray, "h w"], u: Float[np.ndarray, "H W"], v: Float[np.ndarray, "H W"]
) -> float | None:
    """Mean normalised cross-correlation of a picture's windows with those at (u, v) of another, for windows that lie in
    both and show something."""
    height, width = other.shape
    shown = ((u > 0) & (u < width - 1.0) & (v > 0) & (v < height - 1.0)).astype(np.uint8)
    whole = cv2.erode(shown, np.ones((_WINDOW, _WINDOW), np.uint8), borderValue=0) > 0
    if whole.sum() < _FEWEST:
        return None
    warped = cv2.remap(other, u, v, cv2.INTER_LINEAR)
    mean, variance = _moments(warped)
    textured = whole & (picture.variance > _CONTRAST**2) & (variance > _CONTRAST**2)
    if textured.sum() < _FEWEST:
        return None
    cross = _blurred(picture.grey * warped)[textured] - picture.mean[textured] * mean[textured]
    return float((cross / np.sqrt(picture.variance[textured] * variance[textured])).mean())


def _moments(grey: Float[np.ndarray, "H W"]) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Mean and variance of a picture in every window."""
    mean = _blurred(grey)
    return mean, _blurred(grey * grey) - mean * mean


def _blurred(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    return np.asarray(cv2.blur(values, (_WINDOW, _WINDOW)))
