"""``da3gs train``: a model from scratch, or further than it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Optional

from tyro.conf import Positional, UseAppendAction

from da3gs.cli._parse import SEEDED_COMPUTING, Command, SeededComputingOptions, Switch, option
from da3gs.cli._session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a model; RUN/last.safetensors can be given to --model at any time."""

    waits_asleep: ClassVar[bool] = False

    config: Annotated[Positional[str], option("CONFIG.toml|PRESET", hint="")]
    """What to train: a preset's name, or a file."""
    output: Annotated[str, option("RUN", "-o", hint="(required)")]
    """The folder of the run."""
    resume: Switch = False
    """Go on from the last checkpoint in RUN."""
    init: Annotated[Optional[str], option("MODEL", hint="")] = None
    """Start from the weights of this model, file or official folder, such as another run's last.safetensors."""
    backbone: Annotated[Optional[str], option("FILE", hint="")] = None
    """Begin with the DINOv2 weights of this file, official or from Hugging Face, .safetensors or .pth."""
    model: Annotated[Optional[str], option("NAME", hint="")] = None
    """The network; default: that of the preset."""
    data: Annotated[Optional[str], option("ROOT", hint="")] = None
    """Real scenes to train on: DL3DV folders or chunks, nerfstudio folders, COLMAP models."""
    set: Annotated[UseAppendAction[tuple[str, ...]], option("NAME=VALUE", hint="")] = ()
    """A field of the config, such as learning_rate=1e-4 or weights.camera=0; may be given several times."""
    steps: Annotated[Optional[int], option("N", hint="")] = None
    """Optimiser steps; default: those of the preset."""
    common: SeededComputingOptions = SEEDED_COMPUTING

    def run(self, session: Session) -> int:
        """Train until the steps are done."""
        from da3gs.training import train

        with session.progress() as progress:
            record = train(
                self.config,
                Path(self.output),
                resume=self.resume,
                init=self.init,
                backbone=self.backbone,
                model=self.model,
                data=self.data,
                settings=self.set,
                steps=self.steps,
                device=self.common.device,
                seed=self.common.seed,
                progress=progress,
            )
        if not record:  # another process of the run tells
            return 0
        session.result(record)
        for key, value in record.items():
            session.print(f"{key}: {value}")
        return 0


COMMAND = Train
