"""Cameras with lens distortion, as other programs' files state them."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError

Projection = Literal["perspective", "fisheye", "equirectangular"]
"""How directions become places in the picture.

- perspective: a pinhole with Brown-Conrady distortion, of OpenCV's rational form or of four radial terms;
- fisheye: OpenCV's and COLMAP's, by the angle from the axis: ``t (1 + k1 t² + k2 t⁴ + k3 t⁶ + k4 t⁸)``, with the
  tangential and thin prism terms of COLMAP's THIN_PRISM_FISHEYE;
- equirectangular: a panorama, longitude across (0 in the middle of a whole one) and latitude down.
"""

_LARGEST_SIDE = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Lens:
    """A camera's projection; pixel centres at +0.5."""

    intrinsics: Float[np.ndarray, "3 3"]
    """``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` in pixels, float64; of a panorama pixels a radian."""
    height: int
    """Height of the pictures that the intrinsics are for."""
    width: int
    """Width of the pictures that the intrinsics are for."""
    distortion: tuple[float, ...] = ()
    """k1, k2, p1, p2, k3, k4, k5, k6 (OpenCV's order, the last three its denominator's), and ninth the numerator's r⁸
    term, which Metashape and nerfstudio call k4; of a fisheye k1 to k4, p1, p2, sx1, sy1. Trailing zeros may be left
    out; empty where there is no distortion."""
    projection: Projection = "perspective"
    """What the numbers mean."""

    def fits(self, height: int, width: int) -> bool:
        """Whether pictures of this size have the shape that the intrinsics are for, to 1 %."""
        return abs(self.width * height / (self.height * width) - 1) <= 0.01

    def resized(self, height: int, width: int) -> Lens:
        """The same lens on pictures of another size; distortion does not depend on it.

        Raises:
            InputError: the shapes differ by more than 1 %.
        """
        if not self.fits(height, width):
            raise InputError(
                f"the photo is {width}x{height} pixels but its camera is for {self.width}x{self.height}; "
                "give intrinsics for a picture of the same shape"
            )
        factors = np.array([[width / self.width], [height / self.height], [1.0]])
        return dataclasses.replace(self, intrinsics=self.intrinsics * factors, height=height, width=width)


def lens_of(
    *,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    height: int,
    width: int,
    distortion: tuple[float, ...] = (),
    projection: Projection = "perspective",
) -> Lens:
    """A lens from its numbers, checked.

    Raises:
        InputError: a number is not finite, a focal length or a size not positive, or the principal point far outside.
    """
    numbers = (fx, fy, cx, cy, *distortion)
    if not all(np.isfinite(numbers)):
        raise InputError(f"a camera's intrinsics are not finite numbers: {numbers}")
    if min(fx, fy) <= 0 or min(height, width) <= 0:
        raise InputError(f"a camera has focal lengths {fx:g}, {fy:g} and size {width}x{height}; all must be above 0")
    if max(height, width) > _LARGEST_SIDE:
        side = str(max(height, width))
        raise InputError(f"a camera has a side of {side[:20]} pixels; at most {_LARGEST_SIDE} make sense")
    if max(fx, fy) > 1e4 * max(height, width) or abs(cx) > 100 * width or abs(cy) > 100 * height:
        raise InputError(
            f"a camera's fx={fx:g}, fy={fy:g}, cx={cx:g}, cy={cy:g} make no sense for {width}x{height} pixels"
        )
    if any(abs(d) > 1e4 for d in distortion):
        raise InputError(f"a camera's distortion {distortion} makes no sense; give Brown-Conrady coefficients")
    kept = distortion if any(distortion) else ()
    if len(kept) > 8 and not kept[8]:
        kept = kept[:8]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    numbers = tuple(float(d) for d in kept)
    return Lens(intrinsics=matrix, height=height, width=width, distortion=numbers, projection=projection)


def panorama_lens(
    height: int, width: int, *, whole: tuple[float, float] | None = None, corner: tuple[float, float] = (0.0, 0.0)
) -> Lens:
    """The lens of a panorama, or of a part of one.

    Args:
        height: of the picture.
        width: of the picture.
        whole: height and width of the panorama that it is cut from, in its pixels; the picture itself when absent.
        corner: row and column of its upper left corner in that.

    Raises:
        InputError: the whole is not twice as wide as high, to 1 %.
    """
    full_height, full_width = whole or (float(height), float(width))
    if not (full_height > 0 and abs(full_width / (2 * full_height) - 1) <= 0.01):
        size = f"{full_width:g}x{full_height:g}"
        raise InputError(f"a whole panorama is twice as wide as high, not {size}; cut or scale it to that")
    return lens_of(
        fx=full_width / (2 * math.pi),
        fy=full_height / math.pi,
        cx=full_width / 2 - corner[1],
        cy=full_height / 2 - corner[0],
        height=height,
        width=width,
        projection="equirectangular",
    )
