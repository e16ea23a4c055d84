"""Videos, frames and single pictures of a scene."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from da3gs._files import atomic_file, atomic_folder, check_output
from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.rendering import PATH_NAMES, Backend, PathName, Rendering, camera_path, render
from da3gs.rendering.trajectories import home_of
from da3gs.scene import Scene

SUFFIXES = (".mp4", ".gif", ".png", "/")
"""What can be written; ``/`` is a folder of frames."""

_MAX_FRAMES = 100_000
_PREVIEW_SIDE = 160
_MOST_UNSEEN = 0.015
"""How much less of the picture may be covered than in the central photo."""
_NEAREST = 0.3
"""How near a path may come to things, in units of how near the central photo is to its nearest."""


def render_path(
    scene: Scene | Gaussians,
    output: Path | str,
    *,
    path: str = "wander",
    camera: str | int | None = None,
    size: tuple[int, int] | None = None,
    fps: float = 24.0,
    seconds: float | None = None,
    depth: bool = False,
    mask: bool = False,
    background: tuple[float, float, float] | None = None,
    backend: Backend = "auto",
    antialias: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> int:
    """Write a video, a folder of frames or one picture of a scene, and return the number of frames.

    One frame is in memory at a time. Colours are clipped to [0, 1] and rounded to 8 bits. A folder of the path
    ``inputs`` gets one frame a photo. The sides of an .mp4 are even: an odd one loses a row or column.

    Args:
        scene: a scene, or splats alone, which are looked at from the origin or, if that sees little, from outside.
        output: ``.mp4``, ``.gif``, ``.png`` (the first frame) or a folder (no suffix, or a trailing slash).
        path: one of ``da3gs.rendering.PATH_NAMES``.
        camera: name or index of one of the scene's cameras, for one picture instead of a path.
        size: width and height; the photos' size when absent. Another shape shows less of the sides, not more.
        fps: frames a second.
        seconds: length; 4 when absent. The official modes have a length of their own.
        depth: expected depth instead of colour: colour-mapped (near is red), or float32 .npy files in a folder.
        mask: coverage (alpha) instead of colour.
        background: colour behind the splats, black when absent.
        progress: told the frames done.

    Raises:
        InputError: the output may not be written, or an argument or the scene does not allow a path.
    """
    suffix = check_output(output, overwrite=overwrite, suffixes=SUFFIXES)
    if depth and mask:
        raise InputError("depth and mask exclude each other; ask for one of them")
    gaussians = scene.gaussians if isinstance(scene, Scene) else scene
    photos = scene.cameras if isinstance(scene, Scene) else _outside_camera(gaussians)
    if size is not None:
        photos = _fitted(photos, *size)
    if suffix == ".mp4":
        photos = dataclasses.replace(photos, height=max(photos.height // 2 * 2, 2), width=max(photos.width // 2 * 2, 2))
    if camera is not None:
        cameras = photos[[_camera_index(scene, camera)]]
    else:
        frames = len(photos) if path == "inputs" and suffix in ("/", ".png") else _frame_count(fps, seconds)
        cameras = _path(gaussians, photos, path, frames, backend)
    if suffix == ".png":
        cameras = cameras[:1]

    def draw(index: int) -> Rendering:
        with torch.no_grad():
            picture = render(gaussians, cameras[index], background=background, backend=backend, antialias=antialias)
        progress("rendering", index + 1, len(cameras))
        return picture

    target = Path(output)
    match suffix:
        case "/":
            with atomic_folder(target, overwrite=overwrite) as folder:
                for index in range(len(cameras)):
                    _save_frame(folder / f"frame_{index:05d}", draw(index), depth=depth, mask=mask)
        case ".png":
            to_bytes = _to_bytes(gaussians, cameras, depth, mask, backend)
            with atomic_file(target, overwrite=overwrite) as temporary:
                Image.fromarray(to_bytes(draw(0))).save(temporary, compress_level=3)
        case _:
            from da3gs.formats.video import save_video

            to_bytes = _to_bytes(gaussians, cameras, depth, mask, backend)
            with atomic_file(target, overwrite=overwrite) as temporary:
                save_video(temporary, (to_bytes(draw(i)) for i in range(len(cameras))), fps=fps)
    return len(cameras)


def _frame_count(fps: float, seconds: float | None) -> int:
    if not (math.isfinite(fps) and 0.1 <= fps <= 240):
        raise InputError(f"{fps:g} frames a second; expected 0.1 to 240")
    length = 4.0 if seconds is None else seconds
    if not (math.isfinite(length) and length > 0):
        raise InputError(f"a length of {length:g} seconds; expected more than 0")
    frames = max(1, round(fps * length))
    if frames > _MAX_FRAMES:
        raise InputError(f"{frames} frames are too many; at most {_MAX_FRAMES}, so lower the seconds or fps")
    return frames


def _camera_index(scene: Scene | Gaussians, camera: str | int) -> int:
    if not isinstance(scene, Scene):
        raise InputError("splats alone have no cameras to choose from; leave the camera out or name a scene folder")
    names = scene.views.names
    if camera in names:
        return names.index(str(camera))
    try:
        index = int(camera)
    except ValueError:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"no camera is called {camera!r}; the scene has {some}") from None
    if not 0 <= index < len(scene.cameras):
        raise InputError(f"camera {index} does not exist; the scene has 0 to {len(scene.cameras) - 1}")
    return index


def _path(gaussians: Gaussians, photos: Cameras, name: str, frames: int, backend: Backend) -> Cameras:
    """The cameras of the path; it turns about what the photos show.

    Closed paths shrink until they see hardly more than the central photo of what no photo saw, and touch nothing.
    """
    if name not in PATH_NAMES:
        raise InputError(f"unknown camera path {name!r}; choose one of {', '.join(PATH_NAMES)}")
    plan = functools.partial(camera_path, cast(PathName, name), photos, frames=frames)
    if name not in ("wander", "spiral", "orbit", "ellipse") or not len(photos):
        return plan()
    home = home_of(photos)
    focus = _seen_point(gaussians, photos if name in ("orbit", "ellipse") else photos[[home]], backend)
    covered, near = _sight(gaussians, photos[home], backend)
    for reach in (1.0, 0.7, 0.5, 0.35):
        path = plan(focus=focus, reach=reach)
        sights = [_sight(gaussians, path[i], backend) for i in range(0, frames, -(-frames // 8))]
        if all(c > covered - _MOST_UNSEEN and n > _NEAREST * near for c, n in sights):
            break
    return path


def _sight(gaussians: Gaussians, camera: Cameras, backend: Backend) -> tuple[float, float]:
    """Which part of the picture is covered, and how near its nearest things are."""
    picture = render(gaussians, _preview(camera), backend=backend)
    seen = picture.depth[picture.alpha > 0.5]
    nearest = float(seen.float().cpu().quantile(0.02)) if seen.numel() else 0.0
    return float(picture.alpha.mean()), nearest


def _seen_point(gaussians: Gaussians, photos: Cameras, backend: Backend) -> Float[Tensor, "3"] | None:
    """The middle of what up to 8 photos see: each one's median depth along its axis; None where nothing is seen."""
    step = -(-len(photos) // 8)
    points = []
    for index in range(0, len(photos), step):
        picture = render(gaussians, _preview(photos[index]), backend=backend)
        seen = picture.depth[picture.alpha > 0.5]
        if seen.numel():
            pose = rigid_inverse(photos.world_to_cam[index].double().cpu())
            points.append(pose[:3, 3] + pose[:3, 2] * float(seen.median()))
    return torch.stack(points).median(0).values if points else None


def _preview(camera: Cameras) -> Cameras:
    shrink = min(1.0, _PREVIEW_SIDE / max(camera.height, camera.width))
    return camera.resized(max(1, round(camera.height * shrink)), max(1, round(camera.width * shrink)))


def _fitted(cameras: Cameras, width: int, height: int) -> Cameras:
    """The cameras at another size: scaled to fill it, what sticks out is cut on both sides alike."""
    if width < 1 or height < 1:
        raise InputError(f"a size of {width}x{height}; both sides must be at least 1")
    scale = max(width / cameras.width, height / cameras.height)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., :2, :] *= scale
    intrinsics[..., 0, 2] += (width - cameras.width * scale) / 2
    intrinsics[..., 1, 2] += (height - cameras.height * scale) / 2
    return dataclasses.replace(cameras, intrinsics=intrinsics, height=height, width=width)


def _outside_camera(gaussians: Gaussians) -> Cameras:
    """One camera for splats that come without: at the origin if it sees most of them, else in front of them all."""
    means = gaussians.means.detach().cpu()
    means = means[means.isfinite().all(-1)]
    if not len(means):
        raise InputError("the splats hold no finite position; there is nothing to look at")
    width, height, focal = 960, 540, 700.0
    intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    x, y, z = means.unbind(-1)
    inside = (z > 0.01) & (x.abs() * focal < z * width / 2) & (y.abs() * focal < z * height / 2)
    pose = torch.eye(4)[None]
    if inside.float().mean() < 0.5:
        middle = means.median(0).values
        radius = float((means - middle).norm(dim=-1).quantile(0.8)) if len(means) < 1 << 24 else 1.0
        eye = middle - torch.tensor([0.0, 0.3, 2.2]) * max(radius, 1e-3)
        pose = look_at(eye, middle, torch.tensor([0.0, -1.0, 0.0]))[None]
    return Cameras(world_to_cam=pose, intrinsics=intrinsics, height=height, width=width)


def _eight_bits(values: Tensor) -> UInt8[np.ndarray, "..."]:
    array: np.ndarray = (values.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return array


def _to_bytes(
    gaussians: Gaussians, cameras: Cameras, depth: bool, mask: bool, backend: Backend
) -> Callable[[Rendering], UInt8[np.ndarray, "H W 3"]]:
    """How a rendering becomes a frame; depth has one range for the whole path."""
    if mask:
        return lambda picture: _eight_bits(picture.alpha[..., None].expand(*picture.alpha.shape, 3))
    if not depth:
        return lambda picture: _eight_bits(picture.color)
    seen = []
    for index in range(0, len(cameras), -(-len(cameras) // 8)):
        picture = render(gaussians, _preview(cameras[index]), backend=backend)
        seen.append(1 / picture.depth[picture.alpha > 0.5].cpu())
    inverse = torch.cat(seen)
    low, high = inverse.quantile(torch.tensor([0.01, 0.99])).tolist() if inverse.numel() else (0.0, 1.0)
    return lambda picture: _depth_colors(picture, low, max(high, low + 1e-9))


def _depth_colors(picture: Rendering, low: float, high: float) -> UInt8[np.ndarray, "H W 3"]:
    """Inverse depth in the colour map Turbo, near is red; black where nothing is."""
    nearness = (1 / picture.depth.float().clamp(min=1e-12) - low) / (high - low)
    gray = (nearness.cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    colors = cv2.applyColorMap(gray, cv2.COLORMAP_TURBO)[..., ::-1]
    covered = picture.alpha.float().cpu().numpy()[..., None]
    return np.rint(colors * covered).astype(np.uint8)


def _save_frame(stem: Path, picture: Rendering, *, depth: bool, mask: bool) -> None:
    if depth:
        np.save(stem.with_suffix(".npy"), picture.depth.float().cpu().numpy())
    elif mask:
        Image.fromarray(_eight_bits(picture.alpha)).save(stem.with_suffix(".png"), compress_level=3)
    else:
        Image.fromarray(_eight_bits(picture.color)).save(stem.with_suffix(".png"), compress_level=3)
