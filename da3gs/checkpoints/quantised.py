"""Int8 groups: matrices in a file at little more than a quarter of their size, one scale for some weights of a row.

``w ≈ scale · q`` with ``q`` from -127 to 127 and ``scale`` the group's largest absolute value / 127: an error of at
most half a step, 0.4 % of that value. They are made float32 again when they are read; nothing computes with them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int8
from torch import Tensor

SCALES = ".group_scales"
"""What the name of a matrix's scales ends with, after the matrix's own."""
_STEPS = 127
_GROUP = 32  # whole rows of 384 are off by nearly twice as much, for 8 % less


def quantised(matrix: Float[Tensor, "rows *rest"]) -> tuple[Int8[Tensor, "rows *rest"], Float[Tensor, "rows groups"]]:
    """A matrix (or kernel) as int8 and the scales of equal groups of each row; a group of zeros has the scale 0."""
    columns = math.prod(matrix.shape[1:])
    size = max(n for n in range(1, min(_GROUP, columns) + 1) if columns % n == 0)
    groups = matrix.detach().float().reshape(len(matrix), -1, size)
    scales = groups.abs().amax(-1) / _STEPS
    steps = torch.where(scales > 0, 1 / scales.clamp(min=1e-30), 0.0)
    whole = (groups * steps[..., None]).round().clamp(-_STEPS, _STEPS).to(torch.int8)
    return whole.view_as(matrix), scales


def dequantised(whole: Int8[Tensor, "rows *rest"], scales: Float[Tensor, "rows groups"]) -> Float[Tensor, "rows *rest"]:
    """The matrix in float32."""
    return (whole.float().view(*scales.shape, -1) * scales.float()[..., None]).view(whole.shape)
