"""SuperSplat's ``settings.json``: where its viewer's camera starts and what flight it plays.

SuperSplat shows a .ply turned by 180 degrees about z, so that y points up: our (x, y, z) is its (-x, -y, z). A camera
there has a position, a target and a field of view in degrees along the longer side; it cannot roll. Tracks are
cubic Hermite curves through positions, targets and angles; keyframe times are in frames.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import look_at
from da3gs.errors import InputError
from da3gs.formats.cameras.transforms import checked_number
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.splines import hermite
from da3gs.keyframes import MAX_FRAMES, CameraPath, keyframed

_TURN = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
_UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
"""SuperSplat's up, in our axes."""


def supersplat_content(path: CameraPath) -> dict[str, Any]:
    """Content of a settings.json (version 2) of this flight; roll and off-centre principal points are lost."""
    eyes, ahead = path.cam_to_world[:, :3, 3], path.cam_to_world[:, :3, 2]
    distance = float((eyes.amax(0) - eyes.amin(0)).norm()) or 1.0
    longer = path.intrinsics[:, 0, 0] if path.width > path.height else path.intrinsics[:, 1, 1]
    fov = (2 * torch.atan(max(path.width, path.height) / (2 * longer))).rad2deg()
    position, target = eyes * _TURN + 0.0, (eyes + distance * ahead) * _TURN + 0.0
    track = {
        "name": "cameraAnim",
        "duration": path.duration,
        "frameRate": path.fps,
        "loopMode": "repeat" if path.loop else "none",
        "interpolation": "spline",
        "smoothness": path.smoothness,
        "keyframes": {
            "times": (path.seconds * path.fps).tolist(),
            "values": {
                "position": position.flatten().tolist(),
                "target": target.flatten().tolist(),
                "fov": fov.tolist(),
            },
        },
    }
    start = {"position": position[0].tolist(), "target": target[0].tolist(), "fov": float(fov[0])}
    effects = {
        "sharpness": {"enabled": False, "amount": 0},
        "bloom": {"enabled": False, "intensity": 1, "blurLevel": 2},
        "grading": {"enabled": False, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
        "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
        "fringing": {"enabled": False, "intensity": 0.5},
    }
    return {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [0, 0, 0]},
        "postEffectSettings": effects,
        "animTracks": [track],
        "cameras": [{"initial": start}],
        "annotations": [],
        "startMode": "animTrack",
    }


def to_supersplat_path(content: dict[str, Any], name: str, *, size: tuple[int, int]) -> CameraPath:
    """The flight in a parsed settings.json (version 1 or 2) or in a track alone; else its cameras, one after the other.

    The frames are those that SuperSplat's viewer plays.

    Args:
        size: height and width of the pictures; the file does not say.

    Raises:
        InputError: neither a flight nor a camera is in it, or numbers are missing or make no sense.
    """
    camera = content.get("camera")
    plain = camera.get("fov") if isinstance(camera, dict) else None
    tracks = [content] if isinstance(content.get("keyframes"), dict) else content.get("animTracks") or []
    if not isinstance(tracks, list):
        raise InputError(f"{name}: 'animTracks' must be a list")
    if tracks:
        return _to_track(tracks[0], f"{name}: the first track", plain, size)
    cameras = content.get("cameras") or []
    if not isinstance(cameras, list):
        raise InputError(f"{name}: 'cameras' must be a list")
    starts = [c.get("initial") if isinstance(c, dict) else None for c in cameras]
    if not starts and isinstance(camera, dict) and camera.get("position") is not None:
        starts = [camera]
    if not starts:
        raise InputError(f"{name} has neither a camera track nor a camera; at least one is needed")
    rows = []
    for index, start in enumerate(starts):
        where = f"{name}: camera {index}"
        if not isinstance(start, dict):
            raise InputError(f"{where} has no 'initial' position and target")
        parts = [_numbers(start.get(key), 3, f"{where}: {key}") for key in ("position", "target")]
        fov = checked_number(start.get("fov") or 75.0, f"{where}: fov")
        rows.append(torch.cat((*parts, torch.tensor([fov], dtype=torch.float64))))
    return _path_of(torch.stack(rows), [float(i) for i in range(len(rows))], float(len(rows) - 1), 24.0, name, size)


def _to_track(track: object, where: str, plain: object, size: tuple[int, int]) -> CameraPath:
    if not isinstance(track, dict) or not isinstance(track.get("keyframes"), dict):
        raise InputError(f"{where} has no keyframes")
    keyframes = track["keyframes"]
    values = keyframes.get("values")
    if not isinstance(values, dict):
        raise InputError(f"{where} has keyframes without values")
    times = _numbers(keyframes.get("times"), None, f"{where}: times")
    count = len(times)
    if count == 0:
        raise InputError(f"{where} has no keyframes; at least one is needed")
    if count > MAX_FRAMES:
        raise InputError(f"{where} has {count} keyframes; at most {MAX_FRAMES} are taken")
    fov = values.get("fov", [checked_number(plain or 60.0, f"{where}: fov")] * count)
    columns = [
        _numbers(values.get("position"), 3 * count, f"{where}: position").unflatten(0, (count, 3)),
        _numbers(values.get("target"), 3 * count, f"{where}: target").unflatten(0, (count, 3)),
        _numbers(fov, count, f"{where}: fov")[:, None],
    ]
    rate = track.get("frameRate")
    fps = checked_number(rate or 30.0, f"{where}: frameRate")
    if not 0.1 <= fps <= 240:
        raise InputError(f"{where}: {fps:g} frames a second; expected 0.1 to 240")
    seconds = times / fps if rate else times  # the oldest files have seconds and no frame rate
    if (seconds[1:] <= seconds[:-1]).any() or seconds[0] < 0:
        raise InputError(f"{where}: keyframe times must increase from 0")
    duration = checked_number(track.get("duration") or float(seconds[-1]), f"{where}: duration")
    smoothness = min(max(checked_number(track.get("smoothness") or 0.0, f"{where}: smoothness"), 0.0), 1.0)
    mode = track.get("loopMode") or "none"
    if mode not in ("none", "repeat", "pingpong"):
        raise InputError(f"{where}: loopMode is {ascii(mode)[:40]}; expected none, repeat or pingpong")
    return _played(torch.cat(columns, -1), seconds, duration, fps, smoothness, mode, where, size)


def _played(
    rows: Tensor,
    seconds: Tensor,
    duration: float,
    fps: float,
    smoothness: float,
    mode: str,
    where: str,
    size: tuple[int, int],
) -> CameraPath:
    """Keyframes, and the frames that the viewer plays."""
    count = max(1, round(duration * fps))
    if count * (2 if mode == "pingpong" else 1) > MAX_FRAMES:
        raise InputError(f"{where} lasts {duration:g} seconds at {fps:g} frames a second; at most {MAX_FRAMES} frames")
    loop = mode == "repeat" and len(rows) > 1
    last = float(seconds[-1])
    period = (duration + 1 if math.isclose(duration, last) else duration) if loop else None
    if loop and duration < last:
        raise InputError(f"{where} repeats after {duration:g} seconds, before its last keyframe at {last:g}")
    step = torch.arange(count, dtype=torch.float64)
    moments = step * (duration / count if loop else duration / max(count - 1, 1))
    if mode == "pingpong":
        moments = torch.cat((moments, moments[1:-1].flip(0)))
    frames = hermite(rows, seconds, moments, smoothness=smoothness, period=period)
    first = float(seconds[0])
    if first > 0:  # the viewer waits at the first keyframe
        rows, seconds = torch.cat((rows[:1], rows)), torch.cat((seconds.new_zeros(1), seconds))
    whole = period if period is not None else max(duration, last)
    path = _path_of(rows, seconds.tolist(), whole, fps, where, size, loop=loop, smoothness=smoothness)
    played = _path_of(frames, (torch.arange(len(frames)) / fps).tolist(), len(frames) / fps, fps, where, size)
    cameras = dataclasses.replace(played, fps=fps).at(played.seconds)
    return dataclasses.replace(path, frames=cameras)


def _path_of(
    rows: Float[Tensor, "K 7"],
    seconds: list[float],
    duration: float,
    fps: float,
    where: str,
    size: tuple[int, int],
    *,
    loop: bool = False,
    smoothness: float = 1.0,
) -> CameraPath:
    """Keyframes of positions, targets and degrees along the longer side."""
    eyes, targets, degrees = rows[:, :3] * _TURN, rows[:, 3:6] * _TURN, rows[:, 6]
    if ((targets - eyes).norm(dim=-1) < 1e-12).any():
        raise InputError(f"{where}: a camera's target is its position; it looks nowhere")
    if not ((degrees > 0) & (degrees < 180)).all():
        raise InputError(f"{where}: a field of view is not between 0 and 180 degrees")
    height, width = size
    vertical = 2 * torch.atan((degrees.deg2rad() / 2).tan() * height / max(height, width))
    poses = rigid_inverse(look_at(eyes, targets, _UP.expand_as(eyes)))
    return keyframed(
        poses, vertical, height=height, width=width, seconds=seconds, duration=duration, loop=loop, fps=fps,
        smoothness=smoothness,
    )  # fmt: skip


def _numbers(value: object, count: int | None, where: str) -> Float[Tensor, " N"]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        expected = "numbers" if count is None else f"{count} numbers"
        raise InputError(f"{where} is {ascii(value)[:40]}; {expected} are needed")
    return torch.tensor([checked_number(v, where) for v in value], dtype=torch.float64)
