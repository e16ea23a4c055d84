"""Configs from presets, TOML files and single settings."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from da3gs.errors import InputError
from da3gs.procedural.scenes import checked_kinds
from da3gs.training.config import Stage, TrainConfig
from da3gs.training.presets import PRESETS

_PATCH = 14
_CHOICES: dict[str, tuple[str, ...]] = {
    "objective": ("geometry", "splats", "monocular"),
    "trained": ("all", "splat_head"),
    "schedule": ("stable", "cosine"),
    "parallel": ("ddp", "fsdp"),
}


def load_config(source: str, *, settings: Sequence[str] = ()) -> TrainConfig:
    """The preset of this name, or the TOML file at this path.

    A file names fields of ``TrainConfig``; ``preset = "nano"`` starts from that preset.

    Args:
        source: the name or the path.
        settings: single changes as in TOML, such as ``"learning_rate=1e-4"`` or ``"weights.camera=0"``; the part before
            a dot names a table.

    Raises:
        InputError: there is neither, or a field is unknown or of the wrong kind.
    """
    config = _source(source)
    for setting in settings:
        config = _with_setting(config, setting)
    return config


def _with_setting(config: TrainConfig, setting: str) -> TrainConfig:
    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not path:
        raise InputError(f"--set {setting!r} is no NAME=VALUE, such as learning_rate=1e-4")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a text
    first, dot, rest = path.partition(".")
    return changed_config(config, {first: {rest: value}} if dot else {first: value}, "--set")


def _source(source: str) -> TrainConfig:
    if source in PRESETS:
        return PRESETS[source]
    path = Path(source)
    if path.suffix != ".toml":
        raise InputError(f"no preset {source!r}; use one of {', '.join(PRESETS)} or a .toml file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; give a TOML file or a preset") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}") from error
    return config_from_values(values, path.name)


def config_from_values(values: dict[str, Any], name: str) -> TrainConfig:
    """A config from plain values; ``name`` is the file's, for messages.

    Raises:
        InputError: a field is unknown or of the wrong kind.
    """
    rest = dict(values)
    preset = rest.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise InputError(f"{name}: preset = {preset!r} is unknown; use one of {', '.join(PRESETS)}")
    return changed_config(PRESETS[preset] if preset else TrainConfig(name=Path(name).stem), rest, name)


def changed_config(base: TrainConfig, values: dict[str, Any], name: str) -> TrainConfig:
    """A config with some fields changed; tables of weights and of the architecture are changed field by field.

    Raises:
        InputError: a field is unknown or of the wrong kind.
    """
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(values) - known):
        raise InputError(f"{name}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    changes = {}
    try:
        for key, value in values.items():
            changes[key] = _changed(getattr(base, key), value, key)
        for key, choices in _CHOICES.items():
            if (value := changes.get(key, choices[0])) not in choices:
                raise ValueError(f"{key} = {value!r} is not one of {', '.join(choices)}")
        config = dataclasses.replace(base, **changes)
        for stage in config.stages:
            _check_stage(stage)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: {error}") from error
    if config.accumulate < 1:
        raise InputError(f"{name}: accumulate = {config.accumulate}; at least one batch makes a step")
    checked_kinds(config.scenes)
    config.network()
    return config


def _check_stage(stage: Stage) -> None:
    if not stage.sizes or stage.steps < 1 or stage.pixels < 1:
        raise ValueError(f"a stage needs sizes, and at least one step and one pixel; got {stage}")
    for height, width, share in stage.sizes:
        if min(height, width) < _PATCH or height % _PATCH or width % _PATCH or not share >= 0:
            raise ValueError(f"sizes = {(height, width, share)}: sides are multiples of {_PATCH}, shares at least 0")
    for name, least in (("views", 1), ("targets", 0), ("motion", 0)):
        low, high = getattr(stage, name)
        if not least <= low <= high:
            raise ValueError(f"{name} = {(low, high)}: fewest and most, from {least} on")


def _changed(present: Any, value: Any, key: str) -> Any:
    if key == "stages":
        return tuple(Stage(**_tuples(stage)) for stage in value)
    if dataclasses.is_dataclass(present) and not isinstance(present, type):
        if not isinstance(value, dict):
            raise TypeError(f"{key} must be a table, got {value!r}")
        return dataclasses.replace(present, **{k: _changed(getattr(present, k), v, k) for k, v in value.items()})
    if isinstance(present, dict) and isinstance(value, dict):
        return {**present, **_tuples(_flat(value))}
    value = _tuples(value)
    if type(present) is float and type(value) is int:
        return float(value)
    if type(value) is not type(present):
        raise TypeError(f"{key} must be of kind {type(present).__name__}, got {value!r}")
    return value


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables within tables as paths: ``{"backbone": {"depth": 6}}`` is ``{"backbone.depth": 6}``."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
