"""Time and peak memory of the network alone: ``python -m benchmarks.memory --models da3-small --views 2 8 32``.

Every row is a process of its own, so that none profits from another. Peak memory is the resident set above that
after the imports (weights, views and everything between); weights are random.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["da3-small"], help="names of configurations")
    parser.add_argument("--views", nargs="+", type=int, default=[2, 8], help="how many views")
    parser.add_argument("--size", default="504x336", help="width x height")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_measured(options)))
        return 0
    print(f"{'model':20} {'views':>5} {'size':>9} {'dtype':>9} {'seconds':>8} {'CPU s':>8} {'peak MiB':>9}")
    for model in options.models:
        for views in options.views:
            command = [sys.executable, "-m", "benchmarks.memory", "--one", "--models", model, "--views", str(views)]
            command += ["--size", options.size, "--dtype", options.dtype, "--threads", str(options.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{model:20} {views:5} {options.size:>9} {options.dtype:>9} {row['seconds']:8.2f} "
                f"{row['cpu_seconds']:8.2f} {row['peak_mib']:9.0f}",
                flush=True,
            )
    return 0


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _measured(options: argparse.Namespace) -> dict[str, float]:
    import torch

    from da3gs.network import DepthAnything3, ModelConfig, named_config

    torch.set_num_threads(options.threads)
    config = named_config(options.models[0])
    if not isinstance(config, ModelConfig):
        raise SystemExit("only single networks are measured")
    width, height = (int(side) for side in options.size.split("x"))
    before = _resident("VmRSS")
    torch.manual_seed(0)
    model = DepthAnything3(config).eval().requires_grad_(False)
    images = torch.rand(1, options.views[0], 3, height, width)
    low = options.dtype == "bfloat16"
    wall, processor = time.perf_counter(), time.process_time()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        model.raw(images)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - processor,
        "peak_mib": _resident("VmHWM") - before,
    }


if __name__ == "__main__":
    sys.exit(main())
