"""Cameras from ray maps: a robust homography from image plane to directions, split into intrinsics and rotation.

Follows the official solver, so that the same ray maps give the same cameras. Its one weak point is kept: the homography
is split by QL where an off-centre principal point would need QR, so it is exact for centred cameras only.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse

HYPOTHESES = 100
"""How many random sets of rays are tried."""
SET_SIZE = 8
"""Rays in a set."""
_CANDIDATES = 0.3  # the share of most confident rays that sets are drawn from
_THRESHOLD = 0.2  # largest error of an inlier, in half image planes
_MOST_INLIERS = 8000
_SMALLEST_Z = 1e-4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RayCameras:
    """Cameras of one set of ray maps."""

    rotation: Float[Tensor, "*batch 3 3"]
    """Camera to world."""
    center: Float[Tensor, "*batch 3"]
    """Camera centres in the world."""
    focal: Float[Tensor, "*batch 2"]
    """In x and y, in half image sizes."""
    principal: Float[Tensor, "*batch 2"]
    """In half image sizes; (1, 1) is the middle."""

    @property
    def cam_to_world(self) -> Float[Tensor, "*batch 4 4"]:
        """Rigid transforms."""
        top = torch.cat((self.rotation, self.center[..., None]), -1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
        return torch.cat((top, bottom), -2)

    def cameras(self, height: int, width: int) -> Cameras:
        """The cameras for images of this size."""
        half_size = self.focal.new_tensor([width / 2, height / 2])
        (fx, fy), (cx, cy) = (self.focal * half_size).unbind(-1), (self.principal * half_size).unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        intrinsics = torch.stack((fx, zero, cx, zero, fy, cy, zero, zero, one), -1).unflatten(-1, (3, 3))
        return Cameras(world_to_cam=rigid_inverse(self.cam_to_world), intrinsics=intrinsics, height=height, width=width)


def draw_sets(pixels: int, generator: torch.Generator) -> Int[Tensor, "100 8"]:
    """Draw of the most confident rays for the hypotheses, by rank of confidence; the same for all views."""
    candidates = candidate_count(pixels)
    sets = [torch.randperm(candidates, generator=generator)[:SET_SIZE] for _ in range(HYPOTHESES)]
    return torch.stack(sets)


def candidate_count(pixels: int) -> int:
    """Number of the most confident rays that hypotheses are drawn from."""
    return max(SET_SIZE, int(_CANDIDATES * pixels))


def cameras_from_rays(
    rays: Float[Tensor, "B V y x 6"],
    confidence: Float[Tensor, "B V y x"],
    *,
    generator: torch.Generator,
    sets: Int[Tensor, "100 8"] | None = None,
) -> RayCameras:
    """The cameras (B, V) whose pixels look along these rays.

    Args:
        rays: direction of any length, and origin, in the world.
        confidence: of the rays.
        generator: draws the sets of rays, and the inliers for the last fit where there are very many. On the CPU.
        sets: in place of drawn ones.
    """
    batch, views, rows, columns = confidence.shape
    like = rays
    if rays.device.type == "mps":  # no float64 there
        rays, confidence = rays.cpu(), confidence.cpu()
    source = _image_plane(rows, columns, rays.device)
    rays = rays.double().flatten(0, 1).flatten(1, 2)
    directions, origins = rays[..., :3], rays[..., 3:]
    usable = directions[..., 2].abs() > _SMALLEST_Z
    weights = torch.where(usable, confidence.flatten(0, 1).flatten(1, 2), 0.0)
    divisor = torch.where(usable, directions[..., 2], 1.0)
    target = directions[..., :2] / divisor[..., None]
    if sets is None:
        sets = draw_sets(rows * columns, generator)
    sets = sets.to(rays.device, torch.int64)
    maps = torch.stack(
        [_robust_homography(source, t, w, sets, generator) for t, w in zip(target, weights, strict=True)]
    )
    maps = torch.where(torch.det(maps)[:, None, None] < 0, -maps, maps)
    rotation, lower = ql_decomposition(maps)
    lower = lower / lower[:, 2:, 2:]
    center = (weights.double()[..., None] * origins).sum(1) / weights.double().sum(1)[:, None]
    parts = {
        "rotation": rotation,
        "center": center,
        "focal": 1 / lower[:, (0, 1), (0, 1)],
        "principal": lower[:, 2, :2] + 1,
    }
    return RayCameras(**{key: value.to(like).unflatten(0, (batch, views)) for key, value in parts.items()})


def _image_plane(rows: int, columns: int, device: torch.device) -> Float[Tensor, "N 2"]:
    """Pixel centres on the plane [−1, 1]², (x, y)."""
    x = (2 * torch.arange(columns, dtype=torch.float64, device=device) + 1) / columns - 1
    y = (2 * torch.arange(rows, dtype=torch.float64, device=device) + 1) / rows - 1
    v, u = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((u, v), -1).flatten(0, 1)


def _robust_homography(
    source: Float[Tensor, "N 2"],
    target: Float[Tensor, "N 2"],
    weights: Float[Tensor, "N"],
    sets: Int[Tensor, "K 8"],
    generator: torch.Generator,
) -> Float[Tensor, "3 3"]:
    """The homography that most confidence agrees with, refitted on all that agree."""
    ranked = torch.argsort(weights, descending=True)[: candidate_count(len(source))]
    chosen = ranked[sets]
    hypotheses = fit_homography(source[chosen], target[chosen], weights[chosen].double())
    score = torch.stack([(weights * _inliers(h, source, target)).sum() for h in hypotheses])
    inliers = torch.nonzero(_inliers(hypotheses[score.argmax()], source, target)).squeeze(-1)
    if len(inliers) > _MOST_INLIERS:
        best = torch.argsort(weights[inliers], descending=True)[: max(int(0.95 * len(inliers)), _MOST_INLIERS)]
        kept = torch.randperm(len(best), generator=generator)[:_MOST_INLIERS]
        inliers = inliers[best[kept.to(best.device)]]
    return fit_homography(source[inliers], target[inliers], weights[inliers].double())


def _inliers(
    homography: Float[Tensor, "3 3"], source: Float[Tensor, "N 2"], target: Float[Tensor, "N 2"]
) -> Bool[Tensor, "N"]:
    projected = source @ homography[:, :2].T + homography[:, 2]
    error = projected[:, :2] / projected[:, 2:] - target
    return error.square().sum(-1) < _THRESHOLD**2


def fit_homography(
    source: Float[Tensor, "*batch N 2"], target: Float[Tensor, "*batch N 2"], weights: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch 3 3"]:
    """The homography of least weighted algebraic error (direct linear transform), its last entry 1."""
    x, y = source.unbind(-1)
    u, v = target.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    along_u = torch.stack((-x, -y, -one, zero, zero, zero, x * u, y * u, u), -1)
    along_v = torch.stack((zero, zero, zero, -x, -y, -one, x * v, y * v, v), -1)
    root = weights.sqrt()[..., None]
    system = torch.cat((along_u * root, along_v * root), -2)
    homography = torch.linalg.svd(system, full_matrices=False).Vh[..., -1, :].unflatten(-1, (3, 3))
    return homography / homography[..., 2:, 2:]


def ql_decomposition(
    matrices: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3 3"]]:
    """Orthogonal Q and lower triangular L with a positive diagonal, ``Q L = A``."""
    q, r = torch.linalg.qr(matrices.flip(-1))
    q, lower = q.flip(-1), r.flip((-2, -1))
    signs = torch.sign(lower.diagonal(dim1=-2, dim2=-1))
    return q * signs[..., None, :], lower * signs[..., :, None]
