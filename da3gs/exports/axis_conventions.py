"""The axes of other programs: splats, harmonics, cameras and the direction up turn together."""

from __future__ import annotations

import dataclasses
from typing import Literal, assert_never

import torch

from da3gs._scene_write import vertical_axis
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity
from da3gs.scene import Scene

Frame = Literal["opencv", "opengl", "colmap", "supersplat"]
"""Whose axes: x right, y down, z forward (opencv, colmap); y up, z back (opengl); x left, y up (supersplat)."""

WORDS: dict[str, str] = {
    "opencv": "OpenCV (x right, y down, z forward)",
    "colmap": "OpenCV (x right, y down, z forward)",
    "opengl": "OpenGL (x right, y up, z back)",
    "supersplat": "SuperSplat (x left, y up, z forward)",
}
"""As the comments of a PLY say it, after ``Axes:``."""


def axes_of(frame: Frame) -> Similarity:
    """The rotation from the scene's axes (OpenCV's) to another program's."""
    match frame:
        case "opencv" | "colmap":
            signs = (1.0, 1.0, 1.0)
        case "opengl":
            signs = (1.0, -1.0, -1.0)
        case "supersplat":
            signs = (-1.0, -1.0, 1.0)
        case other:
            assert_never(other)
    rotation = torch.diag(torch.tensor(signs, dtype=torch.float64))
    return Similarity(
        scale=torch.ones((), dtype=torch.float64), rotation=rotation, translation=torch.zeros(3, dtype=torch.float64)
    )


def turned(gaussians: Gaussians, frame: Frame) -> Gaussians:
    """The splats in the axes of another program."""
    return gaussians if frame in ("opencv", "colmap") else gaussians.transformed(axes_of(frame))


def turned_scene(scene: Scene, frame: Frame) -> Scene:
    """The scene in the axes of another program: splats, cameras, the direction up, and the poses that were given."""
    if frame in ("opencv", "colmap"):
        return scene
    similarity = axes_of(frame)
    given = scene.cam_to_world_given
    if given is not None:
        given = similarity.apply_to_cameras(torch.from_numpy(given).double()).numpy()
    offset = (similarity.rotation @ torch.tensor(scene.offset, dtype=torch.float64)).tolist()
    up = similarity.rotation @ torch.tensor(vertical_axis(scene), dtype=torch.float64)
    told = {**(scene.record.get("frame") or {}), "axes": frame, "vertical_axis": (up + 0.0).tolist()}
    return dataclasses.replace(
        scene,
        gaussians=turned(scene.gaussians, frame),
        cameras=scene.cameras.transformed(similarity),
        cam_to_world_given=given,
        offset=(offset[0], offset[1], offset[2]),
        record={**scene.record, "frame": told},
    )
