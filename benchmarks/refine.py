"""What refinement and merging win and cost: ``python -m benchmarks.refine --sets ../shared/data --steps 100``.

For the demo photos and every set that is there, at photos kept out of everything: PSNR of the nearest photo shown in
their place, of the splats as predicted, and after refinement; with ``--budgets``, PSNR against the number of splats,
merged down from all of them. Milliseconds a step are of this machine as busy as it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import da3gs
from benchmarks.quality import SETS, nearest_photo_psnr, split_context
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.photos import load_photos
from da3gs.pipeline.loading import LoadedModel, loaded_model
from da3gs.pipeline.merge import merge
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.refine import refined
from da3gs.pipeline.score import photo_psnr
from da3gs.pipeline.settings import Settings, split_holdout
from da3gs.scene import Scene
from da3gs.views import Views

NAMES = ("desk", "banana", "buddha", "berlin")


def mean(values: list[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def held_out(
    source: Path, split: Path | None, model: LoadedModel, resolution: int | None, most: int
) -> tuple[Scene, Cameras, Views, float]:
    """A scene of the context photos, at most so many held-out ones with their cameras, and the nearest photo's PSNR."""
    side = model.card.resolution if resolution is None else resolution
    photos = load_photos(source, resolution=side, views=64)
    names = photos.views.names
    if split is None:
        holdout = "every:4"
    else:
        holdout = ",".join(name for name in names if name not in split_context(split, names))
    context, held = split_holdout(holdout, names)
    held = held[:: -(-len(held) // most)]
    scene = reconstruct(source, model=model, resolution=side, views=64, holdout=holdout)
    views = photos.views[held]
    assert views.cameras is not None
    return scene, views.cameras, views, mean(nearest_photo_psnr(scene, views, context, held))


def refinement_row(name: str, scene: Scene, at: Cameras, held: Views, near: float, options: argparse.Namespace) -> None:
    """Print what refinement did."""

    def shown(gaussians: Gaussians) -> float:
        return mean(photo_psnr(gaussians, at, held))

    wall, processor = time.perf_counter(), time.process_time()
    done = refined(
        scene.gaussians, scene.provenance, scene.cameras, scene.views,
        steps=None if options.seconds else options.steps, seconds=options.seconds, budget=options.most,
    )  # fmt: skip
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    trial = done.record["trial"] or {"steps": 0}
    steps = max(done.record["steps"] + trial["steps"], 1)
    print(
        f"{name:8} {len(scene.views):5} {near:8.2f} {shown(scene.gaussians):8.2f} {shown(done.gaussians):8.2f} "
        f"{len(scene.gaussians):9} {len(done.gaussians):8} {done.record['steps']:6} "
        f"{1000 * wall / steps:8.0f} {1000 * processor / steps:8.0f} {'yes' if done.record['kept'] else 'no'}",
        flush=True,
    )


def budget_rows(name: str, scene: Scene, at: Cameras, held: Views) -> None:
    """Print PSNR against the number of splats."""
    for share in (1.0, 0.5, 0.25, 0.125):
        most = int(share * len(scene.gaussians))
        fewer, _, price = merge(scene.gaussians, scene.provenance, scene.cameras, scene.views, most)
        print(
            f"{name:8} {share:6.3f} {len(fewer):9} held out {mean(photo_psnr(fewer, at, held)):6.2f} dB, "
            f"price at the photos {price:5.2f} dB",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refine", description=__doc__)
    parser.add_argument("--sets", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--only", default=",".join(("demo", *NAMES)), help="names with commas between")
    parser.add_argument("--model", default="da3gs-nano")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=None, help="a time box instead of steps")
    parser.add_argument("--most", type=int, default=None, help="splats at most while refining")
    parser.add_argument("--resolution", type=int, default=None, help="long side; the model's own when absent")
    parser.add_argument("--held", type=int, default=6, help="how many held-out photos to score")
    parser.add_argument("--budgets", action="store_true", help="PSNR against the number of splats instead")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = loaded_model(options.model, Settings())
    sources = {"demo": (Path(da3gs.__file__).parent / "demo_photos", None)}
    for item in SETS:
        if item.name in NAMES and item.split is not None:
            sources[item.name] = (options.sets / item.source, options.sets / item.split)
    if not options.budgets:
        print("set      views  nearest    start  refined    splats    after  steps  ms/step   CPU ms kept")
    for name in options.only.split(","):
        source, split = sources[name]
        if not source.exists():
            print(f"{name:8} is not there")
            continue
        scene, at, held, near = held_out(source, split, model, options.resolution, options.held)
        if options.budgets:
            budget_rows(name, scene, at, held)
        else:
            refinement_row(name, scene, at, held, near, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
