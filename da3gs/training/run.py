"""A run in memory: opened fresh, from other weights, or from its last checkpoint; and saved."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from da3gs._files import atomic_file
from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.errors import CheckpointError, InputError
from da3gs.network.config import ModelConfig
from da3gs.network.model import DepthAnything3
from da3gs.training.config import TrainConfig
from da3gs.training.data import Batches
from da3gs.training.distributed import Ranks, shard_like, shared, whole_state
from da3gs.training.networks import same_but_for_splats
from da3gs.training.state import STATE, LoadedState, Position, state_tensors, write_state
from da3gs.training.step import Objective
from da3gs.training.weight_init import awaken, awaken_splats

LAST = "last.safetensors"
"""The file in a run's folder that ``--model`` takes: the averaged weights."""


@dataclasses.dataclass(eq=False, kw_only=True, slots=True)
class Run:
    """A run in memory."""

    folder: Path
    """Where its files are."""
    config: TrainConfig
    """What it does."""
    model: DepthAnything3
    """The weights that learn."""
    average: DepthAnything3
    """Their moving average."""
    objective: nn.Module
    """The model with its losses, as one process of the run sees it."""
    optimizer: torch.optim.AdamW
    """Of the model."""
    ranks: Ranks
    """The processes that share it."""
    device: torch.device
    """Where this process computes."""
    position: Position = dataclasses.field(default_factory=Position)
    """How far it is."""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The last validation."""


def open_run(
    folder: Path, config: TrainConfig, *, resume: bool, init: Path | str | None, ranks: Ranks, device: torch.device
) -> Run:
    """A run that can go on.

    Raises:
        InputError: the folder holds a run already and ``resume`` is not set.
        CheckpointError: there is nothing to resume from, or ``init`` does not fit.
    """
    if resume and not (folder / STATE).is_file():
        raise CheckpointError(f"{folder.name} holds no {STATE}; start the run without --resume")
    if not resume and (folder / STATE).is_file():
        raise InputError(f"{folder.name} holds a run already; pass --resume, or choose another folder")
    torch.manual_seed(config.seed)
    network = config.network()
    model, average = DepthAnything3(network), DepthAnything3(network)
    position, loaded = Position(), None
    if resume:
        loaded = LoadedState(folder / STATE)
        loaded.fill(model, average)
        position = loaded.position
    elif init is None:
        with Batches(config) as batches:
            awaken(model, batches.batch(0).images)
        awaken_splats(model)
    else:
        position = Position(images=_start_from(model, init, config))
    sharded = ranks.count > 1 and config.parallel == "fsdp"  # which takes contiguous weights only
    for part in (model, average):
        part.to(device=device, memory_format=torch.contiguous_format if sharded else torch.channels_last)
    if loaded is None:
        average.load_state_dict(model.state_dict())
    average.requires_grad_(False).eval()
    freeze(model, config)
    objective = shared(Objective(model, config), config, ranks, device)
    shard_like(average, config, ranks, device)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=0.0, betas=config.betas, fused=True)
    if loaded is not None:
        loaded.fill_optimizer(model, optimizer)
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "config.json", overwrite=True) as path:
            path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")
    return Run(
        folder=folder, config=config, model=model, average=average, objective=objective, optimizer=optimizer,
        ranks=ranks, device=device, position=position,
    )  # fmt: skip


def _start_from(model: DepthAnything3, init: Path | str, config: TrainConfig) -> int:
    """Take over the weights of a checkpoint; returns the images that its card says were seen.

    A checkpoint without a splat head can begin a run that has one; the head is fresh then.
    """
    start = load_model(init)
    name = Path(init).name
    if not isinstance(start.config, ModelConfig) or not same_but_for_splats(start.config, model.config):
        raise CheckpointError(f"{name} is another network than {config.model}; choose the right preset, or --model")
    both = start.config.splats == model.config.splats
    if not both and start.config.splats is not None and model.config.splats is not None:
        raise CheckpointError(f"{name} has another splat head than {config.model}; choose the right preset, or --model")
    weights = {k: v for k, v in start.state_dict().items() if both or not k.startswith("splat_head.")}
    model.load_state_dict(weights, strict=both)
    if not both:
        awaken_splats(model)
    return int(checkpoint_card(init).get("images_seen", 0)) if Path(init).is_file() else 0


def freeze(model: DepthAnything3, config: TrainConfig) -> None:
    """Let only those weights learn that shall."""
    if config.trained == "splat_head":
        model.requires_grad_(False)
        assert model.splat_head is not None
        model.splat_head.requires_grad_(True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels, which decay, and everything else, which does not."""
    decaying = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) in decaying], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]


def save(run: Run) -> None:
    """Write both files of a run; all of its processes have to call it."""
    tensors = state_tensors(run.model, run.average, run.optimizer)
    if run.ranks.first:
        average = run.average
        if run.ranks.count > 1:  # a copy that is not spread
            average = DepthAnything3(run.model.config)
            average.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k[:8] == "average."})
        card = {"steps": run.position.step, "images_seen": run.position.images, "figures": run.figures}
        write_state(run.folder / STATE, tensors, run.position, run.config)
        save_checkpoint(average, run.folder / LAST, card=card, dtype=torch.float16, overwrite=True)
    run.ranks.barrier()


def whole_average(run: Run) -> DepthAnything3:
    """The averaged network, not spread; all processes have to ask."""
    if run.ranks.count == 1 or run.config.parallel == "ddp":
        return run.average
    model = DepthAnything3(run.model.config)
    model.load_state_dict(whole_state(run.average))
    return model.to(run.device).requires_grad_(False).eval()
