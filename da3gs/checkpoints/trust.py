"""Configurations that come from files: of the right kinds and of sizes that a network can have."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from da3gs.errors import InputError
from da3gs.network.config import BackboneConfig, ModelConfig, NestedConfig

_LARGEST = 65_536
_MOST_BLOCKS = 256


def checked_config(config: ModelConfig | NestedConfig) -> ModelConfig | NestedConfig:
    """The same configuration, if it can be one of a network.

    Raises:
        InputError: a value is of the wrong kind, or absurd; the message names it.
    """
    _check(config, type(config), "config")
    parts = (config.geometry, config.metric) if isinstance(config, NestedConfig) else (config,)
    for part in parts:
        _check_backbone(part.backbone)
        encoder = part.camera
        if encoder is not None and (
            encoder.encoder_depth > _MOST_BLOCKS or part.backbone.width % encoder.encoder_heads
        ):
            raise InputError(f"the camera encoder has {encoder.encoder_heads} heads, {encoder.encoder_depth} blocks")
        if part.head.ray_levels > 16 or (part.splats is not None and part.splats.degree > 3):
            raise InputError("the head has more levels, or the harmonics more bands, than da3gs has")
    return config


def _check_backbone(backbone: BackboneConfig) -> None:
    if backbone.depth > _MOST_BLOCKS or not all(block < backbone.depth for block in backbone.out_layers):
        raise InputError(f"the backbone has {backbone.depth} blocks and outputs of blocks {backbone.out_layers}")
    if backbone.width % backbone.heads or backbone.patch != 14 or backbone.table > 512:
        raise InputError(
            f"the backbone has width {backbone.width}, {backbone.heads} heads, patch {backbone.patch}, "
            f"table {backbone.table}"
        )


def _check(value: Any, kind: Any, name: str) -> None:
    """Compare a value with its annotation, all the way down."""
    options = get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, kind):  # type: ignore[arg-type]
            raise InputError(f"{name} is {_short(value)}")
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            _check(getattr(value, field.name), hints[field.name], field.name)
        return
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is not None or type(None) not in options:
            _check(value, next(option for option in options if option is not type(None)), name)
        return
    if origin is tuple:
        if not isinstance(value, tuple) or len(value) != len(options):
            raise InputError(f"{name} is {_short(value)}, not {len(options)} numbers")
        for item, option in zip(value, options, strict=True):
            _check(item, option, name)
        return
    if origin is Literal:
        good = isinstance(value, str) and value in options
    elif kind is bool:
        good = isinstance(value, bool)
    elif kind is int:
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
        good = good and (value > 0 or name in ("out_layers", "degree", "global_from", "qk_norm_from", "rope_from"))
    elif kind is float:
        good = isinstance(value, float | int) and math.isfinite(value) and 0 < value < 1e6
    else:
        good = isinstance(value, str) and 0 < len(value) <= 80 and value.isprintable()
    if not good:
        raise InputError(f"{name} is {_short(value)}")


def _short(value: object) -> str:
    return repr(value)[:40]
