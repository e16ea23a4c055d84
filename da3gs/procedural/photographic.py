"""Camera effects between the light of a drawn scene and its photograph: lens, shutter, sensor, and development.

Linear colours become what a phone or a camera would save: vignetting of the lens, blur of a hand that moved, shot
noise and its smoothed remains, a contrast curve, stronger or weaker colours, sharpening. Effects of the camera are the
same for all photos of a scene, those of the moment are not.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import NDArray

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """One camera and how its photos are developed."""

    vignetting: float
    """Share of the light that is lost in the corners."""
    shake: float
    """How far the picture of a moved photo travels, in shares of the longer side; 0: a tripod."""
    shot: float
    """Standard deviation of the noise where the light is 1."""
    smoothing: float
    """Standard deviation in pixels of the noise filter."""
    contrast: float
    """Of an S-shaped curve; 0: none."""
    saturation: float
    """1: colours as they are."""
    sharpening: float
    """Strength of the unsharp mask."""

    @classmethod
    def drawn(cls, g: np.random.Generator) -> Camera:
        """A random camera; half of all effects are absent in it."""

        def some(value: float) -> float:
            """The value, or none in every other camera."""
            return value if g.random() < 0.5 else 0.0

        return cls(
            vignetting=some(g.uniform(0.1, 0.6)),
            shake=some(0.012 * g.random()),
            shot=some(g.uniform(0.01, 0.06)),
            smoothing=some(g.uniform(0.4, 0.9)),
            contrast=some(g.uniform(-0.15, 0.6)),
            saturation=1 + some(float(np.clip(g.normal(0, 0.3), -0.8, 0.6))),
            sharpening=some(g.uniform(0.3, 1.5)),
        )


def exposed(g: np.random.Generator, light: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """Reading of the sensor [H, W, 3], from linear light of mean about 0.2: lens, shake and shot noise."""
    height, width = light.shape[:2]
    if camera.vignetting:
        x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
        y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
        square = (x**2 * width**2 + y[:, None] ** 2 * height**2) / (width**2 + height**2)
        light = light * (1 - camera.vignetting * square)[..., None]
    if camera.shake and g.random() < 0.4:
        light = cv2.filter2D(light, -1, _streak(g, camera.shake * max(height, width)))
    if camera.shot:
        noise = g.standard_normal(light.shape, dtype=np.float32) * np.float32(camera.shot)
        light = light + noise * np.sqrt(np.maximum(light, 0) + np.float32(0.01))
        if camera.smoothing:
            light = cv2.GaussianBlur(light, (0, 0), camera.smoothing)
    return np.maximum(light, 0)


def _streak(g: np.random.Generator, length: float) -> NDArray[np.float32]:
    """A kernel along which a moving hand spreads every point."""
    reach = max(1, math.ceil(length))
    angle = g.uniform(0, math.pi)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for s in np.linspace(-0.5, 0.5, 4 * reach + 1) * length:
        kernel[round(reach + s * math.sin(angle)), round(reach + s * math.cos(angle))] += 1
    kernel /= kernel.sum()
    return kernel


def developed(photo: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """A photograph [H, W, 3] in [0, 1] after contrast, saturation and sharpening."""
    if camera.contrast:
        curve = photo * photo * (3 - 2 * photo)
        photo = photo + np.float32(camera.contrast) * (curve - photo)
    if camera.saturation != 1:
        grey = np.asarray(photo @ _GREY, np.float32)[..., None]
        photo = grey + np.float32(camera.saturation) * (photo - grey)
    if camera.sharpening:
        photo = photo + np.float32(camera.sharpening) * (photo - cv2.GaussianBlur(photo, (0, 0), 0.8))
    return np.clip(photo, 0, 1)
