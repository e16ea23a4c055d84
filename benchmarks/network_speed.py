"""Speed and memory of the networks on the CPU beside the official code, with the same weights and pictures.

Run: ``python -m benchmarks.speed --official CHECKOUT [--models da3-small da3-base] [--views 2 8] [--runs 5]``. CHECKOUT
is the official repository (its ``src`` is enough), which needs ``omegaconf``, ``einops`` and ``addict`` beside torch.

Each program is a process of its own that loads one file of formula-filled weights; the two take turns, so that a busy
machine slows both alike, and what they say is compared. A peak is the resident set of the whole process at its highest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.tables import save_table

SIZE = (336, 504)
"""Height and width of the pictures."""
_WORKER = "benchmarks.network_speed"


def compare(options: argparse.Namespace) -> int:
    """Measure, print, save; exit 1 where the two programs disagree."""
    from benchmarks.memory import formula_file

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            file = formula_file(name, Path(folder))
            rows += [_row(name, views, file, options) for views in options.views]
            file.unlink()
    if options.save:
        words = f"--models {' '.join(options.models)} --views {' '.join(map(str, options.views))}"
        save_table(
            options.save,
            "Networks on the CPU beside the official code, float32, 504x336",
            rows,
            command=f"python -m benchmarks.speed --official CHECKOUT {words} --threads {options.threads}",
            remarks=[
                "Seconds are medians of runs taken in turn, CPU seconds those of all threads; `faster` is the median of"
                " the ratios run by run, in seconds and in CPU seconds.",
                "Peaks are resident sets of whole processes (weights, libraries and all); `apart` is the largest"
                " difference of depth, relative to its mean.",
            ],
        )
    return int(any(row["apart"] > 1e-3 for row in rows))


def _row(name: str, views: int, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        programs = {
            side: stack.enter_context(_Program(side, name, views, file, options)) for side in ("official", "ours")
        }
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in programs}
        for _ in range(options.runs + 1):
            for side, program in programs.items():
                runs[side].append(program.ask("run"))
        peaks = {side: found[-1]["peak_mib"] for side, found in runs.items()}
        for side, program in programs.items():
            program.ask(f"save {folder}/{side}.npy")
        theirs, ours = (np.load(Path(folder, f"{side}.npy")) for side in ("official", "ours"))
    counted = {side: found[1:] for side, found in runs.items()}  # the first warms up
    row: dict[str, Any] = {"model": name, "views": views}
    for side, found in counted.items():
        row[f"{side}_seconds"] = round(statistics.median(run["seconds"] for run in found), 2)
        row[f"{side}_cpu_seconds"] = round(statistics.median(run["cpu_seconds"] for run in found), 2)
        row[f"{side}_peak_mib"] = round(peaks[side])
    for key, field in (("faster", "seconds"), ("faster_cpu", "cpu_seconds")):
        pairs = zip(counted["official"], counted["ours"], strict=True)
        row[key] = round(statistics.median(a[field] / b[field] for a, b in pairs), 2)
    row["memory"] = round(peaks["ours"] / peaks["official"], 2)
    row["apart"] = float(f"{np.abs(theirs - ours).max() / np.abs(theirs).mean():.1e}")
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


class _Program:
    """One of the two programs, which waits until it is asked."""

    def __init__(self, side: str, name: str, views: int, file: Path, options: argparse.Namespace) -> None:
        command = [sys.executable, "-m", _WORKER, side, name, str(views), str(file), str(options.threads)]
        self.process = subprocess.Popen(
            [*command, str(options.official)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin().close()
        self.process.wait()

    def _stdin(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def ask(self, words: str) -> dict[str, float]:
        """Its answer to a line."""
        assert self.process.stdout is not None
        self._stdin().write(words + "\n")
        self._stdin().flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit("a program ended before it answered; its error stands above")


def _worker(side: str, name: str, views: int, file: Path, threads: int, checkout: Path) -> None:
    """Answer ``run`` with times and peak, ``save FILE`` by writing the last depth."""
    import torch

    torch.set_num_threads(threads)
    images = torch.rand(1, views, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    network, around = _ours(file) if side == "ours" else _official(name, file, checkout)
    depth = torch.empty(0)
    with torch.inference_mode(), around:
        for line in sys.stdin:
            if line.startswith("save "):
                np.save(line.removeprefix("save ").strip(), depth.float().numpy().reshape(-1))
                print("{}", flush=True)
                continue
            wall, processor = time.perf_counter(), time.process_time()
            depth = network(images).depth
            found = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
            print(json.dumps({**found, "peak_mib": _peak_mib()}), flush=True)


def _ours(file: Path) -> tuple[Any, contextlib.AbstractContextManager[object]]:
    """Our network of this file, with memory held as ``reconstruct`` holds it."""
    from da3gs._memory import LARGEST_KEPT, kept_memory
    from da3gs.checkpoints import load_model

    model = load_model(file)
    return model.raw, kept_memory(up_to=LARGEST_KEPT)


def _official(name: str, file: Path, checkout: Path) -> tuple[Any, contextlib.AbstractContextManager[object]]:
    """The official network of this file, as its ``from_pretrained`` makes it."""
    source = checkout / "src" if (checkout / "src").is_dir() else checkout
    sys.path.insert(0, str(source))
    from depth_anything_3.cfg import create_object, load_config
    from safetensors.torch import load_model
    from torch import nn

    from da3gs.network.model import normalize_images

    network = create_object(load_config(str(source / "depth_anything_3" / "configs" / f"{name}.yaml")))
    load_model(nn.ModuleDict({"model": network}), file)
    network.eval()
    return lambda images: network(normalize_images(images)), contextlib.nullcontext()


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    _worker(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]), Path(sys.argv[6]))
