"""Weights to train a small network from nothing.

The network's own initialisation (0.02 everywhere, residual branches times 0.1) suits wide models and long runs: in a
narrow one the transformer sleeps for thousands of steps, while the heads learn what follows from a pixel's place alone.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from da3gs.network.attention import Block
from da3gs.network.dpt import position_code
from da3gs.network.model import DepthAnything3

_CODE = 0.3  # amplitude of the fresh position table: patches of textured photos are about as strong


def awaken(model: DepthAnything3) -> None:
    """Give every block of a fresh network an even share in its output, and its tokens a smooth sense of place.

    Matrices keep the variance of what goes through them (1 / fan-in); those that write to the residual stream share it
    between all of its writers. The position table becomes sines and cosines of x and y.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    writers = 2 * len(model.backbone.blocks)
    with torch.no_grad():
        for block in blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=module.in_features**-0.5)
            for name in ("out", "down"):
                for part in (block.attention, block.feed_forward):
                    layer = getattr(part, name, None)
                    if isinstance(layer, nn.Linear):
                        layer.weight.mul_(writers**-0.5)
            block.attention_scale.fill_(1.0)
            block.feed_forward_scale.fill_(1.0)
        table = model.backbone.position_table
        side = math.isqrt(table.shape[1] - 1)
        code = position_code(table.shape[2], side, side, 1.0)[0].flatten(1).T
        table[0, 1:] = _CODE * code
