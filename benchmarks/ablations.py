"""The paper's ablations at nano scale: which losses, which arrangement of blocks, one head or two, poses or none.

    python -m benchmarks.ablations -o FOLDER [--steps 600] [--seeds 0 1 2] [--only NAME ...] [--scenes 24] [--save NAME]

Every run is a preset with one or two settings changed (``da3gs train smoke --set ...`` would do the same), in a folder
of its own: a stopped run goes on, a finished one is not done again. The table gives the mean over seeds and the spread
(largest minus smallest); a difference from the first row that is inside the larger of both spreads is marked as none.
Cameras are judged from the camera decoder and from the rays, whichever a variant learns; posed rows are told the poses.
The teacher is a monocular network trained first, for as many steps on single pictures; with it, the depth that is
learnt is the teacher's, laid on the true one by a scale and a shift for each view.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import save_table
from da3gs.checkpoints import load_model
from da3gs.network.model import DepthAnything3
from da3gs.training import TrainConfig, load_config, train
from da3gs.training.data.batch import Batch
from da3gs.training.data.loader import validation_batches
from da3gs.training.run import LAST
from da3gs.training.state import STATE, LoadedState
from da3gs.training.validation import validate

TEACHER = "TEACHER"
"""What stands in a setting for the file of the teacher."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "depth+ray+cam": (),
    "depth+ray": ("weights.camera=0",),
    "depth+cam": ("weights.rays=0", "weights.points=0"),
    "depth+points+cam": ("weights.rays=0",),
    "full alternation": ("architecture.backbone.global_from=0",),
    "late alternation (two halves)": ("architecture.backbone.global_from=6",),
    "two pyramids": ("architecture.head.shared=false",),
    "without pose conditioning": ("posed=0",),
    "with a teacher": ("teacher=" + TEACHER,),
}
"""Settings by name; the first is the baseline. ``late alternation`` stands for the two transformers of VGGT: the first
half sees single views, the second half alternates; blocks and weights are as many as in the others. ``two pyramids``
is depth and rays without the dual DPT's shared part."""

COLUMNS = ("absrel", "delta1", "auc30 camera", "auc30 rays", "auc30 posed")
HIGHER = {"delta1", "auc30 camera", "auc30 rays", "auc30 posed"}


def config_of(variant: str, seed: int, steps: int, teacher: Path | None = None) -> TrainConfig:
    """The config of one run; ``teacher`` is the file of the monocular network, where the variant has one."""
    fixed = (f"steps={steps}", f"seed={seed}", "validate_steps=0", "schedule=cosine", "textures=66", "save_seconds=60")
    own = (setting.replace(TEACHER, str(teacher)) for setting in VARIANTS[variant])
    return load_config("smoke", settings=(*fixed, *own))


def teacher_of(folder: Path, steps: int) -> Path:
    """The monocular network that teaches, trained now or before."""
    place = folder / "teacher"
    like = load_config("smoke")
    stages = (dataclasses.replace(like.stages[0], views=(1, 1)),)
    config = dataclasses.replace(
        load_config("mono-teacher"), steps=steps, stages=stages, schedule="cosine", learning_rate=like.learning_rate,
        warm_up=like.warm_up, ema=like.ema, textures=66, validate_steps=0, save_seconds=60.0, seed=9,
    )  # fmt: skip
    resume = (place / STATE).is_file()
    if not resume or LoadedState(place / STATE).position.step < steps:
        train(config, place, resume=resume)
    return place / LAST


def run_once(folder: Path, variant: str, seed: int, steps: int, held_out: list[Batch]) -> dict[str, float]:
    """Figures of one run, trained now, finished now, or read from when it was done."""
    place = folder / f"{variant.replace(' ', '_').replace('+', '_')}-{seed}"
    done = place / "figures.json"
    if done.is_file() and (found := json.loads(done.read_text(encoding="utf-8")))["steps"] == steps:
        return found
    resume = (place / STATE).is_file()
    if not resume or LoadedState(place / STATE).position.step < steps:
        taught = any(TEACHER in setting for setting in VARIANTS[variant])
        teacher = teacher_of(folder, steps) if taught else None
        train(config_of(variant, seed, steps, teacher), place, resume=resume)
    model = load_model(place / LAST)
    assert isinstance(model, DepthAnything3)
    from_camera, from_rays = validate(model, held_out), validate(model, held_out, poses="rays")
    posed = validate(model, held_out, posed=True)
    figures = {
        "steps": steps,
        "seconds": round(LoadedState(place / STATE).position.seconds, 1),
        "absrel": from_camera.absrel,
        "constant absrel": from_camera.constant_absrel,
        "delta1": from_camera.delta1,
        "auc30 camera": from_camera.auc30,
        "auc30 rays": from_rays.auc30,
        "auc30 posed": posed.auc30,
    }
    done.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and spread of every column, and whether it differs from the first variant by more than the spread."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    base: dict[str, dict[str, Any]] = {}
    for variant, figures in runs.items():
        found[variant] = {}
        for column in COLUMNS:
            values = [f[column] for f in figures]
            cell: dict[str, Any] = {"mean": sum(values) / len(values), "spread": max(values) - min(values)}
            first = base.setdefault(column, cell)
            apart = cell["mean"] - first["mean"]
            told = len(values) > 1 and abs(apart) > max(cell["spread"], first["spread"])
            better = (apart > 0) == (column in HIGHER)
            cell["verdict"] = ("better" if better else "worse") if told else ""
            found[variant][column] = cell
    return found


def table(cells: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The summary as Markdown."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for variant, row in cells.items():
        shown = (f"{c['mean']:.3f} ± {c['spread'] / 2:.3f} {c['verdict']}".strip() for c in row.values())
        lines.append(f"| {variant} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--save", metavar="NAME", help="write the table to benchmarks/results under this name")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    size = config_of("depth+ray+cam", 0, 1).validation_sizes[0]
    held_out = validation_batches(arguments.scenes, size, views=3)
    begun = time.monotonic()
    runs: dict[str, list[dict[str, float]]] = {}
    for variant in arguments.only:
        for seed in arguments.seeds:
            figures = run_once(arguments.output, variant, seed, arguments.steps, held_out)
            runs.setdefault(variant, []).append(figures)
            print(f"{time.monotonic() - begun:6.0f} s  {variant}, seed {seed}: {json.dumps(figures)}", flush=True)
    cells = summary(runs)
    conditions = {
        "steps": arguments.steps, "seeds": arguments.seeds, "scenes": arguments.scenes, "size": size,
        "torch": torch.__version__, "cores": os.cpu_count(), "preset": dataclasses.asdict(load_config("smoke")),
    }  # fmt: skip
    report = {"conditions": conditions, "runs": runs, "summary": cells}
    (arguments.output / "ablations.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = (
        f"{arguments.steps} steps, seeds {', '.join(map(str, arguments.seeds))}, {arguments.scenes} held-out scenes of "
        f"3 views at {size[0]}x{size[1]}; mean ± half the spread; empty verdict: no difference beyond the spread.\n\n"
    )
    (arguments.output / "ablations.md").write_text(text + table(cells) + "\n", encoding="utf-8")
    print(text + table(cells))
    if arguments.save:
        save(arguments, cells)
    return 0


def save(arguments: argparse.Namespace, cells: dict[str, dict[str, dict[str, Any]]]) -> None:
    """The table among the results."""
    rows = [
        {"variant": variant}
        | {column: f"{c['mean']:.3f} ± {c['spread'] / 2:.3f} {c['verdict']}".strip() for column, c in row.items()}
        for variant, row in cells.items()
    ]
    seeds = " ".join(map(str, arguments.seeds))
    save_table(
        arguments.save,
        "Ablations at nano scale",
        rows,
        command=f"python -m benchmarks.ablations -o FOLDER --steps {arguments.steps} --seeds {seeds}",
        remarks=(
            f"{arguments.steps} steps of smoke's batches, {arguments.scenes} held-out scenes of 3 views.",
            "Mean ± half the spread over seeds; `better` and `worse`: apart from the first by more than that.",
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
