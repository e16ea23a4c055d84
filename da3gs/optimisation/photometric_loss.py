"""How far a render is from its photo, and the gradient: what refinement goes down on."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def _blurred(image: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Under SSIM's Gaussian window, with zeros outside: symmetric, so that it is its own adjoint."""
    size = (_WINDOW, _WINDOW)
    return np.asarray(cv2.GaussianBlur(image, size, _SIGMA, borderType=cv2.BORDER_CONSTANT))


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class PhotoLoss:
    """``(1 - λ) mean |render - photo| + λ (1 - SSIM)`` over the wanted pixels of one photo.

    The photo's own statistics are computed once, and the gradient by formula: some ten times cheaper than autograd
    through a network library's convolutions.
    """

    photo: Float[np.ndarray, "H W 3"]
    """In [0, 1], 0 where unwanted."""
    weights: Float[np.ndarray, "H W 1"]
    """One over the count of the wanted pixels (times 3 channels) there, 0 elsewhere."""
    mean: Float[np.ndarray, "H W 3"]
    """Of the photo in each window."""
    square: Float[np.ndarray, "H W 3"]
    """Mean of the photo's squares in each window."""
    share: float
    """λ, of SSIM."""

    @staticmethod
    def of(
        photo: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None, *, share: float = 0.2
    ) -> PhotoLoss:
        """The loss against a photo, where ``mask`` is true."""
        wanted = np.ones(photo.shape[:2], np.float32) if mask is None else mask.astype(np.float32)
        photo = np.ascontiguousarray(photo, np.float32) * wanted[..., None]
        weights = wanted[..., None] / max(float(wanted.sum()) * 3, 1.0)
        return PhotoLoss(photo, weights, _blurred(photo), _blurred(photo * photo), share)

    def __call__(self, image: Float[np.ndarray, "H W 3"]) -> tuple[float, Float[np.ndarray, "H W 3"]]:
        """The loss of a render, and its derivative by every value of it."""
        wanted = self.weights > 0
        a = image * wanted
        difference = a - self.photo
        loss = (1 - self.share) * float((np.abs(difference) * self.weights).sum())
        gradient = (1 - self.share) * np.sign(difference) * self.weights
        if self.share == 0:
            return loss, gradient.astype(np.float32)
        ma, mb = _blurred(a), self.mean
        a1 = 2 * ma * mb + _C1
        a2 = 2 * (_blurred(a * self.photo) - ma * mb) + _C2
        b1 = ma * ma + mb * mb + _C1
        b2 = _blurred(a * a) - ma * ma + self.square - mb * mb + _C2
        both = 1 / (b1 * b2)
        similar = a1 * a2 * both
        loss += self.share * (1 - float((similar * self.weights).sum()))
        by_mean = 2 * (mb * (a2 - a1) * both + ma * similar * (1 / b2 - 1 / b1))
        weights = -self.share * self.weights
        gradient += _blurred(weights * by_mean)
        gradient -= 2 * a * _blurred(weights * (similar / b2))
        gradient += self.photo * _blurred(weights * (2 * a1 * both))
        return loss, (gradient * wanted).astype(np.float32)
