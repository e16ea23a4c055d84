"""Time and memory of true-size networks, and how well ``--dry-run`` foretells them.

Run: ``python -m benchmarks.memory [--models da3-small da3-base] [--views 2 5 8 32] [--sizes 504x336] [--what plan]``.

Weights are formula-filled and written to a file once; every row is a process of its own, so that none profits from
another, and its peak is the resident set above that after the imports (weights, views and all between).
``--what network``: the network alone. ``--what plan``: ``reconstruct`` from photos to a scene in memory, beside what
the dry run says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tables import save_table


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit 1 where a prediction is more than 15 % off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["da3-small", "da3-base"], help="names of configurations")
    parser.add_argument("--views", nargs="+", type=int, default=[2, 8], help="how many views")
    parser.add_argument("--sizes", nargs="+", default=["504x336"], help="width x height")
    parser.add_argument("--what", choices=("network", "plan"), default="network")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    parser.add_argument("--one", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_planned(options) if options.what == "plan" else _network(options)))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            file = formula_file(name, Path(folder))
            for size in options.sizes:
                rows += [_row(file, name, size, views, options) for views in options.views]
            file.unlink()
    if options.save:
        what = {"network": "the network alone", "plan": "reconstruct, and what its dry run said"}[options.what]
        words = [" ".join(("--models", *options.models)), " ".join(("--views", *map(str, options.views)))]
        words += [" ".join(("--sizes", *options.sizes)), f"--what {options.what}", f"--dtype {options.dtype}"]
        save_table(
            options.save,
            f"Time and peak memory of {what}",
            rows,
            command=f"python -m benchmarks.memory {' '.join(words)} --threads {options.threads}",
            remarks=["Peaks are resident sets above that after the imports; times of a busy machine mean little."],
        )
    return int(any(abs(row.get("predicted_mib", row["peak_mib"]) / row["peak_mib"] - 1) > 0.15 for row in rows))


def _row(file: Path, name: str, size: str, views: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", str(file), "--models", name]
    command += ["--views", str(views), "--sizes", size, "--what", options.what]
    command += ["--dtype", options.dtype, "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = {"model": name, "size": size, "views": views, "dtype": options.dtype}
    row |= {key: round(value, 2) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def formula_file(name: str, folder: Path) -> Path:
    """An official checkpoint of true size with formula weights."""
    from safetensors.numpy import save_file

    from da3gs.network import named_config
    from tests.parity.fill import filled_weights

    path = folder / f"{name}.safetensors"
    weights = filled_weights(named_config(name), "benchmark")
    save_file({f"model.{key}": value for key, value in weights.items()}, path)
    return path


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _network(options: argparse.Namespace) -> dict[str, float]:
    import torch

    from da3gs._memory import LARGEST_KEPT, kept_memory
    from da3gs.checkpoints import load_model

    torch.set_num_threads(options.threads)
    width, height = (int(side) for side in options.sizes[0].split("x"))
    before = _resident("VmRSS")
    model = load_model(options.one)
    images = torch.rand(1, options.views[0], 3, height, width)
    low = options.dtype == "bfloat16"
    wall, processor = time.perf_counter(), time.process_time()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low), kept_memory(up_to=LARGEST_KEPT):
        model.raw(images)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - processor,
        "peak_mib": _resident("VmHWM") - before,
    }


def _planned(options: argparse.Namespace) -> dict[str, float]:
    import torch

    import da3gs.pipeline.dry_run
    import da3gs.pipeline.reconstruct as program

    torch.set_num_threads(options.threads)
    width, height = (int(side) for side in options.sizes[0].split("x"))
    with tempfile.TemporaryDirectory() as folder:
        _noise(Path(folder), options.views[0], width, height)
        flags = {"model": options.one, "views": options.views[0], "resolution": max(width, height)}
        if os.fork() == 0:  # the dry run has a process of its own
            told = da3gs.pipeline.dry_run.plan(folder, **flags)["memory_mb"]
            Path(folder, "told").write_text(str(told))
            os._exit(0)
        os.wait()
        predicted = float(Path(folder, "told").read_text()) * 1e6 / 2**20
        Path(folder, "told").unlink()
        before, start = _resident("VmRSS"), time.perf_counter()
        program.reconstruct(folder, **flags)
        return {
            "seconds": time.perf_counter() - start,
            "peak_mib": _resident("VmHWM") - before,
            "predicted_mib": predicted,
        }


def _noise(folder: Path, count: int, width: int, height: int) -> None:
    import numpy as np
    from PIL import Image

    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (height // 14, width // 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


if __name__ == "__main__":
    sys.exit(main())
