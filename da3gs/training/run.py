"""A run in memory: opened fresh, from other weights, or from its last checkpoint; and saved."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from da3gs._files import atomic_file, sha256
from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.errors import CheckpointError, InputError
from da3gs.network.config import ModelConfig
from da3gs.network.model import DepthAnything3
from da3gs.training.config import TrainConfig
from da3gs.training.data.loader import Batches
from da3gs.training.distributed import Ranks, shard_like, shared, whole_state
from da3gs.training.networks import same_but_for_splats
from da3gs.training.pretrained import (
    begin_with_backbone,
    camera_decoder_is_dead,
    fit_camera_decoder,
    frozen_parts,
    rate_scales,
)
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
    origin: dict[str, str] = dataclasses.field(default_factory=dict)
    """What the weights began from, for the card."""


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
        position, origin = loaded.position, loaded.origin
    elif init is None:
        origin = _awaken(model, config)
    else:
        images, origin = _start_from(model, init, config)
        position = Position(images=images)
    sharded = ranks.count > 1 and config.parallel == "fsdp"  # which takes contiguous weights only
    for part in (model, average):
        part.to(device=device, memory_format=torch.contiguous_format if sharded else torch.channels_last)
    if loaded is None:
        average.load_state_dict(model.state_dict())
    average.requires_grad_(False).eval()
    freeze(model, config)
    objective = shared(Objective(model, config), config, ranks, device)
    shard_like(average, config, ranks, device)
    groups = parameter_groups(model, config.weight_decay, rate_scales(model, config))
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=True)
    if loaded is not None:
        loaded.fill_optimizer(model, optimizer)
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "config.json", overwrite=True) as path:
            path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")
    return Run(
        folder=folder, config=config, model=model, average=average, objective=objective, optimizer=optimizer,
        ranks=ranks, device=device, position=position, origin=origin,
    )  # fmt: skip


def _awaken(model: DepthAnything3, config: TrainConfig) -> dict[str, str]:
    """Fresh weights, or a pretrained backbone with fresh heads; returns what it was, for the card."""
    if config.frozen_blocks and not config.backbone:
        raise InputError(
            f"frozen_blocks = {config.frozen_blocks} keeps weights that are there already; pass --backbone FILE with "
            "DINOv2 weights, or --init"
        )
    with Batches(config) as batches:
        images = batches.batch(0).images
    origin = {}
    if config.backbone:
        begin_with_backbone(model, config.backbone, images)
        file = Path(config.backbone)
        origin = {"backbone": file.name, "backbone_sha256": sha256(file) if file.is_file() else ""}
    else:
        awaken(model, images)
    awaken_splats(model)
    return origin


def _start_from(model: DepthAnything3, init: Path | str, config: TrainConfig) -> tuple[int, dict[str, str]]:
    """Take over the weights of a checkpoint; returns what its card says: images seen, and what it began from.

    A checkpoint without a splat head can begin a run that has one; the head is fresh then.
    """
    if config.backbone:
        raise InputError("--init brings a backbone of its own; leave --backbone out, or --init")
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
    if config.objective == "geometry":
        with Batches(config) as batches:
            images = batches.batch(0).images
        if camera_decoder_is_dead(model, images):
            fit_camera_decoder(model, images)
    card = checkpoint_card(init) if Path(init).is_file() else {}
    origin = {key: str(value) for key, value in card.items() if key in ("backbone", "backbone_sha256")}
    return int(card.get("images_seen", 0)), origin


def freeze(model: DepthAnything3, config: TrainConfig) -> None:
    """Let only those weights learn that shall."""
    if config.trained == "splat_head":
        model.requires_grad_(False)
        assert model.splat_head is not None
        model.splat_head.requires_grad_(True)
    for parameter in frozen_parts(model, config):
        parameter.requires_grad_(False)


def parameter_groups(
    model: nn.Module, weight_decay: float, scales: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """Matrices and kernels, which decay, and everything else, which does not; apart by the ``scale`` of their rate.

    Args:
        model: those of its parameters that learn.
        weight_decay: of the first kind.
        scales: what the learning rate of a parameter (by ``id``) is multiplied by; others: 1.
    """
    decaying = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    kinds: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            scale = (scales or {}).get(id(parameter), 1.0)
            kinds.setdefault((scale, id(parameter) in decaying), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "scale": scale}
        for (scale, decays), parameters in kinds.items()
    ]


def save(run: Run) -> None:
    """Write both files of a run; all of its processes have to call it."""
    tensors = state_tensors(run.model, run.average, run.optimizer)
    if run.ranks.first:
        average = run.average
        if run.ranks.count > 1:  # a copy that is not spread
            average = DepthAnything3(run.model.config)
            average.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k[:8] == "average."})
        card = {**run.origin, "steps": run.position.step, "images_seen": run.position.images, "figures": run.figures}
        write_state(run.folder / STATE, tensors, run.position, run.config, run.origin)
        save_checkpoint(average, run.folder / LAST, card=card, dtype=torch.float16, overwrite=True)
    run.ranks.barrier()


def whole_average(run: Run) -> DepthAnything3:
    """The averaged network, not spread; all processes have to ask."""
    if run.ranks.count == 1 or run.config.parallel == "ddp":
        return run.average
    model = DepthAnything3(run.model.config)
    model.load_state_dict(whole_state(run.average))
    return model.to(run.device).requires_grad_(False).eval()
