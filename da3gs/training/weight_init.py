"""Weights to train a small network from nothing.

The network's own initialisation (0.02 everywhere, residual branches times 0.1) suits wide models and long runs: in a
narrow one the transformer sleeps for thousands of steps, while the heads learn what follows from a pixel's place alone.
Too loud a start is worse: what random blocks say is noise at first, and the heads learn not to listen.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.attention import Block
from da3gs.network.heads.dpt import position_code
from da3gs.network.model import DepthAnything3, normalize_images

_CODE = 0.3  # amplitude of the fresh position table, against 1 of the patches
_OPPONENTS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
_LUMA_SHARE = 0.6
_SPLAT_PIXELS, _SPLAT_OPACITY = 0.4, 0.7


def awaken(model: DepthAnything3, images: Float[Tensor, "B V 3 H W"]) -> None:
    """Give a fresh network eyes, a sense of place, and blocks that take part early.

    Patch filters become low cosines of brightness and of two colour contrasts, each scaled to unit response on
    ``images``: random filters would see little but the mean colour, since the spectrum of pictures falls so fast. The
    position table becomes sines and cosines of x and y. Matrices of blocks keep the variance of what goes through them
    (1 / fan-in). What the camera decoder says starts faint: a loud answer to tokens that mean nothing yet is unlearnt
    by switching all of its rectifiers off, for good.
    """
    with torch.no_grad():
        for block in model.modules():
            if isinstance(block, Block):
                for module in block.modules():
                    if isinstance(module, nn.Linear):
                        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if model.camera_decoder is not None:
            for part in (model.camera_decoder.translation, model.camera_decoder.quaternion, model.camera_decoder.fov):
                part.weight.mul_(0.1)
        table = model.backbone.position_table
        side = math.isqrt(table.shape[1] - 1)
        table[0, 1:] = _CODE * position_code(table.shape[2], side, side, 1.0)[0].flatten(1).T
        embed = model.backbone.patch_embed
        filters = cosine_filters(embed.out_channels, embed.kernel_size[0])
        responses = F.conv2d(normalize_images(images).flatten(0, 1), filters, stride=embed.stride)
        mean, std = responses.mean((0, 2, 3)), responses.std((0, 2, 3)).clamp(min=1e-4)
        embed.weight.copy_(filters / std[:, None, None, None])
        assert embed.bias is not None
        embed.bias.copy_(-mean / std)


def awaken_splats(model: DepthAnything3) -> None:
    """Let a fresh Gaussian head begin with what its first thousands of steps would find.

    Splats lie where the depth says, are as wide as two fifths of a pixel, of opacity 0.7, and change little with the
    picture.
    """
    head = model.splat_head
    if head is None:
        return
    config = head.config
    span = config.scale_max - config.scale_min
    width = 0.2 * span  # pixels that a full scale is wide: a tenth of the footprint of both axes together
    last = head.output[-1]
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
        last.bias[2:5] = _logit(_SPLAT_PIXELS / width)
        last.bias[8] = 1.0  # the quaternion's real part comes last
        last.bias[config.channels - 1] = _logit(_SPLAT_OPACITY)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def cosine_filters(count: int, side: int) -> Float[Tensor, "count 3 side side"]:
    """The lowest cosines (DCT-II) of brightness and of two colour contrasts, most of them of brightness."""
    places = (torch.arange(side) + 0.5) / side
    waves = torch.stack([torch.cos(math.pi * k * places) for k in range(side)])
    order = sorted(((i, j) for i in range(side) for j in range(side)), key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij))
    luma = round(_LUMA_SHARE * count)
    shares = (luma, (count - luma + 1) // 2, (count - luma) // 2)
    filters = [
        torch.tensor(color)[:, None, None] * waves[i][:, None] * waves[j]
        for color, share in zip(_OPPONENTS, shares, strict=True)
        for i, j in order[:share]
    ]
    return torch.stack(filters) / side
