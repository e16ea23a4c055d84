"""Depth errors against the truth, after the alignment that the prediction's kind allows."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Alignment = Literal["none", "median", "scale", "affine"]
"""None for metric depth; a factor, by medians or by least squares, for relative depth; factor and shift by least
squares for affine-invariant depth."""


def aligned_depth(
    predicted: Float[Tensor, "*shape"], true: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"], how: Alignment
) -> Float[Tensor, "*shape"]:
    """The prediction after the best scale, or scale and shift, over the valid pixels; in float64."""
    predicted, true = predicted.double(), true.double()
    d, t = predicted[valid], true[valid]
    match how:
        case "none":
            return predicted
        case "median":
            return predicted * (t.median() / d.median())
        case "scale":
            return predicted * ((d * t).sum() / d.square().sum())
        case "affine":
            centered = d - d.mean()
            slope = (centered * t).sum() / centered.square().sum().clamp(min=1e-30)
            return slope * (predicted - d.mean()) + t.mean()
        case _:
            assert_never(how)


def depth_errors(
    predicted: Float[Tensor, "*shape"],
    true: Float[Tensor, "*shape"],
    valid: Bool[Tensor, "*shape"],
    *,
    alignment: Alignment = "none",
) -> dict[str, float]:
    """AbsRel = mean |d - t| / t, SqRel = mean (d - t)² / t, δ1 = share with max(d / t, t / d) < 1.25.

    >>> depth_errors(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
    {'absrel': 0.25, 'sqrel': 0.25, 'delta1': 0.5}
    """
    d = aligned_depth(predicted, true, valid, alignment)[valid]
    t = true.double()[valid]
    ratio = torch.maximum(d / t, t / d.clamp(min=1e-12))
    good = (ratio < 1.25) & (d > 0)
    return {
        "absrel": float(((d - t).abs() / t).mean()),
        "sqrel": float(((d - t).square() / t).mean()),
        "delta1": float(good.double().mean()),
    }
