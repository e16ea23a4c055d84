"""The axes of other programs: splats, harmonics, cameras and the direction up turn together."""

from __future__ import annotations

import dataclasses

import torch

from da3gs._scene_write import vertical_axis
from da3gs.formats.axes import LETTERS, Frame, axes_change, with_axes
from da3gs.geometry.similarity import Similarity
from da3gs.scene import FrameRecord, Scene

WORDS: dict[str, str] = {
    "opencv": "OpenCV (x right, y down, z forward)",
    "colmap": "OpenCV (x right, y down, z forward)",
    "opengl": "OpenGL (x right, y up, z back)",
    "supersplat": "SuperSplat (x left, y up, z forward)",
}
"""As the comments of a PLY say it, after ``Axes:``."""


def axes_of(frame: Frame) -> Similarity:
    """The rotation from the scene's axes (OpenCV's) to another program's."""
    return rotation_to(LETTERS[frame])


def rotation_to(letters: str) -> Similarity:
    """The rotation from the scene's axes (OpenCV's) to right-handed ones in letters."""
    return Similarity(
        scale=torch.ones((), dtype=torch.float64),
        rotation=axes_change("RDF", letters),
        translation=torch.zeros(3, dtype=torch.float64),
    )


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
    told: FrameRecord = {**scene.frame, "axes": frame, "vertical_axis": (up + 0.0).tolist()}
    return dataclasses.replace(
        scene,
        gaussians=with_axes(scene.gaussians, "RDF", LETTERS[frame]),
        cameras=scene.cameras.transformed(similarity),
        cam_to_world_given=given,
        offset=(offset[0], offset[1], offset[2]),
        record={**scene.record, "frame": told},
    )
