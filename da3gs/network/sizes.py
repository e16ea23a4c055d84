"""Views of different sizes on one canvas: which go through the network together, and where their outputs belong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from da3gs.views import Views

Sizes = tuple[tuple[int, int], ...]
"""Height and width of every view, from the canvas' top-left corner, both multiples of the patch."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SizeGroup:
    """Views of one size."""

    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    slots: Int[Tensor, "S"]
    """Where these views stand among all views."""


def size_groups(sizes: Sizes, device: torch.device | str | None = None) -> list[SizeGroup]:
    """The views by size, each size once, in the order of first appearance."""
    return [
        SizeGroup(
            height=size[0],
            width=size[1],
            slots=torch.tensor([i for i, other in enumerate(sizes) if other == size], device=device),
        )
        for size in dict.fromkeys(sizes)
    ]


def photo_sizes(views: Views, patch: int) -> Sizes | None:
    """The sizes of photos that are padded to one canvas, to the next multiple of the patch; None where all fill it.

    Padding is black and masked. A photo's own masked regions are not padding: the network shall see them.
    """
    if views.masks is None or views.images.ndim == 5:
        return None
    photo = views.masks | (views.images != 0).any(-3)
    rows, columns = photo.any(-1), photo.any(-2)
    sizes = tuple(
        (_extent(r, patch, views.height), _extent(c, patch, views.width)) for r, c in zip(rows, columns, strict=True)
    )
    return None if set(sizes) == {(views.height, views.width)} else sizes


def _extent(used: Bool[Tensor, "N"], patch: int, most: int) -> int:
    last = int(used.nonzero().max()) if used.any() else most - 1
    return min(most, (last // patch + 1) * patch)


def on_canvas(
    parts: Sequence[Tensor], groups: Sequence[SizeGroup], rows: int, columns: int, *, fill: float = 0.0
) -> Tensor:
    """Outputs (B, S, y, x, ...) of all groups in input order, each at the top-left of a canvas of the largest size."""
    if len(parts) == 1 and parts[0].shape[2:4] == (rows, columns):
        return parts[0]
    padded = [
        torch.nn.functional.pad(
            part, (0, 0) * (part.ndim - 4) + (0, columns - part.shape[3], 0, rows - part.shape[2]), value=fill
        )
        for part in parts
    ]
    return torch.cat(padded, 1)[:, torch.argsort(torch.cat([group.slots for group in groups]))]


def inside(sizes: Sizes, rows: int, columns: int, device: torch.device | str | None = None) -> Bool[Tensor, "V H W"]:
    """Mask of the canvas without padding."""
    extent = torch.tensor(sizes, device=device)
    row = torch.arange(rows, device=device) < extent[:, :1]
    column = torch.arange(columns, device=device) < extent[:, 1:]
    return row[:, :, None] & column[:, None]
