"""Sizes that the network takes, from photos of any size: both sides multiples of the patch size.

The steps are those of the official preprocessing (a bounded resize, then a resize or a crop to multiples of 14, each on
uint8 with OpenCV's area or cubic interpolation), so that its numbers come out bit for bit. Intrinsics follow: a resize
multiplies the whole first row by the width's ratio and the whole second row by the height's, a crop moves the principal
point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, assert_never

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from da3gs.errors import InputError

Method = Literal["upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop"]
"""Which side ``resolution`` bounds (upper: the long one, lower: the short one), and how both become multiples of 14."""

METHODS: tuple[Method, ...] = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")
PATCH = 14


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resize:
    """Resample the whole picture to another size."""

    height: int
    """New height in pixels."""
    width: int
    """New width in pixels."""
    cubic: bool
    """INTER_CUBIC where true, else INTER_AREA."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """Cut a window out of the picture."""

    top: int
    """First row kept."""
    left: int
    """First column kept."""
    height: int
    """Rows kept."""
    width: int
    """Columns kept."""


Step = Resize | Crop


def sizing_steps(
    height: int, width: int, *, resolution: int = 504, method: Method = "upper_bound_resize"
) -> tuple[Step, ...]:
    """Steps from a picture of this size to the network's; nothing where it fits already.

    >>> sizing_steps(2000, 3000)[0]
    Resize(height=336, width=504, cubic=False)
    >>> [(s.height, s.width) for s in sizing_steps(1080, 1920)]
    [(284, 504), (280, 504)]

    Raises:
        InputError: ``resolution`` is under one patch, or a crop would leave nothing.
    """
    if resolution < PATCH:
        raise InputError(f"resolution={resolution} is under {PATCH} pixels, the network's patch; give more")
    steps: list[Step] = []
    side = max(height, width) if method.startswith("upper") else min(height, width)
    if side != resolution:
        scale = resolution / side
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        steps.append(Resize(height=height, width=width, cubic=scale > 1))
    match method:
        case "upper_bound_resize" | "lower_bound_resize":
            new_height, new_width = _nearest_multiple(height), _nearest_multiple(width)
            if (new_height, new_width) != (height, width):
                steps.append(Resize(height=new_height, width=new_width, cubic=new_height > height or new_width > width))
        case "upper_bound_crop" | "lower_bound_crop":
            new_height, new_width = height // PATCH * PATCH, width // PATCH * PATCH
            if min(new_height, new_width) == 0:
                raise InputError(f"a crop of {width}x{height} pixels to multiples of {PATCH} leaves nothing")
            if (new_height, new_width) != (height, width):
                steps.append(_centre_crop(height, width, new_height, new_width))
        case _:
            assert_never(method)
    return tuple(steps)


def _nearest_multiple(side: int) -> int:
    """The multiple of the patch nearest to ``side``, the larger one of two equally near, and never 0."""
    return max(PATCH, (side + PATCH // 2) // PATCH * PATCH)


def _centre_crop(height: int, width: int, new_height: int, new_width: int) -> Crop:
    return Crop(top=(height - new_height) // 2, left=(width - new_width) // 2, height=new_height, width=new_width)


def sized_image(image: UInt8[np.ndarray, "h w 3"], steps: Sequence[Step]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture after the steps."""
    for step in steps:
        match step:
            case Resize():
                interpolation = cv2.INTER_CUBIC if step.cubic else cv2.INTER_AREA
                image = cv2.resize(image, (step.width, step.height), interpolation=interpolation)
            case Crop():
                image = image[step.top : step.top + step.height, step.left : step.left + step.width]
            case _:
                assert_never(step)
    return image


def sized_mask(mask: Bool[np.ndarray, "h w"], steps: Sequence[Step]) -> Bool[np.ndarray, "H W"]:
    """The mask after the steps: a new pixel is kept where at least half of what it covers was."""
    for step in steps:
        match step:
            case Resize():
                interpolation = cv2.INTER_LINEAR if step.cubic else cv2.INTER_AREA
                grey = cv2.resize(mask.astype(np.uint8) * 255, (step.width, step.height), interpolation=interpolation)
                mask = grey >= 128
            case Crop():
                mask = mask[step.top : step.top + step.height, step.left : step.left + step.width]
            case _:
                assert_never(step)
    return mask


def sized_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], height: int, width: int, steps: Sequence[Step]
) -> Float[np.ndarray, "3 3"]:
    """The intrinsics (pixels) of a ``height`` x ``width`` picture after the steps; the dtype stays."""
    intrinsics = intrinsics.copy()
    for step in steps:
        match step:
            case Resize():
                intrinsics[0] *= step.width / width
                intrinsics[1] *= step.height / height
            case Crop():
                intrinsics[0, 2] -= step.left
                intrinsics[1, 2] -= step.top
            case _:
                assert_never(step)
        height, width = step.height, step.width
    return intrinsics


def sized(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
    *,
    resolution: int = 504,
    method: Method = "upper_bound_resize",
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "3 3"] | None]:
    """One picture, and its intrinsics where given, at the network's size."""
    height, width = image.shape[:2]
    steps = sizing_steps(height, width, resolution=resolution, method=method)
    moved = None if intrinsics is None else sized_intrinsics(intrinsics, height, width, steps)
    return sized_image(image, steps), moved


def batch_cropped(
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]], intrinsics: Sequence[Float[np.ndarray, "3 3"]] | None = None
) -> tuple[list[UInt8[np.ndarray, "H W 3"]], list[Float[np.ndarray, "3 3"]] | None]:
    """Pictures of different sizes centre-cropped to their smallest height and width, as the official code does.

    Only the upstream mode does this; da3gs itself pads and masks, so that nothing of a photo is lost.
    """
    height, width = min(i.shape[0] for i in images), min(i.shape[1] for i in images)
    crops = [_centre_crop(i.shape[0], i.shape[1], height, width) for i in images]
    cut = [sized_image(i, [crop]) for i, crop in zip(images, crops, strict=True)]
    if intrinsics is None:
        return cut, None
    moved = [
        sized_intrinsics(k, i.shape[0], i.shape[1], [crop])
        for k, i, crop in zip(intrinsics, images, crops, strict=True)
    ]
    return cut, moved
