"""What a model says about a set of views."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians


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
