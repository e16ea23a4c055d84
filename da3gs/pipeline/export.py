"""Scenes and splats as files of other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, assert_never

import torch

from da3gs._files import atomic_folder, check_output
from da3gs._scene_write import ply_lines, scene_frames, write_cameras
from da3gs.errors import InputError
from da3gs.formats import SPLAT_SUFFIXES, load_gaussians, save_gaussians
from da3gs.formats.compressed_ply import save_compressed_ply
from da3gs.formats.ply import save_ply
from da3gs.gaussians import Gaussians
from da3gs.geometry.similarity import Similarity
from da3gs.pipeline.clean import Limits, cleaned
from da3gs.pipeline.depth_export import export_depth, write_depth
from da3gs.scene import Scene, load_scene

Frame = Literal["opencv", "opengl", "colmap", "supersplat"]
"""Whose axes: x right, y down, z forward (opencv, colmap); y up, z back (opengl); x left, y up (supersplat)."""

SUFFIXES = (*SPLAT_SUFFIXES, "/")
"""What an output may be; ``/`` is a folder."""


def export(
    source: Scene | Gaussians | Path | str,
    output: Path | str,
    *,
    frame: Frame = "opencv",
    degree: int | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
) -> int:
    """Write splats as ``.ply``, ``.compressed.ply``, ``.splat`` or ``.spz``, or a scene's cameras as a folder.

    A folder gets ``cameras.json`` (Inria), ``transforms.json`` (nerfstudio), ``sparse/0`` (COLMAP) and, where the scene
    has depth, ``depth/`` (16-bit PNG with its scale in ``depth.json``, float32 ``.npy``, colour preview: see
    ``write_depth``). A folder that is called ``depth`` gets the depth alone.

    Args:
        source: a scene, splats, or where they lie.
        output: the file or folder; its suffix says what.
        frame: the axes of the world that is written.
        degree: harmonics above this degree are left out; None keeps all.
        limits: which splats to leave out, as in ``reconstruct``; None leaves out none.
        overwrite: replace an output of the same kind.

    Returns:
        How many splats, or cameras, were written.

    Raises:
        InputError: the source or the output cannot be used.
    """
    inputs = [source] if isinstance(source, str | Path) else []
    suffix = check_output(output, overwrite=overwrite, inputs=inputs, suffixes=SUFFIXES)
    if degree is not None and not 0 <= degree <= 3:
        raise InputError(f"--sh-degree is 0 to 3, got {degree}")
    opened = _opened(source) if isinstance(source, str | Path) else source
    if suffix == "/":
        if not isinstance(opened, Scene):
            raise InputError("a folder of cameras needs a scene folder; splats alone have none: name a file to write")
        return _export_folder(turned_scene(opened, frame), Path(output), overwrite=overwrite)
    comments: Sequence[str] = ()
    if isinstance(opened, Scene):
        comments, gaussians = _comments(opened, frame), _kept(opened, limits)
    else:
        gaussians = _kept_bare(opened, limits)
    gaussians = with_degree(turned(gaussians, frame), degree)
    if suffix == ".ply":
        save_ply(gaussians, output, overwrite=overwrite, comments=comments)
    elif suffix == ".compressed.ply":
        save_compressed_ply(gaussians, output, overwrite=overwrite, comments=comments)
    else:
        save_gaussians(gaussians, output, overwrite=overwrite)
    return len(gaussians)


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
    """The scene in the axes of another program: splats, cameras, and the poses that the caller gave."""
    if frame in ("opencv", "colmap"):
        return scene
    similarity = axes_of(frame)
    given = scene.cam_to_world_given
    if given is not None:
        given = similarity.apply_to_cameras(torch.from_numpy(given).double()).numpy()
    offset = (similarity.rotation @ torch.tensor(scene.offset, dtype=torch.float64)).tolist()
    return dataclasses.replace(
        scene,
        gaussians=turned(scene.gaussians, frame),
        cameras=scene.cameras.transformed(similarity),
        cam_to_world_given=given,
        offset=(offset[0], offset[1], offset[2]),
    )


def with_degree(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """The splats with harmonics of at most this degree."""
    if degree is None or gaussians.degree <= degree:
        return gaussians
    return dataclasses.replace(gaussians, harmonics=gaussians.harmonics[..., : (degree + 1) ** 2, :])


def _opened(source: Path | str) -> Scene | Gaussians:
    path = Path(source)
    return load_scene(path) if path.is_dir() else load_gaussians(path)


def _kept(scene: Scene, limits: Limits | None) -> Gaussians:
    return scene.gaussians.masked(cleaned(scene.gaussians, scene.provenance, limits)[0])


def _kept_bare(gaussians: Gaussians, limits: Limits | None) -> Gaussians:
    return gaussians.masked(cleaned(gaussians, None, limits)[0])


def _comments(scene: Scene, frame: Frame) -> list[str]:
    """The header's comments, told in the axes that are written."""
    if frame in ("opencv", "colmap"):
        return ply_lines(scene)
    turned_frame = {**(scene.record.get("frame") or {})}
    up = turned_frame.get("vertical_axis")
    if up is not None:
        axis = axes_of(frame).rotation @ torch.tensor(up, dtype=torch.float64)
        turned_frame["vertical_axis"] = (axis + 0.0).tolist()
    lines = ply_lines(dataclasses.replace(scene, record={**scene.record, "frame": turned_frame}))
    words = {"opengl": "OpenGL (x right, y up, z back)", "supersplat": "SuperSplat (x left, y up, z forward)"}
    return [f"Axes: {words[frame]}" if line.startswith("Axes:") else line for line in lines]


def _export_folder(scene: Scene, path: Path, *, overwrite: bool) -> int:
    if path.name == "depth":
        export_depth(scene, path, overwrite=overwrite)
        return len(scene.views)
    with atomic_folder(path, overwrite=overwrite) as folder:
        write_cameras(scene, scene_frames(scene), folder)
        if scene.depth is not None:
            (folder / "depth").mkdir()
            write_depth(scene, folder / "depth")
    return len(scene.views)
