"""Image similarity: PSNR, and SSIM (Wang et al. 2004), both differentiable. Channels come last."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_PSNR = 100.0
"""Equal images have an infinite PSNR; JSON has no infinity, and nobody sees the difference above this."""

_WINDOW = 11
_SIGMA = 1.5


def psnr(
    image: Float[Tensor, "*batch H W C"],
    reference: Float[Tensor, "*batch H W C"],
    mask: Bool[Tensor, "*batch H W"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB: ``-10 log10 mean (a - b)²``, both images held within [0, 1], at most 100.

    The mean runs over the pixels where ``mask`` is true and over the channels; NaN where no pixel is left.

    >>> float(psnr(torch.full((2, 2, 3), 0.5), torch.full((2, 2, 3), 0.6)).round(decimals=3))
    20.0
    """
    squares = (image.clamp(0, 1) - reference.clamp(0, 1)).square().mean(-1)
    if mask is None:
        error = squares.flatten(-2).mean(-1)
    else:
        error = torch.where(mask, squares, 0).flatten(-2).sum(-1) / mask.flatten(-2).sum(-1)
    return -10 * torch.log10(error.clamp(min=10 ** (-MAX_PSNR / 10)))


def ssim(
    image: Float[Tensor, "*batch H W C"],
    reference: Float[Tensor, "*batch H W C"],
    mask: Bool[Tensor, "*batch H W"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean structural similarity under a Gaussian window (11 pixels, sigma 1.5), data range 1; images are not clipped.

    The same number as ``skimage.metrics.structural_similarity(win_size=11, gaussian_weights=True, channel_axis=-1,
    data_range=1.0)``: sample covariance, and only windows that lie inside the image. With ``mask``, only windows whose
    every pixel is true count; NaN where there is none.

    Raises:
        ValueError: the image is smaller than the window.
    """
    height, width, channels = image.shape[-3:]
    if height < _WINDOW or width < _WINDOW:
        raise ValueError(f"SSIM needs images of at least {_WINDOW} x {_WINDOW} pixels, got {height} x {width}")
    a = image.movedim(-1, -3).reshape(-1, 1, height, width)
    b = reference.movedim(-1, -3).reshape(-1, 1, height, width)
    mean_a, mean_b, aa, bb, ab = _blurred(torch.cat((a, b, a * a, b * b, a * b))).chunk(5)
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    covariance = sample * (ab - mean_a * mean_b)
    variances = sample * (aa - mean_a * mean_a + bb - mean_b * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    values = values / ((mean_a * mean_a + mean_b * mean_b + c1) * (variances + c2))
    values = values.reshape(*image.shape[:-3], channels, -1).mean(-2)
    if mask is None:
        return values.mean(-1)
    whole = _inside(mask).reshape(values.shape)
    return torch.where(whole, values, 0).sum(-1) / whole.sum(-1)


def _blurred(images: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n 1 h w"]:
    """The Gaussian-weighted mean of every window inside the image."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=images.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).to(images.dtype)
    rows = torch.nn.functional.conv2d(images, weights[None, None, :, None])
    return torch.nn.functional.conv2d(rows, weights[None, None, None, :])


def _inside(mask: Bool[Tensor, "*batch H W"]) -> Bool[Tensor, "n 1 h w"]:
    """Windows without a false pixel."""
    outside = (~mask).reshape(-1, 1, *mask.shape[-2:]).float()
    return torch.nn.functional.max_pool2d(outside, _WINDOW, stride=1) == 0
