"""Batch of a training step."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Batch(TensorRecord):
    """Scenes of equally many views of one size, in metres and in a frame of their own."""

    images: Float[Tensor, "B V 3 H W"]
    """sRGB in [0, 1]."""
    depth: Float[Tensor, "B V H W"]
    """True depth."""
    cameras: Cameras
    """True cameras."""
    posed: bool
    """Whether the network is told the poses."""
    targets: int = 0
    """How many of the last views the network does not see."""
    sky: Bool[Tensor, "B V H W"] | None = None
    """Where the sky is; None: not known."""
    number: int = 0
    """Seeds whatever the losses draw."""

    @property
    def context(self) -> int:
        """Number of views that the network sees."""
        return self.images.shape[1] - self.targets
