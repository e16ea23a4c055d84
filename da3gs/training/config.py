"""What a training run does: one frozen record, from a preset's name or a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from da3gs.errors import InputError
from da3gs.network.config import CONFIGS, ModelConfig
from da3gs.training.losses import LossWeights


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of the run with its mixture of image sizes."""

    steps: int
    """How long it lasts; the last stage lasts for ever."""
    sizes: tuple[tuple[int, int, float], ...]
    """Height, width and how often, relative to the others; either way up."""
    pixels: int
    """Pixels of a step: as many scenes as fit, at least one."""
    views: tuple[int, int] = (2, 4)
    """Fewest and most views of a scene; a batch has one number."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run."""

    name: str
    """What the run is called."""
    model: str = "da3gs-nano"
    """Name of the network's configuration."""
    seed: int = 0
    """Of the weights and of the scenes."""
    steps: int = 1_000_000
    """Where the run ends."""
    stages: tuple[Stage, ...] = (Stage(steps=1, sizes=((126, 168, 1.0),), pixels=24 * 126 * 168),)
    """What is seen when."""
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    """What the losses count."""
    learning_rate: float = 2.5e-4
    """Peak."""
    warm_up: int = 300
    """Steps in which the learning rate rises from 0."""
    decay: int = 0
    """Steps at the end in which it falls to 0; 0: it stays, and another run decays from these weights."""
    weight_decay: float = 0.05
    """Of matrices and kernels; biases, norms, scales and tokens have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    ema: float = 0.999
    """Decay of the averaged weights."""
    posed: float = 0.3
    """How often the true poses are given."""
    textures: int = 132
    """Textures at hand at a time."""
    texture_steps: int = 300
    """After so many steps all textures are new."""
    bfloat16: bool = True
    """Whether autocast computes in bfloat16."""
    save_seconds: float = 240.0
    """Time between checkpoints."""
    validate_steps: int = 1000
    """Steps between validations; 0: none."""
    validation_scenes: int = 16
    """Held-out scenes of a validation, at each of its sizes."""
    validation_sizes: tuple[tuple[int, int], ...] = ((126, 168), (252, 336))
    """Height and width of the validation pictures."""
    log_steps: int = 20
    """Steps that a line of the log averages."""

    def stage(self, step: int) -> Stage:
        """The stage of a step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate(self, step: int) -> float:
        """The learning rate of a step: rises, stays, falls."""
        rising = min(1.0, (step + 1) / max(1, self.warm_up))
        falling = min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0
        return self.learning_rate * rising * max(0.0, falling)

    def network(self) -> ModelConfig:
        """The network's configuration.

        Raises:
            InputError: there is no any-view model of that name.
        """
        config = CONFIGS.get(self.model)
        if not isinstance(config, ModelConfig) or config.camera is None:
            raise InputError(f"model = {self.model!r} cannot be trained; name an any-view model such as 'da3gs-nano'")
        return config


_NANO_WEIGHTS = LossWeights(gradient_steps=(1, 4, 16, 48), gradient=0.5, world=0.5, relative=True)
_LOW = ((126, 168, 0.6), (112, 168, 0.2), (140, 140, 0.2))
_NANO = TrainConfig(
    name="nano",
    weights=_NANO_WEIGHTS,
    stages=(
        Stage(steps=4000, sizes=((70, 98, 0.5), (84, 112, 0.5)), pixels=16 * 84 * 112, views=(2, 3)),
        Stage(steps=16000, sizes=(*_LOW, (168, 224, 0.1), (252, 336, 0.1)), pixels=16 * 126 * 168, views=(2, 4)),
        Stage(
            steps=40000,
            sizes=(*_LOW, (168, 224, 0.4), (168, 252, 0.1), (252, 336, 0.3), (252, 252, 0.1)),
            pixels=24 * 126 * 168,
            views=(1, 6),
        ),
        Stage(
            steps=1,
            sizes=((126, 168, 0.3), (168, 224, 0.5), (252, 336, 0.8), (252, 252, 0.2), (336, 504, 0.1)),
            pixels=32 * 126 * 168,
            views=(1, 8),
        ),
    ),
)
_SHARP = (
    Stage(steps=1, sizes=((126, 168, 0.3), (168, 224, 0.3), (252, 336, 0.4)), pixels=24 * 126 * 168, views=(2, 6)),
)
_SMOKE = TrainConfig(
    name="smoke",
    steps=300,
    learning_rate=6e-4,
    stages=(Stage(steps=1, sizes=((70, 98, 1.0),), pixels=8 * 70 * 98, views=(2, 2)),),
    weights=_NANO_WEIGHTS,
    warm_up=20,
    ema=0.98,
    textures=22,
    validate_steps=300,
    validation_scenes=12,
    validation_sizes=((70, 98),),
    log_steps=10,
)

PRESETS: dict[str, TrainConfig] = {
    config.name: config
    for config in (
        _NANO,
        dataclasses.replace(
            _NANO,
            name="nano-decay",
            steps=600,
            warm_up=20,
            decay=580,
            ema=0.99,
            stages=_SHARP,
            seed=1,
            validate_steps=300,
        ),
        _SMOKE,
    )
}
"""``nano`` makes the bundled model, ``nano-decay`` a candidate to ship from its weights, ``smoke`` is a quick test."""


def load_config(source: str) -> TrainConfig:
    """The preset of this name, or the TOML file at this path.

    A file names fields of ``TrainConfig``; ``preset = "nano"`` starts from that preset.

    Raises:
        InputError: there is neither, or a field is unknown or of the wrong kind.
    """
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
    base = PRESETS[preset] if preset else TrainConfig(name=Path(name).stem)
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(rest) - known):
        raise InputError(f"{name}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    try:
        if "stages" in rest:
            rest["stages"] = tuple(Stage(**_tuples(stage)) for stage in rest["stages"])
        if "weights" in rest:
            rest["weights"] = dataclasses.replace(base.weights, **_tuples(rest["weights"]))
        for key, value in _tuples(rest).items():
            kind = type(getattr(base, key))
            if kind is float and type(value) is int:
                rest[key] = value = float(value)
            if type(value) is not kind:
                raise TypeError(f"{key} must be of kind {kind.__name__}, got {value!r}")
        config = dataclasses.replace(base, **_tuples(rest))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: {error}") from error
    config.network()
    return config


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
