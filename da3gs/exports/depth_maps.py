"""A scene's depth as pictures and arrays, for people who want depth and no splats."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from da3gs._files import atomic_folder
from da3gs._progress import Progress, silent
from da3gs._scene_write import scene_frames
from da3gs.errors import InputError
from da3gs.scene import Scene

_MOST = 65535
_LARGEST_SHARE = 0.999  # of the depths decide the scale where the very farthest would spoil it
_PREVIEW = (0.02, 0.98)


def export_depth(
    scene: Scene, folder: Path | str, *, overwrite: bool = False, progress: Progress = silent
) -> dict[str, object]:
    """Write the depth of every photo of a scene to a folder of its own; returns the content of ``depth.json``.

    Raises:
        InputError: the scene has no depth, or the folder may not be written.
    """
    with atomic_folder(Path(folder), overwrite=overwrite) as temporary:
        return write_depth(scene, temporary, progress=progress)


def write_depth(scene: Scene, folder: Path, *, progress: Progress = silent) -> dict[str, object]:
    """Fill a folder with the depth of every photo, each at its photo's own size.

    ``NAME.png`` holds 16 bits a pixel: depth is the value times ``depth_per_value``, 0 is sky or no depth; the factor
    is the same for all photos, a round number of metres where the scene is metric, and stands in ``depth.json`` and in
    the PNG itself. ``NAME.npy`` is float32, in the units of the scene, as the model says (also in the sky).
    ``NAME_preview.png`` is for looking at: near is red, sky is black.

    Args:
        scene: with depth.
        folder: an existing one.
        progress: told about the photos.

    Raises:
        InputError: the scene has no depth.
    """
    if scene.depth is None:
        raise InputError("this scene has no depth to export; reconstruct it again, from photos")
    frame = scene.frame
    unit = str(frame.get("unit", "arbitrary"))
    sizes = scene.views.sizes
    depth, sky = scene.depth.detach().cpu().float().numpy(), None if scene.sky is None else scene.sky.cpu().numpy()
    usable = [_usable(depth[i, :h, :w], None if sky is None else sky[i, :h, :w]) for i, (h, w) in enumerate(sizes)]
    values = [depth[i, :h, :w][good] for i, ((h, w), good) in enumerate(zip(sizes, usable, strict=True))]
    per_value = depth_per_value(np.concatenate(values), metric=unit == "metre")
    low, high = _inverse_range(np.concatenate(values))
    frames, entries = scene_frames(scene), []
    for i, ((h, w), good) in enumerate(zip(sizes, usable, strict=True)):
        progress("writing depth", i, len(frames))
        own, seen = depth[i, :h, :w], good
        if (h, w) != (frames[i].height, frames[i].width):  # photos kept at full size; nothing between near and far
            size = (frames[i].width, frames[i].height)
            own = cv2.resize(own, size, interpolation=cv2.INTER_NEAREST)
            seen = cv2.resize(good.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        stem = Path(frames[i].name).stem
        np.save(folder / f"{stem}.npy", own, allow_pickle=False)
        _save_png(folder / f"{stem}.png", own, seen, per_value, unit)
        Image.fromarray(_preview(own, seen, low, high)).save(folder / f"{stem}_preview.png", compress_level=4)
        entries.append(
            {
                "photo": frames[i].name,
                "png": f"{stem}.png",
                "npy": f"{stem}.npy",
                "preview": f"{stem}_preview.png",
                "width": frames[i].width,
                "height": frames[i].height,
                "clipped": int((seen & (own > per_value * _MOST)).sum()),
            }
        )
    record: dict[str, object] = {
        "depth": "along the camera's z axis, not along the ray",
        "unit": unit,
        "depth_per_value": per_value,
        "zero": "sky, or no depth",
        "photos": entries,
    }
    (folder / "depth.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    progress("writing depth", len(frames), len(frames))
    return record


def depth_per_value(depth: Float[np.ndarray, " N"], *, metric: bool) -> float:
    """The factor from 16-bit values to depth: in metres a millimetre, or 2, 5, 10 ... of them where depth is large.

    >>> depth_per_value(np.array([1.0, 60.0]), metric=True), depth_per_value(np.array([150.0]), metric=True)
    (0.001, 0.005)
    """
    if not len(depth):
        return 0.001
    largest = float(depth.max())
    usual = float(np.quantile(depth, _LARGEST_SHARE))
    if largest > 4 * usual:
        largest = 4 * usual
    if not metric:
        return float(f"{largest / (_MOST - 1):.9g}")
    least = max(largest / _MOST, 1e-9)
    exponent = -3 if least <= 1e-3 else math.floor(math.log10(least))
    steps = (round(digit * 10.0**power, 9) for power in (exponent, exponent + 1) for digit in (1, 2, 5))
    return next(step for step in steps if step >= least * (1 - 1e-9))


def _usable(depth: Float[np.ndarray, "h w"], sky: Bool[np.ndarray, "h w"] | None) -> Bool[np.ndarray, "h w"]:
    good = np.isfinite(depth) & (depth > 0)
    return good if sky is None else good & ~sky


def _save_png(
    path: Path, depth: Float[np.ndarray, "h w"], good: Bool[np.ndarray, "h w"], per_value: float, unit: str
) -> None:
    values = np.where(good, np.clip(np.rint(np.where(good, depth, 0) / per_value), 1, _MOST), 0).astype(np.uint16)
    told = PngInfo()
    told.add_text("depth_per_value", repr(per_value))
    told.add_text("unit", unit)
    told.add_text("zero", "sky, or no depth")
    Image.fromarray(values).save(path, pnginfo=told, compress_level=4)


def _inverse_range(depth: Float[np.ndarray, " N"]) -> tuple[float, float]:
    if not len(depth):
        return 0.0, 1.0
    low, high = np.quantile(1 / depth, _PREVIEW)
    return float(low), float(max(high, low + 1e-9))


def _preview(
    depth: Float[np.ndarray, "h w"], good: Bool[np.ndarray, "h w"], low: float, high: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Inverse depth in the colour map Turbo, near is red; black where there is none."""
    nearness = np.where(good, (1 / np.where(good, depth, 1) - low) / (high - low), 0).clip(0, 1)
    colors = cv2.applyColorMap((nearness * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(good[..., None], colors, 0).astype(np.uint8)
