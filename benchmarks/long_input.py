"""Long input: a video along a loop, reconstructed in chunks: time, memory, drift at the loop, and a run killed halfway.

Run: ``python -m benchmarks.long_input [--frames 32 150 300 600] [--chunk 32] [--size 168x126] [--model da3gs-nano]``.

The video is drawn by the project's own ray caster: a camera on a closed oval before a desk, five frames a second, all
of them kept, with cameras predicted. Each row is a ``da3gs reconstruct`` of its own; its peak is the largest resident
set of the process. The last row is the longest run once more, killed (SIGKILL) when half of its chunks are done; its
seconds are those of the second run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import save_table

FPS = 5.0
"""Frames a second of the video."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit 1 where a killed run does not go on, or ends in other cameras."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_input", description=__doc__)
    parser.add_argument("--frames", nargs="+", type=int, default=[32, 150, 300, 600], help="how many of the loop")
    parser.add_argument("--chunk", type=int, default=32, help="views that go through the network together")
    parser.add_argument("--size", default="168x126", help="width x height of the video")
    parser.add_argument("--model", default="da3gs-nano", help="name or file")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and .md")
    options = parser.parse_args(arguments)
    width, height = (int(side) for side in options.size.split("x"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in options.frames:
            video = Path(folder, f"loop_{frames}.mp4")
            _draw(video, frames, height, width)
            rows.append(_row(video, frames, options, kill=False))
        rows.append(_row(video, frames, options, kill=True))
    same = rows[-1]["end"] == rows[-2]["end"]
    for row in rows:
        del row["end"]
    if options.save:
        words = f"--frames {' '.join(map(str, options.frames))} --chunk {options.chunk} --size {options.size}"
        save_table(
            options.save,
            "A video along a loop, reconstructed in chunks",
            rows,
            command=f"python -m benchmarks.long_input {words} --model {options.model}",
            remarks=[
                "`drift`, `drift_left`: distance of the last views from where the loop puts them, as a share of the"
                " way, before and after it is closed.",
                f"The run that was killed ended in the same cameras: {'yes' if same else 'no'}.",
            ],
        )
    return int(not same)


def loop_poses(frames: int) -> np.ndarray:
    """Camera-to-world poses on an oval before the demo's desk, which all of them look at."""
    from da3gs.procedural.cameras import aim

    target = np.array([0.0, 0.12, 0.88])
    poses = []
    for k in range(frames):
        a = 2 * math.pi * k / frames
        eye = target + np.array([0.7 * math.sin(a), -1.35 + 0.3 * math.cos(a), 0.5 + 0.12 * math.sin(2 * a)])
        poses.append(aim(eye, target + np.array([0.1 * math.sin(a), 0, 0.03 * math.sin(3 * a)])))
    return np.stack(poses)


def _draw(path: Path, frames: int, height: int, width: int) -> None:
    """Write the video; always the same scene, whatever the number of frames."""
    from da3gs.formats.media.video import save_video
    from da3gs.procedural.cameras import FINE, color_map, depth_map, develop
    from da3gs.procedural.demo_scene import desk_scene
    from da3gs.procedural.textures import make_textures

    generator = np.random.default_rng(4)
    bank = make_textures(generator, 66, 512)
    scene = desk_scene(generator, bank)
    focal = np.full(2, width / 2 / math.tan(math.radians(58) / 2))

    def pictures() -> Iterator[np.ndarray]:
        """The frames in 8 bits."""
        for number, pose in enumerate(loop_poses(frames)):
            hits = depth_map(scene, pose, focal, height, width)
            color = color_map(scene, bank, pose, focal, hits, quality=FINE, seed=number)
            photo = develop(np.random.default_rng(0), [color], plain=True)[0]
            yield (photo * 255 + 0.5).astype(np.uint8)

    save_video(path, pictures(), fps=FPS)


def _row(video: Path, frames: int, options: argparse.Namespace, *, kill: bool) -> dict[str, Any]:
    scene = video.parent / f"{video.stem}{'_again' if kill else ''}.scene"
    command = [sys.executable, "-m", "da3gs", "reconstruct", str(video), "-o", str(scene), "--json", "--quiet"]
    command += ["--views", str(frames), "--fps", str(FPS), "--chunk", str(options.chunk), "--model", options.model]
    command += ["--poses", "predicted", "--resolution", options.size.split("x")[0], "--refine", "0"]
    if kill:
        _killed(command, scene)
    start = time.perf_counter()
    facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    seconds = time.perf_counter() - start
    record = json.loads((scene / "scene.json").read_text())
    chunks = record.get("chunks", {})
    end = json.loads((scene / "cameras.json").read_text())[-1]["position"]
    row = {
        "frames": frames,
        "chunks": chunks.get("count", 1),
        "killed": kill,
        "seconds": round(seconds, 1),
        "seconds_network": round(record["seconds"]["network"], 1),
        "peak_mb": round(facts["peak_memory_mb"]),
        "loop_closed": chunks.get("loop_closed"),
        "drift": chunks.get("drift", {}).get("share_of_way"),
        "drift_left": chunks.get("drift_left", {}).get("share_of_way"),
        "psnr_input": round(facts["psnr_input"], 1),
        "end": end,
    }
    print("  ".join(f"{key} {value}" for key, value in row.items() if key != "end"), flush=True)
    return row


def _killed(command: list[str], scene: Path) -> None:
    """Start the command, and kill it when half of the chunks are on disk."""
    partial = scene.parent / f".{scene.name}.partial"
    views, size = (int(command[command.index(flag) + 1]) for flag in ("--views", "--chunk"))
    half = max(1, views // max(1, size - size // 4) // 2)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if partial.is_dir() and len(list(partial.glob("chunk_*.safetensors"))) >= half:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)
    raise SystemExit("the run that was to be killed ended before")


if __name__ == "__main__":
    sys.exit(main())
