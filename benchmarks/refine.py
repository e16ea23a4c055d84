"""Gains and costs of refinement and merging: ``python -m benchmarks.refine [--what refinement|budgets|points]``.

For every set that is there, posed, from the context photos of its split file; PSNR in dB at photos kept out of
everything.

``refinement``: the nearest photo in their place, the splats as predicted, and after so many ``--seconds`` or
``--steps``, with ``--surround`` from a start with blurred colours behind everything. ``budgets``: against the number of
splats, merged down from all of them. ``points``: after so many seconds from the predicted splats, and from points
triangulated in the context photos alone, refined by the same optimiser at the best of several step sizes for it.
Milliseconds a step are of this machine as busy as it is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality import SETS, nearest_photo_psnr, split_context
from benchmarks.tables import save_table
from benchmarks.triangulated import splats_from_points, triangulated
from da3gs.cameras import Cameras
from da3gs.checkpoints import BUNDLED
from da3gs.optimisation.budget import merge
from da3gs.optimisation.optimizer import RATES, Limit, Options, SplatOptimizer
from da3gs.photos import load_photos
from da3gs.pipeline.model_loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.refine import DEFAULT_BUDGET, refined
from da3gs.pipeline.settings import Settings, split_holdout
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Scene
from da3gs.splats.background_shell import surrounded
from da3gs.views import Views

NAMES = ("desk", "banana", "buddha", "berlin")
TITLES = {
    "refinement": "Refinement: PSNR at photos kept out, in dB",
    "budgets": "Merging: PSNR at photos kept out, in dB, against the number of splats",
    "points": "Refinement from predicted splats and from triangulated points: PSNR at photos kept out, in dB",
}
Held = tuple[Scene, Cameras, Views, float]
Rows = Iterator[dict[str, Any]]


def mean(values: list[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def held_out(source: Path, split: Path, model: LoadedModel, resolution: int | None, most: int) -> Held:
    """A scene of the context photos, at most so many held-out ones with their cameras, and the nearest photo's PSNR."""
    side = model.card.resolution if resolution is None else resolution
    photos = load_photos(source, resolution=side, views=64)
    names = photos.views.names
    holdout = ",".join(name for name in names if name not in split_context(split, names))
    context, held = split_holdout(holdout, names)
    held = held[:: -(-len(held) // most)]
    scene = reconstruct(source, model=model, resolution=side, views=64, holdout=holdout, images="original")
    views = photos.views[held]
    assert views.cameras is not None
    return scene, views.cameras, views, mean(nearest_photo_psnr(scene, views, context, held))


def refinement_rows(name: str, found: Held, options: argparse.Namespace) -> Rows:
    """What refinement does, a row for every time and every number of steps."""
    scene, at, held, near = found
    for limit in [{"seconds": s} for s in options.seconds] + [{"steps": n} for n in options.steps]:
        wall, processor = time.perf_counter(), time.process_time()
        start, rows = scene.gaussians, scene.provenance
        if options.surround:
            start, rows = surrounded(start, rows, scene.cameras, scene.views)
        done = refined(start, rows, scene.cameras, scene.views, budget=options.most, **limit)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        trial = done.record["trial"] or {"steps": 0}
        steps = max(done.record["steps"] + trial["steps"], 1)
        yield {
            "set": name,
            "photos": len(scene.views),
            "limit": " ".join(f"{value:g} {unit}" for unit, value in limit.items()),
            "nearest photo": round(near, 2),
            "start": round(mean(photo_psnr(scene.gaussians, at, held)), 2),
            "refined": round(mean(photo_psnr(done.gaussians, at, held)), 2),
            "splats": len(scene.gaussians),
            "splats after": len(done.gaussians),
            "steps": done.record["steps"],
            "steps of the trial": trial["steps"],
            "ms a step": round(1000 * wall / steps),
            "processor ms a step": round(1000 * processor / steps),
        }


def budget_rows(name: str, found: Held, options: argparse.Namespace) -> Rows:
    """PSNR against the number of splats."""
    scene, at, held, _ = found
    whole = mean(photo_psnr(scene.gaussians, at, held))
    for share in (1.0, 0.5, 0.25, 0.125):
        most = int(share * len(scene.gaussians))
        fewer, _, price = merge(scene.gaussians, scene.provenance, scene.cameras, scene.views, most)
        shown = mean(photo_psnr(fewer, at, held))
        yield {
            "set": name,
            "share": share,
            "splats": len(fewer),
            "held out": round(shown, 2),
            "price": round(whole - shown, 2),
            "price at the photos": round(price, 2),
        }


def point_rows(name: str, found: Held, options: argparse.Namespace) -> Rows:
    """Predicted splats against triangulated points, refined for the same time."""
    scene, at, held, near = found
    begin = time.perf_counter()
    points = triangulated(scene.originals or (), scene.cameras)
    making = time.perf_counter() - begin
    for seconds in options.seconds:
        ours = refined(scene.gaussians, scene.provenance, scene.cameras, scene.views, seconds=seconds)
        best, rate = -math.inf, ""
        for means, others in itertools.product((1, 3, 10), (1, 3)):
            rates = {key: value * (means if key == "means" else others) for key, value in RATES.items()}
            free = Options(most=DEFAULT_BUDGET, rates=rates, anchor=0.0, large=0.0)
            with torch.inference_mode(False), torch.no_grad():
                optimizer = SplatOptimizer(splats_from_points(points), scene.cameras, scene.views, free)
                optimizer.run(Limit(seconds=seconds))
                shown = mean(photo_psnr(optimizer.splats().detach(), at, held))
            if shown > best:
                best, rate, steps, count = shown, f"{means}x, {others}x", optimizer.steps, len(optimizer.origins)
        yield {
            "set": name,
            "seconds": seconds,
            "nearest photo": round(near, 2),
            "from prediction": round(mean(photo_psnr(ours.gaussians, at, held)), 2),
            "from points": round(best, 2),
            "points": len(points.positions),
            "splats from them": count,
            "their steps": steps,
            "their best step sizes (means, others)": rate,
            "seconds to triangulate, on top": round(making, 1),
        }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refine", description=__doc__)
    parser.add_argument("--what", choices=("refinement", "budgets", "points"), default="refinement")
    parser.add_argument("--sets", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--only", default=",".join(NAMES), help="names with commas between")
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--seconds", type=float, nargs="*", default=[30.0], help="time boxes")
    parser.add_argument("--steps", type=int, nargs="*", default=[300], help="numbers of steps")
    parser.add_argument("--surround", action="store_true", help="as ``da3gs refine --surround``")
    parser.add_argument("--most", type=int, default=None, help="splats at most while refining")
    parser.add_argument("--resolution", type=int, default=None, help="long side; the model's own when absent")
    parser.add_argument("--held", type=int, default=6, help="how many held-out photos to score")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = loaded_model(options.model, Settings())
    sources = {item.name: (options.sets / item.source, options.sets / item.split) for item in SETS if item.split}
    work = {"refinement": refinement_rows, "budgets": budget_rows, "points": point_rows}[options.what]
    rows = []
    for name in options.only.split(","):
        source, split = sources[name]
        if not source.exists():
            print(f"{name} is not there")
            continue
        for row in work(name, held_out(source, split, model, options.resolution, options.held), options):
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            rows.append(row)
    if options.save and rows:
        words = sys.argv[1:] if arguments is None else arguments
        at = words.index("--save")
        command = " ".join(("python -m benchmarks.refine", *words[:at], *words[at + 2 :]))
        save_table(options.save, TITLES[options.what], rows, command=command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
