"""Held-out photos at the detail that a person sees: PSNR at 1,008 pixels on the long side, not at the network's size.

    python -m benchmarks.detail --sets ../shared/data [--only desk,banana] [--refine 0 15] [--out FOLDER] [--save NAME]

A row for every posed set that is there: how many photos it was made from, mean PSNR of all held-out photos (and LPIPS
where a VGG-16 trunk is at hand), splats, wall-clock and processor seconds of the whole reconstruction, and of depth and
splats. ``--out`` gets a sheet a set: held-out photos above, renders below, and beside them views halfway between two
context photos. To compare with another commit, run the same file in its checkout. Exit 1 where no set is there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.quality import SETS, Set, picture, split_context
from benchmarks.tables import save_table
from da3gs.cameras import Cameras
from da3gs.evaluation.perceptual import find_trunk, load_lpips
from da3gs.geometry.rotations import orthonormalized
from da3gs.metrics.image import psnr
from da3gs.photos import load_photos
from da3gs.photos.records import Photo
from da3gs.pipeline.model_loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings
from da3gs.rendering import render
from da3gs.scene import Scene

LONG_SIDE = 1008
POSED = ("desk", "banana", "berlin", "buddha", "dl3dv", "desk-colmap")
REMARKS = [f"PSNR in dB, mean over held-out photos at a long side of {LONG_SIDE} pixels."]
_SHOWN = 3  # held-out photos, and views halfway, on a sheet


def fine_photo(photo: Photo, camera: Cameras) -> tuple[torch.Tensor, Cameras]:
    """A photo at 1,008 pixels, (H, W, 3), and its camera at that size."""
    image = photo.read().image
    factor = min(1.0, LONG_SIDE / max(image.shape[:2]))
    width, height = round(image.shape[1] * factor), round(image.shape[0] * factor)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if factor < 1 else image
    own = camera.cropped(0, 0, photo.height, photo.width).resized(height, width)
    return torch.from_numpy(np.array(image, np.float32)) / 255, own


def halfway(one: Cameras, other: Cameras) -> Cameras:
    """A camera between two others."""
    rotation = orthonormalized((one.world_to_cam[:3, :3] + other.world_to_cam[:3, :3])[None].double())[0]
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ ((one.centers + other.centers) / 2).double()
    return Cameras(world_to_cam=pose.float(), intrinsics=one.intrinsics, height=one.height, width=one.width)


def run_set(
    item: Set, root: Path, model: LoadedModel, refine: float | str | None, out: Path | None, flags: dict[str, Any]
) -> dict[str, Any]:
    """A row of the table."""
    photos = load_photos(
        root / item.source, resolution=model.card.resolution, views=10_000 if item.split else item.flags.get("views")
    )
    names = photos.views.names
    holdout = item.holdout
    if item.split:
        context_names = split_context(root / item.split, names)
        holdout = ",".join(name for name in names if name not in context_names)
    own = {} if refine is None else {"refine": refine}
    wall, busy = time.perf_counter(), time.process_time()
    scene = reconstruct(photos, model=model, holdout=holdout, **own, **flags)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    held = [row["name"] for row in scene.record["views"]["kept"] if row["role"] == "holdout"]
    assert photos.views.cameras is not None
    pairs = [
        fine_photo(photos.photos[i], photos.views.cameras[i])
        for i, photo in enumerate(photos.photos)
        if photo.name in held
    ]
    trunk, _ = find_trunk(None)
    metric = None if trunk is None else load_lpips(trunk.file)
    scores, distances, shown = [], [], []
    offset = torch.tensor(scene.offset)
    with torch.no_grad():
        for image, camera in pairs:
            moved = camera.world_to_cam.clone()
            moved[:3, 3] += moved[:3, :3] @ offset
            color = render(scene.gaussians, _with_pose(camera, moved)).color.clamp(0, 1)
            scores.append(float(psnr(color, image)))
            distances += [] if metric is None else [float(metric(color, image))]
            shown.append((image, color))
    if out is not None:
        _save_sheet(scene, shown, out / f"{item.name}.png")
    seconds = scene.record["seconds"]
    return {
        "set": item.name,
        "photos": len(scene.views),
        "held out": len(held),
        "psnr": round(float(np.mean(scores)), 2),
        "worst": round(min(scores), 2),
        "lpips": round(float(np.mean(distances)), 4) if distances else None,
        "splats": len(scene.gaussians),
        "refined": bool((scene.record.get("refinement") or {}).get("kept")),
        "seconds": round(wall, 1),
        "processor": round(busy, 1),
        "depth and splats": round(seconds.get("alignment", 0.0) + seconds.get("splats", 0.0), 1),
    }


def _with_pose(camera: Cameras, world_to_cam: torch.Tensor) -> Cameras:
    return Cameras(world_to_cam=world_to_cam, intrinsics=camera.intrinsics, height=camera.height, width=camera.width)


def _save_sheet(scene: Scene, held: list[tuple[torch.Tensor, torch.Tensor]], path: Path) -> None:
    """Held-out photos over renders, then views halfway between context photos that follow each other."""
    from PIL import Image

    chosen = sorted({int(i) for i in np.linspace(0, len(held) - 1, _SHOWN).round()})
    rows = [[held[i][0] for i in chosen], [held[i][1] for i in chosen], []]
    cameras = scene.cameras
    size = (round(2.2 * cameras.height), round(2.2 * cameras.width))
    for first in range(min(_SHOWN, len(cameras) - 1)):
        between = halfway(cameras[first], cameras[first + 1]).resized(*size)
        with torch.no_grad():
            rows[2].append(render(scene.gaussians, between).color)
    height = 300
    strips = []
    for row in rows:
        small = [picture(p).resize((round(p.shape[1] * height / p.shape[0]), height)) for p in row]
        strip = Image.new("RGB", (sum(p.width + 4 for p in small) + 1, height + 4), "white")
        at = 0
        for one in small:
            strip.paste(one, (at, 0))
            at += one.width + 4
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    for index, strip in enumerate(strips):
        sheet.paste(strip, (0, index * (height + 4)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> int:
    """Run the sets that are there, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--only", default=",".join(POSED))
    parser.add_argument("--refine", nargs="*", default=[None], help="seconds or auto; the default where absent")
    parser.add_argument("--model", default="da3gs-nano")
    parser.add_argument("--flags", type=json.loads, default={}, help="further keywords of reconstruct, as JSON")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--save")
    arguments = parser.parse_args()
    model, rows = loaded_model(arguments.model, Settings()), []
    wanted = arguments.only.split(",")
    for item in (s for s in SETS if s.name in wanted and (arguments.sets / s.source).exists()):
        for refine in arguments.refine:
            given = refine if refine in (None, "auto") else float(refine)
            row = run_set(item, arguments.sets, model, given, arguments.out, arguments.flags)
            rows.append({**row, "refine": refine})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.save and rows:
        save_table(
            arguments.save, "Held-out photos at 1,008 pixels", rows,
            command="python -m benchmarks.detail --sets ../shared/data", remarks=REMARKS,
        )  # fmt: skip
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
