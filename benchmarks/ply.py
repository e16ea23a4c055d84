"""Speed of writing splats as PLY, against the usual way (a list of row tuples through plyfile), and its memory.

Run: ``python -m benchmarks.ply [--splats 2000000] [--tuples N] [--folder DIR]``. The usual way takes 5 GB for 2 M rows;
with ``--tuples`` it is timed on fewer and scaled up, which flatters it. Both run in one process, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from da3gs.formats.splats.ply import load_ply, property_names, save_ply
from da3gs.gaussians import Gaussians


def random_gaussians(count: int, bands: int = 16) -> Gaussians:
    """Splats without any meaning, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=generator),
        scales=torch.rand(count, 3, generator=generator) * 0.01 + 1e-4,
        quaternions=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        opacities=torch.rand(count, generator=generator),
        harmonics=torch.randn(count, bands, 3, generator=generator) * 0.1,
    )


def save_tuples(gaussians: Gaussians, path: Path) -> None:
    """The usual way: one matrix of all attributes, a Python tuple a row, plyfile."""
    import plyfile

    attributes = np.concatenate(
        (
            gaussians.means.numpy(),
            np.zeros((len(gaussians), 3), np.float32),
            gaussians.harmonics[:, 0].numpy(),
            gaussians.harmonics[:, 1:].transpose(1, 2).flatten(1).numpy(),
            torch.logit(gaussians.opacities, eps=1e-6)[:, None].numpy(),
            gaussians.scales.log().numpy(),
            gaussians.quaternions.numpy(),
        ),
        axis=1,
    )
    rows = np.empty(len(gaussians), dtype=[(name, "f4") for name in property_names(gaussians.harmonics.shape[1])])
    rows[:] = list(map(tuple, attributes))
    plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")]).write(path)


def timed(work: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of ``runs`` calls."""
    best = float("inf")
    for _ in range(runs):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best


def resident() -> int:
    """Bytes of memory that this process holds now, without the pages of files."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * 4096


def extra_memory(work: Callable[[], object]) -> int:
    """How far the memory rises above where it stood while ``work`` runs, sampled every millisecond."""
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak - before


def measure(splats: int, tuples: int, folder: Path, runs: int) -> dict[str, float]:
    """The figures of the table, by name."""
    gaussians = random_gaussians(splats)
    path = folder / "ours.ply"
    memory = extra_memory(lambda: save_ply(gaussians, path, overwrite=True))
    ours = timed(lambda: save_ply(gaussians, path, overwrite=True), runs)
    size = path.stat().st_size
    reading = timed(lambda: load_ply(path), 1)
    part = gaussians.masked(torch.arange(tuples))
    theirs = timed(lambda: save_tuples(part, folder / "theirs.ply"), 1 if tuples == splats else runs)
    theirs *= splats / tuples
    return {
        "splats": splats,
        "file_mb": size / 1e6,
        "write_s": ours,
        "tuples_s": theirs,
        "ratio": theirs / ours,
        "extra_memory_of_file": memory / size,
        "read_s": reading,
    }


def save_report(name: str, figures: dict[str, float], tuples: int) -> None:
    """The figures beside what they were taken on."""
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    load = round(os.getloadavg()[0], 1)
    report = {"machine": machine, "load": load, "rows_through_tuples": tuples, **figures}
    stem = Path(__file__).parent / "results" / name
    stem.parent.mkdir(exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [
        f"# {name}: splats to a PLY, against row tuples through plyfile",
        "",
        f"{machine}; load average {load}.",
        "",
    ]
    lines += ["| figure | value |", "|---|---|", *(f"| {key} | {value:.4g} |" for key, value in figures.items())]
    lines += ["", "Both ways in one process; on a busy machine the ratio means more than the seconds."]
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure and print; exit 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splats", type=int, default=2_000_000)
    parser.add_argument("--tuples", type=int, default=None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    options = parser.parse_args()
    tuples = min(options.tuples or options.splats, options.splats)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(options.splats, tuples, Path(folder), options.runs)
    for name, value in figures.items():
        print(f"{name:22s} {value:12.3f}")
    good = figures["ratio"] >= 20 and figures["extra_memory_of_file"] <= 0.1
    print("holds" if good else "DOES NOT HOLD", "(at least 20x the usual way, extra memory at most 0.1 of the file)")
    if options.save:
        save_report(options.save, figures, tuples)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
