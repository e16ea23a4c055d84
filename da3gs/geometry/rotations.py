"""Rotations as matrices and as unit quaternions ``(w, x, y, z)``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def quaternion_to_matrix(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any non-zero length.

    >>> quaternion_to_matrix(torch.tensor([1.0, 0, 0, 0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = quaternions.unbind(-1)
    s = 2 / quaternions.square().sum(-1)
    rows = (
        1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions (w, x, y, z), w >= 0, of rotation matrices.

    The largest of the four components is computed first and the others from it, so that no rotation divides by a
    small number.
    """
    m = matrices.unflatten(-1, (3,)).flatten(-2)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.unbind(-1)
    squares = torch.stack((1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), -1)
    ww, xx, yy, zz = squares.unbind(-1)
    candidates = torch.stack(
        (
            torch.stack((ww, m21 - m12, m02 - m20, m10 - m01), -1),
            torch.stack((m21 - m12, xx, m10 + m01, m02 + m20), -1),
            torch.stack((m02 - m20, m10 + m01, yy, m12 + m21), -1),
            torch.stack((m10 - m01, m20 + m02, m21 + m12, zz), -1),
        ),
        -2,
    )
    largest = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    chosen = torch.nn.functional.normalize(candidates.gather(-2, largest).squeeze(-2), dim=-1)
    return torch.where(chosen[..., :1] < 0, -chosen, chosen)


def multiply_quaternions(
    first: Float[Tensor, "*#batch 4"], second: Float[Tensor, "*#batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """The quaternion of the rotation ``first`` after ``second``: ``R(first) R(second)``."""
    aw, ax, ay, az = first.unbind(-1)
    bw, bx, by, bz = second.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        -1,
    )


def slerp(
    start: Float[Tensor, "*#batch 4"], end: Float[Tensor, "*#batch 4"], t: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions on the shorter arc from ``start`` (t = 0) to ``end`` (t = 1); Shoemake 1985."""
    start, end = torch.nn.functional.normalize(start, dim=-1), torch.nn.functional.normalize(end, dim=-1)
    cosine = (start * end).sum(-1)
    end = torch.where(cosine[..., None] < 0, -end, end)
    angle = torch.arccos(cosine.abs().clamp(max=1))
    sine = torch.sin(angle)
    near = sine < 1e-6  # almost the same rotation: the straight line is exact to rounding
    safe = torch.where(near, torch.ones_like(sine), sine)
    a = torch.where(near, 1 - t, torch.sin((1 - t) * angle) / safe)
    b = torch.where(near, t.expand_as(angle), torch.sin(t * angle) / safe)
    return torch.nn.functional.normalize(a[..., None] * start + b[..., None] * end, dim=-1)


def orthonormalized(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The nearest rotations (Frobenius norm) to nearly orthogonal matrices, computed in float64."""
    u, _, vt = torch.linalg.svd(matrices.double())
    sign = torch.det(u @ vt)
    u = torch.cat((u[..., :2], u[..., 2:] * sign[..., None, None]), -1)
    return (u @ vt).to(matrices.dtype)


def angle_between(first: Float[Tensor, "*#batch 3 3"], second: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*batch"]:
    """The geodesic angle between rotations, radians in [0, pi], accurate for tiny angles too."""
    relative = first.transpose(-1, -2) @ second
    skew = relative - relative.transpose(-1, -2)
    sine = torch.stack((skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]), -1).norm(dim=-1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(sine, cosine)
