"""Camera paths of nerfstudio's and nerfview's viewers, the file that ``ns-render camera-path`` takes.

Matrices are camera to world with OpenGL axes, 16 numbers row after row; the field of view is vertical, in degrees,
pixels are square and the principal point is the middle. ``camera_path`` holds every frame, ``keyframes`` what the
frames were made from. Files of the viewer before version 1 state keyframes as text, column after column.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.cameras.transforms import checked_number, rigid_matrix
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import orthonormalized
from da3gs.keyframes import MAX_FRAMES, CameraPath, keyframed

_FLIP = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


def nerfstudio_content(path: CameraPath) -> dict[str, Any]:
    """Content of a camera_path.json; off-centre principal points and pixels that are not square are lost."""
    frames = path.cameras()
    aspect = path.width / path.height
    count = len(path)
    steps = torch.diff(path.seconds, append=path.seconds.new_tensor([path.duration])).tolist()
    default = 2.0 if count < 2 else steps[0]
    arrivals = [steps[-1] if path.loop and steps[-1] > 0 else default, *steps[:-1]]  # the seconds before a keyframe
    degrees = path.fov.rad2deg().tolist()
    keyframes = [
        {
            "matrix": (path.cam_to_world[i] * _FLIP + 0.0).flatten().tolist(),
            "fov": degrees[i],
            "aspect": aspect,
            "override_transition_enabled": abs(arrivals[i] - default) > 1e-9,
            "override_transition_sec": arrivals[i],
        }
        for i in range(count)
    ]
    poses = rigid_inverse(frames.world_to_cam.double()) * _FLIP + 0.0
    fov = (2 * torch.atan(frames.height / (2 * frames.intrinsics[:, 1, 1].double()))).rad2deg().tolist()
    return {
        "default_fov": degrees[0],
        "default_transition_sec": default,
        "keyframes": keyframes,
        "camera_type": "perspective",
        "render_height": path.height,
        "render_width": path.width,
        "fps": path.fps,
        "seconds": path.duration,
        "is_cycle": path.loop,
        "smoothness_value": 1 - path.smoothness,
        "camera_path": [
            {"camera_to_world": pose.flatten().tolist(), "fov": angle, "aspect": aspect}
            for pose, angle in zip(poses, fov, strict=True)
        ],
    }


def to_nerfstudio_path(content: dict[str, Any], name: str, *, size: tuple[int, int]) -> CameraPath:
    """The path in a parsed file, ``name`` being what messages call it.

    Args:
        size: height and width where the file states none.

    Raises:
        InputError: numbers are missing, not finite, or no pose; or the path is not for an ordinary camera.
    """
    kind = content.get("camera_type") or "perspective"
    if not isinstance(kind, str) or kind.lower() != "perspective":
        raise InputError(f"{name}: a camera path of camera_type {ascii(kind)[:40]}; only perspective can be drawn")
    height, width = (
        _side(content[key], f"{name}: {key}") if content.get(key) is not None else side
        for key, side in zip(("render_height", "render_width"), size, strict=True)
    )
    fps = checked_number(content.get("fps") or 24.0, f"{name}: fps")
    if not 0.1 <= fps <= 240:
        raise InputError(f"{name}: {fps:g} frames a second; expected 0.1 to 240")
    stated, entries = (_list(content.get(key) or [], f"{name}: {key}") for key in ("camera_path", "keyframes"))
    if len(stated) > MAX_FRAMES or len(entries) > MAX_FRAMES:
        raise InputError(f"{name} has {max(len(stated), len(entries))} frames; at most {MAX_FRAMES} are taken")
    if not stated and not entries:
        raise InputError(f"{name} is a camera path without keyframes or frames; at least one is needed")
    frames = None
    if stated:
        poses, fov = _poses(stated, "camera_to_world", f"{name}, frame"), _fovs(stated, content, f"{name}, frame")
        dense = keyframed(poses, fov, height=height, width=width, fps=fps)
        frames = Cameras(
            world_to_cam=rigid_inverse(dense.cam_to_world), intrinsics=dense.intrinsics, height=height, width=width
        )
    loop = content.get("is_cycle") is True
    if not entries:
        length = len(stated) / fps if loop else (len(stated) - 1) / fps
        dense = keyframed(poses, fov, height=height, width=width, between=1 / fps, duration=length, loop=loop, fps=fps)
        return dataclasses.replace(dense, frames=frames)
    steps = _transitions(entries, content, name)
    times = [0.0, *itertools.accumulate(steps[1:])]
    tension = checked_number(content.get("smoothness_value") or 0.0, f"{name}: smoothness_value")
    path = keyframed(
        _poses(entries, "matrix", f"{name}, keyframe"),
        _fovs(entries, content, f"{name}, keyframe"),
        height=height, width=width, seconds=times, loop=loop, fps=fps,
        duration=times[-1] + steps[0] if loop else times[-1], smoothness=min(max(1 - tension, 0.0), 1.0),
    )  # fmt: skip
    return dataclasses.replace(path, frames=frames)


def _side(value: object, where: str) -> int:
    side = checked_number(value, where)
    if not 1 <= side <= 1 << 20 or side != round(side):
        raise InputError(f"{where} is {side:g}; a whole number of pixels, at least 1, is needed")
    return int(side)


def _list(value: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"{where} must be a list of objects")
    return value


def _fovs(entries: list[dict[str, Any]], content: dict[str, Any], where: str) -> Float[Tensor, " K"]:
    degrees = []
    for index, entry in enumerate(entries):
        value = checked_number(entry.get("fov", content.get("default_fov")), f"{where} {index}: fov")
        if not 0 < value < 180:
            raise InputError(f"{where} {index}: fov is {value:g} degrees; expected more than 0 and less than 180")
        degrees.append(math.radians(value))
    return torch.tensor(degrees, dtype=torch.float64)


def _poses(entries: list[dict[str, Any]], key: str, where: str) -> Float[Tensor, "K 4 4"]:
    poses = []
    for index, entry in enumerate(entries):
        place = f"{where} {index}: {key}"
        numbers = entry.get(key)
        by_columns = isinstance(numbers, str)
        if isinstance(numbers, str):
            try:
                numbers = json.loads(numbers)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{place} is text that holds no 16 numbers") from error
        if not isinstance(numbers, list) or len(numbers) != 16:
            raise InputError(f"{place} is {ascii(numbers)[:40]}; 16 numbers are needed")
        rows = [numbers[i::4] for i in range(4)] if by_columns else [numbers[4 * i : 4 * i + 4] for i in range(4)]
        poses.append(torch.from_numpy(rigid_matrix(rows, place)) * _FLIP)
    stacked = torch.stack(poses)
    stacked[:, :3, :3] = orthonormalized(stacked[:, :3, :3])
    return stacked


def _transitions(entries: list[dict[str, Any]], content: dict[str, Any], name: str) -> list[float]:
    """Seconds before each keyframe; in a loop the first one's are the way back to it."""
    default = content.get("default_transition_sec")
    if default is None:  # before version 1 the keyframes share the length
        gaps = max(len(entries) - (content.get("is_cycle") is not True), 1)
        length = checked_number(content.get("seconds") or 2.0 * gaps, f"{name}: seconds")
        default = length / gaps
    steps = []
    for index, entry in enumerate(entries):
        own = entry.get("override_transition_sec") if entry.get("override_transition_enabled") else None
        step = checked_number(default if own is None else own, f"{name}, keyframe {index}: seconds of transition")
        if not 0 < step <= 1e6:
            raise InputError(f"{name}, keyframe {index}: a transition of {step:g} seconds; more than 0 is needed")
        steps.append(step)
    return steps
