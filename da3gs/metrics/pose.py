"""Pose errors of camera pairs and the areas under their curves, as the official benchmark measures them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

THRESHOLDS = (3, 5, 15, 30)
"""Degrees."""


def relative_pose_errors(
    predicted: Float[Tensor, "V 4 4"], true: Float[Tensor, "V 4 4"]
) -> tuple[Float[Tensor, "P"], Float[Tensor, "P"]]:
    """Angles, in degrees, between predicted and true relative rotations and translations of all pairs i < j.

    Both sets of world-to-camera matrices E are first laid into their own first camera, ``E_i E_0⁻¹``; the relative pose
    of a pair is then ``E_i⁻¹ E_j``, as in VGGT's and the official code.
    Translations have no scale and, there, no sign either: their angle is ``min(θ, 180° - θ)``. A pair without any
    true motion has a translation error of 0.
    """
    i, j = torch.triu_indices(len(true), len(true), 1)
    own = [m.double() @ torch.linalg.inv(m[:1].double()) for m in (predicted, true)]
    a, b = (torch.linalg.inv(m[i]) @ m[j] for m in own)
    turn = a[:, :3, :3].transpose(-1, -2) @ b[:, :3, :3]
    skew = turn - turn.transpose(-1, -2)
    sine = torch.stack((skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]), -1).norm(dim=-1)
    rotation = torch.rad2deg(torch.atan2(sine, turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))
    across = torch.linalg.cross(a[:, :3, 3], b[:, :3, 3]).norm(dim=-1)
    along = (a[:, :3, 3] * b[:, :3, 3]).sum(-1).abs()
    still = b[:, :3, 3].norm(dim=-1) < 1e-12
    translation = torch.where(still, 0.0, torch.rad2deg(torch.atan2(across, along)))
    lost = (a[:, :3, 3].norm(dim=-1) < 1e-12) & ~still
    return rotation, torch.where(lost, 90.0, translation)


def pose_auc(
    rotation: Float[Tensor, "P"], translation: Float[Tensor, "P"], thresholds: Sequence[int] = THRESHOLDS
) -> dict[str, float]:
    """The share of pairs below an error, averaged over the errors 1, 2 ... T degrees; a pair's error is the larger one.

    >>> pose_auc(torch.tensor([0.5, 2.5]), torch.tensor([0.0, 0.0]), [3])
    {'auc3': 0.6666666666666666}
    """
    worst = torch.maximum(rotation, translation).double()
    found = {}
    for threshold in thresholds:
        edges = torch.arange(1, threshold + 1, dtype=torch.float64)
        below = worst[None] < edges[:, None]
        below[-1] = worst <= threshold  # the last bin of a histogram is closed
        found[f"auc{threshold}"] = float(below.double().mean(-1).mean()) if len(worst) else 0.0
    return found
