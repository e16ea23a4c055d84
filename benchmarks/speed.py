"""Speed of the CPU rasteriser, beside the same algorithm in plain C++, brute force and gsplat's PyTorch code.

Run: ``python -m benchmarks.speed [--threads N] [--runs 10] [--quick] [--save NAME]``; ``--save`` writes
``benchmarks/results/NAME.json`` and ``.md``. Times of a busy machine mean little: the ratios hold, and so does the
processor time of one thread, which is given beside the frames a second. The C++ program (``rasteriser.cpp``) is what
an ordinary implementation of the same algorithm gets from the compiler; its picture is checked against ours.

The scenes have the statistics of predicted splats: one splat a pixel and view, unprojected from smooth depth maps, half
a pixel wide, opacity 0.6 to 0.8, harmonics of degree 2.

With ``--official CHECKOUT`` the networks are measured instead, beside the official code: see ``network_speed``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.network_speed import compare
from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse, unproject
from da3gs.rendering import render, warmup
from da3gs.rendering._cpu import camera_array

SCENES = (
    ("100 k", 1, (258, 388), (336, 504)),
    ("339 k", 2, (336, 504), (336, 504)),
    ("339 k", 2, (336, 504), (540, 960)),
    ("508 k", 3, (336, 504), (336, 504)),
    ("1.35 M", 8, (336, 504), (336, 504)),
    ("2.03 M", 12, (336, 504), (336, 504)),
)
"""Name, views, (height, width) of the views' depth maps, (height, width) of the picture."""


def layered_scene(views: int, height: int, width: int, *, seed: int = 0) -> tuple[Gaussians, Cameras]:
    """Splats of ``views`` depth maps that see the same bumpy wall from a short row of cameras."""
    generator = np.random.default_rng(seed)
    eyes = torch.zeros(views, 3)
    eyes[:, 0] = (torch.arange(views) - (views - 1) / 2) * 0.3 * min(1.0, 3 / views)
    target, up = torch.tensor([0.0, 0.0, 3.0]).expand(views, 3), torch.tensor([0.0, -1.0, 0.0]).expand(views, 3)
    focal = 0.8 * width
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).repeat(views, 1, 1)
    cameras = Cameras(world_to_cam=look_at(eyes, target, up), intrinsics=intrinsics, height=height, width=width)
    coarse = [generator.random((6, 8)).astype(np.float32) for _ in range(views)]
    depth = torch.stack(
        [torch.from_numpy(cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC)) * 1.5 + 2 for c in coarse]
    )
    number = views * height * width

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))

    scales = (depth / focal * 0.42).reshape(-1, 1) * torch.exp(0.2 * normal(number, 3))
    harmonics = 0.05 * normal(number, 9, 3)
    harmonics[:, 0] = normal(number, 3)
    gaussians = Gaussians(
        means=unproject(depth, intrinsics, rigid_inverse(cameras.world_to_cam)).reshape(-1, 3),
        scales=scales,
        quaternions=normal(number, 4),
        opacities=torch.from_numpy(generator.uniform(0.6, 0.8, number).astype(np.float32)),
        harmonics=harmonics,
    )
    return gaussians, cameras


def least(work: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of the fastest of ``runs`` calls."""
    best = float("inf")
    for _ in range(runs):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best * 1e3


def compiled_peer() -> ctypes.CDLL | None:
    """The C++ program, compiled for this machine; None without a compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None
    library = Path(tempfile.mkdtemp()) / "rasteriser.so"
    source = Path(__file__).parent / "rasteriser.cpp"
    flags = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-std=c++17"]
    subprocess.run([compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def peer_frame(library: ctypes.CDLL, gaussians: Gaussians, camera: Cameras) -> Callable[[], np.ndarray]:
    """A call that draws one frame with the C++ program and returns its colours."""
    arrays = [gaussians.means, gaussians.scales, gaussians.quaternions, gaussians.opacities, gaussians.harmonics]
    inputs = [np.ascontiguousarray(a.numpy(), dtype=np.float32) for a in arrays]
    inputs.append(camera_array(camera.world_to_cam.numpy(), camera.intrinsics.numpy(), camera.height, camera.width))
    outputs = [np.empty((camera.height, camera.width, channels), np.float32) for channels in (3, 1, 1)]

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def draw() -> np.ndarray:
        library.render(len(gaussians), *map(pointer, inputs), camera.height, camera.width, *map(pointer, outputs))
        return outputs[0]

    return draw


def forward_rows(runs: int, threads: int, quick: bool) -> list[dict[str, object]]:
    """Each scene drawn from its first camera: all threads by the clock, one thread by processor time, beside C++."""
    rows: list[dict[str, object]] = []
    library = compiled_peer()
    for name, views, source, target in SCENES[:3] if quick else SCENES:
        gaussians, cameras = layered_scene(views, *source)
        camera = cameras[0].resized(*target)
        wall = least(lambda: render(gaussians, camera, threads=threads), runs)  # noqa: B023
        one = least(lambda: render(gaussians, camera, threads=1), runs, time.process_time)  # noqa: B023
        peer = None
        if library is not None:
            draw = peer_frame(library, gaussians, camera)
            apart = np.abs(draw() - render(gaussians, camera, threads=1).color.numpy())
            assert np.quantile(apart, 0.999) < 1e-3, "the C++ program draws something else"
            peer = least(draw, runs, time.process_time)
        rows.append(
            {
                "scene": f"{name}, {target[1]}x{target[0]}",
                "splats": len(gaussians),
                "frames_per_second": round(1e3 / wall, 1),
                "milliseconds": round(wall, 1),
                "milliseconds_one_thread_cpu": round(one, 1),
                "cpp_one_thread_cpu": None if peer is None else round(peer, 1),
                "cpp_over_ours": None if peer is None else round(peer / one, 2),
            }
        )
    return rows


def backward_row(runs: int, threads: int) -> dict[str, object]:
    """131 k splats at 256x256 there and back: what a step of an optimiser costs."""
    gaussians, cameras = layered_scene(2, 256, 256)
    leaves = gaussians.map(lambda t: t.clone().requires_grad_())
    target = torch.rand(256, 256, 3, generator=torch.Generator().manual_seed(0))

    def step(threads: int) -> None:
        (render(leaves, cameras[0], threads=threads).color - target).abs().mean().backward()
        for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
            getattr(leaves, name).grad = None

    return {
        "splats": len(gaussians),
        "milliseconds": round(least(lambda: step(threads), runs), 1),
        "milliseconds_one_thread_cpu": round(least(lambda: step(1), runs, time.process_time), 1),
    }


def oracle_row(runs: int) -> dict[str, object]:
    """A tiny scene by brute force (every pixel meets every splat, NumPy-like float64) and by the renderer."""
    from tests.unit import oracle

    gaussians, cameras = layered_scene(2, 24, 36)
    c = cameras[0]
    fields = (gaussians.means, gaussians.scales, gaussians.quaternions, gaussians.opacities, gaussians.harmonics)
    slow = least(lambda: oracle.draw(*fields, c.world_to_cam, c.intrinsics, c.height, c.width), 2)
    fast = least(lambda: render(gaussians, c, threads=1), runs)
    return {"brute_force_ms": round(slow, 2), "ours_ms": round(fast, 3), "ratio": round(slow / fast, 1)}


def gsplat_row(runs: int, threads: int) -> dict[str, object] | None:
    """gsplat's PyTorch projection and harmonics alone, against our whole frame; None where gsplat is missing."""
    try:
        from gsplat.cuda import _torch_impl as peer
    except ImportError:
        return None
    gaussians, cameras = layered_scene(2, 336, 504)
    c = cameras[:1]

    def project() -> None:
        covariances, _ = peer._quat_scale_to_covar_preci(gaussians.quaternions, gaussians.scales, compute_preci=False)
        peer._fully_fused_projection(gaussians.means, covariances, c.world_to_cam, c.intrinsics, c.width, c.height)

    def harmonics() -> None:
        peer._spherical_harmonics(2, gaussians.means - c.centers[0], gaussians.harmonics)

    few = max(2, runs // 4)
    with torch.no_grad():
        projection, colors = least(project, few), least(harmonics, few)
    ours = least(lambda: render(gaussians, c[0], threads=threads), runs)
    return {
        "projection_ms": round(projection, 1),
        "harmonics_ms": round(colors, 1),
        "our_whole_frame_ms": round(ours, 1),
        "ratio": round((projection + colors) / ours, 1),
    }


def as_markdown(report: dict[str, object]) -> str:
    """The report as a page to read."""
    lines = [
        "# Speed of the CPU renderer",
        "",
        f"{report['machine']}; {report['threads']} threads. `{report['command']}`",
        "",
        "| scene | frames/s | ms | ms of processor time, one thread | the same in plain C++ | C++ / ours |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["forward"]:  # type: ignore[attr-defined]
        lines.append("| " + " | ".join(str(v) for k, v in row.items() if k != "splats") + " |")
    ratios = [row["cpp_over_ours"] for row in report["forward"] if row["cpp_over_ours"]]  # type: ignore[attr-defined]
    if ratios:
        lines.append(f"\nGeometric mean of the ratios to C++: {math.prod(ratios) ** (1 / len(ratios)):.2f}.")
    back = report["forward_and_backward"]
    lines.append(
        f"\n131 k splats at 256x256, forward and backward: {back['milliseconds']} ms, "  # type: ignore[index]
        f"{back['milliseconds_one_thread_cpu']} ms of processor time on one thread."  # type: ignore[index]
    )
    oracle, peer = report["oracle"], report["gsplat_torch"]
    lines += ["", f"Brute force on 1,728 splats at 36x24: {oracle['ratio']}x slower."]  # type: ignore[index]
    if peer is not None:
        lines.append(
            f"gsplat's PyTorch projection and harmonics alone, 339 k: {peer['ratio']}x our whole frame."  # type: ignore[index]
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="the three smallest scenes")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    parser.add_argument("--official", type=Path, metavar="CHECKOUT", help="the networks beside the official code")
    parser.add_argument("--models", nargs="+", default=["da3-small", "da3-base"], help="with --official")
    parser.add_argument("--views", nargs="+", type=int, default=[2, 8], help="with --official")
    arguments = parser.parse_args()
    if arguments.official is not None:
        raise SystemExit(compare(arguments))
    start = time.perf_counter()
    warmup()
    report: dict[str, object] = {
        "command": "python -m benchmarks.speed" + (" --quick" if arguments.quick else ""),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{os.cpu_count()} cores with {os.getloadavg()[0]:.1f} programs running",
        "threads": arguments.threads,
        "warmup_seconds": round(time.perf_counter() - start, 2),
        "forward": forward_rows(arguments.runs, arguments.threads, arguments.quick),
        "forward_and_backward": backward_row(arguments.runs, arguments.threads),
        "oracle": oracle_row(arguments.runs),
        "gsplat_torch": gsplat_row(arguments.runs, arguments.threads),
    }
    print(as_markdown(report))
    if arguments.save:
        stem = Path(__file__).parent / "results" / arguments.save
        stem.parent.mkdir(exist_ok=True)
        stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        stem.with_suffix(".md").write_text(as_markdown(report))


if __name__ == "__main__":
    main()
