"""The dense prediction trunk of all heads (DPT, Ranftl et al. 2021): four feature levels to one map, 8 pixels a patch.

Maps run channels-last: that is how tokens lie in memory anyway, and the CPU's convolutions are faster so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.config import PyramidConfig

CODE_BASE = 100.0
"""Frequency base of the position code."""
CODE_WEIGHT = 0.1
"""How strongly the position code is added."""


def position_grid(rows: int, columns: int, aspect: float) -> tuple[Float[Tensor, "columns"], Float[Tensor, "rows"]]:
    """x of every column's and y of every row's centre, for an image of this aspect and half diagonal 1.

    In float64 and so on the CPU, as not every device has it.
    """
    diagonal = (aspect * aspect + 1) ** 0.5

    def centers(count: int, span: float) -> Tensor:
        """Centres of pixels along one side, from minus to plus."""
        edge = span * (count - 1) / count
        return torch.linspace(-edge, edge, count, dtype=torch.float64, device="cpu")

    return centers(columns, aspect / diagonal), centers(rows, 1 / diagonal)


def sinusoid_code(positions: Float[Tensor, "N"], channels: int) -> Float[Tensor, "N channels"]:
    """Sines, then cosines of positions at ``channels / 2`` frequencies, 1 down to 1/100."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions[:, None] * CODE_BASE**-exponents
    return torch.cat((angles.sin(), angles.cos()), -1).float()


def position_code(
    channels: int, rows: int, columns: int, aspect: float, *, device: torch.device | str | None = None
) -> Float[Tensor, "1 channels rows columns"]:
    """The code added to a map of an image of this aspect: half of the channels say x, half say y."""
    x, y = position_grid(rows, columns, aspect)
    along_x = sinusoid_code(x, channels // 2).to(device)[None].expand(rows, -1, -1)
    along_y = sinusoid_code(y, channels // 2).to(device)[:, None].expand(-1, columns, -1)
    return torch.cat((along_x, along_y), -1).permute(2, 0, 1)[None]


def add_position_code(maps: Float[Tensor, "N C y x"], aspect: float) -> Float[Tensor, "N C y x"]:
    """Maps with the weighted position code of an image of this aspect."""
    channels, rows, columns = maps.shape[1:]
    code = position_code(channels, rows, columns, aspect, device=maps.device)
    return maps + CODE_WEIGHT * code.to(maps.dtype)


def resized(maps: Float[Tensor, "N C _ _"], height: int, width: int) -> Float[Tensor, "N C height width"]:
    """Maps at another size, bilinear, corners on corners."""
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "N C y x"]) -> Float[Tensor, "N C y x"]:
        """The map with the unit's correction."""
        return x + self.second(F.relu(self.first(F.relu(x)), inplace=True))


class FusionBlock(nn.Module):
    """Adds a finer level to what comes from above and enlarges the sum."""

    def __init__(self, channels: int, *, lateral: bool) -> None:
        super().__init__()
        self.lateral_unit = ResidualUnit(channels) if lateral else None
        self.unit = ResidualUnit(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(
        self, above: Float[Tensor, "N C y x"], lateral: Float[Tensor, "N C y x"] | None, size: tuple[int, int]
    ) -> Float[Tensor, "N C _ _"]:
        """The fused map at ``size``.

        The official order is resize, then 1×1 convolution; both are linear and the resize's weights sum to one, so the
        cheaper order gives the same map.
        """
        if self.lateral_unit is not None and lateral is not None:
            above = above + self.lateral_unit(lateral)
        return resized(self.out(self.unit(above)), *size)


class FusionChain(nn.Module):
    """Fuses four levels from the coarsest to the finest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusionBlock(channels, lateral=level < 3) for level in range(4))

    def forward(self, levels: Sequence[Tensor]) -> Float[Tensor, "N C _ _"]:
        """The fused map at twice the size of the finest level (levels finest first)."""
        fused = self.blocks[3](levels[3], None, tuple(levels[2].shape[-2:]))
        for level in (2, 1, 0):
            height, width = levels[level].shape[-2:]
            size = tuple(levels[level - 1].shape[-2:]) if level else (2 * height, 2 * width)
            fused = self.blocks[level](fused, levels[level], size)
        return fused


class Pyramid(nn.Module):
    """Turns patch features of four depths into maps of four sizes with equally many channels."""

    def __init__(self, width: int, config: PyramidConfig, *, coded: bool) -> None:
        super().__init__()
        c = config.channels
        self.coded = coded
        self.projections = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in c)
        self.resizers = nn.ModuleList(
            (
                nn.ConvTranspose2d(c[0], c[0], 4, 4),
                nn.ConvTranspose2d(c[1], c[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(c[3], c[3], 3, 2, padding=1),
            )
        )
        self.laterals = nn.ModuleList(nn.Conv2d(channels, config.features, 3, padding=1, bias=False) for channels in c)

    def forward(
        self, features: Sequence[Tensor], grid: tuple[int, int], norm: nn.Module | None = None
    ) -> list[Float[Tensor, "N C _ _"]]:
        """Maps at 4, 2, 1 and 1/2 pixels a patch, finest first.

        Args:
            features: four tensors (N, patches, channels).
            grid: rows and columns of patches.
            norm: applied to the features first, where the head has one.
        """
        rows, columns = grid
        levels = []
        for tokens, projection, resizer, lateral in zip(
            features, self.projections, self.resizers, self.laterals, strict=True
        ):
            tokens = tokens if norm is None else norm(tokens)
            maps = projection(tokens.unflatten(1, (rows, columns)).permute(0, 3, 1, 2))
            if self.coded:
                maps = add_position_code(maps, columns / rows)
            levels.append(lateral(resizer(maps)))
        return levels


def output_stack(channels: int, outputs: int, hidden: int = 32) -> nn.Sequential:
    """The last layers of every dense head: 3×3 convolution, ReLU, 1×1 convolution."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))
