"""One two-way table between the official parameter names and ours."""

from __future__ import annotations

import functools
import re

import torch

from da3gs.network.config import ModelConfig, NestedConfig
from da3gs.network.model import DepthAnything3
from da3gs.network.nested import NestedDepthAnything3

PUBLISHED_PREFIX = "model."
"""What published files put before every name."""
BRANCHES = (("da3.", "geometry."), ("da3_metric.", "metric."))
"""Prefixes of the nested model's branches, official and ours."""

_BLOCK = (
    ("norm1", "attention_norm"),
    ("attn.qkv", "attention.qkv"),
    ("attn.q_norm", "attention.query_norm"),
    ("attn.k_norm", "attention.key_norm"),
    ("attn.proj", "attention.out"),
    ("ls1.gamma", "attention_scale"),
    ("norm2", "feed_forward_norm"),
    ("mlp.fc1", "feed_forward.up"),
    ("mlp.fc2", "feed_forward.down"),
    ("mlp.w12", "feed_forward.gate_and_value"),
    ("mlp.w3", "feed_forward.out"),
    ("ls2.gamma", "feed_forward_scale"),
)


def _blocks(upstream: str, ours: str) -> list[tuple[str, str]]:
    return [(f"{upstream}.{{}}.{a}", f"{ours}.{{}}.{b}") for a, b in _BLOCK]


def _pyramid(upstream: str, ours: str) -> list[tuple[str, str]]:
    pairs = [
        (f"{upstream}.projects", f"{ours}.pyramid.projections"),
        (f"{upstream}.resize_layers", f"{ours}.pyramid.resizers"),
    ]
    return pairs + [(f"{upstream}.scratch.layer{i + 1}_rn", f"{ours}.pyramid.laterals.{i}") for i in range(4)]


def _fusion(upstream: str, ours: str) -> list[tuple[str, str]]:
    pairs = []
    for level in range(4):
        theirs = upstream.format(level + 1)
        for unit, name in (("resConfUnit1", "lateral_unit"), ("resConfUnit2", "unit")):
            pairs.append((f"{theirs}.{unit}.conv1", f"{ours}.blocks.{level}.{name}.first"))
            pairs.append((f"{theirs}.{unit}.conv2", f"{ours}.blocks.{level}.{name}.second"))
        pairs.append((f"{theirs}.out_conv", f"{ours}.blocks.{level}.out"))
    return pairs


TABLE: tuple[tuple[str, str], ...] = (
    ("backbone.pretrained.cls_token", "backbone.class_token"),
    ("backbone.pretrained.camera_token", "backbone.camera_token"),
    ("backbone.pretrained.pos_embed", "backbone.position_table"),
    ("backbone.pretrained.patch_embed.proj", "backbone.patch_embed"),
    *_blocks("backbone.pretrained.blocks", "backbone.blocks"),
    ("backbone.pretrained.norm", "backbone.norm"),
    ("head.norm", "depth_head.norm"),
    *_pyramid("head", "depth_head"),
    *_fusion("head.scratch.refinenet{}", "depth_head.depth_fusion"),
    *_fusion("head.scratch.refinenet{}_aux", "depth_head.ray_fusion"),
    ("head.scratch.output_conv1", "depth_head.depth_neck"),
    ("head.scratch.output_conv2", "depth_head.depth_output"),
    ("head.scratch.sky_output_conv2", "depth_head.sky_output"),
    ("head.scratch.output_conv1_aux", "depth_head.ray_necks"),
    ("head.scratch.output_conv2_aux.{}.0", "depth_head.ray_outputs.{}.first"),
    ("head.scratch.output_conv2_aux.{}.5", "depth_head.ray_outputs.{}.second"),
    # One norm, shared by all levels: the file keeps the name of level 0 only.
    *((f"head.scratch.output_conv2_aux.{level}.2", "depth_head.ray_norm") for level in range(4)),
    ("cam_dec.backbone", "camera_decoder.trunk"),
    ("cam_dec.fc_t", "camera_decoder.translation"),
    ("cam_dec.fc_qvec", "camera_decoder.quaternion"),
    ("cam_dec.fc_fov.0", "camera_decoder.fov"),
    ("cam_enc.pose_branch.fc1", "camera_encoder.pose_up"),
    ("cam_enc.pose_branch.fc2", "camera_encoder.pose_down"),
    ("cam_enc.token_norm", "camera_encoder.input_norm"),
    *_blocks("cam_enc.trunk", "camera_encoder.blocks"),
    ("cam_enc.trunk_norm", "camera_encoder.norm"),
    *_pyramid("gs_head", "splat_head"),
    *_fusion("gs_head.scratch.refinenet{}", "splat_head.fusion"),
    ("gs_head.scratch.output_conv1", "splat_head.neck"),
    ("gs_head.scratch.output_conv2", "splat_head.output"),
    *((f"gs_head.images_merger.{2 * i}", f"splat_head.image_features.convolutions.{i}") for i in range(3)),
)
"""Official and our beginnings of names; ``{}`` is an index. What follows a whole beginning stays as it is."""


def _compiled(column: int) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for pair in TABLE:
        source, target = pair[column], pair[1 - column]
        pattern = re.escape(source).replace(r"\{\}", r"(\d+)")
        rules.append((re.compile(rf"{pattern}(?P<rest>(\..+)?)"), target))
    return rules


_TO_OURS, _TO_UPSTREAM = _compiled(0), _compiled(1)


def _translated(name: str, rules: list[tuple[re.Pattern[str], str]]) -> list[str]:
    found = []
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            index = match.group(1) if "{}" in target else ""
            found.append(target.format(index) + match.group("rest"))
    return found


def to_our_name(upstream: str) -> str | None:
    """Our name of an official parameter (without the published prefix), or None for an unknown one."""
    for prefix, ours in BRANCHES:
        if upstream.startswith(prefix):
            inner = to_our_name(upstream.removeprefix(prefix))
            return None if inner is None else ours + inner
    found = _translated(upstream, _TO_OURS)
    return found[0] if found else None


def to_upstream_names(name: str) -> list[str]:
    """The official names of one of our parameters: several where the official code ties them, the stored one first."""
    for upstream, ours in BRANCHES:
        if name.startswith(ours):
            return [upstream + inner for inner in to_upstream_names(name.removeprefix(ours))]
    return _translated(name, _TO_UPSTREAM)


def empty_model(config: ModelConfig | NestedConfig) -> DepthAnything3 | NestedDepthAnything3:
    """The network without memory for its weights (on the meta device)."""
    with torch.device("meta"):
        return NestedDepthAnything3(config) if isinstance(config, NestedConfig) else DepthAnything3(config)


@functools.cache
def our_shapes(config: ModelConfig | NestedConfig) -> dict[str, tuple[int, ...]]:
    """Our parameter names and their shapes."""
    return {name: tuple(value.shape) for name, value in empty_model(config).state_dict().items()}


def upstream_shapes(config: ModelConfig | NestedConfig, *, aliases: bool = True) -> dict[str, tuple[int, ...]]:
    """The official parameter names and their shapes.

    Args:
        config: a model.
        aliases: with the names that are tied to another and not stored.
    """
    shapes = {}
    for name, shape in our_shapes(config).items():
        names = to_upstream_names(name)
        shapes.update(dict.fromkeys(names if aliases else names[:1], shape))
    return shapes
