"""Smooth curves through values and rotations at given times: cubic Hermite pieces, once continuously differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.geometry.rotations import multiply_quaternions, slerp


def hermite(
    values: Float[Tensor, "K D"],
    times: Float[Tensor, " K"],
    at: Float[Tensor, " T"],
    *,
    smoothness: float = 1.0,
    period: float | None = None,
) -> Float[Tensor, "T D"]:
    """The curve through ``values`` at increasing ``times``; outside them it stays at its ends.

    The slope at each inner point is that from the point before to the point after it, times ``smoothness``: 1 is the
    Catmull-Rom spline, 0 goes straight and rests at every point.

    Args:
        period: makes a loop: the first value comes again at ``times[0] + period``.
    """
    if len(times) == 1:
        return values.expand(len(at), -1)
    first = last = 0
    if period is not None:
        values, times, at, first, last = _closed(values, times, at, period)
    steps = times[1:] - times[:-1]
    slope = (values[1:] - values[:-1]) / steps[:, None]
    inner = (values[2:] - values[:-2]) / (times[2:] - times[:-2])[:, None]
    slopes = smoothness * torch.cat((slope[:1], inner, slope[-1:]))
    i, u = _pieces(times, at, first, last)
    h, u = steps[i][:, None], u[:, None]
    start, end = values[i], values[i + 1]
    rise, fall = u * (1 - u) ** 2, u**2 * (u - 1)
    way = u**2 * (3 - 2 * u)
    return start + way * (end - start) + h * (rise * slopes[i] + fall * slopes[i + 1])


def hermite_rotations(
    quaternions: Float[Tensor, "K 4"],
    times: Float[Tensor, " K"],
    at: Float[Tensor, " T"],
    *,
    smoothness: float = 1.0,
    period: float | None = None,
) -> Float[Tensor, "T 4"]:
    """Hermite curve of unit quaternions (w, x, y, z), always the shorter way round.

    Bezier pieces by de Casteljau's scheme on the sphere (Shoemake 1985): turning at constant speed about one axis is
    followed exactly.
    """
    if len(times) == 1:
        return quaternions.expand(len(at), -1)
    first = last = 0
    if period is not None:
        quaternions, times, at, first, last = _closed(quaternions, times, at, period)
    steps = times[1:] - times[:-1]
    turns = _log(multiply_quaternions(_inverse(quaternions[:-1]), quaternions[1:]))
    inner = (turns[1:] + turns[:-1]) / (times[2:] - times[:-2])[:, None]
    speeds = smoothness * torch.cat((turns[:1] / steps[:1, None], inner, turns[-1:] / steps[-1:, None]))
    i, u = _pieces(times, at, first, last)
    third = steps[i][:, None] / 3
    start, end = quaternions[i], quaternions[i + 1]
    near_start = multiply_quaternions(start, _exp(third * speeds[i]))
    near_end = multiply_quaternions(end, _exp(-third * speeds[i + 1]))
    a, b, c = slerp(start, near_start, u), slerp(near_start, near_end, u), slerp(near_end, end, u)
    return slerp(slerp(a, b, u), slerp(b, c, u), u)


def _closed(values: Tensor, times: Tensor, at: Tensor, period: float) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """A loop opened up, with a piece more at both ends; which pieces count."""
    values = torch.cat((values[-1:], values, values[:2]))
    times = torch.cat((times[-1:] - period, times, times[:2] + period))
    first = times[1]
    return values, times, torch.remainder(at - first, period) + first, 1, 1


def _pieces(times: Tensor, at: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """The piece that each moment lies in, and how far along, 0 to 1."""
    i = torch.searchsorted(times, at.contiguous(), right=True).sub(1).clamp(first, len(times) - 2 - last)
    return i, ((at - times[i]) / (times[i + 1] - times[i])).clamp(0, 1)


def _inverse(quaternions: Tensor) -> Tensor:
    return quaternions * quaternions.new_tensor([1.0, -1, -1, -1])


def _log(quaternions: Tensor) -> Tensor:
    """Rotation vectors of unit quaternions, the shorter way; half the angle is the quaternion's."""
    quaternions = torch.where(quaternions[:, :1] < 0, -quaternions, quaternions)
    w, xyz = quaternions[:, :1], quaternions[:, 1:]
    sine = xyz.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, w)
    return xyz * torch.where(sine < 1e-9, torch.full_like(sine, 2.0), angle / sine.clamp(min=1e-300))


def _exp(vectors: Tensor) -> Tensor:
    """Unit quaternions of rotation vectors."""
    half = vectors.norm(dim=-1, keepdim=True) / 2
    factor = torch.where(half < 1e-9, torch.full_like(half, 0.5), half.sin() / (2 * half).clamp(min=1e-300))
    return torch.cat((half.cos(), vectors * factor), -1)
