"""Teaching attention to match: patches of two photographs that show one point shall find each other.

Not in the paper, whose backbone knew from a hundred million photographs what looks alike before it saw two views of one
scene. A network that starts from nothing learns what follows from one photograph alone, and hardly ever by itself that
the other views hold the answer; told which patches belong together, it finds them after some thousand steps.
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
from da3gs.training.losses import Truth, masked_mean

_SAME_DEPTH = 0.06
"""A point is seen where the depth map agrees with its depth to this share of it."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Matches(TensorRecord):
    """Where patches of one view show up in another: of the first view in each other one, then of those in the first."""

    shares: Float[Tensor, "B pairs P P"]
    """For every patch of the one view, what each patch of the other counts: bilinear, four at most, of sum 1."""
    seen: Bool[Tensor, "B pairs P"]
    """Whether the other view sees the point in the middle of the patch."""


class AttentionProbe:
    """Remembers queries and keys of one head in every global block but the last, from the latest forward pass."""

    def __init__(self, backbone: Backbone, head: int = 0) -> None:
        """Begin to listen; that lasts as long as the backbone does."""
        self.heard: dict[int, tuple[Tensor, Tensor]] = {}
        self._head = head
        blocks = [index for index in range(backbone.config.depth) if backbone.config.is_global(index)]
        for index in blocks[:-1]:
            block = backbone.blocks[index]
            assert isinstance(block, Block)
            block.attention.register_forward_pre_hook(self._listener(index))

    def _listener(self, index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def listen(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(attention, Attention)
            query, key, _ = attention.projected(inputs[0], inputs[1])
            self.heard[index] = query[:, self._head], key[:, self._head]

        return listen

    def loss(self, truth: Truth, patch: int) -> Float[Tensor, ""]:
        """The mean over blocks of ``matching_loss``; 0 where there is but one view."""
        views = truth.depth.shape[1]
        if views < 2 or not self.heard:
            return truth.depth.new_zeros(())
        matches = true_matches(truth, patch)
        losses = [matching_loss(query, key, matches, views) for query, key in self.heard.values()]
        return torch.stack(losses).mean()


def true_matches(truth: Truth, patch: int) -> Matches:
    """Where the middles of all patches lie in the other view, by true depth and cameras.

    Args:
        truth: of V views.
        patch: side of a patch in pixels; those of an even side have their middle between pixels, the next one's depth
            is taken.
    """
    depth = truth.depth
    batch, views, height, width = depth.shape
    one = torch.arange(1, views, device=depth.device)
    source, target = torch.cat((0 * one, one)), torch.cat((one, 0 * one))
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
    return Matches(shares=bilinear_shares(place / patch - 0.5, height // patch, width // patch), seen=seen)


def bilinear_shares(places: Float[Tensor, "*batch N 2"], rows: int, columns: int) -> Float[Tensor, "*batch N cells"]:
    """What each cell of a grid counts in the bilinear mean at a place (x, y), in cells; outside it is the nearest's."""
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
    one = torch.arange(1, views, device=query.device)
    source, target = torch.cat((0 * one, one)), torch.cat((one, 0 * one))
    logits = q[:, source] @ k[:, target].mT * q.shape[-1] ** -0.5
    entropy = -(matches.shares * logits.log_softmax(-1)).sum(-1)
    return masked_mean(entropy, matches.seen)
