"""Attention matching loss: patches of two photographs that show one point shall find each other.

Not in the paper, whose backbone knew from a hundred million photographs what looks alike before it saw two views of one
scene. A network that starts from nothing learns what follows from one photograph alone, and hardly ever by itself that
the other views hold the answer; told which patches belong together, it finds them after some thousand steps.

Two losses do it: one on where attention looks, and one on what it brings back, which is how far the patch has moved.
The second one waits for the first; cameras wait for both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs._tensors import TensorRecord
from da3gs.geometry.projection import project, unproject
from da3gs.network.attention import Attention, Block
from da3gs.network.backbone import Backbone
from da3gs.training.losses.geometric import Truth, masked_mean

_SAME_DEPTH = 0.06
"""A point is seen where the depth map agrees with its depth to this share of it."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Matches(TensorRecord):
    """Matches of patches between views: of the first view in each other one, then of those in the first."""

    shares: Float[Tensor, "B pairs P P"]
    """For every patch of the one view, what each patch of the other counts: bilinear, four at most, of sum 1."""
    moved: Float[Tensor, "B pairs P 2"]
    """How far (x, y) the point lies from where the patch is, in eighths of the picture's longer side."""
    seen: Bool[Tensor, "B pairs P"]
    """Whether the other view sees the point in the middle of the patch."""


class Probe:
    """Listens to every global block but the last: queries and keys of one head, and the tokens that come out."""

    def __init__(self, backbone: Backbone, head: int = 0) -> None:
        """Begin to listen; that lasts as long as the backbone does."""
        self.attended: dict[int, tuple[Tensor, Tensor]] = {}
        """Of a block: queries and keys (B, T, C) of the latest forward pass."""
        self.tokens: dict[int, Tensor] = {}
        """Of a block but the first: tokens (B, T, C) of all views."""
        self._head = head
        generator = torch.Generator().manual_seed(0)
        self._readout = torch.randn(backbone.config.width, 2, generator=generator) * backbone.config.width**-0.5
        blocks = [index for index in range(backbone.config.depth) if backbone.config.is_global(index)]
        for index in blocks[:-1]:
            block = backbone.blocks[index]
            assert isinstance(block, Block)
            block.attention.register_forward_pre_hook(self._attention_listener(index))
        for index in blocks[1:-1]:
            backbone.blocks[index].register_forward_hook(self._token_listener(index))

    def _attention_listener(self, index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def listen(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
            """Before the block's attention: what its head will ask and answer."""
            assert isinstance(attention, Attention)
            query, key, _ = attention.projected(inputs[0], inputs[1])
            self.attended[index] = query[:, self._head], key[:, self._head]

        return listen

    def _token_listener(self, index: int) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def listen(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            """After the block: what it gives to the next one."""
            self.tokens[index] = output

        return listen

    def losses(self, truth: Truth, patch: int) -> dict[str, Float[Tensor, ""]]:
        """``matching_loss`` and ``motion_loss``, means over blocks; 0 where there is but one view."""
        views, none = truth.depth.shape[1], truth.depth.new_zeros(())
        if views < 2:
            return {"matching": none, "motion": none}
        matches = true_matches(truth, patch)
        readout = self._readout.to(none.device)
        looks = [matching_loss(query, key, matches, views) for query, key in self.attended.values()]
        brings = [motion_loss(tokens, readout, matches, views) for tokens in self.tokens.values()]
        return {name: torch.stack(found or [none]).mean() for name, found in (("matching", looks), ("motion", brings))}


def true_matches(truth: Truth, patch: int) -> Matches:
    """True matches of the middles of all patches in the other view, by true depth and cameras.

    Args:
        truth: of V views.
        patch: side of a patch in pixels; those of an even side have their middle between pixels, the next one's depth
            is taken.
    """
    depth = truth.depth
    batch, views, height, width = depth.shape
    source, target = _pairs(views, depth.device)
    middles = (..., slice(patch // 2, None, patch), slice(patch // 2, None, patch))
    points = unproject(depth, truth.cameras.intrinsics, truth.cameras.cam_to_world)
    points = points[(*middles, slice(None))].flatten(2, 3)[:, source]
    there = depth[middles].flatten(2)[:, source] > 0
    place, z = project(points, truth.cameras.intrinsics[:, target], truth.cameras.world_to_cam[:, target])
    place = place.nan_to_num(-1e6)
    normalized = place / place.new_tensor([width, height]) * 2 - 1
    found = F.grid_sample(
        depth[:, target].flatten(0, 1)[:, None],
        normalized.flatten(0, 1)[:, None].clamp(-2, 2),
        mode="nearest",
        align_corners=False,
    ).view(batch, len(source), -1)
    seen = there & (z > 0) & (normalized.abs() < 1).all(-1) & ((found - z).abs() < _SAME_DEPTH * z)
    cells = place / patch - 0.5
    rows, columns = height // patch, width // patch
    own = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1).flatten(0, 1)
    moved = (cells - own.to(cells)) * (8 * patch / max(height, width))
    return Matches(shares=bilinear_shares(cells, rows, columns), moved=moved, seen=seen)


def _pairs(views: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which view of a pair is looked from and which at, in the order of ``Matches``."""
    others = torch.arange(1, views, device=device)
    return torch.cat((0 * others, others)), torch.cat((others, 0 * others))


def bilinear_shares(places: Float[Tensor, "*batch N 2"], rows: int, columns: int) -> Float[Tensor, "*batch N cells"]:
    """Shares of the cells of a grid in the bilinear mean at a place (x, y), in cells; outside it is the nearest's."""
    x, y = places[..., 0].clamp(0, columns - 1), places[..., 1].clamp(0, rows - 1)
    across = (1 - (x[..., None] - torch.arange(columns, device=x.device)).abs()).clamp(min=0)
    down = (1 - (y[..., None] - torch.arange(rows, device=y.device)).abs()).clamp(min=0)
    return (down[..., :, None] * across[..., None, :]).flatten(-2)


def matching_loss(
    query: Float[Tensor, "B T C"], key: Float[Tensor, "B T C"], matches: Matches, views: int
) -> Float[Tensor, ""]:
    """``− Σ shares · log softmax(q kᵀ / √C)``, over the other view's patches alone, mean over the patches seen there.

    Args:
        query: of a head, for all views' tokens one after the other, each view's first token before its patches.
        key: likewise.
        matches: what is true.
        views: how many there are.
    """
    q, k = (x.float().unflatten(1, (views, -1))[:, :, 1:] for x in (query, key))
    source, target = _pairs(views, query.device)
    logits = q[:, source] @ k[:, target].mT * q.shape[-1] ** -0.5
    entropy = -(matches.shares * logits.log_softmax(-1)).sum(-1)
    return masked_mean(entropy, matches.seen)


def motion_loss(
    tokens: Float[Tensor, "B T C"], readout: Float[Tensor, "C 2"], matches: Matches, views: int
) -> Float[Tensor, ""]:
    """ℓ1 between how far a patch has moved and what its token says of it, mean over the patches that are seen.

    What a token says is a fixed projection of it, after normalisation: nothing has to be learnt but the tokens. Patches
    of the other views tell where they are in the first view; those of the first view only where there is no other but
    one, since they would have to tell several things at once.
    """
    spoken = F.layer_norm(tokens.float(), tokens.shape[-1:]) @ readout
    spoken = spoken.unflatten(1, (views, -1))[:, :, 1:]
    source, _ = _pairs(views, tokens.device)
    error = (spoken[:, source] - matches.moved).abs().sum(-1)
    told = matches.seen.clone()
    if views > 2:
        told[:, : views - 1] = False
    return masked_mean(error, told)
