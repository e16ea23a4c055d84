"""State of a training run, to go on exactly: one safetensors file with JSON in its header, replaced as a whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from da3gs._files import atomic_file
from da3gs.errors import CheckpointError
from da3gs.training.config import TrainConfig
from da3gs.training.distributed import spread_like
from da3gs.training.step import whole

STATE = "state.safetensors"
"""The file in a run's folder that ``--resume`` reads."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Position of a run."""

    step: int = 0
    """Steps done."""
    images: int = 0
    """Images seen."""
    seconds: float = 0.0
    """Time spent."""


def state_tensors(model: nn.Module, average: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Weights, averaged weights and the optimiser's moments, whole; every process of a run has to ask."""
    tensors: dict[str, Tensor] = {}
    names = {parameter: name for name, parameter in model.named_parameters()}
    for prefix, module in (("model", model), ("average", average)):
        for name, value in module.state_dict().items():
            tensors[f"{prefix}.{name}"] = whole(value.detach()).cpu().contiguous()
    for parameter in optimizer.state:
        for key, value in optimizer.state[parameter].items():
            moment = whole(torch.as_tensor(value)).cpu().contiguous()
            tensors[f"optimizer.{key}.{names[parameter]}"] = moment.clone()
    return tensors


def write_state(
    path: Path, tensors: dict[str, Tensor], position: Position, config: TrainConfig, origin: dict[str, str]
) -> None:
    """Write what ``state_tensors`` gives, all or nothing; ``origin`` is what the weights began from."""
    told = {"position": dataclasses.asdict(position), "config": dataclasses.asdict(config), "origin": origin}
    metadata = {name: json.dumps(values) for name, values in told.items()}
    with atomic_file(path, overwrite=True) as temporary:
        save_file(tensors, temporary, metadata=metadata)


class LoadedState:
    """A state file, read; put into modules in two steps, since sharding comes between.

    Raises:
        CheckpointError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                self._tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.position = Position(**json.loads(metadata["position"]))
            """How far the run was."""
            self.config: dict[str, Any] = json.loads(metadata["config"])
            """Its config, as plain values."""
            self.origin: dict[str, str] = json.loads(metadata.get("origin", "{}"))
            """What its weights began from."""
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise self._problem(error) from error

    def _problem(self, error: Exception) -> CheckpointError:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        return CheckpointError(f"cannot resume from {self._path.name}: {detail}; start a new run in another folder")

    def fill(self, model: nn.Module, average: nn.Module) -> None:
        """The weights into networks that are not sharded yet.

        Raises:
            CheckpointError: they are those of another network.
        """
        try:
            for prefix, module in (("model.", model), ("average.", average)):
                found = {k.removeprefix(prefix): v for k, v in self._tensors.items() if k.startswith(prefix)}
                module.load_state_dict(found)
        except (RuntimeError, KeyError) as error:
            raise self._problem(error) from error

    def fill_optimizer(self, model: nn.Module, optimizer: torch.optim.AdamW) -> None:
        """The moments into the optimiser of a network, which may be sharded by now."""
        for name, parameter in model.named_parameters():
            found = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = self._tensors.get(f"optimizer.{key}.{name}")
                if value is not None:
                    found[key] = value if key == "step" else spread_like(value, parameter)
            if found:
                optimizer.state[parameter] = found
