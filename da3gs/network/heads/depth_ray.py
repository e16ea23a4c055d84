"""The any-view head: depth with confidence, and a ray for every pixel of a coarser grid."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.config import HeadConfig
from da3gs.network.heads.dpt import FusionChain, Pyramid, add_position_code_, dense_outputs, output_stack


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class DepthRay:
    """Dense outputs of some views."""

    depth: Float[Tensor, "N H W"]
    """Depth."""
    confidence: Float[Tensor, "N H W"]
    """Confidence of the depth, above 1."""
    rays: Float[Tensor, "N y x 6"] | None
    """Direction (world frame, any length) and origin at 8 rays a patch side; None when not asked for."""
    ray_confidence: Float[Tensor, "N y x"] | None
    """Confidence of the rays, above 1."""

    def items(self) -> Iterator[tuple[str, Tensor | None]]:
        """Names and values."""
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


class RayOutput(nn.Module):
    """Last layers of a ray branch; the norm between belongs to all levels together and is handed in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 7, 1)

    def forward(self, x: Float[Tensor, "N C y x"], norm: nn.Module) -> Float[Tensor, "N 7 y x"]:
        """Six ray numbers and a confidence logit."""
        x = norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.second(F.relu(x))


class DepthRayHead(nn.Module):
    """Two fusion chains over one pyramid: depth at full size, rays at 8 pixels a patch."""

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        features = config.pyramid.features
        half = features // 2
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.pyramid = Pyramid(width, config.pyramid, coded=True)
        self.depth_fusion = FusionChain(features)
        self.depth_neck = nn.Conv2d(features, half, 3, padding=1)
        self.depth_output = output_stack(half, 2)
        self.ray_pyramid = None if config.shared else Pyramid(width, config.pyramid, coded=True)
        self.ray_fusion = FusionChain(features)
        self.ray_necks = nn.ModuleList(_ray_neck(features, half) for _ in range(config.ray_levels))
        self.ray_outputs = nn.ModuleList(RayOutput(half) for _ in range(config.ray_levels))
        self.ray_norm = nn.LayerNorm(32, eps=1e-5)

    def forward(
        self, features: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int], *, rays: bool
    ) -> DepthRay:
        """Dense outputs of views of one size.

        Args:
            features: four tensors (N, patches, channels).
            grid: rows and columns of patches.
            size: height and width of the images.
            rays: whether the ray branch runs at all.
        """
        aspect = size[1] / size[0]
        levels = self.pyramid(features, grid, self.norm)
        neck = self.depth_neck(self.depth_fusion(levels))
        logits = dense_outputs(neck, size, [self.depth_output], aspect=aspect)[0].float()
        depth, confidence = logits[:, 0].exp(), logits[:, 1].exp() + 1
        if not rays:
            return DepthRay(depth=depth, confidence=confidence, rays=None, ray_confidence=None)
        if self.ray_pyramid is not None:
            levels = self.ray_pyramid(features, grid, self.norm)
        fused = add_position_code_(self.ray_necks[-1](self.ray_fusion(levels)), aspect)
        maps = self.ray_outputs[-1](fused, self.ray_norm).float().permute(0, 2, 3, 1)
        return DepthRay(depth=depth, confidence=confidence, rays=maps[..., :6], ray_confidence=maps[..., 6].exp() + 1)


def _ray_neck(features: int, half: int) -> nn.Sequential:
    """Five convolutions with nothing between them."""
    widths = (features, half, features, half, features, half)
    return nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)))
