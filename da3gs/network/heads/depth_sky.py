"""The monocular head: depth and how much a pixel looks like sky."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.config import HeadConfig
from da3gs.network.heads.dpt import FusionChain, Pyramid, dense_outputs, output_stack


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class DepthSky:
    """Dense outputs of some views."""

    depth: Float[Tensor, "N H W"]
    """Depth."""
    sky: Float[Tensor, "N H W"]
    """Likeness of sky: at least 0, not bounded by 1."""

    def items(self) -> Iterator[tuple[str, Tensor | None]]:
        """Names and values."""
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


class DepthSkyHead(nn.Module):
    """One fusion chain with two outputs; no position codes and no norm."""

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        features = config.pyramid.features
        self.pyramid = Pyramid(width, config.pyramid, coded=False)
        self.depth_fusion = FusionChain(features)
        self.depth_neck = nn.Conv2d(features, features // 2, 3, padding=1)
        self.depth_output = output_stack(features // 2, 1)
        self.sky_output = output_stack(features // 2, 1)

    def forward(self, features: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> DepthSky:
        """Dense outputs of views of one size; ``features`` are four tensors (N, patches, channels)."""
        neck = self.depth_neck(self.depth_fusion(self.pyramid(features, grid)))
        depth, sky = (x[:, 0].float() for x in dense_outputs(neck, size, [self.depth_output, self.sky_output]))
        return DepthSky(depth=depth.exp(), sky=F.relu(sky))
