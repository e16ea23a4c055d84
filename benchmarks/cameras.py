"""Accuracy of cameras found in photos without poses, and what they are worth at photos kept out.

    python -m benchmarks.cameras --sets ../shared/data [--only desk,banana] [--out FOLDER] [--save NAME]

The photos of every set that is there, and of every other folder of SETS, are given to the plain road alone (no flag but
the hold-out): how many are placed; against true cameras, where there are any, AUC at 5 and 30 degrees and the median
errors of relative rotations and directions; PSNR at held-out photos, the same with true cameras, and of the nearest
photo; seconds of the search and of everything. ``--out`` keeps the scenes, with a contact sheet each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality import SETS, Set, nearest_photo_psnr, split_context, zipped
from benchmarks.tables import save_table
from da3gs.metrics.pose import pose_auc, relative_pose_errors
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.pipeline.camera_source import with_cameras
from da3gs.pipeline.model_loading import LoadedModel, loaded_model
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Settings, split_holdout
from da3gs.poses.structure_from_motion import MOST_PHOTOS, VIDEO_FPS


def sets_of(root: Path) -> list[Set]:
    """The known sets that are there, and every other folder as one of its own."""
    known = [item for item in SETS if (root / item.source).exists()]
    named = {Path(item.source).parts[0] for item in known}
    others = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in named)
    return known + [Set(name=name, source=name, holdout="every:4") for name in others]


def pictures_of(photos: LoadedPhotos, source: Path) -> list[Path]:
    """The photos' files in their order, without anything that tells of cameras."""
    folder = source if source.is_dir() else source.parent
    while folder.name in ("0", "sparse"):
        folder = folder.parent
    return [sorted(folder.rglob(photo.file))[0] for photo in photos.photos]


def run_set(item: Set, root: Path, model: LoadedModel, out: Path | None) -> dict[str, Any]:
    """A row of the table."""
    source = root / item.source
    with tempfile.TemporaryDirectory() as scratch:
        if item.name == "zip":
            source = zipped(source, Path(scratch) / "photos.zip")
        resolution = model.card.resolution
        true = load_photos(source, resolution=resolution, unposed_views=1)
        posed = true.views.cameras is not None
        files = pictures_of(true, source) if posed else source
        start = time.perf_counter()
        settings = Settings(views=MOST_PHOTOS)
        bare = load_photos(
            files, resolution=resolution, views=MOST_PHOTOS, fps=VIDEO_FPS if source.suffix == ".mp4" else None
        )
        found = with_cameras(bare, model, settings, lambda *_: None)
        searched = time.perf_counter() - start
        row: dict[str, Any] = {"set": item.name, "photos": len(bare.photos), "placed": len(found.photos)}
        row |= errors(found, true) if posed else dict.fromkeys(("auc5", "auc30", "rotation", "direction"))
        row |= splats_of(item, root, found, true if posed else None, model, out)
        return row | {"seconds_cameras": round(searched, 1), "seconds": round(time.perf_counter() - start, 1)}


def errors(found: LoadedPhotos, true: LoadedPhotos) -> dict[str, float | None]:
    """Of the found cameras against the true ones, in degrees."""
    if found.views.cameras is None or len(found.photos) < 2:
        return dict.fromkeys(("auc5", "auc30", "rotation", "direction"))
    assert true.views.cameras is not None
    index = [true.views.names.index(name) for name in found.views.names]
    rotation, direction = relative_pose_errors(found.views.cameras.world_to_cam, true.views.cameras.world_to_cam[index])
    areas = pose_auc(rotation, direction, [5, 30])
    return {
        "auc5": round(areas["auc5"], 3), "auc30": round(areas["auc30"], 3),
        "rotation": round(float(rotation.median()), 2), "direction": round(float(direction.median()), 2),
    }  # fmt: skip


def splats_of(
    item: Set, root: Path, found: LoadedPhotos, true: LoadedPhotos | None, model: LoadedModel, out: Path | None
) -> dict[str, float | None]:
    """PSNR at held-out photos with found cameras and with true ones, and of the nearest photo."""
    names = found.views.names
    holdout = item.holdout
    if item.split is not None and true is not None:
        context = split_context(root / item.split, true.views.names)
        holdout = ",".join(name for name in names if name not in context) or None
    if holdout is None or len(names) < 2:
        scene, holdout = reconstruct(found, model=model), None
    else:
        scene = reconstruct(found, model=model, holdout=holdout)
    if out is not None:
        scene.save(out / f"{item.name}.scene", overwrite=True)
    told: dict[str, float | None] = {
        "psnr_input": scene.record["psnr"]["input_mean"], "psnr_holdout": scene.record["psnr"]["holdout_mean"],
        "psnr_true_cameras": None, "psnr_nearest_photo": None,
    }  # fmt: skip
    if holdout is None:
        return told
    context_index, held = split_holdout(holdout, names)
    nearest = nearest_photo_psnr(scene, found.views[held], context_index, held)
    told["psnr_nearest_photo"] = round(sum(nearest) / len(nearest), 3)
    if true is not None:
        index = [true.views.names.index(name) for name in names]
        same = true.only(index)
        exact = reconstruct(same, model=model, holdout=",".join(names[i] for i in held))
        told["psnr_true_cameras"] = exact.record["psnr"]["holdout_mean"]
    return told


def main() -> None:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--save", default="")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = loaded_model("da3gs-nano", Settings())
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for item in sets_of(options.sets):
        if options.only and item.name not in options.only.split(","):
            continue
        rows.append(run_set(item, options.sets, model, options.out))
        print(rows[-1], flush=True)
    if options.save and rows:
        command = f"python -m benchmarks.cameras --sets {options.sets.name}"
        save_table(options.save, "Cameras found in photos without poses", rows, command=command)


if __name__ == "__main__":
    main()
