"""Scaling of an evaluation over processes: many small simulated scenes, one worker and two, one thread each.

    python -m benchmarks.evaluation_workers [--scenes 120] [--workers 2] [--out FOLDER]

A scene is nine small photos of one texture and a walk of cameras; all scenes are the same files, so that every one
costs the same. The rate is counted between the first finished scene and the last, so that starting processes and
loading the model, once a worker, are told apart from the work. Beside it stands what the machine allows: as many runs
of one worker at the same time that know nothing of each other. Prints a table; ``workers.json`` holds the numbers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from da3gs.evaluation.evaluate import evaluate

FRAMES, HEIGHT, WIDTH, FOCAL = 9, 84, 112, 100.0


def write_scene(folder: Path) -> None:
    """Nine photos that walk past a textured wall."""
    (folder / "images").mkdir(parents=True)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for i in range(FRAMES):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i
        x = (u - WIDTH / 2) / FOCAL * 2 + pose[0, 3]
        y = (v - HEIGHT / 2) / FOCAL * 2
        waves = np.stack((np.sin(9 * x + 2 * y), np.sin(8 * y - 5 * x), np.sin(6 * x + 7 * y)), -1)
        name = f"images/frame_{i:05d}.png"
        Image.fromarray(((0.5 + 0.4 * waves) * 255).astype(np.uint8)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": (pose @ np.diag([1.0, -1, -1, 1])).tolist()})
    camera = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))


def simulated(root: Path, scenes: int) -> Path:
    """So many scenes that share their files; returns the split."""
    first = root / "data" / "scene-0000"
    write_scene(first)
    names = [f"scene-{i:04d}" for i in range(scenes)]
    for name in names[1:]:
        shutil.copytree(first, root / "data" / name, copy_function=os.link)
    split = root / "split.json"
    split.write_text(json.dumps({name: {"context": [0, 4, 8], "target": [1, 2, 6]} for name in names}))
    return split


def timed(root: Path, split: Path, workers: int, name: str = "") -> dict[str, Any]:
    """One run: its wall clock, its rate, its figures."""
    output, started = root / f"out-{workers}{name}", time.perf_counter()
    report = evaluate(root / "data", split=split, output=output, resolution=WIDTH, threads=1, workers=workers)
    wall = time.perf_counter() - started
    stamps = sorted(file.stat().st_mtime for file in (output / "scenes").glob("scene-*.json"))
    return {
        "workers": workers,
        "scenes": report["counts"]["done"],
        "seconds": round(wall, 2),
        "scenes_a_second": round((len(stamps) - 1) / (stamps[-1] - stamps[0]), 3),
        "psnr": [view["psnr"] for scene in report["scenes"] for view in scene["views"]],
    }


def main() -> int:
    """Run with one worker and with several; print and write what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        split = simulated(root, arguments.scenes)
        alone, several = (timed(root, split, workers) for workers in (1, arguments.workers))
        context = multiprocessing.get_context("spawn")
        with context.Pool(arguments.workers) as pool:
            beside = pool.starmap(timed, [(root, split, 1, f"-{i}") for i in range(arguments.workers)], chunksize=1)
    allowed = sum(run["scenes_a_second"] for run in beside)
    apart = max(abs(a - b) for a, b in zip(alone.pop("psnr"), several.pop("psnr"), strict=True))
    efficiency = several["scenes_a_second"] / alone["scenes_a_second"] / arguments.workers
    facts = {"runs": [alone, several], "efficiency": round(efficiency, 3), "largest_difference_db": apart,
             "allowed_by_the_machine": round(allowed, 3), "cores": os.cpu_count()}  # fmt: skip
    (arguments.out / "workers.json").write_text(json.dumps(facts, indent=1) + "\n")
    print("| workers | scenes | s | scenes a second |\n|---:|---:|---:|---:|")
    for row in (alone, several):
        print(f"| {row['workers']} | {row['scenes']} | {row['seconds']} | {row['scenes_a_second']} |")
    print(f"| {arguments.workers} runs that know nothing of each other | | | {allowed:.3f} |")
    share = several["scenes_a_second"] / allowed
    print(f"\nefficiency {efficiency:.3f} of {arguments.workers}, {share:.3f} of what the machine allows; "
          f"figures differ by at most {apart:.6f} dB")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
