"""Speed and memory on a CUDA device: drawing beside gsplat's own call, refinement, images to splats of official sizes.

Run: ``python -m benchmarks.gpu [--models da3-small da3-giant] [--views 8 32] [--save NAME]``, at most 8 minutes. Every
part stands for itself: one that cannot run says why and the rest goes on. Exit 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed import layered_scene
from benchmarks.tables import save_table
from da3gs.network import named_config
from da3gs.network.model import DepthAnything3
from da3gs.optimisation.optimizer import Limit, Options, SplatOptimizer
from da3gs.rendering import render
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.views import Views

SIZES = ((336, 504), (1080, 1920))
"""Height and width of the pictures drawn."""
DEVICE = "cuda"
"""Where everything runs."""
SECONDS_EACH = 2.0
"""Seconds that a figure is measured for, after a warm-up."""


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["da3-small", "da3-giant"], help="names of configurations")
    parser.add_argument("--views", nargs="+", type=int, default=[8, 32], help="photos a pass")
    parser.add_argument("--refine-seconds", type=float, default=20.0, help="length of the refinement")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("torch sees no CUDA device; nothing was measured", file=sys.stderr)
        return 2
    parts: list[tuple[str, Callable[[], list[dict[str, Any]]]]] = [
        ("drawing", drawing_rows),
        ("refinement", lambda: [refinement_row(options.refine_seconds)]),
        *[(name, lambda name=name: network_rows(name, options.views)) for name in options.models],  # type: ignore[misc]
    ]
    rows: list[dict[str, Any]] = []
    for name, measured in parts:
        try:
            found = measured()
        except (RuntimeError, ImportError, torch.cuda.OutOfMemoryError) as error:
            found = [_row(name, "not run", str(error).splitlines()[0][:120], None, None)]
        torch.cuda.empty_cache()
        for row in found:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows += found
    if options.save:
        device = torch.cuda.get_device_name()
        save_table(options.save, f"On {device}", rows, command="python -m benchmarks.gpu")
    return 0


def _row(part: str, what: str, figure: object, beside: object, peak: float | None) -> dict[str, Any]:
    return {"part": part, "what": what, "figure": figure, "peer": beside, "peak_mib": peak}


def per_second(work: Callable[[], object]) -> float:
    """Calls a second on the device, after three to warm up."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS_EACH:
        work()
        torch.cuda.synchronize()
        count += 1
    return count / (time.perf_counter() - begin)


def drawing_rows() -> list[dict[str, Any]]:
    """Frames a second through ``render`` and through gsplat's own call with the same tensors; forward and backward."""
    from gsplat import rasterization

    rows = []
    gaussians, cameras = (record.to(DEVICE) for record in layered_scene(8, 336, 504))
    for height, width in SIZES:
        camera = dataclasses.replace(cameras[0], height=height, width=width)

        def ours(camera: Any = camera) -> object:
            return render(gaussians, camera, backend="gsplat").color

        def theirs(camera: Any = camera) -> object:
            return rasterization(
                means=gaussians.means, quats=gaussians.quaternions, scales=gaussians.scales,
                opacities=gaussians.opacities, colors=gaussians.harmonics, sh_degree=gaussians.degree,
                viewmats=camera.world_to_cam[None], Ks=camera.intrinsics[None], width=camera.width,
                height=camera.height, render_mode="RGB+ED", packed=False,
            )  # fmt: skip

        with torch.no_grad():
            figures = round(per_second(ours), 1), round(per_second(theirs), 1)
        rows.append(_row("drawing", f"{len(gaussians):,} splats, {width}x{height}, frames/s", *figures, _peak()))
    leaves = gaussians.map(lambda t: t.clone().requires_grad_())
    rate = per_second(lambda: render(leaves, cameras[0], backend="gsplat").color.sum().backward())
    return [*rows, _row("drawing", "forward and backward a second", round(rate, 1), None, _peak())]


def refinement_row(seconds: float) -> dict[str, Any]:
    """PSNR that refinement regains on splats whose colours were disturbed, and its steps a second."""
    truth, cameras = (record.to(DEVICE) for record in layered_scene(4, 252, 378))
    with torch.no_grad():
        images = torch.stack([render(truth, cameras[i]).color.clamp(0, 1).movedim(-1, 0) for i in range(len(cameras))])
    views = Views(images=images, names=tuple(f"{i}" for i in range(len(cameras))))
    noise = 0.3 * torch.randn(truth.harmonics.shape, generator=torch.Generator().manual_seed(0))
    start = dataclasses.replace(truth, harmonics=truth.harmonics + noise.to(DEVICE))
    torch.cuda.reset_peak_memory_stats()
    optimizer = SplatOptimizer(start, cameras, views, Options(most=len(start)))
    begin = time.perf_counter()
    optimizer.run(Limit(seconds=seconds))
    rate = optimizer.steps / (time.perf_counter() - begin)
    before, after = (sum(photo_psnr(s, cameras, views)) / len(views) for s in (start, optimizer.splats().detach()))
    figure = f"{before:.1f} to {after:.1f} dB, {rate:.0f} steps/s"
    return _row("refinement", f"{len(start):,} splats, {seconds:g} s", figure, None, _peak())


def network_rows(name: str, views: list[int]) -> list[dict[str, Any]]:
    """Images a second of a network of official size with random weights, bfloat16, and its peak memory."""
    model = DepthAnything3(named_config(name)).to(DEVICE).eval()  # type: ignore[arg-type]
    rows = []
    for count in views:
        images = torch.rand(1, count, 3, 336, 504, device=DEVICE)
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode(), torch.autocast(DEVICE, dtype=torch.bfloat16):
            rate = count * per_second(lambda images=images: model.raw(images))  # type: ignore[misc]
        rows.append(_row(name, f"{count} images of 504x336, images/s", round(rate, 1), None, _peak()))
    return rows


def _peak() -> float:
    return round(torch.cuda.max_memory_allocated() / 2**20, 0)


if __name__ == "__main__":
    sys.exit(main())
