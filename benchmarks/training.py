"""Speed of training, and accuracy of a trained model on held-out procedural scenes.

    python -m benchmarks.training [--model NAME|FILE] [--scenes 32] [--no-speed] [--save NAME]

Speed: images a second of one core for the ray caster (126x168; time of the thread, so other programs disturb little);
steps and images a second of ``da3gs train`` at the main stage of the nano preset, the share of time in data, and how
two processes do beside one. With ``--model``: depth and pose figures beside those of a constant depth, at 126x168,
252x336 and 336x504, unposed and posed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import save_table
from da3gs.checkpoints import load_model
from da3gs.network.model import DepthAnything3
from da3gs.procedural.cameras import FAST, PLAIN, Quality, color_map, depth_map, develop, take_shots
from da3gs.procedural.scenes import SceneKind, make_scene
from da3gs.procedural.textures import make_textures
from da3gs.training.data.loader import validation_batches
from da3gs.training.presets import PRESETS
from da3gs.training.validation import validate

SIZES = ((126, 168), (252, 336), (336, 504))


def images_per_second(kind: SceneKind | None, quality: Quality, *, scenes: int = 24) -> float:
    """Whole photographs (scene, cameras, depth, colour, development) of one core a second at 126x168, 3 a scene."""
    g = np.random.default_rng(0)
    bank = make_textures(g, 44)
    seconds = 0.0
    for index in range(scenes + 2):
        start = time.thread_time()
        shots = None
        while shots is None:
            scene = make_scene(g, bank, kind)
            shots = take_shots(g, scene, 3, 126, 168)
        colors = []
        for pose, focal in zip(shots.cam_to_world, shots.focals, strict=True):
            hits = depth_map(scene, pose, focal, 126, 168)
            colors.append(color_map(scene, bank, pose, focal, hits, quality=quality))
        develop(g, colors)
        if index >= 2:  # the first ones compile
            seconds += time.thread_time() - start
    return 3 * scenes / seconds


def run_speed(processes: int | None = None, *, steps: int = 80, stage: int = 2) -> dict[str, float]:
    """Steps and images a second, and the share of data, of ``da3gs train`` in a stage of the nano preset.

    Args:
        processes: under torchrun, of one thread each, each with as many images a step; None: one with all threads.
        steps: of the run; the first half, in which kernels compile and memory grows, is not counted.
        stage: its number; 2 is the main one, with up to four views of 252x336.
    """
    stages = PRESETS["nano"].stages[stage]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "speed.toml")
        values = {**dataclasses.asdict(stages), "steps": steps}
        lines = [f'preset = "nano"\nsteps = {steps}\nvalidate_steps = 0\nlog_steps = {steps // 4}\n[[stages]]']
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        config.write_text("\n".join(lines), encoding="utf-8")
        command = ["-m", "da3gs", "train", str(config), "-o", f"{folder}/run", "--quiet"]
        environment = dict(os.environ)
        if processes is not None:
            command = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), *command]
            environment["OMP_NUM_THREADS"] = "1"
        subprocess.run([sys.executable, *command], check=True, env=environment, capture_output=True)
        with open(f"{folder}/run/log.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    half, last = rows[len(rows) // 2 - 1], rows[-1]
    counted, images, seconds = (float(last[name]) - float(half[name]) for name in ("step", "images", "seconds"))
    share = sum(float(row["data_share"]) for row in rows[len(rows) // 2 :]) / (len(rows) - len(rows) // 2)
    return {"steps": counted / seconds, "images": images / seconds, "data": share}


def speed_rows() -> list[dict[str, object]]:
    """The ray caster, a step, the share of data and two processes, as rows of a table."""
    rows: list[dict[str, object]] = []

    def note(what: str, value: float, unit: str, goal: str | None = None) -> None:
        rows.append({"what": what, "value": round(value, 3 if value < 10 else 1), "unit": unit, "goal": goal})
        print(f"{what}: {rows[-1]['value']} {unit}" + (f" (goal {goal})" if goal else ""), flush=True)

    kinds: tuple[tuple[str, SceneKind | None, str], ...] = (
        ("room with boxes, balls and rods", "clutter", "150"), ("full mix", None, "50")
    )  # fmt: skip
    for name, kind, goal in kinds:
        for quality, light in ((FAST, "no shadows"), (PLAIN, "shadows")):
            rate = images_per_second(kind, quality)
            note(f"ray caster, 126x168, {name}, {light}", rate, "images/s a core", f"at least {goal}")
    whole = run_speed()
    note("training, nano at its main stage", whole["images"], "images/s")
    note("the same", whole["steps"], "steps/s")
    goal = "at most 0.1" if torch.cuda.is_available() else "at most 0.25"
    note("time in data", whole["data"], "of all time", goal)
    if not torch.cuda.is_available():
        one, two = run_speed(1), run_speed(2)
        note("one process of one thread", one["images"], "images/s")
        note("two processes of one thread (gloo)", two["images"], "images/s")
        note("two processes, efficiency", two["images"] / (2 * one["images"]), "of twice one")
    return rows


def model_figures(name: str, scenes: int) -> dict[str, dict[str, float]]:
    """Figures of a model on held-out scenes."""
    model = load_model(name)
    if not isinstance(model, DepthAnything3):
        sys.exit("a nested model cannot be validated here")
    figures = {}
    for size in SIZES:
        batches = validation_batches(scenes, size)
        for posed in (False, True):
            label = f"{size[0]}x{size[1]} {'posed' if posed else 'unposed'}"
            figures[label] = {
                k: round(v, 4) for k, v in dataclasses.asdict(validate(model, batches, posed=posed)).items()
            }
            print(label, json.dumps(figures[label]), flush=True)
    return figures


def main() -> int:
    """Print and, with --save, keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--save", metavar="NAME", help="write the speeds to benchmarks/results/NAME.json and .md")
    arguments = parser.parse_args()
    if not arguments.no_speed:
        rows = speed_rows()
        if arguments.save:
            save_table(
                arguments.save, "Speed of training", rows, command="python -m benchmarks.training",
                remarks=["Times of a busy machine mean little; the ray caster's are of its thread's processor time."],
            )  # fmt: skip
    if arguments.model:
        model_figures(arguments.model, arguments.scenes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
