"""The training loop: steps, the averaged weights, the log, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from da3gs._memory import kept_memory
from da3gs._progress import Progress, silent
from da3gs.training.config import TrainConfig
from da3gs.training.config_files import load_config
from da3gs.training.data.loader import Batches
from da3gs.training.data.pseudo_labels import Labeller
from da3gs.training.distributed import joined, local_device
from da3gs.training.run import LAST, Run, open_run, save
from da3gs.training.run_log import Record
from da3gs.training.step import training_step


def train(
    config: TrainConfig | str,
    run: Path | str,
    *,
    resume: bool = False,
    steps: int | None = None,
    init: Path | str | None = None,
    backbone: Path | str | None = None,
    model: str | None = None,
    data: Path | str | None = None,
    settings: tuple[str, ...] = (),
    device: str = "auto",
    seed: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a model; returns figures of the run. Under ``torchrun`` all processes work on it, the first one tells.

    ``run/last.safetensors`` (averaged weights, usable by ``load_model``) and ``run/state.safetensors`` are replaced
    every few minutes, at the end, and on SIGINT or SIGTERM. On the CPU a resumed run makes the same weights, bit for
    bit, as one that never stopped.

    Args:
        config: a preset's name, the path of a TOML file, or a record.
        run: the folder; created.
        resume: go on from the checkpoint in ``run``.
        steps: stop after so many steps of the whole run, instead of the config's number.
        init: start from the weights of this checkpoint (a name, a file or an official folder) instead of fresh ones;
            images that a file's card says were seen are counted on.
        backbone: DINOv2 weights that the backbone begins from, instead of the config's file: official or Hugging Face
            names, .safetensors or .pth.
        model: the network, instead of the config's.
        data: a root of real scenes, instead of the config's.
        settings: single changes of the config, such as ``"learning_rate=1e-4"``.
        device: auto, cpu or cuda.
        seed: instead of the config's.
        threads: threads that make scenes; by default as many as there are cores for.
        progress: told after every step.

    Raises:
        InputError: the config is wrong, or the folder holds a run already and ``resume`` is not set.
        CheckpointError: there is nothing to resume from, or ``init`` or ``backbone`` does not fit.
        BackendError: the loss is not finite any more, or another process of the run was lost.
        KeyboardInterrupt: a signal came; everything is saved.
    """
    chosen = load_config(config, settings=settings) if isinstance(config, str) else config
    changes: dict[str, Any] = {
        "steps": steps,
        "seed": seed,
        "model": model,
        "data": None if data is None else str(data),
        "backbone": None if backbone is None else str(backbone),
    }
    chosen = dataclasses.replace(chosen, **{name: value for name, value in changes.items() if value is not None})
    chosen.network()
    place = local_device(device)
    # oneDNN compiles every operation for every shape; its default cache is too small for our many image sizes.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    with kept_memory(), joined(place) as ranks:
        labeller = Labeller(chosen, place) if chosen.teacher else None
        here = place.type == "cpu"
        threads = threads or (torch.get_num_threads() if here else max(1, (os.cpu_count() or 2) // ranks.count - 1))
        with Batches(
            chosen, threads=threads, ahead=3 * threads, bursts=here, rank=ranks.rank, ranks=ranks.count
        ) as batches:
            state = open_run(Path(run), chosen, resume=resume, init=init, ranks=ranks, device=place)
            with _interruptible() as stopped:
                _steps(state, batches, labeller, stopped, progress if ranks.first else silent)
        ranks.barrier()
    if not ranks.first:
        return {}
    return {
        "run": state.folder.name,
        "model": str(state.folder / LAST),
        **dataclasses.asdict(state.position),
        **state.figures,
    }


def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the present ones; fast at first, when there is little to average."""
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        mine, others = list(average.parameters()), list(model.parameters())
        torch._foreach_mul_(mine, keep)
        torch._foreach_add_(mine, others, alpha=1 - keep)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of ending the process (in the main thread only)."""
    event = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        """Ask the loop to stop after this step."""
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


def _steps(run: Run, batches: Batches, labeller: Labeller | None, stopped: threading.Event, progress: Progress) -> None:
    config, begun = run.config, time.monotonic()
    before, saved = run.position.seconds, begun
    coming = batches.from_step(run.position.step)
    end = False
    with Record(run) as record:
        while run.position.step < config.steps and not end:
            step = run.position.step
            seen = [batch.to(run.device) for batch in next(coming)]
            if labeller is not None:
                seen = [labeller(batch) for batch in seen]
            for group in run.optimizer.param_groups:
                group["lr"] = group["scale"] * config.rate(step)
            losses = training_step(run.objective, run.optimizer, seen, config.clip)
            update_average(run.average, run.model, step, config.ema)
            now = time.monotonic()
            images = run.ranks.count * sum(len(batch.images) * batch.context for batch in seen)
            run.position = dataclasses.replace(
                run.position, step=step + 1, images=run.position.images + images, seconds=before + now - begun
            )
            record.step(losses, batches.waited / max(now - begun, 1e-9))
            end = run.ranks.any(stopped.is_set())
            if run.ranks.any(now - saved > config.save_seconds) and not end:
                save(run)
                saved = now
            progress("training", step + 1, config.steps)
    save(run)
    if end and run.position.step < config.steps:
        raise KeyboardInterrupt
