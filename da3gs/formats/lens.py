"""Cameras with lens distortion, as other programs' files state them."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Lens:
    """A pinhole camera with Brown-Conrady distortion; pixel centres at +0.5."""

    intrinsics: Float[np.ndarray, "3 3"]
    """``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` in pixels, float64."""
    height: int
    """Height of the pictures that the intrinsics are for."""
    width: int
    """Width of the pictures that the intrinsics are for."""
    distortion: tuple[float, ...] = ()
    """k1, k2, p1, p2, k3, k4, k5, k6 (OpenCV's order); empty where there is none."""

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
    *, fx: float, fy: float, cx: float, cy: float, height: int, width: int, distortion: tuple[float, ...] = ()
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
    if max(fx, fy) > 1e4 * max(height, width) or abs(cx) > 100 * width or abs(cy) > 100 * height:
        raise InputError(
            f"a camera's fx={fx:g}, fy={fy:g}, cx={cx:g}, cy={cy:g} make no sense for {width}x{height} pixels"
        )
    if any(abs(d) > 1e4 for d in distortion):
        raise InputError(f"a camera's distortion {distortion} makes no sense; give Brown-Conrady coefficients")
    kept = distortion if any(distortion) else ()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return Lens(intrinsics=matrix, height=height, width=width, distortion=tuple(float(d) for d in kept))
