"""Reference view: the one that anchors the world frame."""

from __future__ import annotations

from typing import assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from da3gs.network.config import ReferenceStrategy


def choose_reference(tokens: Float[Tensor, "B V C"], strategy: ReferenceStrategy) -> Int[Tensor, "B"]:
    """The index of the reference view of every scene, from the class tokens of its views.

    ``saddle_balanced`` takes the view that is most average in its similarity to the others, the length of its token and
    the variance of its token's direction, each stretched to [0, 1] over the views. ``saddle_sim_range`` takes the view
    with the widest range of similarities; the two most similar views always tie there, and rounding picks one.
    """
    batch, views = tokens.shape[:2]
    first = torch.zeros(batch, dtype=torch.int64, device=tokens.device)
    match strategy:
        case "first":
            return first
        case "middle":
            return first + views // 2
        case "saddle_balanced" | "saddle_sim_range" if views == 1:
            return first
        case "saddle_balanced":
            return _balance_penalty(tokens.float()).argmin(-1)
        case "saddle_sim_range":
            similarity = _similarity(tokens.float())
            return (similarity.amax(-1) - similarity.amin(-1)).argmax(-1)
        case _:
            assert_never(strategy)


def _similarity(tokens: Float[Tensor, "B V C"]) -> Float[Tensor, "B V V"]:
    """Cosines between views with the identity subtracted: the diagonal is zero and takes part in ranges and sums."""
    directions = tokens / tokens.norm(dim=-1, keepdim=True)
    return directions @ directions.mT - torch.eye(tokens.shape[1], device=tokens.device)


def _balance_penalty(tokens: Float[Tensor, "B V C"]) -> Float[Tensor, "B V"]:
    length = tokens.norm(dim=-1)
    mean_similarity = _similarity(tokens).sum(-1) / (tokens.shape[1] - 1)
    variance = (tokens / length[..., None]).var(-1)
    measures = torch.stack((mean_similarity, length, variance), 1)
    low, high = measures.amin(-1, keepdim=True), measures.amax(-1, keepdim=True)
    return ((measures - low) / (high - low + 1e-8) - 0.5).abs().sum(1)


def reordered(per_view: Float[Tensor, "B V *rest"], reference: Int[Tensor, "B"]) -> Float[Tensor, "B V *rest"]:
    """The reference view first, the others after it in their order: how the official code holds views inside."""
    return _taken(per_view, _order(reference, per_view.shape[1]))


def restored(per_view: Float[Tensor, "B V *rest"], reference: Int[Tensor, "B"]) -> Float[Tensor, "B V *rest"]:
    """The inverse of ``reordered``."""
    return _taken(per_view, _order(reference, per_view.shape[1]).argsort(-1))


def _order(reference: Int[Tensor, "B"], views: int) -> Int[Tensor, "B V"]:
    others = torch.arange(views, device=reference.device).expand(len(reference), -1)
    return torch.where(others == reference[:, None].long(), -1, others).argsort(-1)


def _taken(per_view: Tensor, order: Int[Tensor, "B V"]) -> Tensor:
    return per_view.gather(1, order.reshape(*order.shape, *([1] * (per_view.ndim - 2))).expand_as(per_view))
