"""Gaussian splats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.geometry.harmonics import rotate_harmonics
from da3gs.geometry.rotations import matrix_to_quaternion, multiply_quaternions
from da3gs.geometry.similarity import Similarity


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Gaussians(TensorRecord):
    """Splats in world space with activated values. Logs and logits exist only inside ``da3gs.formats``."""

    means: Float[Tensor, "*batch N 3"]
    """Centres."""
    scales: Float[Tensor, "*batch N 3"]
    """Standard deviations along the splat's own axes, linear."""
    quaternions: Float[Tensor, "*batch N 4"]
    """Rotations from the splat's axes to the world, (w, x, y, z), of any non-zero length."""
    opacities: Float[Tensor, "*batch N"]
    """In [0, 1]."""
    harmonics: Float[Tensor, "*batch N K 3"]
    """Spherical harmonics in the basis of 3D Gaussian Splatting, K = (degree + 1)², a row a coefficient:
    colour towards unit direction e is ``max(0, Σ_k Y_k(e) harmonics[k] + 0.5)``."""
    antialiased: bool = False
    """Whether they are to be drawn fainter where the renderer's blur widens them (Mip-Splatting): splats smaller than a
    pixel, which would else grow fat from afar."""

    def __len__(self) -> int:
        """How many splats."""
        return self.means.shape[-2]

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics."""
        return round(self.harmonics.shape[-2] ** 0.5) - 1

    @property
    def finite(self) -> Bool[Tensor, "*batch N"]:
        """Mask of splats with finite numbers only; the others are drawn, written and counted by no command."""
        good = self.opacities.isfinite()
        for field in (self.means, self.scales, self.quaternions, self.harmonics.flatten(-2)):
            if not bool(field.sum().isfinite()):  # ten times as fast as to look at each number
                good = good & field.isfinite().all(-1)
        return good

    def masked(self, keep: Bool[Tensor, "N"] | Int[Tensor, "M"]) -> Gaussians:
        """The splats where ``keep`` is true, or at these indices, in this order; not for batched splats."""
        return self.map(lambda t: t[keep])

    def scaled(self, scale: float | Float[Tensor, ""]) -> Gaussians:
        """The splats in a world whose lengths are multiplied by ``scale``."""
        return dataclasses.replace(self, means=self.means * scale, scales=self.scales * scale)

    def transformed(self, similarity: Similarity) -> Gaussians:
        """The splats after the world went through a similarity (no batch axis on it): harmonics turn with it too."""
        s = similarity.to(device=self.means.device, dtype=self.means.dtype)
        turn = matrix_to_quaternion(s.rotation).expand_as(self.quaternions)
        return dataclasses.replace(
            self,
            means=s.scale * (self.means @ s.rotation.T) + s.translation,
            scales=self.scales * s.scale,
            quaternions=multiply_quaternions(turn, self.quaternions),
            harmonics=rotate_harmonics(self.harmonics, s.rotation),
        )

    @staticmethod
    def concatenated(parts: Sequence[Gaussians]) -> Gaussians:
        """All splats of ``parts``, in order; lower harmonic degrees are padded with zeros. They are drawn in one way:
        antialiased where any part is.
        """
        bands = max(part.harmonics.shape[-2] for part in parts)
        padded = [
            p.harmonics
            if p.harmonics.shape[-2] == bands
            else torch.nn.functional.pad(p.harmonics, (0, 0, 0, bands - p.harmonics.shape[-2]))
            for p in parts
        ]
        return Gaussians(
            means=torch.cat([p.means for p in parts], -2),
            scales=torch.cat([p.scales for p in parts], -2),
            quaternions=torch.cat([p.quaternions for p in parts], -2),
            opacities=torch.cat([p.opacities for p in parts], -1),
            harmonics=torch.cat(padded, -3),
            antialiased=any(part.antialiased for part in parts),
        )
