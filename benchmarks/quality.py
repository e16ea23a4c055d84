"""How good the splats are on real photos: contact sheets and a table.

    python -m benchmarks.quality --sets ../shared/data [--out FOLDER] [--only desk,banana] [--model NAME|FILE]

For every set that is there: PSNR at the input photos, at held-out photos, and of the nearest input photo shown in the
place of the held-out one (what a reconstruction has to beat); the file check; and the PSNR of each view's own splats,
uncleaned, at that view, which no model can spoil and half a pixel or an inverted pose does. Exit 1 when a check fails
or an own-view PSNR is below 28 dB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from da3gs.metrics.image import psnr
from da3gs.photos import load_photos
from da3gs.pipeline.check import check
from da3gs.pipeline.loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.score import photo_psnr
from da3gs.pipeline.settings import Settings, split_holdout
from da3gs.rendering import render
from da3gs.scene import Scene
from da3gs.views import Views

OWN_VIEW_BOUND = 28.0
"""dB that a view's own splats reach at that view whatever the model: below it, geometry is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Set:
    """One set of photos and how it is split."""

    name: str
    source: str
    holdout: str | None = None
    split: str | None = None
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)


SETS = (
    Set(name="banana", source="banana", split="banana/split_ctx_4v.json"),
    Set(name="berlin", source="berlin", split="berlin/split_ctx_2v.json"),
    Set(name="buddha", source="buddha", split="buddha/split_ctx_4v.json"),
    Set(name="desk", source="desk/transforms.json", split="desk/split_ctx_6v.json"),
    Set(name="desk-colmap", source="desk/sparse/0", holdout="every:4", flags={"views": 8}),
    Set(name="dl3dv", source="dl3dv_layout", split="dl3dv_layout/index_ctx_6v.json"),
    Set(name="lund", source="lund_unposed", holdout="every:3"),
    Set(name="soh", source="soh_unposed"),
    Set(name="banana-raw", source="banana_raw_unposed", holdout="every:4"),
    Set(name="video", source="video/robot_unitree.mp4", holdout="every:4", flags={"views": 8}),
    Set(name="zip", source="lund_unposed"),
)


def split_context(path: Path, names: tuple[str, ...]) -> set[str]:
    """Context names of a split file with one scene; positions count the frames of transforms.json."""
    content = next(iter(json.loads(path.read_text()).values()))
    return {names[i] for i in content["context"]}


def zipped(folder: Path, target: Path) -> Path:
    """A zip of a folder's photos."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for photo in sorted(folder.iterdir()):
            archive.write(photo, f"photos/{photo.name}")
    return target


def own_view_psnr(scene: Scene) -> list[float]:
    """PSNR of each view's own splats, and no others, at that view."""
    assert scene.provenance is not None
    scores = []
    for view in range(len(scene.views)):
        own = scene.gaussians.masked(scene.provenance.view == view)
        scores += photo_psnr(own, scene.cameras[[view]], scene.views[[view]])
    return scores


def nearest_photo_psnr(scene: Scene, held: Views, context: list[int], positions: list[int]) -> list[float]:
    """PSNR of the nearest context photo in the place of each held-out one.

    Nearest in centre (as a share of the cameras' extent) and direction; without given poses, in the order of the input.
    """
    if held.cameras is None:
        apart = (torch.tensor(positions)[:, None] - torch.tensor(context)).abs().float()
    else:
        extent = (scene.cameras.centers - scene.cameras.centers.mean(0)).norm(dim=-1).max().clamp(min=1e-6)
        apart = torch.cdist(held.cameras.centers, scene.cameras.centers) / extent
        apart = apart + 1 - held.cameras.forward @ scene.cameras.forward.T
    pairs = zip(apart.argmin(-1), held.images, strict=True)
    return [float(psnr(scene.views.images[near].movedim(0, -1), photo.movedim(0, -1))) for near, photo in pairs]


def picture(image: torch.Tensor) -> Image.Image:
    """An 8-bit picture of (H, W, 3) in [0, 1]."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy())


def sheet(scene: Scene, held: Views | None, path: Path) -> None:
    """Photos above, renders below, PSNR under each: up to four inputs, then up to four held-out views."""
    shown = [("input", scene.cameras, scene.views)]
    if held is not None and held.cameras is not None:
        shown.append(("held out", held.cameras, held))
    columns = []
    for label, cameras, views in shown:
        for index in sorted({int(i) for i in np.linspace(0, len(views) - 1, 4).round()}):
            color = render(scene.gaussians, cameras[index]).color
            score = photo_psnr(scene.gaussians, cameras[[index]], views[[index]])[0]
            columns.append((f"{label} {views.names[index]}: {score:.2f} dB", views.images[index].movedim(0, -1), color))
    height, width = columns[0][1].shape[:2]
    canvas = Image.new("RGB", (len(columns) * (width + 4), 2 * height + 20), "white")
    draw = ImageDraw.Draw(canvas)
    for position, (label, photo, color) in enumerate(columns):
        canvas.paste(picture(photo), (position * (width + 4), 0))
        canvas.paste(picture(color), (position * (width + 4), height))
        draw.text((position * (width + 4) + 4, 2 * height + 4), label, fill="black")
    canvas.save(path, quality=90)


def run_set(item: Set, root: Path, out: Path, model: LoadedModel, flags: dict[str, Any]) -> dict[str, Any]:
    """Reconstruct one set with and without cleaning; its row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        source = root / item.source
        if item.name == "zip":
            source = zipped(source, Path(scratch) / "photos.zip")
        flags = item.flags | flags
        if item.split is not None:
            flags["views"] = 10_000
        photos = load_photos(
            source, resolution=flags.get("resolution", model.card.resolution), views=flags.get("views")
        )
        names = photos.views.names
        if item.split is not None:
            flags["holdout"] = ",".join(name for name in names if name not in split_context(root / item.split, names))
        elif item.holdout is not None:
            flags["holdout"] = item.holdout
        scene = reconstruct(source, model=model, **flags)
        whole = reconstruct(source, model=model, **(flags | {"clean": False}))
        scene.save(Path(scratch) / "scene")
        report = check(Path(scratch) / "scene")
    context, positions = split_holdout(flags.get("holdout"), names)
    held = photos.views[positions] if positions else None
    own = own_view_psnr(whole)
    nearest = nearest_photo_psnr(scene, held, context, positions) if held is not None else []
    sheet(scene, held, out / f"{item.name}.jpg")
    return {
        "set": item.name,
        "kind": scene.record["input"],
        "views": len(scene.views),
        "poses": scene.record["poses"]["source"],
        "splats": len(scene.gaussians),
        "psnr_input": scene.record["psnr"]["input_mean"],
        "psnr_holdout": scene.record["psnr"]["holdout_mean"],
        "holdout_poses": scene.record["psnr"]["holdout_poses"],
        "psnr_nearest_photo": round(sum(nearest) / len(nearest), 3) if nearest else None,
        "own_view_min": round(min(own), 2),
        "check_psnr": report.psnr,
        "check_passed": report.passed,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join("-" if row[n] is None else str(row[n]) for n in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run every set that is there; print the table; write sheets and JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--only", default="")
    parser.add_argument("--model", default="da3gs-nano")
    parser.add_argument("--resolution", type=int, help="long side in pixels; default: the model's")
    parser.add_argument("--poses", choices=("auto", "predicted"), default="auto")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = loaded_model(arguments.model, Settings())
    only = {name for name in arguments.only.split(",") if name}
    flags: dict[str, Any] = {"poses": arguments.poses}
    if arguments.resolution:
        flags["resolution"] = arguments.resolution
    rows = []
    for item in SETS:
        if (only and item.name not in only) or not (arguments.sets / item.source).exists():
            continue
        rows.append(run_set(item, arguments.sets, arguments.out, model, flags))
        print(json.dumps(rows[-1]), flush=True)
    (arguments.out / "quality.json").write_text(json.dumps(rows, indent=1))
    (arguments.out / "quality.md").write_text(table(rows))
    print(table(rows))
    bad = [row["set"] for row in rows if not row["check_passed"] or row["own_view_min"] < OWN_VIEW_BOUND]
    if bad:
        print(f"below the bound or failed its check: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
