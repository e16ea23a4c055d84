"""Lens distortion undone, without pixels that the lens never saw.

The new camera keeps principal point and pixel shape; its focal lengths are multiplied by one factor, the smallest for
which every pixel of the result comes from inside the photo. So the result keeps the photo's size, shows as much as a
picture without holes can, and needs no mask.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens

_LARGEST_SIDE = 32766  # cv2.remap addresses pixels with 16 bits
_WHOLE = 40_000_000
"""Pixels up to which a picture is straightened at once; larger ones in strips, whose maps take less room."""


def distorted(points: Float[np.ndarray, "N 2"], distortion: tuple[float, ...]) -> Float[np.ndarray, "N 2"]:
    """Distorted points of the plane z = 1 (Brown-Conrady, coefficients as in ``Lens.distortion``)."""
    k1, k2, p1, p2, k3, k4, k5, k6, last = (*distortion, *[0.0] * (9 - len(distortion)))
    x, y = points[:, 0], points[:, 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * last)))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y), -1
    )


def undistorted_intrinsics(lens: Lens) -> Float[np.ndarray, "3 3"]:
    """The pinhole camera that shows as much of the photo as it can without holes.

    Raises:
        InputError: the distortion folds the picture over itself, so that no such camera exists.
    """
    if not lens.distortion:
        return lens.intrinsics.copy()
    border = _border(lens.height, lens.width)
    low, high = 0.25, 4.0
    if not _inside(lens, high, border):
        raise InputError(f"the lens distortion {lens.distortion} cannot be undone; check its sign and units")
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _inside(lens, middle, border) else (middle, high)
    return _zoomed(lens.intrinsics, high)


def _zoomed(intrinsics: np.ndarray, zoom: float) -> np.ndarray:
    return intrinsics * np.array([[zoom, zoom, 1], [zoom, zoom, 1], [1, 1, 1]])


def _border(height: int, width: int) -> np.ndarray:
    """Centres of pixels along the four sides."""
    u, v = np.meshgrid(np.linspace(0.5, width - 0.5, 129), np.linspace(0.5, height - 0.5, 129))
    grid = np.stack((u, v), -1)
    return np.concatenate((grid[0], grid[-1], grid[:, 0], grid[:, -1]))


def _inside(lens: Lens, zoom: float, border: np.ndarray) -> bool:
    """Whether the border of the picture seen with that zoom lies in the photo, and rays leave the centre in order."""
    k = lens.intrinsics
    focal, center = k[[0, 1], [0, 1]], k[[0, 1], [2, 2]]
    rays = (border - center) / (focal * zoom)
    steps = np.linspace(0, 1, 33)[1:, None, None]
    landed = distorted((rays * steps).reshape(-1, 2), lens.distortion).reshape(len(steps), -1, 2)
    if not (np.diff(np.linalg.norm(landed, axis=-1), axis=0) > 0).all():
        return False
    pixels = landed[-1] * focal + center
    limit = np.array([lens.width - 0.5, lens.height - 0.5]) + 1e-6
    return bool(((pixels >= 0.5 - 1e-6) & (pixels <= limit)).all())


def undistorted(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None, lens: Lens
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"] | None, Float[np.ndarray, "3 3"]]:
    """The picture, its mask and its intrinsics as a pinhole camera would have them.

    Raises:
        InputError: the distortion cannot be undone, or the picture is longer than 32766 pixels.
    """
    if not lens.distortion:
        return image, mask, lens.intrinsics.copy()
    if max(image.shape[:2]) > _LARGEST_SIDE:
        raise InputError(f"a photo of {image.shape[1]}x{image.shape[0]} pixels is too long to undo its lens distortion")
    new = undistorted_intrinsics(lens)
    flat = np.empty_like(image)
    straight = None if mask is None else np.empty_like(mask)
    grey = None if mask is None else mask.astype(np.uint8) * 255
    step = lens.height if lens.height * lens.width <= _WHOLE else max(1, _WHOLE // lens.width)
    for top in range(0, lens.height, step):
        rows = slice(top, min(top + step, lens.height))
        maps = _maps(lens, new, rows)
        flat[rows] = cv2.remap(image, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if straight is not None and grey is not None:
            straight[rows] = cv2.remap(grey, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) >= 128
    return flat, straight, new


def _maps(lens: Lens, new: Float[np.ndarray, "3 3"], rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Column and row in the photo of each pixel of some rows of the straight picture, as cv2.remap counts them."""
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV's pixel centres lie at whole numbers
    height = rows.stop - rows.start
    moved = new - [[0, 0, 0], [0, 0, rows.start], [0, 0, 0]]
    if len(lens.distortion) <= 8:
        coefficients = np.array(lens.distortion, np.float64)
        length = next(n for n in (4, 5, 8) if n >= len(coefficients))
        coefficients = np.pad(coefficients, (0, length - len(coefficients)))
        size = (lens.width, height)
        return cv2.initUndistortRectifyMap(lens.intrinsics - half, coefficients, None, moved - half, size, cv2.CV_32FC1)
    columns, lines = np.empty((2, height, lens.width), np.float32)
    x = (np.arange(lens.width) + 0.5 - new[0, 2]) / new[0, 0]
    for row in range(height):
        y = (row + 0.5 - moved[1, 2]) / new[1, 1]
        landed = distorted(np.stack((x, np.full_like(x, y)), -1), lens.distortion)
        columns[row], lines[row] = (landed * lens.intrinsics[[0, 1], [0, 1]] + lens.intrinsics[:2, 2] - 0.5).T
    return columns, lines
