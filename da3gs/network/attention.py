"""Transformer blocks: attention with optional query-key norm and rotary position codes, feed-forward layers."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.chunks import chunk

ROPE_BASE = 100.0
"""Frequency base of the rotary position codes."""
TOKENS_AT_ONCE = {"cpu": 2048, "other": 65536}
"""How many tokens go through a layer together where no gradients are recorded: enough for full speed."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines (T, head width) of rotary codes, for a sequence of T tokens."""


def rope_rotation(positions: Int[Tensor, "T 2"], head_width: int) -> Rotation:
    """Cosines and signed sines that turn the channels of a head by a token's (y, x) position.

    The first half of a head's channels turns with y, the second with x. Within a half of n channels, channel j is
    paired with channel j + n/2 and the angle is ``p · 100^(−2j/n)``.
    """
    half = head_width // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = positions[..., None].float() * ROPE_BASE**-exponents  # (T, 2, half / 2)
    angles = torch.cat((angles, angles), -1).flatten(-2)
    signs = torch.ones(2, half // 2, device=positions.device)
    signs[0] = -1
    return angles.cos(), angles.sin() * signs.flatten().repeat(2)


def apply_rope(tokens: Float[Tensor, "*batch T C"], rotation: Rotation) -> Float[Tensor, "*batch T C"]:
    """Tokens of heads with their channels turned; computed in float32 or better."""
    cosine, signed_sine = rotation
    swapped = tokens.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return (tokens * cosine).addcmul_(swapped, signed_sine)


_BY_PRODUCTS = 2048
"""Most tokens whose weights are written down while learning."""


class Attention(nn.Module):
    """Multi-head self-attention over the second-to-last axis."""

    def __init__(self, width: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(width // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B T C"], rotation: Rotation | None = None) -> Float[Tensor, "B T C"]:
        """Each token's weighted mean over all tokens of its sequence."""
        return self.out(self.mixed(*self.projected(x, rotation)))

    def projected(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None
    ) -> tuple[Float[Tensor, "B heads T D"], Float[Tensor, "B heads T D"], Float[Tensor, "B heads T D"]]:
        """Queries, keys and values of tokens; each token's depend on nothing but itself and its position."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = apply_rope(query, rotation), apply_rope(key, rotation)
        return query.to(value.dtype), key.to(value.dtype), value

    @staticmethod
    def mixed(
        query: Float[Tensor, "B heads T D"], key: Float[Tensor, "B heads T D"], value: Float[Tensor, "B heads T D"]
    ) -> Float[Tensor, "B T C"]:
        """Weighted means of values, heads side by side."""
        learning = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
        attend = _by_products if learning and query.shape[-2] <= _BY_PRODUCTS else F.scaled_dot_product_attention
        return attend(query, key, value).transpose(1, 2).flatten(-2)


def _by_products(
    query: Float[Tensor, "B heads T D"], key: Float[Tensor, "B heads T D"], value: Float[Tensor, "B heads T D"]
) -> Float[Tensor, "B heads T D"]:
    """Attention as two matrix products with all T x T weights between: forwards and backwards in bfloat16 up to three
    times faster than torch's own for the CPU, which keeps none."""
    weights = (query * query.shape[-1] ** -0.5) @ key.mT
    return weights.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


class Mlp(nn.Module):
    """Two linear maps with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """The hidden layer's answer."""
        hidden = self.up(x)
        return self.down(F.gelu(hidden) if hidden.requires_grad else torch.ops.aten.gelu_(hidden))


class SwiGlu(nn.Module):
    """A hidden layer gated by SiLU: the first half of ``gate_and_value`` opens the second (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """The gated layer's answer."""
        gate, value = self.gate_and_value(x).chunk(2, -1)
        return self.out(F.silu(gate) * value)


class Block(nn.Module):
    """A pre-norm transformer block, ``x + γ₁ Attention(norm x)``, then ``x + γ₂ FeedForward(norm x)``."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        feed_forward: Literal["mlp", "swiglu"] = "mlp",
        qk_norm: bool = False,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, qk_norm=qk_norm)
        self.attention_scale = nn.Parameter(torch.ones(width))
        self.feed_forward_norm = nn.LayerNorm(width, eps=epsilon)
        self.feed_forward = Mlp(width, hidden) if feed_forward == "mlp" else SwiGlu(width, hidden)
        self.feed_forward_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "B T C"], rotation: Rotation | None = None) -> Float[Tensor, "B T C"]:
        """The residual stream after this block, in the dtype it came in.

        Where no gradients are recorded it works on some tokens at a time; only queries, keys and values of a long
        sequence have to be in memory together.
        """
        at_once = chunk(TOKENS_AT_ONCE["cpu" if x.device.type == "cpu" else "other"])
        learning = torch.is_grad_enabled() and (x.requires_grad or self.attention_scale.requires_grad)
        if learning or x.shape[0] * x.shape[1] <= at_once:
            return self._whole(x, rotation)
        result = torch.empty_like(x)
        step = at_once // x.shape[1]
        if step:
            for i in range(0, len(x), step):
                result[i : i + step] = self._whole(x[i : i + step], rotation)
        else:
            for i in range(len(x)):
                self._long(x[i : i + 1], rotation, result[i : i + 1], at_once)
        return result

    def _long(
        self, x: Float[Tensor, "1 T C"], rotation: Rotation | None, result: Float[Tensor, "1 T C"], at_once: int
    ) -> None:
        """Fill in the stream after this block for one sequence, in parts."""
        parts = [slice(i, i + at_once) for i in range(0, x.shape[1], at_once)]
        heads: tuple[Tensor, ...] = ()
        for part in parts:
            turn = None if rotation is None else (rotation[0][part], rotation[1][part])
            projected = self.attention.projected(self.attention_norm(x[:, part]), turn)
            heads = heads or tuple(p.new_empty(*p.shape[:2], x.shape[1], p.shape[-1]) for p in projected)
            for whole, values in zip(heads, projected, strict=True):
                whole[:, :, part] = values
        mixed = self.attention.mixed(*heads)
        del heads
        for part in parts:
            y = torch.addcmul(x[:, part], self.attention.out(mixed[:, part]), self.attention_scale)
            result[:, part] = torch.addcmul(y, self.feed_forward(self.feed_forward_norm(y)), self.feed_forward_scale)

    def _whole(self, x: Float[Tensor, "B T C"], rotation: Rotation | None) -> Float[Tensor, "B T C"]:
        x = torch.addcmul(x, self.attention(self.attention_norm(x), rotation), self.attention_scale)
        return torch.addcmul(x, self.feed_forward(self.feed_forward_norm(x)), self.feed_forward_scale)
