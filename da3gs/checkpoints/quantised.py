"""Int8 rows: matrices in a file at a quarter of their size, with one scale a row.

``w ≈ scale · q`` with ``q`` from -127 to 127 and ``scale`` the row's largest absolute value / 127: an error of at most
half a step, 0.4 % of that value. They are made float32 again when they are read; nothing computes with them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor

ROW_SCALE = ".row_scale"
"""What the name of a matrix's scales ends with, after the matrix's own."""
_STEPS = 127


def quantised_rows(matrix: Float[Tensor, "rows *rest"]) -> tuple[Int8[Tensor, "rows *rest"], Float[Tensor, "rows"]]:
    """A matrix (or kernel) as int8 and the scales of its rows; a row of zeros has the scale 0."""
    flat = matrix.detach().float().flatten(1)
    scale = flat.abs().amax(1) / _STEPS
    steps = torch.where(scale > 0, 1 / scale.clamp(min=1e-30), 0.0)
    whole = (flat * steps[:, None]).round().clamp(-_STEPS, _STEPS).to(torch.int8)
    return whole.view_as(matrix), scale


def dequantised(rows: Int8[Tensor, "rows *rest"], scale: Float[Tensor, "rows"]) -> Float[Tensor, "rows *rest"]:
    """The matrix in float32."""
    return rows.float() * scale.float().view(-1, *[1] * (rows.ndim - 1))
