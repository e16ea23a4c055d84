"""The dense prediction trunk of all heads (DPT, Ranftl et al. 2021): four feature levels to one map, 8 pixels a patch.

Maps run channels-last: that is how tokens lie in memory anyway, and the CPU's convolutions are faster so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.chunks import chunk
from da3gs.network.config import PyramidConfig

CODE_BASE = 100.0
"""Frequency base of the position code."""
CODE_WEIGHT = 0.1
"""How strongly the position code is added."""
_PIXELS_A_BAND = 16384  # of a map at full size that are in memory together: 2 MB of 32 channels stay in the cache


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
    channels: int,
    rows: int,
    columns: int,
    aspect: float,
    *,
    band: slice = slice(None),
    device: torch.device | str | None = None,
) -> Float[Tensor, "1 channels _ columns"]:
    """The code added to a map of an image of this aspect, or to a band of its rows: half of the channels say x, half
    say y."""
    x, y = position_grid(rows, columns, aspect)
    along_y = sinusoid_code(y[band], channels // 2).to(device)[:, None].expand(-1, columns, -1)
    along_x = sinusoid_code(x, channels // 2).to(device)[None].expand(len(along_y), -1, -1)
    return torch.cat((along_x, along_y), -1).permute(2, 0, 1)[None]


def add_position_code_(maps: Float[Tensor, "N C y x"], aspect: float) -> Float[Tensor, "N C y x"]:
    """Add the weighted position code of an image of this aspect to maps, in place."""
    channels, rows, columns = maps.shape[1:]
    return maps.add_(
        position_code(channels, rows, columns, aspect, device=maps.device).to(maps.dtype), alpha=CODE_WEIGHT
    )


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
                maps = add_position_code_(maps, columns / rows)
            levels.append(lateral(resizer(maps)))
        return levels


def output_stack(channels: int, outputs: int, hidden: int = 32) -> nn.Sequential:
    """The last layers of every dense head: 3×3 convolution, ReLU, 1×1 convolution."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))


def dense_outputs(
    maps: Float[Tensor, "N C y x"],
    size: tuple[int, int],
    stacks: Sequence[nn.Sequential],
    *,
    aspect: float | None = None,
) -> list[Float[Tensor, "N _ height width"]]:
    """What output stacks say about maps at another size: ``stack(resized(maps) + code)``.

    On the CPU, where no gradients are recorded, it goes through bands of rows: the map at full size is the largest
    tensor of a head by far, and is never there as a whole.

    Args:
        maps: of a few views.
        size: height and width.
        stacks: of ``output_stack``.
        aspect: width by height of the image, where the position code is added; None where it is not.
    """
    if maps.device.type != "cpu" or (torch.is_grad_enabled() and maps.requires_grad):
        whole = resized(maps, *size)
        if aspect is not None:
            whole = add_position_code_(whole, aspect)
        return [stack(whole) for stack in stacks]
    found: list[list[Tensor]] = [[] for _ in stacks]
    for band in _bands(maps, size, aspect):
        for parts, stack in zip(found, stacks, strict=True):
            first, *others = stack
            value = F.conv2d(band, first.weight, first.bias, padding=(0, 1))
            for layer in others:
                value = F.relu(value, inplace=True) if isinstance(layer, nn.ReLU) else layer(value)
            parts.append(value)
    return [torch.cat(parts, 2) for parts in found]


def _bands(
    maps: Float[Tensor, "N C y x"], size: tuple[int, int], aspect: float | None
) -> Iterator[Float[Tensor, "N C _ width"]]:
    """Bands of rows of the resized maps with their code, each with one more row above and below; zeros outside."""
    height, width = size
    tops, shares = _source_rows(maps.shape[2], height)
    step = max(1, chunk(_PIXELS_A_BAND) // width)
    for start in range(0, height, step):
        rows = slice(max(0, start - 1), min(height, start + step + 1))
        first, last = tops[rows.start], min(maps.shape[2] - 1, tops[rows.stop - 1] + 1)
        wide = resized(maps[:, :, first : last + 1], last + 1 - first, width).permute(0, 2, 3, 1)
        above = torch.tensor([top - first for top in tops[rows]], device=maps.device)
        share = torch.tensor(shares[rows], device=maps.device).to(maps.dtype)
        below = wide.index_select(1, (above + 1).clamp_(max=last - first))
        band = wide.index_select(1, above).lerp_(below, share[:, None, None]).permute(0, 3, 1, 2)
        if aspect is not None:
            code = position_code(maps.shape[1], height, width, aspect, band=rows, device=maps.device)
            band.add_(code.to(band.dtype), alpha=CODE_WEIGHT)
        outside = (int(start == 0), int(start + step >= height))
        yield F.pad(band, (0, 0, *outside)) if any(outside) else band


def _source_rows(rows: int, height: int) -> tuple[list[int], list[float]]:
    """For each row of ``height`` the row of ``rows`` above its place, and how far it is on the way to the next; rounded
    as torch rounds them."""
    places = np.arange(height, dtype=np.float32) * (np.float32(rows - 1) / np.float32(max(1, height - 1)))
    tops = np.minimum(places.astype(np.int64), rows - 1)
    return tops.tolist(), np.clip(places - tops, 0, 1).astype(np.float32).tolist()
