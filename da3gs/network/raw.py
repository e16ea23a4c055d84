"""Raw outputs of a network, before any post-processing."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float, Int
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.network.sizes import Sizes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RawOutputs(TensorRecord):
    """For training, comparisons and all that comes after; views of several sizes share a canvas."""

    depth: Float[Tensor, "B V H W"]
    """Depth in the network's own scale; 1 in padding."""
    confidence: Float[Tensor, "B V H W"] | None = None
    """Above 1; any-view models. 1 in padding."""
    sky: Float[Tensor, "B V H W"] | None = None
    """At least 0; monocular models. 0 in padding."""
    rays: Float[Tensor, "B V y x 6"] | None = None
    """Directions (any length, world frame) and origins at 8 rays a patch side, when asked for."""
    ray_confidence: Float[Tensor, "B V y x"] | None = None
    """Above 1, when rays were asked for; 0 in padding."""
    pose_encoding: Float[Tensor, "B V 9"] | None = None
    """What the camera decoder said: translation, quaternion (x, y, z, w) of any length, vertical and horizontal fov."""
    cameras: Cameras | None = None
    """The decoded cameras."""
    splats: Float[Tensor, "B V H W C"] | None = None
    """Raw channels of the Gaussian head, when asked for; 0 in padding."""
    reference: Int[Tensor, "B"] | None = None
    """The chosen reference view; None where the first view is it without a choice."""
    features: tuple[Tensor, ...] = ()
    """Normalised patch tokens (B, V, rows, columns, C) of the layers asked for, in input order."""
    sizes: Sizes | None = None
    """The views' own sizes where they differ; None where all fill the canvas."""
