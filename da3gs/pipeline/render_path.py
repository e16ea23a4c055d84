"""Videos, frames and single pictures of a scene."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from da3gs._files import atomic_file, atomic_folder, check_output
from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.exports.splat_file import BareSplats
from da3gs.formats.cameras.camera_paths import load_camera_path
from da3gs.gaussians import Gaussians
from da3gs.keyframes import MAX_FRAMES, CameraPath
from da3gs.rendering import PATH_NAMES, Backend, Rendering, render
from da3gs.rendering.paths.free_paths import named_flight, preview
from da3gs.scene import Scene

SUFFIXES = (".mp4", ".gif", ".webp", ".png", ".jpg", ".jpeg", "/")
"""What can be written; ``/`` is a folder of frames."""

FrameFormat = Literal["png", "jpg", "webp"]
"""What the pictures in a folder are."""

_FPS = 24.0


def render_path(
    scene: Scene | BareSplats | Gaussians,
    output: Path | str,
    *,
    path: str | Path = "wander",
    camera: str | int | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    seconds: float | None = None,
    depth: bool = False,
    mask: bool = False,
    background: tuple[float, float, float] | None = None,
    backend: Backend = "auto",
    antialias: bool | None = None,
    frames: FrameFormat = "png",
    overwrite: bool = False,
    progress: Progress = silent,
) -> int:
    """Write a video, a folder of frames or one picture of a scene, and return the number of frames.

    One frame is in memory at a time. Colours are clipped to [0, 1] and rounded to 8 bits. A folder of the path
    ``inputs`` gets one frame a photo. The sides of an .mp4 are even: an odd one loses a row or column.

    Args:
        scene: a scene, or splats alone, which are looked at from the origin or, if that sees little, from outside.
        output: a video (``.mp4``, ``.gif``, ``.webp``), one picture, the first frame (``.png``, ``.jpg``; ``.webp``
            with ``camera``), or a folder (no suffix, or a trailing slash).
        path: one of ``da3gs.rendering.PATH_NAMES``, or a file: nerfstudio's or nerfview's camera path, Inria's
            cameras.json, transforms.json, a COLMAP folder, SuperSplat's settings.json; told apart by content.
        camera: name or index of one of the scene's cameras, for one picture instead of a path.
        size: width and height; the path file's or the photos' size when absent. Another shape shows less of the sides,
            not more.
        fps: frames a second; the path file's, or 24, when absent.
        seconds: length; the path file's, or 4, when absent. The official modes have a length of their own.
        depth: expected depth instead of colour: colour-mapped (near is red), or float32 .npy files in a folder.
        mask: coverage (alpha) instead of colour.
        background: colour behind the splats, black when absent.
        antialias: draw splats smaller than a pixel fainter instead of larger; so are those of a file that says that
            they are for it.
        frames: what the pictures in a folder are.
        progress: told the frames done.

    Raises:
        InputError: the output may not be written, or an argument, the scene or the path file does not allow a path.
    """
    suffix = check_output(output, overwrite=overwrite, suffixes=SUFFIXES)
    if depth and mask:
        raise InputError("depth and mask exclude each other; ask for one of them")
    bare = BareSplats(gaussians=scene) if isinstance(scene, Gaussians) else scene
    gaussians = bare.gaussians
    single = suffix in (".png", ".jpg", ".jpeg") or (suffix == ".webp" and camera is not None)
    cameras, rate = _cameras(bare, path, camera, size, fps, seconds, backend, each=single or suffix == "/")
    if suffix == ".mp4":
        height, width = max(cameras.height // 2 * 2, 2), max(cameras.width // 2 * 2, 2)
        cameras = dataclasses.replace(cameras, height=height, width=width)
    if single:
        cameras = cameras[:1]

    def draw(index: int) -> Rendering:
        """One frame."""
        with torch.no_grad():
            picture = render(gaussians, cameras[index], background=background, backend=backend, antialias=antialias)
        progress("rendering", index + 1, len(cameras))
        return picture

    target = Path(output)
    if suffix == "/":
        with atomic_folder(target, overwrite=overwrite) as folder:
            for index in range(len(cameras)):
                _save_frame(folder / f"frame_{index:05d}", draw(index), frames, depth=depth, mask=mask)
        return len(cameras)
    to_bytes = _to_bytes(gaussians, cameras, depth, mask, backend)
    with atomic_file(target, overwrite=overwrite) as temporary:
        if single:
            save_picture(temporary, to_bytes(draw(0)))
        else:
            from da3gs.formats.media.video import save_video

            save_video(temporary, (to_bytes(draw(i)) for i in range(len(cameras))), fps=rate)
    return len(cameras)


def _cameras(
    scene: Scene | BareSplats,
    path: str | Path,
    camera: str | int | None,
    size: tuple[int, int] | None,
    fps: float | None,
    seconds: float | None,
    backend: Backend,
    *,
    each: bool,
) -> tuple[Cameras, float]:
    """The frames' cameras, and how many a second; ``each``: the path ``inputs`` is one frame a photo."""
    if fps is not None and not (math.isfinite(fps) and 0.1 <= fps <= 240):
        raise InputError(f"{fps:g} frames a second; expected 0.1 to 240")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a length of {seconds:g} seconds; expected more than 0")
    photos = scene.cameras if isinstance(scene, Scene) else _outside_camera(scene)
    rate = _FPS if fps is None else fps
    if camera is not None:
        cameras = photos[[_camera_index(scene, camera)]]
    elif is_path_file(path):
        flight = file_flight(scene, path, size=(photos.height, photos.width))
        cameras = flight.cameras(fps=fps, seconds=seconds).to(photos.device, torch.float32)
        rate = flight.fps if fps is None else fps
    else:
        photos = photos if size is None else fitted(photos, *size)
        count = len(photos) if path == "inputs" and each else _frame_count(rate, seconds)
        return named_flight(scene.gaussians, photos, str(path), frames=count, backend=backend), rate
    return cameras if size is None else fitted(cameras, *size), rate


def _frame_count(fps: float, seconds: float | None) -> int:
    frames = max(1, round(fps * (4.0 if seconds is None else seconds)))
    if frames > MAX_FRAMES:
        raise InputError(f"{frames} frames are too many; at most {MAX_FRAMES}, so lower the seconds or fps")
    return frames


def _camera_index(scene: Scene | BareSplats, camera: str | int) -> int:
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


def fitted(cameras: Cameras, width: int, height: int) -> Cameras:
    """The cameras at another size: scaled to fill it, what sticks out is cut on both sides alike."""
    if width < 1 or height < 1:
        raise InputError(f"a size of {width}x{height}; both sides must be at least 1")
    scale = max(width / cameras.width, height / cameras.height)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., :2, :] *= scale
    intrinsics[..., 0, 2] += (width - cameras.width * scale) / 2
    intrinsics[..., 1, 2] += (height - cameras.height * scale) / 2
    return dataclasses.replace(cameras, intrinsics=intrinsics, height=height, width=width)


def _outside_camera(splats: BareSplats) -> Cameras:
    """One camera for splats that come without: at the origin if it sees most of them, else in front of them all.

    A file that says what is up has the camera upright, and outside where it would lie on its side at the origin.
    """
    means = splats.gaussians.means.detach().cpu()
    means = means[means.isfinite().all(-1)]
    if not len(means):
        raise InputError("the splats hold no finite position; there is nothing to look at")
    width, height, focal = 960, 540, 700.0
    intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    x, y, z = means.unbind(-1)
    inside = (z > 0.01) & (x.abs() * focal < z * width / 2) & (y.abs() * focal < z * height / 2)
    pose = torch.eye(4)[None]
    up = torch.nn.functional.normalize(torch.tensor(splats.upward), dim=0)
    if inside.float().mean() < 0.5 or float(up[1]) > -0.5:
        middle = means.median(0).values
        radius = float((means - middle).norm(dim=-1).quantile(0.8)) if len(means) < 1 << 24 else 1.0
        back = torch.tensor([0.0, 0.0, 1.0]) if abs(float(up[2])) < 0.9 else torch.tensor([0.0, 1.0, 0.0])
        back = torch.nn.functional.normalize(back - up * (back @ up), dim=0)
        eye = middle + (0.3 * up - 2.2 * back) * max(radius, 1e-3)
        pose = look_at(eye, middle, up)[None]
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
        picture = render(gaussians, preview(cameras[index]), backend=backend)
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


def _save_frame(stem: Path, picture: Rendering, frames: FrameFormat, *, depth: bool, mask: bool) -> None:
    if depth:
        np.save(stem.with_suffix(".npy"), picture.depth.float().cpu().numpy())
    else:
        save_picture(stem.with_suffix(f".{frames}"), _eight_bits(picture.alpha if mask else picture.color))


def save_picture(path: Path, image: UInt8[np.ndarray, "H W *channels"]) -> None:
    """Write a picture in the format of its suffix: .png and .webp without loss, .jpg at high quality."""
    picture = Image.fromarray(image)
    match path.suffix.lower():
        case ".png":
            picture.save(path, compress_level=3)
        case ".webp":
            picture.save(path, lossless=True, quality=30)
        case _:
            picture.save(path, format="JPEG", quality=95, subsampling=0)


def is_path_file(path: str | Path) -> bool:
    """Whether ``path`` names a file or folder, not a way to fly.

    Raises:
        InputError: neither.
    """
    if str(path) in PATH_NAMES:
        return False
    if Path(path).exists():
        return True
    raise InputError(
        f"unknown camera path {str(path)!r}; choose one of {', '.join(PATH_NAMES)}, or name a file of cameras"
    )


def file_flight(scene: Scene | BareSplats, path: str | Path, *, size: tuple[int, int]) -> CameraPath:
    """The path in a file, in the world of the scene's splats.

    Splats far from the origin are kept minus an offset. A file of cameras in the caller's own world is moved along with
    them; one that was made while looking at the splats stays: whichever lies nearer to the photos, or to the splats.

    Args:
        size: height and width of the pictures where the file does not say.
    """
    flight = load_camera_path(path, size=size)
    if scene.offset is None or not any(scene.offset):
        return flight
    if isinstance(scene, Scene):
        if not len(scene.cameras):
            return flight
        here = scene.cameras.centers.detach().double().cpu().mean(0)
    else:
        here = scene.gaussians.means.detach().double().cpu().median(0).values
    offset = torch.tensor(scene.offset, dtype=torch.float64)
    middle = flight.cam_to_world[:, :3, 3].mean(0)
    if float((middle - here).norm()) <= float((middle - offset - here).norm()):
        return flight
    poses = flight.cam_to_world.clone()
    poses[:, :3, 3] -= offset
    frames = None if flight.frames is None else _moved(flight.frames, offset)
    return dataclasses.replace(flight, cam_to_world=poses, frames=frames)


def _moved(cameras: Cameras, offset: Tensor) -> Cameras:
    """The cameras with ``offset`` taken from their centres."""
    world_to_cam = cameras.world_to_cam.clone()
    world_to_cam[:, :3, 3] += (world_to_cam[:, :3, :3] @ offset[:, None]).squeeze(-1)
    return dataclasses.replace(cameras, world_to_cam=world_to_cam)
