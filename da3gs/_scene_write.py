"""Writer of the scene folder, piece by piece."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from da3gs import __version__
from da3gs._files import FORMAT_VERSION, SCENE_FORMAT, atomic_folder
from da3gs._progress import Progress
from da3gs.formats.arrays import save_arrays
from da3gs.formats.cameras.colmap import pinhole_model, save_colmap
from da3gs.formats.cameras.inria import InriaCameras, save_inria
from da3gs.formats.cameras.transforms import save_transforms, transforms_content
from da3gs.formats.splats.ply import MIP, save_ply
from da3gs.geometry.harmonics import C0
from da3gs.geometry.projection import rigid_inverse
from da3gs.metrics.image import psnr
from da3gs.rendering import Backend, render
from da3gs.scene import Scene

REFERENCES = 8
"""At most so many cameras are rendered for ``check``."""

_POINTS = 50_000  # of the COLMAP copy


def write_scene(scene: Scene, path: Path, *, overwrite: bool, backend: Backend, progress: Progress) -> None:
    """Fill a temporary folder and swap it in; whether ``path`` may be replaced has been decided."""
    frames, masked = scene_frames(scene), frozenset(_partial_masks(scene))
    steps: list[tuple[str, Callable[[Path], None]]] = [
        ("reference renders", lambda folder: _write_reference(scene, folder, backend)),
        ("splats", lambda folder: _write_splats(scene, folder)),
        ("photos", lambda folder: _write_images(scene, frames, folder)),
        ("cameras", lambda folder: write_cameras(scene, frames, folder, masked=masked)),
        ("depth", lambda folder: _write_depth(scene, folder)),
    ]
    with atomic_folder(path, overwrite=overwrite) as folder:
        for done, (name, write) in enumerate(steps):
            progress(f"writing {name}", done, len(steps))
            write(folder)
        record = finished_record(scene)
        (folder / "scene.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
        progress("writing the scene", len(steps), len(steps))


def finished_record(scene: Scene) -> dict[str, Any]:
    """The content of scene.json: the scene's record with what only the writer knows."""
    record = plain(scene.record)
    frame = dict(record.get("frame") or {})
    frame["vertical_axis"] = vertical_axis(scene)
    frame["offset"] = list(scene.offset)
    return {
        "format": SCENE_FORMAT,
        **record,
        "format_version": FORMAT_VERSION,
        "da3gs_version": __version__,
        "frame": frame,
        "splats": len(scene.gaussians),
        "harmonics_degree": scene.gaussians.degree,
        "antialiased": scene.gaussians.antialiased,
        "sizes": [list(size) for size in _sizes(scene)],
    }


def plain(value: Any) -> Any:
    """The value as JSON has it: NaN and infinity become null, tuples lists, numpy numbers Python's."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return value.name
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def vertical_axis(scene: Scene) -> list[float]:
    """The direction up in the scene: what the record says, else the nearest axis to how the photos were held."""
    frame = scene.frame
    if "vertical_axis" in frame:
        return [float(x) for x in frame["vertical_axis"]]
    if frame.get("up") in ("auto", "camera"):
        return [0.0, -1.0, 0.0]
    up = -scene.cameras.world_to_cam[..., 1, :3].double().reshape(-1, 3).mean(0).cpu()
    axis = int(up.abs().argmax())
    result = [0.0, 0.0, 0.0]
    result[axis] = 1.0 if up[axis] > 0 else -1.0
    return result


def ply_lines(scene: Scene) -> list[str]:
    """The comments of scene.ply."""
    unit = scene.frame.get("unit", "unknown")
    lines = [
        f"da3gs {__version__}",
        "Vertical axis: " + " ".join(f"{x:g}" for x in vertical_axis(scene)),
        f"Unit: {unit}",
        "Axes: OpenCV (x right, y down, z forward)",
    ]
    if scene.gaussians.antialiased:
        lines.append(MIP)
    if any(scene.offset):
        lines.append("Offset: " + " ".join(repr(x) for x in scene.offset))
    return lines


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One photo of the folder."""

    name: str
    """File name within ``images/``."""
    height: int
    """Of the picture that is written."""
    width: int
    """Of the picture that is written."""
    intrinsics: np.ndarray
    """Float64, for that size."""


def _sizes(scene: Scene) -> list[tuple[int, int]]:
    """(height, width) of the photos; one whose mask wants nothing keeps the whole canvas."""
    views = scene.views
    return [(h, w) if h and w else (views.height, views.width) for h, w in views.sizes]


def file_stem(name: str) -> str:
    """A view's name as every file system takes it: at most 160 bytes, no separators or control characters."""
    clean = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", name.encode("utf-8", "replace").decode())
    return clean.encode()[:160].decode("utf-8", "ignore").strip(". ") or "photo"


def scene_frames(scene: Scene) -> list[Frame]:
    """Names of the photos in files, their sizes, and the intrinsics for that size."""
    frames, taken = [], set[str]()
    for index, (height, width) in enumerate(_sizes(scene)):
        stem = file_stem(scene.views.names[index])
        while stem.casefold() in taken:
            stem += "_"
        taken.add(stem.casefold())
        intrinsics = scene.cameras.intrinsics[index].double().cpu().numpy().copy()
        suffix = ".png"
        if scene.originals is not None:
            photo = scene.originals[index]
            factors = (photo.original_width / width, photo.original_height / height, 1.0)
            given = photo.original_intrinsics
            intrinsics = intrinsics * np.array(factors)[:, None] if given is None else given
            height, width, suffix = photo.original_height, photo.original_width, ".jpg"
        frames.append(Frame(name=stem + suffix, height=height, width=width, intrinsics=intrinsics))
    return frames


def _write_splats(scene: Scene, folder: Path) -> None:
    save_ply(scene.gaussians, folder / "scene.ply", comments=ply_lines(scene))
    if scene.provenance is not None:
        arrays = {f.name: getattr(scene.provenance, f.name).cpu().numpy() for f in dataclasses.fields(scene.provenance)}
        save_arrays(folder / "splats.npz", arrays)


def _write_depth(scene: Scene, folder: Path) -> None:
    if scene.depth is None:
        return
    sizes = _sizes(scene)
    depth = scene.depth.detach().cpu().float().clone()
    for index, (height, width) in enumerate(sizes):
        depth[index, height:] = torch.nan
        depth[index, :, width:] = torch.nan
    arrays = {"depth": depth.numpy(), "sizes": np.array(sizes, np.int64)}
    if scene.confidence is not None:
        arrays["confidence"] = scene.confidence.detach().cpu().float().numpy()
    if scene.sky is not None:
        arrays["sky"] = scene.sky.cpu().numpy()
    save_arrays(folder / "depth.npz", arrays)


def _write_images(scene: Scene, frames: list[Frame], folder: Path) -> None:
    """PNG for photos at the network's size: they are small, and no PSNR against them suffers from a codec."""
    (folder / "images").mkdir()
    masks = _partial_masks(scene)
    if masks:
        (folder / "masks").mkdir()
    for index, frame in enumerate(frames):
        path = folder / "images" / frame.name
        if scene.originals is None:
            photo = to_bytes(scene.views.images[index].movedim(0, -1))[: frame.height, : frame.width]
            Image.fromarray(photo).save(path, compress_level=4)
        else:
            Image.fromarray(scene.originals[index].original()).save(path, quality=95, subsampling=0)
        if index in masks:
            picture = Image.fromarray(masks[index].astype(np.uint8) * 255)
            picture = picture.resize((frame.width, frame.height), Image.Resampling.NEAREST)
            picture.save(folder / "masks" / f"{path.stem}.png")


def _partial_masks(scene: Scene) -> dict[int, np.ndarray]:
    """Masks of the photos in which some pixel is unwanted, cut to the photo."""
    masks = {}
    if scene.views.masks is not None:
        for index, (height, width) in enumerate(_sizes(scene)):
            mask = scene.views.masks[index, :height, :width].cpu().numpy()
            if not mask.all():
                masks[index] = mask
    return masks


def to_bytes(image: Float[Tensor, "*batch"]) -> UInt8[np.ndarray, "*batch"]:
    """Values from 0 to 1 as bytes, rounded."""
    array: np.ndarray = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return array


def given_cam_to_world(scene: Scene) -> Float[np.ndarray, "V 4 4"]:
    """Camera to world in the caller's world, float64: the caller's own numbers where the scene has them."""
    if scene.cam_to_world_given is not None:
        return scene.cam_to_world_given.astype(np.float64)
    poses: np.ndarray = rigid_inverse(scene.cameras.world_to_cam.double().cpu()).numpy().copy()
    poses[:, :3, 3] += np.array(scene.offset)
    return poses


def write_cameras(scene: Scene, frames: list[Frame], folder: Path, *, masked: frozenset[int] = frozenset()) -> None:
    """Write transforms.json and COLMAP's model, in the caller's world, and cameras.json, in that of the splats.

    Photos are named as if they lay in ``images/``, the masks of those whose position is in ``masked`` in ``masks/``.
    """
    poses, names = given_cam_to_world(scene), [frame.name for frame in frames]
    sizes = [(frame.height, frame.width) for frame in frames]
    intrinsics = np.stack([frame.intrinsics for frame in frames])
    content = transforms_content(
        [f"images/{name}" for name in names],
        cam_to_world=poses,
        intrinsics=intrinsics,
        sizes=sizes,
        per_frame=[{"mask_path": f"masks/{Path(n).stem}.png"} if i in masked else {} for i, n in enumerate(names)],
    )
    save_transforms(folder / "transforms.json", content)
    inria = InriaCameras(
        names=tuple(names),
        sizes=tuple(sizes),
        world_to_cam=scene.cameras.world_to_cam.double().cpu(),
        intrinsics=torch.from_numpy(intrinsics),
    )
    save_inria(inria, folder / "cameras.json")
    positions, colors = sparse_points(scene)
    world_to_cam = rigid_inverse(torch.from_numpy(poses)).numpy()
    model = pinhole_model(
        names, world_to_cam=world_to_cam, intrinsics=intrinsics, sizes=sizes, positions=positions, colors=colors
    )
    (folder / "sparse" / "0").mkdir(parents=True)
    save_colmap(model, folder / "sparse" / "0")


def sparse_points(scene: Scene) -> tuple[Float[np.ndarray, "P 3"], UInt8[np.ndarray, "P 3"]]:
    """Positions in the caller's world and colours of some of the more solid splats, for COLMAP's point list."""
    g = scene.gaussians
    solid = torch.nonzero(g.opacities >= g.opacities.median()).squeeze(-1) if len(g) else torch.arange(0)
    chosen = solid[:: max(1, -(-len(solid) // _POINTS))]
    positions = g.means[chosen].double().cpu().numpy() + np.array(scene.offset)
    return positions, to_bytes(g.harmonics[chosen, 0] * C0 + 0.5)


def reference_indices(count: int) -> list[int]:
    """Positions of at most eight of ``count`` views, spread evenly, the first and last among them."""
    if count <= REFERENCES:
        return list(range(count))
    return [round(i * (count - 1) / (REFERENCES - 1)) for i in range(REFERENCES)]


def _write_reference(scene: Scene, folder: Path, backend: Backend) -> None:
    """Render the splats in memory; must come before they are written, so that ``check`` compares two separate ways."""
    indices = reference_indices(len(scene.views))
    cameras = scene.cameras[indices]
    with torch.no_grad():
        color = render(scene.gaussians, cameras, backend=backend).color.cpu()
    arrays = {
        "color": color.half().numpy(),
        "world_to_cam": cameras.world_to_cam.double().cpu().numpy(),
        "intrinsics": cameras.intrinsics.double().cpu().numpy(),
        "views": np.array(indices, np.int64),
    }
    save_arrays(folder / "reference.npz", arrays)
    _write_preview(scene, indices, color, folder)


def _write_preview(scene: Scene, indices: list[int], color: Float[Tensor, "K H W 3"], folder: Path) -> None:
    """A contact sheet: photos above, renders below, PSNR under each."""
    from da3gs._preview import contact_sheet

    sizes, columns = _sizes(scene), []
    for row, index in enumerate(indices):
        height, width = sizes[index]
        photo = scene.views.images[index].movedim(0, -1).detach().cpu().float()
        mask = None if scene.views.masks is None else scene.views.masks[index].cpu()
        score = float(psnr(color[row], photo, mask))
        caption = f"{scene.views.names[index]}\n{score:.1f} dB"
        columns.append((to_bytes(photo)[:height, :width], to_bytes(color[row])[:height, :width], caption))
    contact_sheet(columns).save(folder / "preview.png", compress_level=4)
