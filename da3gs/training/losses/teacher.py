"""The losses of the monocular teacher and its student (Depth Anything 3, sections 3.3 and 3.4).

``α L_grad + L_gl + L_N + L_sky + L_obj``: depth that is known up to a scale and a shift, predicted as an exponential.
The depth head's last layer is that exponential; nothing here takes logarithms of the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import camera_directions, pixel_centers
from da3gs.network.metric import CANONICAL_FOCAL
from da3gs.network.raw import RawOutputs
from da3gs.training.losses.alignment import absolute_alignment, coarse_samples
from da3gs.training.losses.geometric import gradient_loss, masked_mean

_FEWEST = 32  # valid pixels that a patch needs, as in MoGe


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TeacherWeights:
    """Weights of a monocular network's losses; the paper's numbers."""

    gradient: float = 0.5
    whole: float = 1.0
    """The depth after one alignment of the whole picture."""
    patches: float = 1.0
    """The depth after an alignment of each patch."""
    normals: float = 1.0
    sky: float = 1.0
    align_side: int = 24
    """Values along a side that a whole picture's alignment looks at."""
    levels: tuple[tuple[int, int, int], ...] = ((4, 12, 8), (16, 8, 16))
    """Patches: by how much smaller than the picture, values along a side for the alignment, and how many."""
    metric: bool = False
    """Depth is metric at a focal length of 300 pixels; nothing is aligned."""


def aligned_depth_loss(
    predicted: Float[Tensor, "B H W"], depth: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"], *, side: int
) -> tuple[Float[Tensor, ""], Float[Tensor, "B H W"]]:
    """Mean ``|s D̂ + t − D| / D`` with the s and t of each picture that make it least; and the aligned depth."""
    weights = torch.where(valid, 1 / depth.clamp(min=1e-6), 0)
    p, known = coarse_samples(predicted, valid, side)
    d, _ = coarse_samples(depth, valid, side)
    w, _ = coarse_samples(weights, valid, side)
    scale, shift = absolute_alignment(p, d, w * known)
    aligned = scale[:, None, None] * predicted + shift[:, None, None]
    return masked_mean((aligned - depth).abs() * weights, valid), aligned


def patch_depth_loss(
    predicted: Float[Tensor, "B H W"],
    depth: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    levels: Sequence[tuple[int, int, int]],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The same within random patches, each aligned for itself; patches with fewer than 32 valid pixels are left out."""
    height, width = depth.shape[-2:]
    losses = []
    for smaller, side, count in levels:
        rows, columns = max(8, height // smaller), max(8, width // smaller)
        rows, columns = min(rows, height), min(columns, width)
        picked = torch.randint(len(depth), (count,), generator=generator).tolist()
        top = torch.randint(height - rows + 1, (count,), generator=generator).tolist()
        left = torch.randint(width - columns + 1, (count,), generator=generator).tolist()
        windows = list(zip(picked, top, left, strict=True))

        def cut(maps: Tensor, windows: list[tuple[int, int, int]] = windows, r: int = rows, c: int = columns) -> Tensor:
            """The window of each picture."""
            return torch.stack([maps[b, i : i + r, j : j + c] for b, i, j in windows])

        known = cut(valid)
        enough = known.flatten(1).sum(-1) >= _FEWEST
        if bool(enough.any()):
            loss, _ = aligned_depth_loss(cut(predicted)[enough], cut(depth)[enough], known[enough], side=side)
            losses.append(loss)
    return torch.stack(losses).mean() if losses else predicted.new_zeros(())


def weighted_normals(points: Float[Tensor, "B H W 3"]) -> tuple[Float[Tensor, "B y x 3"], Float[Tensor, "B y x 4 3"]]:
    """Unit normals of inner pixels: the weighted mean, and the four that it is made of.

    ``n_i`` are the cross products of neighbouring differences round the pixel, not normalised; near (small) ones weigh
    more: ``w_i = Σ_j ‖n_j‖ − ‖n_i‖``, ``n_m = Σ w_i n_i / ‖n_i‖``.
    """
    middle = points[:, 1:-1, 1:-1]
    up, down = points[:, :-2, 1:-1] - middle, points[:, 2:, 1:-1] - middle
    left, right = points[:, 1:-1, :-2] - middle, points[:, 1:-1, 2:] - middle
    pairs = ((up, left), (left, down), (down, right), (right, up))
    crosses = torch.stack([torch.linalg.cross(a, b) for a, b in pairs], -2)
    lengths = crosses.norm(dim=-1, keepdim=True)
    units = crosses / lengths.clamp(min=1e-12)
    weights = lengths.sum(-2, keepdim=True) - lengths
    mean = (weights * units).sum(-2)
    return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12), units


def angular_error(a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Angle between unit vectors in radians, with a gradient everywhere."""
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1).clamp(min=1e-9))


def normal_loss(
    predicted: Float[Tensor, "B H W"], depth: Float[Tensor, "B H W"], cameras: Cameras
) -> Float[Tensor, ""]:
    """Angle between the weighted mean normals, plus the angles of all four; where all five pixels are valid.

    Args:
        predicted: aligned depth.
        depth: truth; 0 where there is none.
        cameras: (B), for their intrinsics.
    """
    rays = camera_directions(cameras.intrinsics, pixel_centers(*depth.shape[-2:], device=depth.device))
    mean, parts = weighted_normals(rays * predicted[..., None])
    true_mean, true_parts = weighted_normals(rays * depth[..., None])
    v = depth > 0
    valid = v[:, 1:-1, 1:-1] & v[:, :-2, 1:-1] & v[:, 2:, 1:-1] & v[:, 1:-1, :-2] & v[:, 1:-1, 2:]
    whole = masked_mean(angular_error(mean, true_mean), valid)
    return whole + sum((masked_mean(angular_error(parts[..., i, :], true_parts[..., i, :]), valid) for i in range(4)),
                       whole.new_zeros(()))  # fmt: skip


def mask_loss(predicted: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean squared difference from a mask: of the sky, or of objects before a background."""
    return (predicted - mask.to(predicted.dtype)).square().mean()


def canonical_depth(depth: Float[Tensor, "*batch H W"], cameras: Cameras) -> Float[Tensor, "*batch H W"]:
    """Metric depth as the metric network is taught it: ``D · 300 / f``, f the mean focal length in pixels."""
    focal = cameras.intrinsics[..., (0, 1), (0, 1)].mean(-1)
    return depth * (CANONICAL_FOCAL / focal)[..., None, None]


def monocular_loss(
    outputs: RawOutputs,
    depth: Float[Tensor, "B V H W"],
    cameras: Cameras,
    weights: TeacherWeights,
    *,
    sky: Bool[Tensor, "B V H W"] | None,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of a monocular network's losses, and each of them alone.

    Args:
        outputs: of the network; every view stands for itself.
        depth: truth, in any unit (metres for a metric network); 0 where there is none.
        cameras: (B, V), for their intrinsics.
        weights: what each loss counts.
        sky: where the sky is; None: not known.
        generator: draws the patches.
    """
    flat = cameras.map(lambda t: t.flatten(0, 1))
    truth, predicted = depth.flatten(0, 1), outputs.depth.flatten(0, 1)
    valid = truth > 0
    parts: dict[str, Tensor] = {}
    if weights.metric:
        truth = canonical_depth(truth, flat)
        aligned = predicted
        parts["whole"] = masked_mean((aligned - truth).abs() / truth.clamp(min=1e-6), valid)
    else:
        parts["whole"], aligned = aligned_depth_loss(predicted, truth, valid, side=weights.align_side)
        if weights.patches:
            parts["patches"] = patch_depth_loss(predicted, truth, valid, levels=weights.levels, generator=generator)
    unit = (torch.where(valid, truth, 0).sum((-2, -1)) / valid.sum((-2, -1)).clamp(min=1)).clamp(min=1e-6)
    scaled = (x / unit[:, None, None] for x in (aligned, truth))
    parts["gradient"] = gradient_loss(*(x[:, None] for x in scaled), relative=False)
    if weights.normals:
        parts["normals"] = normal_loss(aligned, truth, flat)
    if sky is not None and outputs.sky is not None:
        parts["sky"] = mask_loss(outputs.sky, sky)
    total = sum((getattr(weights, name) * value for name, value in parts.items()), predicted.new_zeros(()))
    return total, parts
