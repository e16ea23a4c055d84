"""PSNR and SSIM against their definitions and against scikit-image."""

from __future__ import annotations

import math

import pytest
import torch

from da3gs.metrics.image import psnr, ssim


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that resemble each other, slightly outside [0, 1] in places."""
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(*shape, generator=generator, dtype=dtype) * 1.2 - 0.1
    return a, a + 0.2 * torch.randn(*shape, generator=generator, dtype=dtype)


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 2, 3)
    b = a.clone()
    b[0, 0] = 0.4
    assert float(psnr(a, b)) == pytest.approx(-10 * math.log10(0.16 / 4), abs=1e-5)
    assert float(psnr(a, a)) == 100
    assert float(psnr(a - 1, a)) == 100, "both are clipped to [0, 1]"


def test_psnr_sees_only_the_mask() -> None:
    a, b = torch.zeros(4, 6, 3), torch.zeros(4, 6, 3)
    b[2:] = 0.1
    b[:2] = torch.nan
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[2:] = True
    assert float(psnr(a, b, mask)) == pytest.approx(20, abs=1e-4)
    assert math.isnan(float(psnr(a, b, torch.zeros(4, 6, dtype=torch.bool))))


def test_psnr_of_a_batch() -> None:
    a, b = pair(2, 3, 5, 7, 3)
    whole = psnr(a, b)
    assert whole.shape == (2, 3)
    assert float(whole[1, 2]) == pytest.approx(float(psnr(a[1, 2], b[1, 2])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_is_that_of_scikit_image(dtype: torch.dtype) -> None:
    from skimage.metrics import structural_similarity

    a, b = pair(37, 50, 3, dtype=dtype)
    theirs = structural_similarity(
        a.numpy(), b.numpy(), win_size=11, gaussian_weights=True, channel_axis=-1, data_range=1.0
    )
    assert float(ssim(a, b)) == pytest.approx(float(theirs), abs=2e-6 if dtype == torch.float32 else 1e-12)
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-5)


def test_ssim_of_a_batch_with_padding() -> None:
    a, b = pair(2, 20, 24, 3)
    mask = torch.zeros(2, 20, 24, dtype=torch.bool)
    mask[:, :15, :18] = True
    padded = torch.where(mask[..., None], a, 0)
    cropped = ssim(a[:, :15, :18], b[:, :15, :18])
    assert torch.allclose(ssim(padded, b, mask), cropped, atol=1e-5)
    assert torch.isnan(ssim(a, b, torch.zeros_like(mask))).all()
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(a[:, :10], b[:, :10])


def test_gradients() -> None:
    a, b = pair(12, 13, 1, dtype=torch.float64)
    a = (a * 0.5 + 0.2).clamp(0.05, 0.95).requires_grad_()
    b = b.clamp(0.05, 0.95)
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), (a,), atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: psnr(x, b), (a,), atol=1e-6)
