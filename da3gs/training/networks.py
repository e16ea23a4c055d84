"""The networks that can be trained, and the changes to one that a config may ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from da3gs.errors import InputError
from da3gs.network.config import CONFIGS, HeadConfig, ModelConfig, SplatConfig


def _own(name: str) -> ModelConfig:
    config = CONFIGS[name]
    assert isinstance(config, ModelConfig)
    return config


def _with_splats(name: str) -> ModelConfig:
    """One of our own models with a Gaussian head; it keeps its name, since its files tell their own configuration."""
    config = _own(name)
    return dataclasses.replace(config, splats=SplatConfig(pyramid=config.head.pyramid, degree=1, photo_color=True))


def _nano_mono() -> ModelConfig:
    """A small monocular teacher or student."""
    nano = _own("da3gs-nano")
    backbone = dataclasses.replace(
        nano.backbone, global_from=None, qk_norm_from=None, rope_from=None, concatenate=False
    )
    head = HeadConfig(kind="depth_sky", pyramid=nano.head.pyramid)
    return dataclasses.replace(nano, name="da3gs-nano-mono", backbone=backbone, head=head, camera=None)


def trainable_network(name: str, changes: Mapping[str, Any]) -> ModelConfig:
    """The network of this name, changed.

    ``changes`` are fields by path: ``{"backbone.global_from": 0}`` alternates from the first block on.

    Raises:
        InputError: there is no such network, or no such field, or its value is of the wrong kind.
    """
    own = {
        "da3gs-nano-splats": lambda: _with_splats("da3gs-nano"),
        "da3gs-small-splats": lambda: _with_splats("da3gs-small"),
        "da3gs-nano-mono": _nano_mono,
    }
    config = own[name]() if name in own else CONFIGS.get(name)
    if not isinstance(config, ModelConfig):
        known = [n for n, c in CONFIGS.items() if isinstance(c, ModelConfig)]
        raise InputError(f"model = {name!r} cannot be trained; name one of {', '.join([*known, *own])}")
    for path, value in changes.items():
        config = _changed(config, path.split("."), value, path)
    backbone = config.backbone
    if backbone.width % backbone.heads or max(backbone.out_layers) >= backbone.depth:
        raise InputError("architecture: heads must divide the width, and out_layers lie below the depth")
    return config


def _changed(record: Any, path: list[str], value: Any, whole: str) -> Any:
    names = {field.name for field in dataclasses.fields(record)}
    if path[0] not in names:
        raise InputError(f"architecture: {whole!r} is no field of the network; known are {', '.join(sorted(names))}")
    present = getattr(record, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(present):
            raise InputError(f"architecture: {whole!r} is no field of the network; this one has no such part")
        return dataclasses.replace(record, **{path[0]: _changed(present, path[1:], value, whole)})
    if present is not None and type(value) is not type(present):
        raise InputError(f"architecture: {whole} must be of kind {type(present).__name__}, got {value!r}")
    return dataclasses.replace(record, **{path[0]: value})


def same_but_for_splats(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two networks differ in nothing but the Gaussian head and their names."""
    return dataclasses.replace(one, splats=None, name="") == dataclasses.replace(other, splats=None, name="")
