"""Cost of each splat format, beside splat-transform's files in the same run.

    python -m benchmarks.formats --scene demo.scene [--splats 1000000] [--limit 600] [--only a.spz,a.sog] [--save NAME]

A scene is written in every format by the command line of da3gs and by splat-transform (npm, without a GPU), one after
the other: seconds and processor seconds of the whole process, reading the PLY included, megabytes, and PSNR of renders
of the file that was written against renders of the scene. ``--scene`` is what ``da3gs demo -o demo.scene`` makes, or
any other; where it has fewer splats, each is divided into several with glossy harmonics of degree 3. Which programs
open the files is the table of ``python -m benchmarks.format_programs``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import RESULTS, save_table
from da3gs.cameras import Cameras
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import harmonic_basis
from da3gs.metrics.image import psnr
from da3gs.rendering import render
from da3gs.scene import load_scene
from tests.readers.programs import SPLAT_TRANSFORM, decoded_usd, version

NAMES = {
    "a.ply": True, "a.compressed.ply": True, "a.splat": False, "a.spz": True, "3.spz": True, "a.sog": True,
    "lod/lod-meta.json": True, "a.glb": True, "a.usda": False, "a.usdz": False, "a.html": True,
}  # fmt: skip
"""Files that are written, ``3.spz`` being of version 3, and whether splat-transform writes them too."""

_CAMERAS = 3
_WIDTH = 400
_MOST_DB = 100.0


def divided(gaussians: Gaussians, count: int) -> Gaussians:
    """So many splats that look like these: each is divided into several, smaller and within it, of degree 3."""
    generator = torch.Generator().manual_seed(0)
    copies = math.ceil(count / len(gaussians))
    chosen = torch.randperm(len(gaussians) * copies, generator=generator)[:count].sort().values // copies
    part = gaussians.masked(chosen)
    noise = torch.randn(count, 3, generator=generator)
    lobe = torch.nn.functional.normalize(torch.randn(len(gaussians), 3, generator=generator), dim=-1)[chosen]
    tint = 0.1 * torch.rand(len(gaussians), 1, 3, generator=generator)[chosen]
    basis = harmonic_basis(lobe.double(), 3).float()[..., None]
    harmonics = basis * tint * torch.tensor([0.0, *[0.8] * 3, *[0.5] * 5, *[0.25] * 7])[:, None]
    harmonics[:, 1:] += 0.01 * torch.randn(count, 15, 3, generator=generator)
    harmonics[:, 0] = part.harmonics[:, 0]
    return Gaussians(
        means=part.means + noise * part.scales.mean(-1, keepdim=True) * (0.5 if copies > 1 else 0),
        scales=part.scales / copies ** (1 / 3),
        quaternions=part.quaternions,
        opacities=part.opacities,
        harmonics=harmonics,
    )


def pictures(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Renders that are compared."""
    return torch.stack([render(gaussians, camera, backend="cpu").color.clamp(0, 1) for camera in cameras])


def run(command: list[str], limit: float) -> tuple[float, float] | None:
    """Seconds and processor seconds of a process; None where it takes longer than ``limit``."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=None if limit == math.inf else limit, env=_environment()
        )
    except subprocess.TimeoutExpired:
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _environment() -> dict[str, str]:
    """In which Python may keep what it compiled, as it does by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def commands(source: Path, path: Path) -> dict[str, list[str]]:
    """How each program writes a file."""
    return {
        "ours": [sys.executable, "-m", "da3gs", "export", str(source), "-o", str(path), "--overwrite", "--quiet"],
        "theirs": [str(SPLAT_TRANSFORM), "-q", "-w", "-g", "cpu", str(source), str(path)],
    }


def start_seconds(gaussians: Gaussians, folder: Path) -> dict[str, float]:
    """Processor seconds of each program for a handful of splats, the least of three."""
    source, found = folder / "few.ply", {}
    save_gaussians(gaussians.masked(torch.arange(100)), source)
    for who, command in commands(source, folder / "few.spz").items():
        times = [run(command, math.inf) for _ in range(3)]
        found[who] = min(taken[1] for taken in times if taken is not None)
    return found


def label(name: str) -> str:
    """What the table calls a file's format."""
    return "spz 3" if name == "3.spz" else Path(name).name.removeprefix("a.")


def with_earlier(rows: list[dict[str, Any]], table: Path, title: str) -> list[dict[str, Any]]:
    """These rows and those of other formats of a table that is there already, in the order of ``NAMES``."""
    earlier = json.loads(table.read_text()) if table.exists() else {}
    kept = {row["format"]: row for row in earlier.get("rows", []) if earlier["title"] == title}
    kept |= {row["format"]: row for row in rows}
    return [kept[label(name)] for name in NAMES if label(name) in kept]


def size(path: Path) -> int:
    """Bytes of a file, or of a folder by the file that stands for it."""
    files = path.parent.rglob("*") if path.suffix == ".json" else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def loss(path: Path, reference: torch.Tensor, cameras: Cameras, axes: str | None) -> float:
    """PSNR of a file's renders, capped."""
    stored = decoded_usd(path) if path.suffix.startswith(".usd") else load_gaussians(path, axes=axes)
    return min(_MOST_DB, float(psnr(pictures(stored, cameras), reference).mean()))


def measured(
    name: str, source: Path, count: int, folder: Path, limit: float, reference: torch.Tensor, cameras: Cameras
) -> dict[str, Any]:
    """A row of the table."""
    row: dict[str, Any] = {"format": label(name)}
    version_flag = ["--spz-version", "3"] if name == "3.spz" else []
    for who in ("ours", "theirs"):
        path = folder / who / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/lod-meta.json") and who == "ours":
            path.parent.rmdir()
        taken = None
        if who == "ours" or NAMES[name]:
            taken = run(commands(source, path)[who] + version_flag, limit)
        row[f"{who}: s"] = taken and round(taken[0], 1)
        row[f"{who}: processor s"] = taken and round(taken[1], 1)
        row[f"{who}: MB"] = taken and round(size(path) / 1e6, 2)
        if who == "ours":
            row["ours: bytes a splat"] = taken and round(size(path) / count, 1)
        readable = taken and (
            who == "ours" or path.suffix != ".html"
        )  # a page of SuperSplat, which da3gs does not read
        turned = "RDF" if who == "theirs" and name == "3.spz" else None  # the axes that it takes all .spz in
        row[f"{who}: dB"] = round(loss(path, reference, cameras, turned), 2) if readable else None
        if taken is None and (who == "ours" or NAMES[name]):
            row[f"{who}: s"] = f"over {limit:.0f}"
    return row


def main() -> None:
    """Write, read, render, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--splats", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=600, help="seconds that a program may take to write a file")
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--save", default="")
    options = parser.parse_args()
    scene = load_scene(options.scene)
    picked = scene.cameras[:: max(1, len(scene.cameras) // _CAMERAS)][:_CAMERAS]
    cameras = picked.resized(round(_WIDTH * picked.height / picked.width), _WIDTH)
    splats = divided(scene.gaussians, options.splats)
    reference = pictures(splats, cameras)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source.ply"
        save_gaussians(splats, source)
        start = start_seconds(splats, Path(scratch))
        print("start", start, flush=True)
        for name in options.only.split(","):
            rows.append(measured(name, source, len(splats), Path(scratch), options.limit, reference, cameras))
            print(rows[-1], flush=True)
    if options.save:
        title = f"A scene of {options.splats} splats of degree 3 in every format"
        save_table(
            options.save,
            title,
            with_earlier(rows, RESULTS / f"{options.save}.json", title),
            command=f"python -m benchmarks.formats --scene {options.scene.name} --splats {options.splats}",
            remarks=[
                f"Of the processor seconds {start['ours']:.1f} and {start['theirs']:.1f} are the programs' start.",
                f"ours: `da3gs export`; theirs: splat-transform {version('@playcanvas/splat-transform')} without GPU; "
                "-: it does not write this format, or da3gs does not read it back. Rows may be of several runs.",
            ],
        )


if __name__ == "__main__":
    main()
