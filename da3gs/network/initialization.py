"""Weights to start training from."""

from __future__ import annotations

import math

import torch
from torch import nn

from da3gs.network.attention import Block
from da3gs.network.backbone import Backbone
from da3gs.network.camera import CameraDecoder
from da3gs.network.heads.depth_ray import DepthRayHead
from da3gs.network.heads.depth_sky import DepthSkyHead

_RESIDUAL_SCALE = 0.1  # how much a fresh block adds to the residual stream


def initialize(model: nn.Module, *, depth: float = 1.0, fov: float = 1.0) -> None:
    """Fill a network's weights for training from scratch, from torch's default generator.

    Linear maps and tokens are normal (truncated, 0.02), blocks start near the identity, every view starts with an even
    depth map and a camera at the origin.

    Args:
        model: its parameters are overwritten; on the meta device nothing happens.
        depth: what the fresh depth head says everywhere.
        fov: what the fresh camera decoder says, radians.
    """
    if next(model.parameters()).is_meta:
        return
    for module in model.modules():
        match module:
            case Block():
                nn.init.constant_(module.attention_scale, _RESIDUAL_SCALE)
                nn.init.constant_(module.feed_forward_scale, _RESIDUAL_SCALE)
            case nn.Linear():
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            case Backbone():
                nn.init.trunc_normal_(module.position_table, std=0.02)
                nn.init.trunc_normal_(module.class_token, std=0.02)
                if module.config.global_from is not None:
                    nn.init.trunc_normal_(module.camera_token, std=0.02)
            case _:
                pass
    with torch.no_grad():
        for module in model.modules():
            match module:
                case CameraDecoder():
                    for part in (module.trunk[0], module.trunk[2]):  # ReLU after them
                        nn.init.kaiming_normal_(part.weight)
                    module.quaternion.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
                    module.fov.bias.fill_(fov)
                case DepthRayHead() | DepthSkyHead():
                    last = module.depth_output[2]
                    last.weight.mul_(0.1)
                    last.bias.zero_()
                    last.bias[0] = math.log(depth)
                case _:
                    pass
