"""Prediction of a model about a set of views."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Prediction(TensorRecord):
    """Depth and cameras of every view in one world frame, and the splats where the model makes any.

    ``scaled`` is the only way to change scale, so that depth, cameras and splats can never disagree.
    """

    depth: Float[Tensor, "*batch V H W"]
    """Depth along the camera's z axis."""
    confidence: Float[Tensor, "*batch V H W"] | None = None
    """Confidence of the depth, at least 1 (``exp + 1``); None for monocular models."""
    sky: Bool[Tensor, "*batch V H W"] | None = None
    """True where the model sees sky; None where it has no opinion."""
    cameras: Cameras | None = None
    """Predicted cameras; None for monocular models."""
    gaussians: Gaussians | None = None
    """One splat a pixel, in the order view, row, column; None without a splat head."""
    metric: bool = False
    """Whether lengths are metres."""

    def scaled(self, scale: float | Float[Tensor, ""]) -> Prediction:
        """The prediction in a world whose lengths are multiplied by ``scale``."""
        return dataclasses.replace(
            self,
            depth=self.depth * scale,
            cameras=None if self.cameras is None else self.cameras.scaled(scale),
            gaussians=None if self.gaussians is None else self.gaussians.scaled(scale),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoseResidual:
    """Residual of predicted cameras against given ones after the best similarity."""

    rotation_degrees: float
    """Median angle between the rotations."""
    center: float
    """Median distance between the centres, as a share of the given cameras' extent; 0 where there is only one
    camera."""

    def as_dict(self) -> dict[str, float]:
        """For scene.json."""
        return {"rotation_degrees": round(self.rotation_degrees, 4), "center_share": round(self.center, 6)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FocalResidual:
    """Residual of predicted focal lengths against known ones, in per cent of the known ones."""

    percent: float
    """Median over the views that have both; positive: predicted too long."""
    largest: float
    """The largest deviation of a view, without its sign."""
    views: int
    """How many views have both."""

    def as_dict(self) -> dict[str, float]:
        """For scene.json."""
        return {"percent": round(self.percent, 3), "largest": round(self.largest, 3), "views": self.views}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Placed(TensorRecord):
    """A prediction in the frame of the scene, with everything that splats are made of."""

    depth: Float[Tensor, "V H W"]
    """Along the camera's z axis."""
    cameras: Cameras
    """Given or predicted."""
    confidence: Float[Tensor, "V H W"] | None = None
    """Of the depth, at least 1."""
    sky: Bool[Tensor, "V H W"] | None = None
    """True where sky is."""
    gaussians: Gaussians | None = None
    """From the splat head, a splat a pixel."""
    sharp: Bool[Tensor, "V H W"] | None = None
    """Where splats made from depth take the place of the head's."""
    metric: bool = False
    """Whether lengths are metres."""
    poses: Literal["given", "predicted", "rays"] = "predicted"
    """Where the cameras are from."""
    residual: PoseResidual | None = None
    """Between given and predicted cameras."""
    focal: FocalResidual | None = None
    """Between known and predicted focal lengths."""
    metres: float | None = None
    """Metres that a unit of the given poses is long, where the model knows."""
    resized: float = 1.0
    """What the caller's frame was multiplied by: 1 unless metres are asked for."""

    def transformed(self, similarity: Similarity) -> Placed:
        """The same in a world that went through a similarity."""
        scale = similarity.scale.to(self.depth)
        return dataclasses.replace(
            self,
            depth=self.depth * scale,
            cameras=self.cameras.transformed(similarity),
            gaussians=None if self.gaussians is None else self.gaussians.transformed(similarity),
        )

    def in_metres(self) -> Placed:
        """The same with the caller's frame multiplied, about its origin, by what makes its unit a metre."""
        if self.metres is None:
            return self
        return dataclasses.replace(
            self,
            depth=self.depth * self.metres,
            cameras=self.cameras.scaled(self.metres),
            gaussians=None if self.gaussians is None else self.gaussians.scaled(self.metres),
            metric=True,
            resized=self.metres,
        )
