"""The training loop: steps, the averaged weights, the log, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from da3gs._files import atomic_file
from da3gs._progress import Progress, silent
from da3gs.checkpoints import checkpoint_card, load_model, save_checkpoint
from da3gs.errors import BackendError, CheckpointError, InputError
from da3gs.network.model import DepthAnything3
from da3gs.training.config import TrainConfig, load_config
from da3gs.training.data import Batch, Batches, validation_batches
from da3gs.training.fresh import awaken
from da3gs.training.losses import conditioning, scene_truth, total_loss
from da3gs.training.state import STATE, Position, load_state, save_state
from da3gs.training.validation import Figures, validate

LAST = "last.safetensors"
"""The file in a run's folder that ``--model`` takes: the averaged weights."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False, kw_only=True, slots=True)
class _Run:
    """A run in memory."""

    folder: Path
    config: TrainConfig
    model: DepthAnything3
    average: DepthAnything3
    optimizer: torch.optim.AdamW
    position: Position = dataclasses.field(default_factory=Position)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


def train(
    config: TrainConfig | str,
    run: Path | str,
    *,
    resume: bool = False,
    steps: int | None = None,
    init: Path | str | None = None,
    device: str = "auto",
    seed: int | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a model on procedural scenes; returns figures of the run.

    ``run/last.safetensors`` (averaged weights, usable by ``load_model``) and ``run/state.safetensors`` are replaced
    every few minutes, at the end, and on SIGINT or SIGTERM. On the CPU a resumed run makes the same weights, bit for
    bit, as one that never stopped.

    Args:
        config: a preset's name, the path of a TOML file, or a record.
        run: the folder; created.
        resume: go on from the checkpoint in ``run``.
        steps: stop after so many steps of the whole run, instead of the config's number.
        init: start from the weights of this checkpoint (a name or a file) instead of fresh ones; images that a file's
            card says were seen are counted on.
        device: only the CPU so far.
        seed: instead of the config's.
        threads: threads that make scenes beside the training.
        progress: told after every step.

    Raises:
        InputError: the config is wrong, or the folder holds a run already and ``resume`` is not set.
        CheckpointError: there is nothing to resume from, or ``init`` does not fit.
        BackendError: the loss is not finite any more.
        KeyboardInterrupt: a signal came; everything is saved.
    """
    settings = load_config(config) if isinstance(config, str) else config
    settings = dataclasses.replace(
        settings,
        steps=settings.steps if steps is None else steps,
        seed=settings.seed if seed is None else seed,
    )
    if device not in ("auto", "cpu"):
        raise InputError(f"device={device!r}: training runs on the CPU so far; leave --device out")
    # oneDNN compiles every operation for every shape; its default cache is too small for our many image sizes.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    state = _open(Path(run), settings, resume=resume, init=init)
    with Batches(state.config, threads=threads) as batches, _interruptible() as stopped:
        _steps(state, batches, stopped, progress)
    return {
        "run": state.folder.name,
        "model": str(state.folder / LAST),
        **dataclasses.asdict(state.position),
        **state.figures,
    }


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


def training_step(
    model: DepthAnything3, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig
) -> dict[str, Tensor]:
    """One step of the optimiser; returns the losses.

    Raises:
        BackendError: the loss or the gradient is not finite; the weights are as before.
    """
    truth = scene_truth(batch.depth, batch.cameras)
    given = conditioning(batch.cameras) if batch.posed else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
        outputs = model.raw(batch.images, given, rays=True, reference="first", mixed_heads=True)
    total, parts = total_loss(outputs, truth, config.weights)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    if not math.isfinite(float(total.detach())) or not math.isfinite(float(norm)):
        raise BackendError(
            f"the loss is {float(total.detach())} and its gradient {float(norm)}; the last checkpoint is intact: "
            "resume from it with a lower learning_rate"
        )
    optimizer.step()
    return {"loss": total.detach(), "gradient_norm": norm.detach(), **{k: v.detach() for k, v in parts.items()}}


def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the present ones; fast at first, when there is little to average."""
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        mine, others = list(average.parameters()), list(model.parameters())
        torch._foreach_mul_(mine, keep)
        torch._foreach_add_(mine, others, alpha=1 - keep)


def _open(folder: Path, config: TrainConfig, *, resume: bool, init: Path | str | None) -> _Run:
    torch.manual_seed(config.seed)
    model, average = DepthAnything3(config.network()), DepthAnything3(config.network())
    if resume and not (folder / STATE).is_file():
        raise CheckpointError(f"{folder.name} holds no {STATE}; start the run without --resume")
    if not resume and (folder / STATE).is_file():
        raise InputError(f"{folder.name} holds a run already; pass --resume, or choose another folder")
    seen = 0
    if init is None and not resume:
        with Batches(config) as batches:
            awaken(model, batches.batch(0).images)
    if init is not None and not resume:
        start = load_model(init)
        seen = int(checkpoint_card(init).get("images_seen", 0)) if Path(init).is_file() else 0
        if start.config != model.config:
            raise CheckpointError(f"{Path(init).name} is another network than {config.model}; choose the right preset")
        model.load_state_dict(start.state_dict())
    model, average = model.to(memory_format=torch.channels_last), average.to(memory_format=torch.channels_last)
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=0.0, betas=config.betas)
    state = _Run(folder=folder, config=config, model=model, average=average, optimizer=optimizer)
    state.position = Position(images=seen)
    if resume:
        state.position, _ = load_state(folder / STATE, model, average, optimizer)
        _cut_log(folder / "log.csv", state.position.step)
    else:
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "config.json", overwrite=True) as path:
        path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")
    return state


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that a killed run made after its last checkpoint."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for i, line in enumerate(lines) if i == 0 or int(line.partition(",")[0] or 0) <= step]
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of ending the process (in the main thread only)."""
    event = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _steps(state: _Run, batches: Batches, stopped: threading.Event, progress: Progress) -> None:
    config, begun = state.config, time.monotonic()
    before, saved = state.position.seconds, begun
    sums: dict[str, float] = {}
    summed = 0
    held_out: list[tuple[str, list[Batch]]] = []
    coming = batches.from_step(state.position.step)
    while state.position.step < config.steps and not stopped.is_set():
        step = state.position.step
        batch = next(coming)
        for group in state.optimizer.param_groups:
            group["lr"] = config.rate(step)
        losses = training_step(state.model, state.optimizer, batch, config)
        update_average(state.average, state.model, step, config.ema)
        now = time.monotonic()
        images = batch.images.shape[0] * batch.images.shape[1]
        state.position = Position(step=step + 1, images=state.position.images + images, seconds=before + now - begun)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        summed += 1
        if (step + 1) % config.log_steps == 0:
            shares = {"data_share": batches.waited / (now - begun), "rate": config.rate(step)}
            _write_log(state, {k: v / summed for k, v in sums.items()} | shares)
            sums, summed = {}, 0
        if config.validate_steps and (step + 1) % config.validate_steps == 0:
            held_out = held_out or [
                (f"{h}x{w}", validation_batches(config.validation_scenes, (h, w))) for h, w in config.validation_sizes
            ]
            _validate(state, held_out)
        if now - saved > config.save_seconds:
            save(state)
            saved = now
        progress("training", step + 1, config.steps)
    save(state)
    if stopped.is_set():
        raise KeyboardInterrupt


def save(state: _Run) -> None:
    """Write both files of a run."""
    card = {"steps": state.position.step, "images_seen": state.position.images, "figures": state.figures}
    save_checkpoint(state.average, state.folder / LAST, card=card, dtype=torch.float16, overwrite=True)
    save_state(state.folder / STATE, state.position, state.config, state.model, state.average, state.optimizer)


def _write_log(state: _Run, values: dict[str, float]) -> None:
    row = {**dataclasses.asdict(state.position), **values}
    _append(state.folder / "log.csv", {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def _append(path: Path, row: dict[str, Any]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _validate(state: _Run, held_out: list[tuple[str, list[Batch]]]) -> None:
    for posed in (False, True):
        for size, batches in held_out:
            figures: Figures = validate(state.average, batches, posed=posed)
            values = {k: round(v, 4) for k, v in dataclasses.asdict(figures).items()}
            row = {"step": state.position.step, "size": size, "posed": int(posed), **values}
            _append(state.folder / "validation.csv", row)
            _log.info("validation %s", row)
            state.figures[f"{size}{' posed' if posed else ''}"] = values
