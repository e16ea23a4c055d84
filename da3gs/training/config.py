"""Configuration of a training run: one frozen record."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from da3gs.errors import InputError
from da3gs.network.config import ModelConfig
from da3gs.procedural.cameras import MOTION
from da3gs.training.losses.geometric import LossWeights
from da3gs.training.losses.photometric import PhotoWeights
from da3gs.training.losses.teacher import TeacherWeights
from da3gs.training.networks import trainable_network

Objective = Literal["geometry", "splats", "monocular"]
"""What is learnt: depth, rays and cameras of any number of views; splats; depth and sky of single views."""


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
    targets: tuple[int, int] = (0, 0)
    """Fewest and most views beside them that the network does not see: splats are compared with them."""
    motion: tuple[float, float] = MOTION
    """How far the cameras of procedural scenes go, least and most (``shots.MOTION``)."""


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
    objective: Objective = "geometry"
    """What is learnt."""
    trained: Literal["all", "splat_head"] = "all"
    """Which weights learn; the rest stays as it is."""
    backbone: str = ""
    """A file with DINOv2 weights that the backbone begins from; empty: from nothing."""
    frozen_blocks: int = 0
    """So many first blocks of the backbone, and the embeddings, stay as they are and need no backward pass."""
    backbone_rate: float = 1.0
    """Learning rate of the backbone, relative to that of everything else."""
    camera_rate: float = 1.0
    """Learning rate of the camera decoder's hidden layers, relative to that of everything else."""
    layer_decay: float = 1.0
    """Learning rate of a block relative to that of the next one."""
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Changes to the network, by path, such as ``"backbone.global_from" = 0``."""
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    """What the losses of the geometry count."""
    photo_weights: PhotoWeights = dataclasses.field(default_factory=PhotoWeights)
    """What the losses of the splats count."""
    teacher_weights: TeacherWeights = dataclasses.field(default_factory=TeacherWeights)
    """What the losses of a monocular network count."""
    data: str = ""
    """A root of real scenes (DL3DV folders or chunks, nerfstudio, COLMAP); empty: procedural scenes alone."""
    data_share: float = 1.0
    """How many of the scenes are real ones, where there is a root."""
    teacher: str = ""
    """A monocular model (a name or a file) whose depth, aligned to the scene's own, is the truth."""
    photos: str = ""
    """A folder of the user's photos that serve as textures beside the drawn ones."""
    scenes: tuple[tuple[str, float], ...] = ()
    """Kinds of procedural scenes and how often each; empty: rooms, tables, clutter and yards, as for nano."""
    handheld: float = 0.0
    """How often a procedural scene is taken by a camera with faults of its own (``procedural.photographic``)."""
    learning_rate: float = 2.5e-4
    """Peak."""
    warm_up: int = 300
    """Steps in which the learning rate rises from 0."""
    decay: int = 0
    """Steps at the end in which it falls to 0; 0: it stays, and another run decays from these weights."""
    schedule: Literal["stable", "cosine"] = "stable"
    """Whether the rate stays at its peak until the decay, or falls along a cosine from the warm-up to the last step."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: every process holds all weights, or a share of them (for the giant)."""
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
    tensorboard: bool = False
    """Whether the log goes to TensorBoard as well (the package has to be installed)."""

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
        if self.schedule == "cosine":
            done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
            return self.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
        falling = min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0
        return self.learning_rate * rising * max(0.0, falling)

    def network(self) -> ModelConfig:
        """The network's configuration.

        Raises:
            InputError: there is no such network, or it cannot learn what it shall.
        """
        config = trainable_network(self.model, self.architecture)
        if (config.camera is None) != (self.objective == "monocular"):
            kind = "a monocular model" if config.camera is None else "an any-view model"
            raise InputError(f"model = {self.model!r} is {kind}, and cannot be trained for {self.objective}")
        if (self.weights.matching or self.weights.motion) and self.parallel == "fsdp":
            raise InputError("weights.matching and .motion need every weight on every process; set parallel to 'ddp'")
        if config.splats is None and (self.objective == "splats" or self.trained == "splat_head"):
            raise InputError(f"model = {self.model!r} has no splat head; use 'da3gs-nano-splats' or 'da3-giant'")
        return config
