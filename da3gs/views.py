"""Photos and what is known of their cameras."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Views(TensorRecord):
    """Photos on one canvas, in input order.

    Photos of different sizes are padded at the right and at the bottom to the largest height and width; ``masks`` is
    False there. Padding makes no splats and counts in no score.
    """

    images: Float[Tensor, "*batch V 3 H W"]
    """sRGB in [0, 1]; padding is 0."""
    names: tuple[str, ...]
    """One name a view: the photo's file stem, or ``frame_000123``; unique."""
    cameras: Cameras | None = None
    """Poses and intrinsics where both are known, in the caller's world frame."""
    intrinsics: Float[Tensor, "*batch V 3 3"] | None = None
    """Intrinsics alone (pixels), where poses are unknown; a view without any holds NaN."""
    masks: Bool[Tensor, "*batch V H W"] | None = None
    """True where a pixel is part of the photo and wanted; None means everywhere."""
    photo_sizes: tuple[tuple[int, int], ...] | None = None
    """(height, width) of each photo on the canvas; None: read from the masks, or the whole canvas."""

    def __len__(self) -> int:
        """How many views."""
        return self.images.shape[-4]

    def __getitem__(self, index: slice | list[int]) -> Views:
        """The views at ``index`` (a slice or a list), not for batched views."""
        keep = list(range(len(self)))[index] if isinstance(index, slice) else list(index)
        return Views(
            images=self.images[keep],
            names=tuple(self.names[i] for i in keep),
            cameras=None if self.cameras is None else self.cameras[keep],
            intrinsics=None if self.intrinsics is None else self.intrinsics[keep],
            masks=None if self.masks is None else self.masks[keep],
            photo_sizes=None if self.photo_sizes is None else tuple(self.photo_sizes[i] for i in keep),
        )

    @property
    def height(self) -> int:
        """Canvas height in pixels."""
        return self.images.shape[-2]

    @property
    def width(self) -> int:
        """Canvas width in pixels."""
        return self.images.shape[-1]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each photo on the canvas, from the top-left corner; without padding."""
        if self.photo_sizes is not None:
            return list(self.photo_sizes)
        if self.masks is None:
            return [(self.height, self.width)] * len(self)
        rows = self.masks.any(-1).flatten(0, -2)
        columns = self.masks.any(-2).flatten(0, -2)
        return [
            (int(torch.nonzero(r).max()) + 1 if r.any() else 0, int(torch.nonzero(c).max()) + 1 if c.any() else 0)
            for r, c in zip(rows, columns, strict=True)
        ]
