"""Runs that are ready to start, by name."""

from __future__ import annotations

import dataclasses

from da3gs.training.config import Stage, TrainConfig
from da3gs.training.losses.geometric import LossWeights
from da3gs.training.losses.photometric import PhotoWeights
from da3gs.training.losses.teacher import TeacherWeights

_NANO_WEIGHTS = LossWeights(gradient_steps=(1, 4, 16, 48), gradient=0.5, world=0.5, relative=True)
_LOW = ((126, 168, 0.6), (112, 168, 0.2), (140, 140, 0.2))
_NEAR, _APART = (0.06, 0.4), (0.06, 0.65)  # matching is learnt between views that are near each other
_NANO = TrainConfig(
    name="nano",
    weights=dataclasses.replace(_NANO_WEIGHTS, rays=2.0, camera=5.0, matching=0.5, motion=2.0),
    learning_rate=5e-4,
    posed=0.2,
    stages=(
        Stage(steps=4000, sizes=((70, 98, 0.5), (84, 112, 0.5)), pixels=16 * 84 * 112, views=(2, 2), motion=_NEAR),
        Stage(steps=6000, sizes=(*_LOW, (168, 224, 0.1)), pixels=16 * 126 * 168, views=(2, 2), motion=_NEAR),
        Stage(
            steps=10000,
            sizes=(*_LOW, (168, 224, 0.1), (252, 336, 0.1)),
            pixels=16 * 126 * 168,
            views=(2, 4),
            motion=_APART,
        ),
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
_DECAY = dataclasses.replace(
    _NANO,
    name="nano-decay",
    steps=520,
    warm_up=20,
    decay=480,
    learning_rate=4e-4,
    ema=0.99,
    posed=0.3,
    validate_steps=260,
    stages=(dataclasses.replace(_NANO.stages[-1], pixels=24 * 126 * 168, views=(1, 6)),),
)
_SMALL = dataclasses.replace(
    _NANO,
    name="small",
    model="da3gs-small",
    frozen_blocks=4,
    backbone_rate=0.15,
    camera_rate=0.1,
    handheld=0.7,
    posed=0.3,
    weights=dataclasses.replace(_NANO.weights, motion=1.0),
    ema=0.998,
    stages=(
        Stage(steps=120, sizes=_LOW, pixels=6 * 126 * 168, views=(2, 2), motion=_NEAR),
        Stage(steps=330, sizes=(*_LOW, (168, 224, 0.3)), pixels=7 * 126 * 168, views=(2, 4), motion=_APART),
        Stage(
            steps=1,
            sizes=((126, 168, 0.4), (140, 140, 0.1), (168, 224, 0.5), (168, 252, 0.2), (252, 336, 0.25)),
            pixels=8 * 126 * 168,
            views=(1, 4),
        ),
    ),
    warm_up=100,
    textures=88,
    validate_steps=300,
    validation_scenes=8,
)
_SMALL_DECAY = dataclasses.replace(
    _SMALL,
    name="small-decay",
    steps=520,
    warm_up=20,
    decay=500,
    learning_rate=4e-4,
    ema=0.99,
    validate_steps=260,
    stages=(
        Stage(
            steps=1,
            sizes=((126, 168, 0.3), (168, 224, 0.5), (168, 252, 0.2), (252, 336, 0.4)),
            pixels=8 * 126 * 168,
            views=(1, 4),
        ),
    ),
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

_SPLATS = TrainConfig(
    name="nano-splats",
    model="da3gs-nano-splats",
    objective="splats",
    trained="splat_head",
    steps=800,
    learning_rate=6e-4,
    warm_up=60,
    schedule="cosine",
    ema=0.99,
    weights=_NANO_WEIGHTS,
    stages=(
        Stage(steps=400, sizes=((126, 168, 0.7), (140, 140, 0.3)), pixels=8 * 126 * 168, views=(2, 4), targets=(2, 2)),
        Stage(steps=1, sizes=((168, 224, 0.6), (252, 336, 0.4)), pixels=12 * 126 * 168, views=(2, 4), targets=(2, 2)),
    ),
    validate_steps=400,
    validation_scenes=8,
    validation_sizes=((126, 168),),
)
_JOINT = dataclasses.replace(
    _SPLATS,
    name="nano-joint",
    trained="all",
    learning_rate=1e-4,
    photo_weights=PhotoWeights(geometry=1.0),
)
_SMALL_SPLATS = dataclasses.replace(
    _SPLATS,
    name="small-splats",
    model="da3gs-small-splats",
    handheld=0.7,
    steps=600,
    warm_up=40,
    stages=(
        Stage(steps=300, sizes=((126, 168, 1.0),), pixels=6 * 126 * 168, views=(2, 3), targets=(1, 2)),
        Stage(steps=1, sizes=((168, 224, 0.8), (252, 336, 0.2)), pixels=8 * 126 * 168, views=(2, 3), targets=(1, 2)),
    ),
    validate_steps=300,
)
_MONO_SCENES = (
    ("room", 0.25), ("table", 0.2), ("clutter", 0.1), ("yard", 0.1), ("terrain", 0.2), ("wires", 0.1), ("studio", 0.05)
)  # fmt: skip
_TEACHER = TrainConfig(
    name="mono-teacher",
    model="da3gs-nano-mono",
    objective="monocular",
    steps=20000,
    stages=(
        Stage(steps=10000, sizes=_LOW, pixels=16 * 126 * 168, views=(1, 1)),
        Stage(steps=1, sizes=((168, 224, 0.5), (252, 336, 0.5)), pixels=16 * 126 * 168, views=(1, 1)),
    ),
    scenes=_MONO_SCENES,
    posed=0.0,
)
_GIANT = TrainConfig(
    name="giant",
    model="da3-giant",
    steps=200_000,
    learning_rate=2e-4,
    warm_up=8000,
    posed=0.2,
    stages=(
        Stage(
            steps=1,
            sizes=(
                (504, 504, 1.0), (504, 378, 1.0), (504, 336, 1.0), (504, 280, 1.0), (336, 504, 1.0), (896, 504, 1.0),
                (756, 504, 1.0), (672, 504, 1.0),
            ),
            pixels=18 * 504 * 504,
            views=(2, 18),
        ),
    ),
    parallel="fsdp",
    validation_sizes=((336, 504),),
)  # fmt: skip
_GIANT_SPLATS = dataclasses.replace(
    _GIANT,
    name="giant-splats",
    objective="splats",
    trained="splat_head",
    warm_up=2000,
    photo_weights=PhotoWeights(measure="mse", structure=0.0),
    stages=(
        Stage(
            steps=1,
            sizes=((252, 252, 1.0), (504, 378, 0.5), (280, 504, 0.5)),
            pixels=24 * 252 * 252,
            views=(2, 24),
            targets=(4, 8),
        ),
    ),
)

PRESETS: dict[str, TrainConfig] = {
    config.name: config
    for config in (
        _NANO,
        _DECAY,
        _SMALL,
        _SMALL_DECAY,
        _SPLATS,
        _SMALL_SPLATS,
        _JOINT,
        _SMOKE,
        _TEACHER,
        dataclasses.replace(_TEACHER, name="mono-student", teacher="TEACHER/last.safetensors", seed=1),
        dataclasses.replace(
            _TEACHER,
            name="mono-metric",
            learning_rate=5e-5,
            teacher_weights=TeacherWeights(metric=True, normals=0.0, patches=0.0, gradient=1.0),
        ),
        _GIANT,
        _GIANT_SPLATS,
    )
}
"""``nano`` makes the bundled model from nothing, at a rate that stays high; ``nano-decay`` lets it fall, from any
checkpoint, and ``nano-splats`` adds a Gaussian head (``nano-joint`` trains both on). ``small``, ``small-decay`` and
``small-splats`` are the same on a DINOv2 ViT-S/14 (``--backbone``). ``smoke`` is a quick test. ``mono-teacher``,
``mono-student`` (name the teacher with ``--set teacher=FILE``) and ``mono-metric`` are monocular. ``giant`` and
``giant-splats`` are the paper's two stages, for many GPUs and ``--data``."""
