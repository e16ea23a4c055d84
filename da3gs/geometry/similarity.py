"""Similarity transforms between point sets (Umeyama 1991)."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Similarity(TensorRecord):
    """The map ``x -> scale * rotation @ x + translation``."""

    scale: Float[Tensor, "*batch"]
    """Uniform scale, positive."""
    rotation: Float[Tensor, "*batch 3 3"]
    """Proper rotation."""
    translation: Float[Tensor, "*batch 3"]
    """Translation in the units of the target."""

    def apply(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Points in the target frame."""
        rotated = points @ self.rotation.transpose(-1, -2)
        return self.scale[..., None, None] * rotated + self.translation[..., None, :]

    def apply_to_cameras(self, cam_to_world: Float[Tensor, "*batch V 4 4"]) -> Float[Tensor, "*batch V 4 4"]:
        """Poses in the target frame: rotation ``R R_i``, centre ``s R c_i + t``. They stay rigid."""
        rotation = self.rotation[..., None, :, :] @ cam_to_world[..., :3, :3]
        center = self.apply(cam_to_world[..., :3, 3])
        top = torch.cat((rotation, center[..., None]), -1)
        return torch.cat((top, cam_to_world[..., 3:, :]), -2)

    def after(self, first: Similarity) -> Similarity:
        """The map that does what ``first`` does and then what this one does; both of one precision."""
        return Similarity(
            scale=self.scale * first.scale,
            rotation=self.rotation @ first.rotation,
            translation=self.apply(first.translation[..., None, :]).squeeze(-2),
        )

    def inverse(self) -> Similarity:
        """The map back."""
        rotation = self.rotation.transpose(-1, -2)
        scale = 1 / self.scale
        translation = -scale[..., None] * (rotation @ self.translation[..., None]).squeeze(-1)
        return Similarity(scale=scale, rotation=rotation, translation=translation)


def umeyama(source: Float[Tensor, "N 3"], target: Float[Tensor, "N 3"]) -> Similarity:
    """The similarity that maps ``source`` onto ``target`` with the least squared error, in float64.

    Raises:
        InputError: fewer than two distinct points, so that no rotation or scale can be told.
    """
    source, target = source.double(), target.double()
    source_mean, target_mean = source.mean(0), target.mean(0)
    variance = (source - source_mean).square().sum(-1).mean()
    covariance = (target - target_mean).T @ (source - source_mean) / len(source)
    u, singular, vt = torch.linalg.svd(covariance)
    if (singular > torch.finfo(torch.float64).eps).sum() < 2:
        raise InputError(
            f"a similarity needs points that do not lie on one spot or line; got {len(source)} degenerate ones"
        )
    signs = torch.ones(3, dtype=torch.float64, device=source.device)
    signs[2] = torch.sign(torch.det(u) * torch.det(vt))
    rotation = (u * signs) @ vt
    scale = (singular * signs).sum() / variance
    return Similarity(scale=scale, rotation=rotation, translation=target_mean - scale * rotation @ source_mean)
