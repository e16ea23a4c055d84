"""A splat renderer by brute force: every pixel meets every splat, in float64, written from the formulas alone.

It shares no code with the package, is differentiable by autograd, and is far too slow for anything but tests.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Picture:
    """What the oracle draws."""

    color: Tensor
    depth: Tensor
    alpha: Tensor
    features: Tensor | None
    """Blended extra channels, when they were asked for."""
    weights: Tensor
    """How much each splat (first axis, in input order) adds to each pixel."""
    doubtful: Tensor
    """Pixels where some decision (alpha near 1/255, transmittance near 1e-4) hangs on the last digits of a float32."""


def rotation(quaternions: Tensor) -> Tensor:
    """Rotation matrices of quaternions (w, x, y, z), by rotating the three unit vectors."""
    q = quaternions / quaternions.norm(dim=-1, keepdim=True)
    w, v = q[:, :1], q[:, 1:]
    columns = []
    for axis in torch.eye(3, dtype=q.dtype):
        e = axis.expand_as(v)
        columns.append(e + 2 * w * torch.linalg.cross(v, e) + 2 * torch.linalg.cross(v, torch.linalg.cross(v, e)))
    return torch.stack(columns, -1)


def harmonic_basis(d: Tensor, bands: int) -> Tensor:
    """The real spherical harmonics of 3D Gaussian Splatting with their usual decimal constants."""
    x, y, z = d.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [
        0.28209479177387814 * torch.ones_like(x),
        -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
        1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]  # fmt: skip
    return torch.stack(terms[:bands], -1)


def screen(
    means: Tensor,
    scales: Tensor,
    quaternions: Tensor,
    world_to_cam: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres in pixels, covariances in pixels (without the blur) and depths: EWA splatting (Zwicker et al. 2001)."""
    turn = world_to_cam[:3, :3]
    local = means @ turn.T + world_to_cam[:3, 3]
    x, y, z = local.unbind(-1)
    homogeneous = local @ intrinsics.T
    centers = homogeneous[:, :2] / z[:, None]
    fx, fy, skew = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 1]
    # how far outside the picture the linear approximation is taken at most: a choice, not a function of the intrinsics
    k = intrinsics.detach()
    more_x, more_y = 0.3 * 0.5 * width / k[0, 0], 0.3 * 0.5 * height / k[1, 1]
    tx = torch.clamp(x / z, -(k[0, 2] / k[0, 0] + more_x), (width - k[0, 2]) / k[0, 0] + more_x)
    ty = torch.clamp(y / z, -(k[1, 2] / k[1, 1] + more_y), (height - k[1, 2]) / k[1, 1] + more_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        (
            torch.stack((fx / z, skew / z, -(fx * tx + skew * ty) / z), -1),
            torch.stack((zero, fy / z, -fy * ty / z), -1),
        ),
        -2,
    )
    axes = rotation(quaternions) * scales[:, None, :]
    covariance = axes @ axes.transpose(-1, -2)
    to_pixels = jacobian @ turn
    return centers, to_pixels @ covariance @ to_pixels.transpose(-1, -2), z


def draw(
    means: Tensor,
    scales: Tensor,
    quaternions: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    world_to_cam: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
    *,
    background: Tensor | None = None,
    features: Tensor | None = None,
    antialias: bool = False,
) -> Picture:
    """The picture of one scene from one camera; all tensors are taken as float64."""
    number = len(means)
    means, scales, quaternions, opacities, harmonics, world_to_cam, intrinsics = (
        t.double() for t in (means, scales, quaternions, opacities, harmonics, world_to_cam, intrinsics)
    )
    background = torch.zeros(3, dtype=torch.float64) if background is None else background.double()
    local_z = means.detach() @ world_to_cam.detach()[2, :3] + world_to_cam.detach()[2, 3]
    usable = (local_z >= 0.01) & (local_z <= 1e10) & (opacities.detach() >= 1 / 255)
    for tensor in (means, scales, quaternions, opacities[:, None], harmonics.flatten(1)):
        usable &= tensor.detach().isfinite().all(-1)
    usable &= (quaternions.detach() != 0).any(-1) & (scales.detach() != 0).any(-1)
    keep = usable.nonzero()[:, 0]
    keep = keep[torch.argsort(local_z[keep], stable=True)]

    args = (means[keep], scales[keep], quaternions[keep], world_to_cam, intrinsics, height, width)
    centers, covariance, z = screen(*args)
    blurred = covariance + 0.3 * torch.eye(2, dtype=torch.float64)
    opacity = opacities[keep]
    if antialias:
        opacity = opacity * torch.sqrt(torch.linalg.det(covariance).clamp(min=0) / torch.linalg.det(blurred))
    eye = -world_to_cam[:3, :3].T @ world_to_cam[:3, 3]
    direction = torch.nn.functional.normalize(means[keep] - eye, dim=-1)
    basis = harmonic_basis(direction, harmonics.shape[1])
    colors = ((basis[..., None] * harmonics[keep]).sum(1) + 0.5).clamp(min=0)

    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    inverse = torch.linalg.inv(blurred)
    through = torch.ones(height, width, dtype=torch.float64)
    open_ = torch.ones(height, width, dtype=torch.bool)
    doubtful = torch.zeros(height, width, dtype=torch.bool)
    weights = [torch.zeros(height, width, dtype=torch.float64)] * number
    for i, splat in enumerate(keep.tolist()):
        dx, dy = u - centers[i, 0], v - centers[i, 1]
        sigma = (inverse[i, 0, 0] * dx * dx + inverse[i, 1, 1] * dy * dy) / 2 + inverse[i, 0, 1] * dx * dy
        alpha = (opacity[i] * torch.exp(-sigma)).clamp(max=0.999)
        after = through * (1 - alpha)
        doubtful |= open_ & ((alpha * 255 - 1).abs() < 2e-4)
        doubtful |= open_ & (alpha * 255 >= 1) & ((after * 1e4 - 1).abs() < 2e-3)
        hit = open_ & (alpha >= 1 / 255)
        open_ = open_ & ~(hit & (after <= 1e-4))
        hit = hit & open_
        weights[splat] = torch.where(hit, through * alpha, 0.0)
        through = torch.where(hit, after, through)
    stacked = torch.stack(weights) if weights else torch.zeros(0, height, width, dtype=torch.float64)
    sorted_weights = stacked[keep]
    color = torch.einsum("nhw,nc->hwc", sorted_weights, colors) + through[..., None] * background
    covered = 1 - through
    depth = torch.einsum("nhw,n->hw", sorted_weights, z)
    depth = torch.where(covered > 0, depth / torch.where(covered > 0, covered, 1.0), 0.0)
    blended = None if features is None else torch.einsum("nhw,nc->hwc", sorted_weights, features.double()[keep])
    return Picture(
        color=color, depth=depth, alpha=covered, features=blended, weights=stacked.detach(), doubtful=doubtful
    )
