"""Log of a training run: CSV, TensorBoard, validation figures and pictures."""

from __future__ import annotations

import csv
import dataclasses
import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from da3gs._files import atomic_file
from da3gs._optional import require
from da3gs.procedural.scenes import checked_kinds
from da3gs.training.data.batch import Batch
from da3gs.training.data.loader import validation_batches
from da3gs.training.pictures import validation_picture
from da3gs.training.run import Run, whole_average
from da3gs.training.validation import validate, validate_monocular, validate_splats

_log = logging.getLogger(__name__)


class Record:
    """The log of a run; use as a context manager. All processes call it, the first one writes."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sums: dict[str, float] = {}
        self._count = 0
        self._held_out: list[tuple[str, list[Batch]]] = []
        self._board: Any = None
        if run.ranks.first and run.position.step:
            cut_log(run.folder / "log.csv", run.position.step)
            cut_log(run.folder / "validation.csv", run.position.step)
        if run.config.tensorboard and run.ranks.first:
            board = require("torch.utils.tensorboard", why="tensorboard = true")
            self._board = board.SummaryWriter(run.folder / "tensorboard", purge_step=run.position.step)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def step(self, losses: dict[str, Tensor], data_share: float) -> None:
        """Note the losses of the step that was just done; log and validate where it is time."""
        run, config = self._run, self._run.config
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        done = run.position.step
        if done % config.log_steps == 0:
            means = {name: value / self._count for name, value in self._sums.items()}
            self._write(means | {"data_share": data_share, "rate": config.rate(done - 1)})
            self._sums, self._count = {}, 0
        if config.validate_steps and done % config.validate_steps == 0:
            self._validate()

    def _write(self, values: dict[str, float]) -> None:
        run = self._run
        if not run.ranks.first:
            return
        row = {**dataclasses.asdict(run.position), **values}
        append(run.folder / "log.csv", {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"training/{name}", value, run.position.step)

    def _validate(self) -> None:
        run, config = self._run, self._run.config
        model = whole_average(run)
        if run.ranks.first:
            splats = config.objective == "splats"
            kinds = checked_kinds(config.scenes)
            self._held_out = self._held_out or [
                (f"{h}x{w}", validation_batches(config.validation_scenes, (h, w), targets=2 * splats, kinds=kinds))
                for h, w in config.validation_sizes
            ]
            for posed in (False,) if config.objective == "monocular" else (False, True):
                for size, batches in self._held_out:
                    match config.objective:
                        case "monocular":
                            figures = validate_monocular(model, batches)
                        case "splats":
                            figures = validate_splats(model, batches, posed=posed)
                        case "geometry":
                            figures = dataclasses.asdict(validate(model, batches, posed=posed))
                    self._note(size, posed, {k: round(v, 4) for k, v in figures.items()})
            picture = validation_picture(model, self._held_out[-1][1][0])
            folder = run.folder / "pictures"
            folder.mkdir(exist_ok=True)
            with atomic_file(folder / f"{run.position.step:07d}.png", overwrite=True) as path:
                picture.save(path, "PNG")
        run.ranks.barrier()

    def _note(self, size: str, posed: bool, values: dict[str, float]) -> None:
        run = self._run
        row = {"step": run.position.step, "size": size, "posed": int(posed), **values}
        append(run.folder / "validation.csv", row)
        _log.info("validation %s", row)
        label = f"{size}{' posed' if posed else ''}"
        run.figures[label] = values
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"validation {label}/{name}", value, run.position.step)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a CSV file; a new file gets a header. Columns that an old header lacks are left out."""
    header: list[str] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header or list(row), extrasaction="ignore")
        if not header:
            writer.writeheader()
        writer.writerow(row)


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that a killed run made after its last checkpoint, and a line that was not finished."""
    if not path.is_file():
        return
    kept = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True)):
        first = line.partition(",")[0]
        if number == 0 or (line.endswith("\n") and first.isdigit() and int(first) <= step):
            kept.append(line)
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
