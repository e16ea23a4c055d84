"""What a run needs to go on exactly: one safetensors file with JSON in its header, replaced as a whole."""

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

STATE = "state.safetensors"
"""The file in a run's folder that ``--resume`` reads."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a run is."""

    step: int = 0
    """Steps done."""
    images: int = 0
    """Images seen."""
    seconds: float = 0.0
    """Time spent."""


def save_state(
    path: Path,
    position: Position,
    config: TrainConfig,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.AdamW,
) -> None:
    """Write weights, averaged weights, the optimiser's moments and the position, all or nothing."""
    tensors: dict[str, Tensor] = {}
    names = {parameter: name for name, parameter in model.named_parameters()}
    for prefix, module in (("model", model), ("average", average)):
        tensors |= {f"{prefix}.{name}": value.contiguous() for name, value in module.state_dict().items()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"optimizer.{key}.{names[parameter]}"] = torch.as_tensor(value).contiguous().clone()
    metadata = {"position": json.dumps(dataclasses.asdict(position)), "config": json.dumps(dataclasses.asdict(config))}
    with atomic_file(path, overwrite=True) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_state(
    path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.AdamW
) -> tuple[Position, dict[str, Any]]:
    """Read what ``save_state`` wrote into these modules; returns the position and the config's plain values.

    Raises:
        CheckpointError: the file cannot be read or belongs to another network.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 not a mapping
        position = Position(**json.loads(metadata["position"]))
        for prefix, module in (("model", model), ("average", average)):
            module.load_state_dict({k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(prefix + ".")})
        for name, parameter in model.named_parameters():
            keys = ("step", "exp_avg", "exp_avg_sq")
            moments = {k: tensors[f"optimizer.{k}.{name}"] for k in keys if f"optimizer.{k}.{name}" in tensors}
            if moments:
                optimizer.state[parameter] = moments
        return position, json.loads(metadata["config"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        detail = str(error).splitlines()[0]
        raise CheckpointError(f"cannot resume from {path.name}: {detail}; start a new run in another folder") from error
