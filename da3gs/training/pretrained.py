"""Pretrained backbones as a start: DINOv2's weights, and tokens and norms of our own that leave them as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs.checkpoints.dinov2 import load_dinov2
from da3gs.errors import InputError
from da3gs.network.attention import Attention, Block
from da3gs.network.backbone import Backbone
from da3gs.network.model import DepthAnything3, normalize_images
from da3gs.training.config import TrainConfig

_APART = 0.1
"""How far the reference's fresh token is from the others', in standard deviations of the class token's channels."""
_TOLD = 0.5
"""How far the camera encoder's tokens are from the learned ones at the start, in the same unit."""
_FAINT = 2e-3
"""Standard deviation of the weights that speak of the camera, at the start."""


def begin_with_backbone(model: DepthAnything3, file: Path | str, images: Float[Tensor, "B V 3 H W"]) -> None:
    """Fill a fresh network's backbone with DINOv2 and let what stands beside it begin without disturbing it.

    Camera tokens take the class token's place in the middle of the network. They begin at what the class token has
    become there, the mean over ``images``, and so do the tokens of known cameras; anything else would be noise to the
    blocks after it. Where a block normalises queries and keys, which DINOv2 does not, gain and bias of the norm are
    fitted to give back what it would have passed on.

    Raises:
        CheckpointError: the file does not fit.
    """
    backbone = model.backbone
    missing, unexpected = backbone.load_state_dict(load_dinov2(file, backbone.config), strict=False)
    assert not unexpected
    assert all(name == "camera_token" or "query_norm" in name or "key_norm" in name for name in missing)
    normalized = normalize_images(images).flatten(0, 1)
    with torch.no_grad():
        token = _class_token(backbone, normalized)
        if backbone.config.global_from is not None:
            spread = token.std(correction=0)
            apart = _APART * spread * torch.randn(2, len(token))
            backbone.camera_token.copy_((token + apart)[None])
            if model.camera_encoder is not None:
                nn.init.constant_(model.camera_encoder.norm.weight, float(_TOLD * spread))
                model.camera_encoder.norm.bias.copy_(token)
        fit_camera_decoder(model, images)


def camera_decoder_is_dead(model: DepthAnything3, images: Float[Tensor, "B V 3 H W"]) -> bool:
    """Whether every rectifier of the camera decoder's first layer is off for all views: nothing reaches it any more."""
    decoder = model.camera_decoder
    if decoder is None:
        return False
    with torch.no_grad():
        return not bool((decoder.trunk[0](_camera_tokens(model, images)) > 0).any())


def fit_camera_decoder(model: DepthAnything3, images: Float[Tensor, "B V 3 H W"]) -> None:
    """Give a fresh camera decoder that hears how tokens differ, not what they have in common.

    Camera tokens reach it without a norm, and those of a pretrained backbone are 20 times further from zero than from
    each other. So its first layer begins with unit response to what is left after their mean over ``images``, and what
    it says begins faint: a loud answer is unlearnt by switching all of its rectifiers off, for good.
    """
    decoder = model.camera_decoder
    if decoder is None:
        return
    first, _, second, _ = decoder.trunk
    says = decoder.translation, decoder.quaternion, decoder.fov
    with torch.no_grad():
        tokens = _camera_tokens(model, images)
        mean, spread = tokens.mean(0), tokens.std(0, correction=0).norm().clamp(min=1e-3)
        nn.init.normal_(first.weight, std=1 / float(spread))
        first.bias.copy_(-first.weight @ mean)
        nn.init.kaiming_normal_(second.weight, nonlinearity="relu")
        nn.init.zeros_(second.bias)
        for part in says:
            nn.init.normal_(part.weight, std=_FAINT)
            nn.init.zeros_(part.bias)
        decoder.quaternion.bias[3] = 1.0  # no rotation
        decoder.fov.bias.fill_(1.0)


def _camera_tokens(model: DepthAnything3, images: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "N F"]:
    """Camera tokens of all views as they reach the camera decoder, without given poses."""
    assert model.camera_decoder is not None
    caught: list[Tensor] = []
    hook = model.camera_decoder.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        model.raw(images, None, reference="first")
    finally:
        hook.remove()
    return caught[0].flatten(0, 1)


def _class_token(backbone: Backbone, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "C"]:
    """The mean class token before the first camera token is written; on the way, query-key norms are fitted."""
    x = backbone.embed(images[:, None]).flatten(0, 1)
    token = x[:, 0].mean(0)
    for index, block in enumerate(backbone.blocks):
        if index == (backbone.config.global_from or 0):
            token = x[:, 0].mean(0)
        assert isinstance(block, Block)
        if backbone.config.has_qk_norm(index):
            fit_query_key_norm(block.attention, block.attention_norm(x))
        x = block(x)
    return token


def fit_query_key_norm(attention: Attention, inputs: Float[Tensor, "B T C"]) -> None:
    """Set gain and bias of both norms so that normalised queries and keys are nearest to those that go in.

    Least squares a channel, over tokens and heads: ``q ≈ a · (q − mean) / std + b``.
    """
    query, key, _ = attention.qkv(inputs).unflatten(-1, (3, attention.heads, -1)).unbind(-3)
    for norm, values in ((attention.query_norm, query), (attention.key_norm, key)):
        assert isinstance(norm, nn.LayerNorm)
        y = values.flatten(0, 2)
        x = nn.functional.layer_norm(y, norm.normalized_shape, eps=norm.eps)
        middle = x.mean(0)
        gain = ((x - middle) * y).mean(0) / (x - middle).square().mean(0).clamp(min=1e-9)
        norm.weight.copy_(gain)
        norm.bias.copy_(y.mean(0) - gain * middle)


def frozen_parts(model: DepthAnything3, config: TrainConfig) -> list[nn.Parameter]:
    """Frozen parameters: embeddings and the first blocks of the backbone.

    Raises:
        InputError: there are not that many blocks.
    """
    backbone = model.backbone
    if not config.frozen_blocks:
        return []
    if config.frozen_blocks > len(backbone.blocks):
        raise InputError(f"frozen_blocks = {config.frozen_blocks}; the backbone has {len(backbone.blocks)}")
    modules = [backbone.patch_embed, *backbone.blocks[: config.frozen_blocks]]
    embeddings = [backbone.class_token, backbone.position_table]
    return [*embeddings, *(p for module in modules for p in module.parameters())]


def rate_scales(model: DepthAnything3, config: TrainConfig) -> dict[int, float]:
    """Learning rate factors of parameters (by ``id``), where that is not 1.

    All of the backbone but its camera tokens learns at ``backbone_rate``, and every block before the last at
    ``layer_decay`` of the block after it (Clark et al. 2020); embeddings count as a block before the first. The hidden
    layers of the camera decoder learn at ``camera_rate``.
    """
    backbone, scales = model.backbone, {}
    last = len(backbone.blocks) - 1
    for name, parameter in backbone.named_parameters():
        if name == "camera_token" or "query_norm" in name or "key_norm" in name:
            continue
        place = int(name.split(".")[1]) if name.startswith("blocks.") else last if name.startswith("norm.") else -1
        scales[id(parameter)] = config.backbone_rate * config.layer_decay ** (last - place)
    if model.camera_decoder is not None:
        scales |= {id(parameter): config.camera_rate for parameter in model.camera_decoder.trunk.parameters()}
    return scales
