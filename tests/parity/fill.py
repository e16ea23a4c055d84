"""Weights by formula: what the fixtures were made with, in place of learned ones."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from da3gs.checkpoints.convert import to_our_name, upstream_shapes
from da3gs.network.config import ModelConfig, NestedConfig

_U = np.uint64
# offset + scale * u; the first match wins
_PLAIN = [
    (r"\.gamma$", 0.1, 0.03),
    (r"\.[qk]_norm\.weight$", 1.5, 0.2),
    (r"(cls_token|camera_token|pos_embed)$", 0.0, 0.2),
    (r"(^|\.)head\.scratch\.output_conv2\.2\.bias$", 1.5, 0.1),
    (r"\.sky_output_conv2\.2\.bias$", 0.1, 0.05),
    (r"\.output_conv2_aux\.\d+\.5\.bias$", 0.0, 0.5),
    (r"\.fc_fov\.0\.bias$", 1.0, 0.1),
    (r"\.fc_qvec\.bias$", 0.0, 0.5),
    (r"gs_head\.scratch\.output_conv2\.2\.bias$", 0.0, 0.5),
]
# gain * sqrt(3 / fan in) * u
_GAINS = [
    (r"patch_embed\.proj\.weight$", 0.3),
    (r"\.fc_fov\.0\.weight$", 0.3),
    (r"\.attn\.qkv\.weight$", 1.2),
    (r"(^|\.)head\.scratch\.output_conv2\.2\.weight$", 0.6),
    (r"gs_head\.scratch\.output_conv2\.2\.weight$", 0.3),
    (r"\.images_merger\.\d\.weight$", 2.0),
]


def _rule(name: str, shape: tuple[int, ...], names: frozenset[str]) -> tuple[float, float]:
    for pattern, offset, scale in _PLAIN:
        if re.search(pattern, name):
            return offset, scale
    if len(shape) == 1:
        return (1.0, 0.1) if name.endswith(".weight") else (0.0, 0.1)
    transposed = re.search(r"\.resize_layers\.[01]\.weight$", name)
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    gain = next((g for pattern, g in _GAINS if re.search(pattern, name)), 1.0)
    normed = re.sub(r"\.attn\.(qkv|proj)\.weight$", ".attn.q_norm.weight", name)
    if normed != name and normed in names:  # blocks with query-key norm
        gain = 0.25 if "qkv" in name else 4.0
    return 0.0, gain * (3.0 / fan_in) ** 0.5


def filled(name: str, shape: tuple[int, ...], names: frozenset[str], salt: str) -> np.ndarray:
    """The values of one parameter, from its official name, its shape and the salt.

    The seed is the 64-bit FNV-1a hash of ``salt/name``; each element is a splitmix64 number of seed and index.
    """
    seed = 0xCBF29CE484222325
    for byte in f"{salt}/{name}".encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=_U) * _U(0x9E3779B97F4A7C15) + _U(seed)
        z = (z ^ z >> _U(30)) * _U(0xBF58476D1CE4E5B9)
        z = (z ^ z >> _U(27)) * _U(0x94D049BB133111EB)
        u = ((z ^ z >> _U(31)) >> _U(40)).astype(np.float64) * 2.0**-23 - 1.0
    offset, scale = _rule(name, shape, names)
    return (offset + scale * u).astype(np.float32).reshape(shape)


def filled_weights(config: ModelConfig | NestedConfig, salt: str) -> dict[str, np.ndarray]:
    """All parameters under their official names; tied ones once."""
    shapes = upstream_shapes(config, aliases=False)
    names = frozenset(shapes)
    return {name: filled(name, shape, names, salt) for name, shape in shapes.items()}


def fill(model: nn.Module, salt: str) -> None:
    """Overwrite a model's weights by the formula (``model.config`` says which names it has officially)."""
    state = {}
    for name, values in filled_weights(model.config, salt).items():
        ours = to_our_name(name)
        assert ours is not None
        state[ours] = torch.from_numpy(values)
    model.load_state_dict(state, assign=True)
