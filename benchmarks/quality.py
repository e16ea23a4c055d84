"""Quality of splats: on real photos, on held-out procedural scenes, and the card of the bundled model.

    python -m benchmarks.quality --sets ../shared/data [--out FOLDER] [--only desk,banana] [--model NAME|FILE]
    python -m benchmarks.quality --what scenes [--scenes 24] [--resolutions 252 336 504] [--poses both] [--save NAME]
    python -m benchmarks.quality --what card --tables SCENES.json PHOTOS.json [--curve RUN/validation.csv]

Photos: for every set that is there, PSNR at the input photos, at held-out photos, and of the nearest input photo shown
in the place of the held-out one (what a reconstruction has to beat); the file check; and the PSNR of each view's own
splats from depth, uncleaned, at that view, which no model can spoil and half a pixel or an inverted pose does. Exit 1
when a check fails or an own-view PSNR is below 28 dB. Scenes: see ``quality_scenes``. Card: see ``quality_card``.

Photos without poses get the cameras that ``reconstruct`` finds, context and held-out ones together. With ``--poses
predicted`` given and findable poses are not looked at; held-out cameras then come from a second pass over all photos,
laid on the scene by the context cameras (``holdout_poses`` aligned). ``both`` does one after the other. ``--save NAME``
writes the table to benchmarks/results too. On a machine that does other things as well, ``OMP_WAIT_POLICY=passive`` in
the environment makes it several times faster.
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

from benchmarks.quality_card import write_card
from benchmarks.quality_scenes import SIZES, TRUTH, scene_rows
from benchmarks.tables import save_table
from da3gs._files import sha256
from da3gs._progress import silent
from da3gs.cameras import Cameras
from da3gs.checkpoints import BUNDLED, model_card
from da3gs.checkpoints.load import weights_of
from da3gs.evaluation.perceptual import find_trunk, load_lpips
from da3gs.evaluation.protocol import Poses
from da3gs.metrics.image import psnr
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.pipeline.camera_source import with_cameras
from da3gs.pipeline.check import check
from da3gs.pipeline.model_loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct, split_of
from da3gs.pipeline.settings import Settings
from da3gs.poses.structure_from_motion import MOST_PHOTOS, VIDEO_FPS
from da3gs.rendering import render
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Scene
from da3gs.views import Views

OWN_VIEW_BOUND = 28.0
"""dB that a view's own splats reach at that view whatever the model: below it, geometry is wrong."""
REMARKS = {
    "photos": [
        "lpips_holdout: LPIPS 0.1 on VGG-16 at the held-out photos, with given poses.",
        "holdout_poses aligned: from a second pass over all photos, laid on the scene by the context cameras.",
    ],
    "scenes": [
        "PSNR in dB of two novel views a scene, over pixels that one of three context views can have seen.",
        "gain: reconstruct minus nearest_photo. share: how far that is on the way from nearest_photo to true_depth.",
        "With given poses, depth and head are told the best scale of the scene, reconstruct is not.",
    ],
}
"""Lines under a saved table."""


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


def nearest_photo_psnr(
    scene: Scene, held: Views, context: list[int], positions: list[int], own: Cameras | None = None
) -> list[float]:
    """PSNR of the nearest context photo in the place of each held-out one.

    Nearest in centre (as a share of the cameras' extent) and direction; without given poses, in the order of the input.
    ``own`` are the context cameras in the world of the held-out ones; the scene's where that is the same.
    """
    if held.cameras is None:
        apart = (torch.tensor(positions)[:, None] - torch.tensor(context)).abs().float()
    else:
        own = scene.cameras if own is None else own
        extent = (own.centers - own.centers.mean(0)).norm(dim=-1).max().clamp(min=1e-6)
        apart = torch.cdist(held.cameras.centers, own.centers) / extent
        apart = apart + 1 - held.cameras.forward @ own.forward.T
    pairs = zip(apart.argmin(-1), held.images, strict=True)
    return [float(psnr(scene.views.images[near].movedim(0, -1), photo.movedim(0, -1))) for near, photo in pairs]


def held_out_lpips(scene: Scene, held: Views | None) -> float | None:
    """Mean LPIPS at held-out photos whose cameras were given; None without them, or where there is no VGG-16 trunk."""
    trunk, _ = find_trunk(None)
    if trunk is None or held is None or held.cameras is None or scene.record["poses"]["source"] != "given":
        return None
    metric = load_lpips(trunk.file)
    colors = [render(scene.gaussians, held.cameras[i]).color.clamp(0, 1) for i in range(len(held))]
    with torch.no_grad():
        distances = [metric(c, photo.movedim(0, -1)) for c, photo in zip(colors, held.images, strict=True)]
    return round(float(torch.stack(distances).mean()), 4)


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


def photos_of(source: Path, model: LoadedModel, flags: dict[str, Any]) -> LoadedPhotos:
    """The photos with the cameras that ``reconstruct`` would use: given ones, or found in all of them together."""
    views = flags.get("views")
    resolution = flags.get("resolution", model.card.resolution)
    photos = load_photos(
        source, resolution=resolution, views=views, unposed_views=max(views or 0, MOST_PHOTOS), fps=VIDEO_FPS
    )
    settings = Settings(poses=flags["poses"], resolution=resolution, views=views or "auto")
    return with_cameras(photos, model, settings, silent)


def run_set(item: Set, root: Path, sheets: Path, model: LoadedModel, flags: dict[str, Any]) -> dict[str, Any]:
    """Reconstruct one set with and without cleaning; its row of the table. ``sheets`` is the picture's path."""
    with tempfile.TemporaryDirectory() as scratch:
        source = root / item.source
        if item.name == "zip":
            source = zipped(source, Path(scratch) / "photos.zip")
        flags = item.flags | flags
        if item.split is not None:
            flags["views"] = 10_000
        photos = photos_of(source, model, flags)
        names = photos.views.names
        if item.split is not None:
            flags["holdout"] = ",".join(name for name in names if name not in split_context(root / item.split, names))
        elif item.holdout is not None:
            flags["holdout"] = item.holdout
        scene = reconstruct(photos, model=model, **flags)
        whole = reconstruct(photos, model=model, **(flags | {"clean": False, "splats": "depth"}))
        scene.save(Path(scratch) / "scene")
        report = check(Path(scratch) / "scene")
    context, positions = split_of(photos, Settings(holdout=flags.get("holdout")))
    held = photos.views[positions] if positions else None
    given = photos.views.cameras
    layered = whole.record["splats_from"] == "stereo"  # a place is shown by one view alone: nothing to hold it to
    own = [] if layered else own_view_psnr(whole)
    nearest = []
    if held is not None:
        nearest = nearest_photo_psnr(scene, held, context, positions, None if given is None else given[context])
    sheet(scene, held if scene.record["poses"]["source"] in ("given", "colmap") else None, sheets)
    return {
        "set": item.name,
        "kind": scene.record["input"],
        "resolution": max(photos.views.height, photos.views.width),
        "views": len(scene.views),
        "poses": scene.record["poses"]["source"],
        "splats": len(scene.gaussians),
        "psnr_input": scene.record["psnr"]["input_mean"],
        "psnr_holdout": scene.record["psnr"]["holdout_mean"],
        "holdout_poses": scene.record["psnr"]["holdout_poses"],
        "psnr_nearest_photo": round(sum(nearest) / len(nearest), 3) if nearest else None,
        "lpips_holdout": held_out_lpips(scene, held),
        "own_view_min": round(min(own), 2) if own else None,
        "check_psnr": report.psnr,
        "check_passed": report.passed,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join("-" if row[n] is None else str(row[n]) for n in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def photo_rows(options: argparse.Namespace, model: LoadedModel) -> list[dict[str, Any]]:
    """Every set that is there, at every resolution, with every kind of poses; writes sheets."""
    only = {name for name in options.only.split(",") if name}
    items = [s for s in SETS if (not only or s.name in only) and (options.sets / s.source).exists()]
    resolutions = options.resolutions or [options.resolution]
    kinds = {"auto": ("auto",), "predicted": ("predicted",), "both": ("auto", "predicted")}[options.poses]
    rows: list[dict[str, Any]] = []
    for item in items:
        for resolution in resolutions:
            for poses in kinds:
                if poses == "predicted" and len(kinds) == 2 and rows[-1]["poses"] == "predicted":
                    continue  # there were no poses to be left out, nor any to be found
                flags: dict[str, Any] = {"poses": poses, "splats": options.splats}
                if resolution:
                    flags["resolution"] = resolution
                words = [item.name, *([str(resolution)] if len(resolutions) > 1 else [])]
                words += [poses] if poses == "predicted" and len(kinds) == 2 else []
                rows.append(run_set(item, options.sets, options.out / f"{'-'.join(words)}.jpg", model, flags))
                print(json.dumps(rows[-1]), flush=True)
    return rows


def all_scene_rows(options: argparse.Namespace, model: LoadedModel | None) -> list[dict[str, Any]]:
    """Held-out scenes at every size, with every kind of poses."""
    chosen = options.resolutions or ([options.resolution] if options.resolution else list(SIZES))
    if unknown := [side for side in chosen if side not in SIZES]:
        raise SystemExit(f"--what scenes has long sides {', '.join(map(str, SIZES))}, got {unknown[0]}")
    kinds: dict[str, tuple[Poses, ...]] = {
        "auto": ("given",), "predicted": ("predicted",), "both": ("given", "predicted")
    }  # fmt: skip
    rows = []
    for side in chosen:
        rows += scene_rows(model, SIZES[side], kinds[options.poses], scenes=options.scenes, splats=options.splats)
    return rows


def repeating(words: list[str]) -> list[str]:
    """The arguments without where results go, and with file names instead of paths to weights.

    >>> repeating(["--what", "scenes", "--model", "runs/last.safetensors", "--out", "x", "--save", "y"])
    ['--what', 'scenes', '--model', 'last.safetensors']
    """
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    kept = []
    for before, word in zip(["", *parts], parts, strict=False):
        if word not in ("--out", "--save") and before not in ("--out", "--save"):
            kept.append(Path(word).name if before == "--model" else word)
    return kept


def saved(options: argparse.Namespace, rows: list[dict[str, Any]], words: list[str]) -> None:
    """The table in benchmarks/results, with the command that repeats it and the checksum of the weights."""
    path = Path(options.model)
    known = options.what == "scenes" and options.model == TRUTH
    weights = None if known else path if path.exists() else weights_of(model_card(options.model))
    told = [] if weights is None or weights.is_dir() else [f"Weights: SHA-256 {sha256(weights)}."]
    what = "real photos" if options.what == "photos" else "held-out procedural scenes"
    save_table(
        options.save,
        f"Quality on {what}, {path.name}",
        rows,
        command=" ".join(("python -m benchmarks.quality", *repeating(words))),
        remarks=[*told, *REMARKS[options.what]],
    )


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; print the table; write sheets and JSON."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("photos", "scenes", "card"), default="photos")
    parser.add_argument("--sets", type=Path, help="folder of photo sets; photos need it")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--only", default="", help="sets with commas between")
    parser.add_argument("--model", default=BUNDLED, help="a name or file; scenes also take: truth")
    parser.add_argument("--resolution", type=int, help="long side in pixels; default: the model's")
    parser.add_argument("--resolutions", type=int, nargs="+", help="several; default of scenes: 252 336 504")
    parser.add_argument("--poses", choices=("auto", "predicted", "both"), default="auto")
    parser.add_argument("--splats", choices=("auto", "head", "depth"), default="auto")
    parser.add_argument("--scenes", type=int, default=24, help="how many held-out scenes a size")
    parser.add_argument("--save", help="name of the table in benchmarks/results")
    parser.add_argument("--tables", type=Path, nargs=2, metavar=("SCENES", "PHOTOS"), help="of --what card")
    parser.add_argument("--curve", type=Path, help="a run's validation.csv, for --what card")
    options = parser.parse_args(words)
    if options.what == "card":
        if options.tables is None:
            parser.error("--what card needs --tables SCENES.json PHOTOS.json, which --save writes")
        print(write_card(*options.tables, curve=options.curve))
        return 0
    if options.what == "photos" and options.sets is None:
        parser.error("--what photos needs --sets FOLDER")
    known = options.what == "scenes" and options.model == TRUTH
    model = None if known else loaded_model(options.model, Settings())
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "scenes":
        rows = all_scene_rows(options, model)
    else:
        assert model is not None
        rows = photo_rows(options, model)
    if not rows:
        parser.error(f"none of the sets is in {options.sets}")
    stem = options.out / ("quality" if options.what == "photos" else "scenes")
    stem.with_suffix(".json").write_text(json.dumps(rows, indent=1))
    stem.with_suffix(".md").write_text(table(rows))
    print(table(rows))
    if options.save:
        saved(options, rows, words)
    if options.what == "scenes":
        return 0
    bad = [
        row["set"]
        for row in rows
        if not row["check_passed"] or (row["own_view_min"] or OWN_VIEW_BOUND) < OWN_VIEW_BOUND
    ]
    if bad:
        print(f"below the bound or failed its check: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
