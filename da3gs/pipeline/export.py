"""Scenes and splats as files of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from da3gs._files import atomic_folder, check_output
from da3gs._scene_write import ply_lines, scene_frames, vertical_axis, write_cameras
from da3gs.errors import InputError
from da3gs.formats import POINTS_SUFFIX, SPLAT_SUFFIXES, load_gaussians, save_gaussians
from da3gs.formats.compressed_ply import save_compressed_ply
from da3gs.formats.html import save_html
from da3gs.formats.ply import save_ply
from da3gs.gaussians import Gaussians
from da3gs.pipeline.axes import WORDS, Frame, turned, turned_scene
from da3gs.pipeline.clean import Limits, cleaned
from da3gs.pipeline.depth_export import export_depth, write_depth
from da3gs.pipeline.page import page_note, page_views
from da3gs.scene import Scene, load_scene

SUFFIXES = (*SPLAT_SUFFIXES, POINTS_SUFFIX, "/")
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
    """Write splats as ``.ply``, ``.compressed.ply``, ``.splat``, ``.spz`` or ``.html``, or cameras as a folder.

    ``.html`` is a page that opens at the first photo's camera, from disk and without a network; ``.glb`` gets points in
    place of splats, for programs that know no others.

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
    if isinstance(opened, Scene):
        kept = opened.gaussians.masked(cleaned(opened.gaussians, opened.provenance, limits)[0])
        scene = turned_scene(dataclasses.replace(opened, gaussians=with_degree(kept, degree)), frame)
        _write_scene_splats(scene, suffix, Path(output), overwrite=overwrite)
        return len(kept)
    kept = opened.masked(cleaned(opened, None, limits)[0])
    save_gaussians(turned(with_degree(kept, degree), frame), output, overwrite=overwrite)
    return len(kept)


def _write_scene_splats(scene: Scene, suffix: str, output: Path, *, overwrite: bool) -> None:
    """The splats with what the scene knows beside them, as far as the format has room for it."""
    match suffix:
        case ".ply":
            save_ply(scene.gaussians, output, overwrite=overwrite, comments=_comments(scene))
        case ".compressed.ply":
            save_compressed_ply(scene.gaussians, output, overwrite=overwrite, comments=_comments(scene))
        case ".html":
            save_html(
                scene.gaussians,
                output,
                views=page_views(scene),
                up=vertical_axis(scene),
                note=page_note(scene.record),
                overwrite=overwrite,
            )
        case _:
            save_gaussians(scene.gaussians, output, overwrite=overwrite)


def with_degree(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """The splats with harmonics of at most this degree."""
    if degree is None or gaussians.degree <= degree:
        return gaussians
    return dataclasses.replace(gaussians, harmonics=gaussians.harmonics[..., : (degree + 1) ** 2, :])


def _opened(source: Path | str) -> Scene | Gaussians:
    path = Path(source)
    return load_scene(path) if path.is_dir() else load_gaussians(path)


def _comments(scene: Scene) -> list[str]:
    """The header's comments, told in the axes that are written."""
    words = WORDS.get(str((scene.record.get("frame") or {}).get("axes")), WORDS["opencv"])
    return [f"Axes: {words}" if line.startswith("Axes:") else line for line in ply_lines(scene)]


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
