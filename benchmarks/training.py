"""How fast training is, and how good a trained model is on held-out procedural scenes.

    python -m benchmarks.training [--model NAME|FILE] [--scenes 32] [--no-speed]

Speed: images a second of one core for the ray caster (126x168; time of the thread, so other programs disturb little),
seconds of a training step by the process's own processor time, and the share of data in it. With ``--model``: depth
and pose figures beside those of a constant depth, at 126x168, 252x336 and 336x504, unposed and posed.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from da3gs.checkpoints import load_model
from da3gs.network.model import DepthAnything3
from da3gs.training.data import Batches, validation_batches
from da3gs.training.presets import PRESETS
from da3gs.training.scenes import SceneKind, make_scene
from da3gs.training.shots import FAST, PLAIN, Quality, color_map, depth_map, develop, take_shots
from da3gs.training.step import Objective, training_step
from da3gs.training.textures import make_textures
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


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step_speed() -> dict[str, float]:
    """A step of the nano preset at its main size: images a second of processor time, and the share that data takes."""
    config = PRESETS["nano"]
    late = config.stages[0].steps + 1
    model = DepthAnything3(config.network()).to(memory_format=torch.channels_last)
    objective = Objective(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    with Batches(config) as batches:
        batches.bank(late)
        made = [batches.batch(step) for step in range(late, late + 6)]
        for batch in made:
            training_step(objective, optimizer, [batch], config.clip)
        images = sum(batch.images.shape[0] * batch.images.shape[1] for batch in made)
        data = processor_seconds(lambda: [batches.batch(step) for step in range(late, late + 6)])
        steps = processor_seconds(lambda: [training_step(objective, optimizer, [batch], config.clip) for batch in made])
    return {"images_per_processor_second": images / (data + steps), "data_share": data / (data + steps)}


def process_scaling(steps: int = 60) -> dict[str, float]:
    """Images a second of one and of two processes (gloo, one thread each) of a small run, after the first half."""
    rates = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "da3gs", "train", "smoke"]
            words = ["-o", f"{folder}/run", "--steps", str(steps), "--quiet", "--set", "validate_steps=0"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, *launcher, *words], check=True, env=environment, capture_output=True)
            with open(f"{folder}/run/log.csv", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        half, last = rows[len(rows) // 2 - 1], rows[-1]
        images, seconds = (float(last[name]) - float(half[name]) for name in ("images", "seconds"))
        rates[f"{count}"] = images / seconds
    return {**rates, "efficiency": rates["2"] / (2 * rates["1"])}


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
    """Print and, with --out, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report: dict[str, object] = {}
    if not arguments.no_speed:
        report["ray_caster_images_per_second_of_a_core"] = speed = {
            "clutter (boxes, balls), no shadows": images_per_second("clutter", FAST),
            "clutter, shadows": images_per_second("clutter", PLAIN),
            "full mix, no shadows": images_per_second(None, FAST),
            "full mix, shadows": images_per_second(None, PLAIN),
        }
        for label, value in speed.items():
            print(f"{label}: {value:.0f} images/s a core")
        report["step"] = step = step_speed()
        print(f"training: {step['images_per_processor_second']:.1f} images per processor second, ", end="")
        print(f"{100 * step['data_share']:.0f} % of it data")
        report["processes"] = scaling = process_scaling()
        print(
            f"one process {scaling['1']:.1f} images/s, two {scaling['2']:.1f}: efficiency {scaling['efficiency']:.2f}"
        )
    if arguments.model:
        report["figures"] = model_figures(arguments.model, arguments.scenes)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
