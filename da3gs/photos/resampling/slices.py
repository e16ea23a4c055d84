"""Panoramas and fisheye photos as pinhole views from the same place, turned against each other by known angles.

A panorama becomes six views of 100 degrees, as the sides of a cube that overlap a little. A fisheye photo becomes one
view where 110 degrees hold all of it (as much as shows no hole), else a middle one and one towards each wide side, 90
degrees each; what the lens did not see is masked. In the middle of a view pixels are as fine as the photo's there.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens
from da3gs.photos.resampling.undistort import distorted

_CUBE_FOV = math.radians(100)
_FACE_FOV = math.radians(90)
_WIDEST_SINGLE = math.radians(55)
"""Half the angle up to which one pinhole view takes the whole fisheye photo."""
_CUBE = {
    "front": (0.0, 0.0), "right": (90.0, 0.0), "back": (180.0, 0.0), "left": (-90.0, 0.0), "up": (0.0, 90.0),
    "down": (0.0, -90.0),
}  # fmt: skip
"""Degrees to the right and up."""
_LEAST_SEEN = 0.3
"""Which share of a view a part of a panorama has to fill."""
_LARGEST_SIDE = 32766 - 16  # cv2.remap addresses pixels with 16 bits
_MARGIN = 4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Slice:
    """One pinhole view of a wide photo."""

    name: str
    """What to add to the photo's name: front, right, back, left, up, down; empty for the only one."""
    to_photo: Float[np.ndarray, "3 3"]
    """Rotation from the view's axes to the photo's, OpenCV axes both."""
    intrinsics: Float[np.ndarray, "3 3"]
    """In pixels of the view."""
    height: int
    """Height of the view."""
    width: int
    """Width of the view."""


def slices_of(lens: Lens) -> tuple[Slice, ...]:
    """The views that a photo with this lens becomes; none for an ordinary lens.

    Raises:
        InputError: the lens turns back on itself inside the photo.
    """
    match lens.projection:
        case "perspective":
            return ()
        case "equirectangular":
            density = float(lens.intrinsics[0, 0])
            cube = [_face(name, yaw, pitch, _CUBE_FOV, density) for name, (yaw, pitch) in _CUBE.items()]
            return tuple(face for face in cube if seen_share(face, lens) >= _LEAST_SEEN)
        case "fisheye":
            return _fisheye_slices(lens)


def sliced(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None, lens: Lens, part: Slice
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
    """One view of a wide photo, and where it shows what the lens saw (None: everywhere).

    Args:
        image: the photo.
        mask: True where its pixels are wanted.
        lens: for the photo's size.
        part: one of ``slices_of`` a lens of this shape, at whatever size.

    Raises:
        InputError: the photo is too long for the resampling.
    """
    height, width = image.shape[:2]
    if max(height, width) > _LARGEST_SIDE:
        raise InputError(f"a photo of {width}x{height} pixels is too long to be cut into views")
    u, v = np.meshgrid(np.arange(part.width) + 0.5, np.arange(part.height) + 0.5)
    places, seen = landing(_rays(part, u, v), lens)
    image, places = _wrapped(image, places, lens)
    x, y = (places - 0.5).astype(np.float32).transpose(2, 0, 1)  # OpenCV's pixel centres lie at whole numbers
    view = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if mask is not None:
        grey = _wrapped(mask.astype(np.uint8) * 255, places, lens, moved=True)[0]
        seen &= cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) >= 128
    return view, None if seen.all() else seen


def landing(
    rays: Float[np.ndarray, "*grid 3"], lens: Lens
) -> tuple[Float[np.ndarray, "*grid 2"], Bool[np.ndarray, "*grid"]]:
    """Pixels at which directions (of any length) lie in the photo, and whether they do."""
    x, y, z = np.moveaxis(rays, -1, 0)
    fx, fy, cx, cy = lens.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)]
    if lens.projection == "equirectangular":
        places = np.stack((fx * np.arctan2(x, z) + cx, fy * np.arctan2(y, np.hypot(x, z)) + cy), -1)
        if _is_whole(lens):
            return places, np.ones(x.shape, bool)
        return places, (places >= 0).all(-1) & (places[..., 0] <= lens.width) & (places[..., 1] <= lens.height)
    if lens.projection == "perspective":
        flat = np.stack((x, y), -1) / np.where(z > 0, z, np.inf)[..., None]
        places = distorted(flat.reshape(-1, 2), lens.distortion).reshape(flat.shape) * (fx, fy) + (cx, cy)
        ahead = z > 0
    else:
        places, angle = _fisheye_places(x, y, z, lens)
        ahead = angle <= _widest(lens)
    inside = (places >= 0).all(-1) & (places[..., 0] <= lens.width) & (places[..., 1] <= lens.height)
    return places, inside & ahead


def _fisheye_places(x: np.ndarray, y: np.ndarray, z: np.ndarray, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """Where a fisheye lens puts directions, and their angles from its axis."""
    fx, fy, cx, cy = lens.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)]
    flat = np.hypot(x, y)
    angle = np.arctan2(flat, z)
    to_angle = angle / np.maximum(flat, 1e-12)
    u, v = x * to_angle, y * to_angle
    bend = _bent(angle, lens.distortion) / np.maximum(angle, 1e-12)
    p1, p2, sx1, sy1 = (*lens.distortion[4:8], *[0.0] * 4)[:4]
    r2, uv = angle * angle, u * v
    across = u * bend + 2 * p1 * uv + p2 * (r2 + 2 * u * u) + sx1 * r2
    down = v * bend + 2 * p2 * uv + p1 * (r2 + 2 * v * v) + sy1 * r2
    return np.stack((fx * across + cx, fy * down + cy), -1), angle


def _is_whole(lens: Lens) -> bool:
    """Whether a panorama goes all the way round."""
    fx, fy = float(lens.intrinsics[0, 0]), float(lens.intrinsics[1, 1])
    return abs(2 * math.pi * fx - lens.width) < 1 and abs(math.pi * fy - lens.height) < 1


def seen_share(part: Slice, lens: Lens) -> float:
    """Share of a view that the lens saw."""
    steps = (np.arange(32) + 0.5) / 32
    u, v = np.meshgrid(steps * part.width, steps * part.height)
    return float(landing(_rays(part, u, v), lens)[1].mean())


def _rays(part: Slice, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Directions of a view's places in the photo's axes."""
    k = part.intrinsics
    rays: np.ndarray = np.stack(((u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)), -1)
    return rays @ part.to_photo.T


def _bent(angle: np.ndarray, distortion: tuple[float, ...]) -> np.ndarray:
    """The fisheye's radius for an angle from the axis, without tangential terms."""
    k1, k2, k3, k4 = distortion[:4] or (0.0,) * 4
    t2 = angle * angle
    radius: np.ndarray = angle * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return radius


def _widest(lens: Lens) -> float:
    """The angle up to which the fisheye's radius grows."""
    angles = np.linspace(0, math.pi, 4097)
    grows = np.diff(_bent(angles, lens.distortion)) > 0
    return float(angles[-1] if grows.all() else angles[int(np.argmin(grows))])


def _angle_at(radius: float, lens: Lens) -> float:
    """The angle from the axis of a point at this radius; the widest where the lens does not reach it."""
    angles = np.linspace(0, _widest(lens), 8193)
    return float(np.interp(radius, _bent(angles, lens.distortion), angles))


def _fisheye_slices(lens: Lens) -> tuple[Slice, ...]:
    fx, fy, cx, cy = lens.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)].tolist()
    if not (0 < cx < lens.width and 0 < cy < lens.height):
        raise InputError("a fisheye photo's principal point lies outside it")
    if _widest(lens) < math.radians(10):
        raise InputError(f"the fisheye distortion {lens.distortion} cannot be undone; check its sign and units")
    left, right = _angle_at(cx / fx, lens), _angle_at((lens.width - cx) / fx, lens)
    top, bottom = _angle_at(cy / fy, lens), _angle_at((lens.height - cy) / fy, lens)
    if max(left, right, top, bottom) <= _WIDEST_SINGLE:
        a, b, c, d = (math.tan(angle) for angle in (left, right, top, bottom))
        zoom_x, zoom_y = lens.width / (a + b), lens.height / (c + d)
        intrinsics = np.array([[zoom_x, 0, zoom_x * a], [0, zoom_y, zoom_y * c], [0, 0, 1.0]])
        return (Slice(name="", to_photo=np.eye(3), intrinsics=intrinsics, height=lens.height, width=lens.width),)
    density = math.sqrt(fx * fy)
    faces = [_face("front", 0.0, 0.0, _FACE_FOV, density)]
    for name, yaw, pitch, reach in (
        ("right", 1, 0, right), ("left", -1, 0, left), ("up", 0, 1, top), ("down", 0, -1, bottom)
    ):  # fmt: skip
        if reach > _WIDEST_SINGLE:
            turn = math.degrees(min(reach - math.radians(30), math.radians(60)))
            faces.append(_face(name, yaw * turn, pitch * turn, _FACE_FOV, density))
    return tuple(faces)


def _face(name: str, yaw: float, pitch: float, fov: float, density: float) -> Slice:
    """A square view, turned to the right by ``yaw`` and up by ``pitch`` degrees, with so many pixels a radian."""
    half = math.tan(fov / 2)
    side = max(32, round(2 * half * density))
    focal = side / (2 * half)
    a, b = math.radians(yaw), math.radians(pitch)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])
    return Slice(name=name, to_photo=turn @ tilt, intrinsics=intrinsics, height=side, width=side)


def _wrapped(
    image: np.ndarray, places: np.ndarray, lens: Lens, *, moved: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A whole panorama with some columns of its other end at both sides, and the places in that."""
    if lens.projection != "equirectangular" or not _is_whole(lens):
        return image, places
    sides = ((0, 0), (_MARGIN, _MARGIN), *[(0, 0)] * (image.ndim - 2))
    wide = np.pad(image, sides, mode="wrap")
    if moved:
        return wide, places
    around = np.stack((np.mod(places[..., 0], image.shape[1]) + _MARGIN, places[..., 1]), -1)
    return wide, around
