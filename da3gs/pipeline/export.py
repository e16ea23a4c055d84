"""Scenes and splats as files of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from da3gs._files import atomic_folder, check_output
from da3gs._progress import Progress, silent
from da3gs._scene_write import ply_lines, scene_frames, vertical_axis, write_cameras
from da3gs._tensors import Device
from da3gs.errors import InputError
from da3gs.exports.axis_conventions import WORDS, Frame, turned_scene
from da3gs.exports.depth_maps import export_depth, write_depth
from da3gs.exports.html_metadata import page_note, page_views
from da3gs.exports.splat_file import BareSplats, load_bare
from da3gs.formats import POINTS_SUFFIX, SPLAT_SUFFIXES, save_gaussians
from da3gs.formats._quantising import finite_arrays
from da3gs.formats.compressed_ply import compressed_ply_size, save_compressed_ply
from da3gs.formats.glb import glb_bytes
from da3gs.formats.html import html_bytes, save_html
from da3gs.formats.ply import header_bytes, property_names, save_ply
from da3gs.formats.spz import spz_bytes
from da3gs.gaussians import Gaussians
from da3gs.optimisation.budget import bounded, check_budget, merge, splats_in
from da3gs.rendering import Backend
from da3gs.scene import Scene, load_scene
from da3gs.splats.pruning import Limits, cleaned

SUFFIXES = (*SPLAT_SUFFIXES, POINTS_SUFFIX, "/")
"""What an output may be; ``/`` is a folder."""


def export(
    source: Scene | Gaussians | Path | str,
    output: Path | str,
    *,
    frame: Frame = "opencv",
    degree: int | None = None,
    limits: Limits | None = None,
    budget: int | None = None,
    max_mb: float | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    backend: Backend = "auto",
    progress: Progress = silent,
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
        budget: at most so many splats; neighbours become one, which takes the scene's photos.
        max_mb: at most this size of the file that is written, in place of ``budget``.
        overwrite: replace an output of the same kind.
        device: where splats are drawn that are merged.
        backend: draws them.
        progress: told about the merging.

    Returns:
        How many splats, or cameras, were written.

    Raises:
        InputError: the source or the output cannot be used.
    """
    return prepared(
        source, output, frame=frame, degree=degree, limits=limits, budget=budget, max_mb=max_mb, overwrite=overwrite,
        device=device, backend=backend, progress=progress,
    ).write()  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Prepared:
    """What is about to be written."""

    content: Scene | BareSplats
    """As the file will hold it."""
    output: Path
    """Where to."""
    suffix: str
    """What it will be."""
    overwrite: bool
    """Whether something of the kind may be replaced."""
    dropped: dict[str, int]
    """How many splats the cleaning leaves out, by reason."""
    merged: dict[str, Any] | None
    """``before``, ``after`` and ``psnr_price`` where splats were merged."""

    @property
    def count(self) -> int:
        """How many splats, or cameras, there will be."""
        if self.suffix == "/":
            assert isinstance(self.content, Scene)
            return len(self.content.views)
        return len(self.content.gaussians)

    @property
    def megabytes(self) -> float | None:
        """How large the file will be; None for a folder.

        Raises:
            InputError: the format cannot hold these splats.
        """
        return None if self.suffix == "/" else _file_bytes(self.content, self.suffix, self.output) / 1e6

    def write(self) -> int:
        """Write it, whole or not at all; returns ``count``."""
        match self.content:
            case Scene() if self.suffix == "/":
                _export_folder(self.content, self.output, overwrite=self.overwrite)
            case _:
                _write_splats(self.content, self.suffix, self.output, overwrite=self.overwrite)
        return self.count


def prepared(
    source: Scene | Gaussians | Path | str,
    output: Path | str,
    *,
    frame: Frame = "opencv",
    degree: int | None = None,
    limits: Limits | None = None,
    budget: int | None = None,
    max_mb: float | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    backend: Backend = "auto",
    progress: Progress = silent,
) -> Prepared:
    """All of ``export`` but the writing, with the same arguments.

    Raises:
        InputError: the source or the output cannot be used.
    """
    inputs = [source] if isinstance(source, str | Path) else []
    suffix = check_output(output, overwrite=overwrite, inputs=inputs, suffixes=SUFFIXES)
    check_budget(budget, max_mb)
    if degree is not None and not 0 <= degree <= 3:
        raise InputError(f"--sh-degree is 0 to 3, got {degree}")
    opened = _opened(source, device)
    if suffix == "/" and not isinstance(opened, Scene):
        raise InputError("a folder of cameras needs a scene folder; splats alone have none: name a file to write")
    if suffix == "/" and (budget is not None or max_mb is not None):
        raise InputError("--budget and --max-mb are for files of splats; a folder gets cameras and depth")
    opened, dropped = _cleaned(opened, limits)
    opened, merged = dataclasses.replace(opened, gaussians=with_degree(opened.gaussians, degree)), None
    if budget is not None or max_mb is not None:
        opened, merged = _within(opened, suffix, Path(output), budget, max_mb, backend, progress)
    content = turned_scene(opened, frame) if isinstance(opened, Scene) else opened.turned(frame)
    return Prepared(
        content=content, output=Path(output), suffix=suffix, overwrite=overwrite, dropped=dropped, merged=merged
    )


def _cleaned(content: Scene | BareSplats, limits: Limits | None) -> tuple[Scene | BareSplats, dict[str, int]]:
    """The splats that stay, and how many go for which reason."""
    if limits is None:
        return content, {}
    rows = content.provenance if isinstance(content, Scene) else None
    keep, counts = cleaned(content.gaussians, rows, limits)
    dropped = {reason: number for reason, number in counts.items() if number}
    if not bool(keep.any()):
        why = ", ".join(f"{reason} {number}" for reason, number in dropped.items())
        raise InputError(f"none of {len(keep)} splats is left ({why}); loosen the cleaning")
    kept = dataclasses.replace(content, gaussians=content.gaussians.masked(keep))
    if isinstance(kept, Scene) and rows is not None:
        kept = dataclasses.replace(kept, provenance=rows.map(lambda t: t[keep]))
    return kept, dropped


def _within(
    content: Scene | BareSplats,
    suffix: str,
    output: Path,
    budget: int | None,
    max_mb: float | None,
    backend: Backend,
    progress: Progress,
) -> tuple[Scene | BareSplats, dict[str, Any] | None]:
    """The splats merged until they keep the budget, and what that costs; None where they keep it as they are.

    Raises:
        InputError: there are no photos to merge by, or no file can be as small as that.
    """
    before = len(content.gaussians)
    most = budget if max_mb is None else _room(content, suffix, output, max_mb)
    assert most is not None
    if before <= most:
        return content, None
    if not isinstance(content, Scene):
        raise InputError(
            f"{'--budget' if max_mb is None else '--max-mb'} merges splats by the photos of a scene, which a bare file "
            f"does not have ({before} splats, {most} wanted); name its scene folder"
        )
    drawn, _ = bounded(content.gaussians, None, content.cameras, most)
    while True:
        fewer, _, price = merge(drawn, None, content.cameras, content.views, most, backend=backend, progress=progress)
        found = dataclasses.replace(content, gaussians=fewer)
        size = 0 if max_mb is None else _file_bytes(found, suffix, output)
        if max_mb is None or size <= max_mb * 1e6 or most == 1:
            break
        most = max(1, int(0.98 * most * max_mb * 1e6 / size))
    return found, {"most": most, "before": before, "after": len(fewer), "psnr_price": round(price, 3)}


def _room(content: Scene | BareSplats, suffix: str, output: Path, max_mb: float) -> int:
    """How many splats a file of this size holds; for a compressed one as many as shrink like those that are there."""
    gaussians = content.gaussians
    if suffix == ".ply":
        return splats_in(max_mb, gaussians.harmonics.shape[-2])
    if not len(gaussians):
        return 0
    one = dataclasses.replace(content, gaussians=gaussians.map(lambda t: t[:1]))
    least = _file_bytes(one, suffix, output)
    if max_mb * 1e6 < least:
        raise InputError(
            f"--max-mb {max_mb:g} is too small: {output.name} takes {least / 1e6:.2f} MB with a single splat"
        )
    each = (_file_bytes(content, suffix, output) - least) / max(1, len(gaussians) - 1)
    return 1 + int((max_mb * 1e6 - least) / max(each, 1e-3))


def _file_bytes(content: Scene | BareSplats, suffix: str, output: Path) -> int:
    """The size of the file.

    Raises:
        InputError: the format cannot hold these splats.
    """
    gaussians, name = content.gaussians, output.name
    count, bands = len(gaussians), gaussians.harmonics.shape[-2]
    comments = content.comments() if isinstance(content, BareSplats) else _comments(content)
    match suffix:
        case ".ply":
            return len(header_bytes(count, property_names(bands), comments)) + count * 4 * (14 + 3 * bands)
        case ".compressed.ply":
            finite_arrays(gaussians, name)
            return compressed_ply_size(count, bands, comments)
        case ".splat":
            finite_arrays(gaussians, name)
            return 32 * count
        case ".spz":
            return len(spz_bytes(gaussians, name))
        case ".html":
            return len(html_bytes(gaussians, name, title=output.stem, **_page(content)))
    return len(glb_bytes(gaussians, name))


def _page(content: Scene | BareSplats) -> dict[str, Any]:
    """What a page says beside its splats."""
    if isinstance(content, BareSplats):
        return {"up": content.upward}
    return {"views": page_views(content), "up": vertical_axis(content), "note": page_note(content.record)}


def _write_splats(content: Scene | BareSplats, suffix: str, output: Path, *, overwrite: bool) -> None:
    """The splats with what is known beside them, as far as the format has room for it."""
    comments = content.comments() if isinstance(content, BareSplats) else _comments(content)
    match suffix:
        case ".ply":
            save_ply(content.gaussians, output, overwrite=overwrite, comments=comments)
        case ".compressed.ply":
            save_compressed_ply(content.gaussians, output, overwrite=overwrite, comments=comments)
        case ".html":
            save_html(content.gaussians, output, overwrite=overwrite, **_page(content))
        case _:
            save_gaussians(content.gaussians, output, overwrite=overwrite)


def with_degree(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """The splats with harmonics of at most this degree."""
    if degree is None or gaussians.degree <= degree:
        return gaussians
    return dataclasses.replace(gaussians, harmonics=gaussians.harmonics[..., : (degree + 1) ** 2, :])


def _opened(source: Scene | Gaussians | Path | str, device: Device) -> Scene | BareSplats:
    match source:
        case Scene():
            return source
        case Gaussians():
            return BareSplats(gaussians=source)
    return load_scene(source, device=device) if Path(source).is_dir() else load_bare(source)


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
