"""Files of camera paths that are broken: of every format, in every way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import Case
from tests.small_scene import small_scene_folder

EYE = [1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]
ROWS = [EYE[0:4], EYE[4:8], EYE[8:12], EYE[12:16]]
FRAME = {"camera_to_world": EYE, "fov": 60}
KEYFRAME = {"matrix": EYE, "fov": 60}
INRIA = {"width": 9, "height": 9, "position": [0, 0, 0], "rotation": [r[:3] for r in ROWS[:3]], "fx": 9, "fy": 9}
TRACK = {"times": [0, 1], "values": {"position": [0] * 6, "target": [1] * 6, "fov": [60, 60]}}


def render_with(content: Any, *more: str) -> Callable[[Path], list[str]]:
    """``render --path`` with a file of this content."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / "path.json").write_bytes(data)
        return ["render", "s.scene", "-o", "x.mp4", "--path", "path.json", *more]

    return build


def empty_folder(folder: Path) -> list[str]:
    """A folder without cameras."""
    small_scene_folder(folder / "s.scene")
    (folder / "colmap").mkdir()
    return ["render", "s.scene", "-o", "x.mp4", "--path", "colmap"]


def broken_colmap(folder: Path) -> list[str]:
    """A COLMAP folder whose files end early."""
    small_scene_folder(folder / "s.scene")
    place = folder / "colmap" / "sparse" / "0"
    place.mkdir(parents=True)
    for name in ("cameras", "images", "points3D"):
        (place / f"{name}.bin").write_bytes(b"\x01\0\0\0\0\0\0\0\x01")
    return ["render", "s.scene", "-o", "x.mp4", "--path", "colmap"]


def pipe(folder: Path) -> list[str]:
    """A pipe that nobody writes into."""
    small_scene_folder(folder / "s.scene")
    os.mkfifo(folder / "pipe")
    return ["render", "s.scene", "-o", "x.mp4", "--path", "pipe"]


def with_first_pose(value: float) -> list[float]:
    """A pose with this number in its first place."""
    return [value, *EYE[1:]]


CASES = [
    Case("path-missing", render_with(b"", "--path", "nowhere.json"), "nowhere.json"),
    Case("path-empty-file", render_with(b""), r"path\.json"),
    Case("path-not-json", render_with(b"\xff\xfe\0"), r"path\.json"),
    Case("path-truncated", render_with(b'{"camera_path": [{"fov"'), r"path\.json.*JSON"),
    Case("path-deep", render_with(b"[" * 100_000), r"path\.json"),
    Case("path-strange", render_with({"hello": 1}), r"path\.json is no camera path"),
    Case("path-number", render_with(7), r"path\.json is no camera path"),
    Case("path-empty-list", render_with([]), r"path\.json is no camera path"),
    Case("path-pipe", pipe, "regular file"),
    Case("path-empty-folder", empty_folder, "colmap holds no COLMAP model"),
    Case("path-colmap-truncated", broken_colmap, "cameras"),
    Case("nerfstudio-no-frames", render_with({"keyframes": [], "camera_path": []}), "without keyframes"),
    Case("nerfstudio-nan", render_with({"camera_path": [{**FRAME, "camera_to_world": with_first_pose(float("nan"))}]}),
         "finite"),
    Case("nerfstudio-infinite", render_with(b'{"camera_path": [{"fov": 1e999}]}'), "16 numbers|finite"),
    Case("nerfstudio-scaled", render_with({"camera_path": [{**FRAME, "camera_to_world": with_first_pose(2)}]}),
         "no rotation"),
    Case("nerfstudio-mirrored", render_with({"camera_path": [{**FRAME, "camera_to_world": with_first_pose(-1)}]}),
         "mirrors"),
    Case("nerfstudio-short", render_with({"keyframes": [{**KEYFRAME, "matrix": EYE[:12]}]}), "16 numbers"),
    Case("nerfstudio-text", render_with({"keyframes": [{**KEYFRAME, "matrix": "identity"}]}), "16 numbers"),
    Case("nerfstudio-fov", render_with({"camera_path": [{**FRAME, "fov": 180}]}), "fov is 180"),
    Case("nerfstudio-fisheye", render_with({"camera_path": [FRAME], "camera_type": "fisheye"}), "only perspective"),
    Case("nerfstudio-size", render_with({"camera_path": [FRAME], "render_height": 0}), "whole number of pixels"),
    Case("nerfstudio-huge", render_with({"camera_path": [FRAME], "render_height": 1e6, "render_width": 1e6}),
         "1000000"),
    Case("nerfstudio-fps", render_with({"camera_path": [FRAME], "fps": -3}), "-3 frames"),
    Case("nerfstudio-backwards", render_with({"keyframes": [KEYFRAME] * 2, "default_transition_sec": -1}),
         "transition of -1"),
    Case("nerfstudio-endless", render_with({"keyframes": [KEYFRAME] * 2, "default_transition_sec": 1e6}), "too many"),
    Case("path-too-long", render_with({"keyframes": [KEYFRAME] * 2}, "--seconds", "1e7"), "too many"),
    Case("inria-no-focal", render_with([{**INRIA, "fx": 0}]), "focal"),
    Case("inria-no-size", render_with([{**INRIA, "width": None}]), "camera 0"),
    Case("inria-shear", render_with([{**INRIA, "rotation": [[1, 1, 0], [0, 1, 0], [0, 0, 1]]}]), "rotation"),
    Case("transforms-no-focal", render_with({"frames": [{"file_path": "a", "transform_matrix": ROWS}]}), "focal"),
    Case("transforms-no-pose", render_with({"frames": [{"file_path": "a"}]}), "transform_matrix"),
    Case("supersplat-nothing", render_with({"animTracks": [], "cameras": []}), "neither"),
    Case("supersplat-shapes", render_with({"keyframes": {**TRACK, "times": [0, 1, 2]}}), "9 numbers"),
    Case("supersplat-order", render_with({"keyframes": {**TRACK, "times": [1, 0]}}), "increase"),
    Case("supersplat-endless", render_with({"keyframes": TRACK, "duration": 1e300}), "at most"),
    Case("supersplat-nowhere", render_with(
        {"keyframes": {**TRACK, "values": {**TRACK["values"], "target": [0] * 6}}}), "looks nowhere"),
]  # fmt: skip
