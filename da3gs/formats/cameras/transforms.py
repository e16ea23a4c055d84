"""nerfstudio's ``transforms.json``: camera-to-world matrices with OpenGL axes, intrinsics in pixels, float64.

OpenGL's camera looks along -z with y up; ours looks along z with y down: the second and third column change their
signs, exactly. ``applied_transform`` states what was done to the poses before they were written; they are used as
they stand.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, Projection, lens_of, panorama_lens
from da3gs.formats.jsonfile import load_json

_NUMBERS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y")
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "sx1", "sy1")
_MODELS = frozenset({"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE"})
_FISHEYE = frozenset({"OPENCV_FISHEYE", "FISHEYE", "SIMPLE_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_RADIAL_FISHEYE"})
_PRISM, _PANORAMA = "THIN_PRISM_FISHEYE", "EQUIRECTANGULAR"
FLIP = np.array([1.0, -1.0, -1.0, 1.0])
"""The signs of the columns of a camera-to-world matrix between OpenGL's axes and OpenCV's."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Frame:
    """One entry of ``frames``, with the file's common values filled in."""

    file_path: str
    """As written; relative to the file's folder."""
    cam_to_world: Float[np.ndarray, "4 4"]
    """OpenCV axes, float64, the file's own numbers."""
    numbers: dict[str, float]
    """Those of fl_x, fl_y, cx, cy, w, h, camera_angle_x, camera_angle_y that are there."""
    distortion: tuple[float, ...] = ()
    """As in ``Lens``."""
    projection: Projection = "perspective"
    """By ``camera_model``."""
    mask_path: str | None = None
    """White where pixels count, as written."""

    def lens(self, height: int, width: int, *, wide: bool = False) -> Lens:
        """The camera; for a picture of this size where the file does not say for which.

        Args:
            height: of the picture.
            width: of the picture.
            wide: whether a fisheye lens or a panorama is welcome.

        Raises:
            InputError: there is no focal length, the numbers make no sense, or the projection is not welcome.
        """
        n = self.numbers
        width, height = int(n.get("w", width)), int(n.get("h", height))
        if self.projection != "perspective" and not wide:
            raise InputError(f"{self.file_path[:80]!a} is {self.projection}, which is not one pinhole camera")
        if self.projection == "equirectangular":
            return panorama_lens(height, width)
        fx = n.get("fl_x", _focal(width, n.get("camera_angle_x")))
        fy = n.get("fl_y", _focal(height, n.get("camera_angle_y")))
        if fx is None and fy is None:
            raise InputError(f"{self.file_path[:80]!a} has no focal length; give fl_x or camera_angle_x")
        return lens_of(
            fx=fx if fx is not None else fy or 0.0,
            fy=fy if fy is not None else fx or 0.0,
            cx=n.get("cx", width / 2),
            cy=n.get("cy", height / 2),
            height=height,
            width=width,
            distortion=self.distortion,
            projection=self.projection,
        )


def _focal(side: int, angle: float | None) -> float | None:
    if angle is None or not 0 < angle < math.pi:
        return None
    return side / 2 / math.tan(angle / 2)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Transforms:
    """A file of posed photos."""

    frames: tuple[Frame, ...]
    """In the file's order; at least one."""
    ply_file_path: str | None = None
    """Points beside it, as written."""


def load_transforms(path: Path) -> Transforms:
    """Read a ``transforms.json``.

    Raises:
        InputError: not JSON, keys missing, a matrix that is no rigid pose, a camera model that is not supported.
    """
    content = load_json(path)
    if not isinstance(content, dict) or "frames" not in content:
        raise InputError(f"{path.name} has no 'frames'; it is not a nerfstudio transforms.json")
    entries = content["frames"]
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path.name}: 'frames' must be a list with at least one entry")
    frames = tuple(_frame(content, entry, f"{path.name}, frame {i}") for i, entry in enumerate(entries))
    points = content.get("ply_file_path")
    return Transforms(frames=frames, ply_file_path=points if isinstance(points, str) else None)


def _frame(common: dict[str, Any], entry: object, where: str) -> Frame:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not an object; each frame needs file_path and transform_matrix")
    for key in ("file_path", "transform_matrix"):
        if key not in entry:
            raise InputError(f"{where} has no {key!r}; each frame needs file_path and transform_matrix")
    merged = {**{k: v for k, v in common.items() if k != "frames"}, **entry}
    projection = _projection(merged, where)
    numbers = {key: checked_number(merged[key], f"{where}: {key}") for key in _NUMBERS if merged.get(key) is not None}
    for key in ("fl_x", "fl_y", "w", "h"):
        if key in numbers and not 0 < numbers[key] < 1e7:
            raise InputError(f"{where}: {key}={numbers[key]:g}; it must be above 0")
    distortion = _distortion(merged, projection, where)
    return Frame(
        file_path=_text(entry["file_path"], f"{where}: file_path"),
        cam_to_world=_pose(entry["transform_matrix"], where),
        numbers=numbers,
        distortion=distortion if any(distortion) else (),
        projection=projection,
        mask_path=_text(entry["mask_path"], f"{where}: mask_path") if entry.get("mask_path") is not None else None,
    )


def _projection(merged: dict[str, Any], where: str) -> Projection:
    model = _model(merged)
    if any(key.startswith("ftheta_") for key in merged):
        model = "FTHETA"  # instant-ngp names its lens models by keys of their own
    elif merged.get("latlong") or merged.get("equirectangular"):
        model = _PANORAMA
    if model == _PANORAMA:
        return "equirectangular"
    if model in _FISHEYE or model == _PRISM or (model in _MODELS and merged.get("is_fisheye")):
        return "fisheye"
    if model in _MODELS:
        return "perspective"
    told = repr(model or merged["camera_model"])[:60]
    raise InputError(f"{where}: the camera model {told} is not supported yet; undistort the photos first")


def _model(merged: dict[str, Any]) -> str:
    """The name of the camera model; empty where it is no name."""
    model = merged.get("camera_model") or "OPENCV"
    return model.upper() if isinstance(model, str) else ""


def _distortion(merged: dict[str, Any], projection: Projection, where: str) -> tuple[float, ...]:
    """The coefficients in ``Lens``'s order.

    Of a perspective camera k4 is the numerator's r⁸ term, as Metashape, nerfstudio and Brown have it; only OpenCV's
    rational model, which FULL_OPENCV names and k5 or k6 give away, has it in the denominator.
    """
    told = {key: checked_number(merged.get(key) or 0.0, f"{where}: {key}") for key in _DISTORTION}
    k1, k2, p1, p2, k3, k4, k5, k6, sx1, sy1 = told.values()
    if projection == "fisheye":
        return (k1, k2, k3, k4, p1, p2, sx1, sy1) if _model(merged) == _PRISM else (k1, k2, k3, k4)
    if _model(merged) == "FULL_OPENCV" or k5 or k6:
        return k1, k2, p1, p2, k3, k4, k5, k6
    return (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0, k4) if k4 else (k1, k2, p1, p2, k3)


def checked_number(value: object, where: str) -> float:
    """A finite number out of a parsed file.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is {_shown(value)}; a number is needed")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where} is {number}; a finite number is needed")
    return number


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{where} is {_shown(value)}; a path is needed")
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pose(rows: object, where: str) -> Float[np.ndarray, "4 4"]:
    return rigid_matrix(rows, f"{where}: transform_matrix") * FLIP


def rigid_matrix(rows: object, where: str) -> Float[np.ndarray, "4 4"]:
    """A rigid pose out of a parsed file: 3 or 4 rows of 4 numbers, as they stand.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(rows, list) or len(rows) not in (3, 4):
        raise InputError(f"{where} is {_shown(rows)}; 4 rows of 4 numbers are needed")
    if any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise InputError(f"{where} has a row that is not 4 numbers; 4 rows of 4 numbers are needed")
    matrix = np.eye(4)
    matrix[: len(rows)] = [[checked_number(value, where) for value in row] for row in rows]
    check_rigid(matrix, where)
    return matrix


def check_rigid(matrix: Float[np.ndarray, "4 4"], where: str) -> None:
    """Check that a matrix is a rigid pose: ``|RᵀR − I| ≤ 1e-3``, no mirror, last row 0 0 0 1.

    Raises:
        InputError: it is not.
    """
    rotation = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if not error <= 1e-3:
        raise InputError(
            f"{where} holds no rotation (RᵀR differs from 1 by {error:.3g}); scale and shear must be taken out"
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{where} mirrors (its determinant is -1); give a rotation")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{where} ends with {matrix[3].tolist()}; its last row must be 0 0 0 1")
    if np.abs(matrix[:3, 3]).max() > 1e12:
        raise InputError(f"{where} lies {np.abs(matrix[:3, 3]).max():.3g} from the origin; at most 1e12 is taken")


def transforms_content(
    file_paths: Sequence[str],
    *,
    cam_to_world: Float[np.ndarray, "V 4 4"],
    intrinsics: Float[np.ndarray, "V 3 3"],
    sizes: Sequence[tuple[int, int]],
    extra: dict[str, Any] | None = None,
    per_frame: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Content of a ``transforms.json`` of pinhole cameras.

    Args:
        file_paths: of the pictures, relative to the file.
        cam_to_world: float64, OpenCV axes; given numbers come out unchanged.
        intrinsics: in pixels, float64.
        sizes: (height, width) of each picture.
        extra: more keys for the whole file.
        per_frame: more keys for each frame.
    """
    frames = []
    for i, file_path in enumerate(file_paths):
        k, (height, width) = intrinsics[i], sizes[i]
        frame: dict[str, Any] = {
            "file_path": file_path,
            "w": width, "h": height,
            "fl_x": float(k[0, 0]), "fl_y": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2]),
            **(per_frame[i] if per_frame else {}),
            "transform_matrix": (cam_to_world[i] * FLIP + 0.0).tolist(),
        }  # fmt: skip
        frames.append(frame)
    common: dict[str, Any] = {"camera_model": "OPENCV"}
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        if len({frame[key] for frame in frames}) == 1:
            common[key] = frames[0][key]
            for frame in frames:
                del frame[key]
    zeros = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    return {**common, **zeros, **(extra or {}), "frames": frames}


def save_transforms(path: Path, content: dict[str, Any]) -> None:
    """Write what ``transforms_content`` gives; the caller sees to it that the file appears whole."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
