"""Scenes and splats as files of other programs."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

from da3gs._files import atomic_folder, check_output
from da3gs._progress import Progress, silent
from da3gs._scene_write import ply_lines, scene_frames, vertical_axis, write_cameras
from da3gs._tensors import Device
from da3gs.errors import InputError
from da3gs.exports.axis_conventions import WORDS, turned_scene
from da3gs.exports.depth_maps import export_depth, write_depth
from da3gs.exports.html_metadata import page_note, page_views
from da3gs.exports.losses import Losses, measured_losses
from da3gs.exports.splat_file import BareSplats, load_bare
from da3gs.formats.axes import LETTERS, Frame, frame_of
from da3gs.formats.finite import finite_rows
from da3gs.formats.records import Encoded, Format, SpzVersion, Statement, WriteOptions
from da3gs.formats.registry import (
    WRITTEN_SUFFIXES,
    encoded_bytes,
    is_kind,
    kept,
    splat_path,
    write_encoded,
    written_format,
)
from da3gs.gaussians import Gaussians
from da3gs.optimisation.budget import bounded, check_budget, merge, splats_in
from da3gs.rendering import Backend
from da3gs.scene import Scene, load_scene
from da3gs.splats.detail_levels import coarser_levels
from da3gs.splats.pruning import Limits, cleaned

_log = logging.getLogger(__name__)

SUFFIXES = (*WRITTEN_SUFFIXES, "/")
"""What an output may be; ``/`` is a folder."""


def export(
    source: Scene | BareSplats | Gaussians | Path | str,
    output: Path | str,
    *,
    frame: Frame | None = None,
    input_frame: Frame | None = None,
    spz_version: SpzVersion = 4,
    degree: int | None = None,
    limits: Limits | None = None,
    budget: int | None = None,
    max_mb: float | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    backend: Backend = "auto",
    progress: Progress = silent,
) -> int:
    """Write splats in the format that the suffix names (``SUFFIXES``), or cameras as a folder.

    ``.html`` is a page that opens at the first photo's camera, from disk and without a network.

    A folder gets ``cameras.json`` (Inria), ``transforms.json`` (nerfstudio), ``sparse/0`` (COLMAP) and, where the scene
    has depth, ``depth/`` (16-bit PNG with its scale in ``depth.json``, float32 ``.npy``, colour preview: see
    ``write_depth``). A folder that is called ``depth`` gets the depth alone.

    Args:
        source: a scene, splats, or where they lie.
        output: the file or folder; its suffix says what.
        frame: the axes of the numbers that are written; None: those of the format, which for most are OpenCV's.
        input_frame: the axes of the numbers of a splat file, in place of what it or its format says.
        spz_version: of ``.spz``.
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
    ready = prepared(
        source, output, frame=frame, input_frame=input_frame, spz_version=spz_version, degree=degree, limits=limits,
        budget=budget, max_mb=max_mb, overwrite=overwrite, device=device, backend=backend, progress=progress,
    )  # fmt: skip
    written, losses = ready.write(), ready.losses()
    for line in () if losses is None else losses.lines():
        _log.warning("%s: %s", ready.output.name, line)
    return written


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """Export that is about to be written."""

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
    spz_version: SpzVersion = 4
    """Of ``.spz``."""

    @property
    def count(self) -> int:
        """Number of splats, or cameras, that there will be."""
        if self.suffix == "/":
            assert isinstance(self.content, Scene)
            return len(self.content.views)
        return len(self.content.gaussians)

    @property
    def advice(self) -> str:
        """Advice on programs that do not open such a file, or show it turned; empty where there is nothing to say."""
        if self.suffix == "/":
            return ""
        row, options = self._row
        return row.advice(options)

    @property
    def notes(self) -> list[str]:
        """Notes on what reading the source had to make up or pass over, for people."""
        return list(self.content.notes)

    @property
    def megabytes(self) -> float | None:
        """Size of the file; None for a folder.

        Raises:
            InputError: the format cannot hold these splats.
        """
        if self.suffix == "/":
            return None
        row, options = self._row
        if row.size is not None:
            return row.size(self.content.gaussians, self.output.name, options) / 1e6
        return encoded_bytes(self._encoded) / 1e6

    @property
    def _row(self) -> tuple[Format, WriteOptions]:
        return written_format(self.suffix), write_options(self.content, self.spz_version)

    @functools.cached_property
    def _encoded(self) -> Encoded:
        """What the file will hold, made once for its size and for writing it."""
        row, options = self._row
        assert row.encode is not None
        if row.levels:
            cameras = self.content.cameras if isinstance(self.content, Scene) else None
            options = dataclasses.replace(options, levels=coarser_levels(self.content.gaussians, cameras))
        return kept(row.encode(self.content.gaussians, self.output.name, options))

    def losses(self) -> Losses | None:
        """Losses of the file, once it is written; None for a folder.

        Raises:
            InputError: the file cannot be read back.
        """
        if self.suffix == "/":
            return None
        row, _ = self._row
        return measured_losses(self.content.gaussians, self.output, row, _not_kept(self.content, row))

    def write(self) -> int:
        """Write it, whole or not at all; returns ``count``."""
        match self.content:
            case Scene() if self.suffix == "/":
                _export_folder(self.content, self.output, overwrite=self.overwrite)
            case _:
                row, options = self._row
                assert row.encode is not None
                streamed = row.size is not None
                encoded = row.encode(self.content.gaussians, self.output.name, options) if streamed else self._encoded
                write_encoded(encoded, self.output, overwrite=self.overwrite)
        return self.count


def prepared(
    source: Scene | BareSplats | Gaussians | Path | str,
    output: Path | str,
    *,
    frame: Frame | None = None,
    input_frame: Frame | None = None,
    spz_version: SpzVersion = 4,
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
    suffix = check_output(output, overwrite=overwrite, inputs=inputs, suffixes=SUFFIXES, is_kind=is_kind)
    check_budget(budget, max_mb)
    if degree is not None and not 0 <= degree <= 3:
        raise InputError(f"--sh-degree is 0 to 3, got {degree}")
    opened = _opened(source, input_frame, device)
    if suffix == "/" and not isinstance(opened, Scene):
        raise InputError("a folder of cameras needs a scene folder; splats alone have none: name a file to write")
    if suffix == "/" and (budget is not None or max_mb is not None):
        raise InputError("--budget and --max-mb are for files of splats; a folder gets cameras and depth")
    opened, dropped = _cleaned(opened, limits)
    opened = dataclasses.replace(opened, gaussians=with_degree(opened.gaussians, degree))
    ready = Prepared(
        content=opened, output=Path(output), suffix=suffix, overwrite=overwrite, dropped=dropped, merged=None,
        spz_version=spz_version,
    )  # fmt: skip
    if budget is not None or max_mb is not None:
        ready = _within(ready, budget, max_mb, backend, progress)
    if frame is None and suffix != "/":
        frame = frame_of(written_format(suffix).axes(WriteOptions(spz_version=spz_version)))
    content = ready.content
    turned = (
        turned_scene(content, frame or "opencv") if isinstance(content, Scene) else content.turned(frame or "opencv")
    )
    return dataclasses.replace(ready, content=turned)


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
    ready: Prepared, budget: int | None, max_mb: float | None, backend: Backend, progress: Progress
) -> Prepared:
    """The splats merged until they keep the budget, and what that costs; unchanged where they keep it as they are.

    Raises:
        InputError: there are no photos to merge by, or no file can be as small as that.
    """
    content = ready.content
    before = len(content.gaussians)
    most = budget if max_mb is None else _room(ready, max_mb)
    assert most is not None
    if before <= most:
        return ready
    if not isinstance(content, Scene):
        raise InputError(
            f"{'--budget' if max_mb is None else '--max-mb'} merges splats by the photos of a scene, which a bare file "
            f"does not have ({before} splats, {most} wanted); name its scene folder"
        )
    drawn, _ = bounded(content.gaussians, None, content.cameras, most)
    while True:
        fewer, _, price = merge(drawn, None, content.cameras, content.views, most, backend=backend, progress=progress)
        merged = {"most": most, "before": before, "after": len(fewer), "psnr_price": round(price, 3)}
        found = dataclasses.replace(ready, content=dataclasses.replace(content, gaussians=fewer), merged=merged)
        size = 0.0 if max_mb is None else found.megabytes or 0.0
        if max_mb is None or size <= max_mb or most == 1:
            return found
        most = max(1, int(0.98 * most * max_mb / size))


def _room(ready: Prepared, max_mb: float) -> int:
    """How many splats a file of this size holds; for a compressed one as many as shrink like those that are there."""
    gaussians = ready.content.gaussians
    if ready.suffix == ".ply":
        return splats_in(max_mb, gaussians.harmonics.shape[-2])
    if not len(gaussians):
        return 0
    one = dataclasses.replace(ready.content, gaussians=gaussians.map(lambda t: t[:1]))
    least = dataclasses.replace(ready, content=one).megabytes or 0.0
    if max_mb < least:
        raise InputError(f"--max-mb {max_mb:g} is too small: {ready.output.name} takes {least:.2f} MB with one splat")
    each = ((ready.megabytes or 0.0) - least) / max(1, len(gaussians) - 1)
    return 1 + int((max_mb - least) / max(each, 1e-9))


def write_options(content: Scene | BareSplats, spz_version: SpzVersion = 4) -> WriteOptions:
    """Write options from what is known beside the splats, told in the axes that they are in."""
    if isinstance(content, BareSplats):
        return WriteOptions(
            axes=LETTERS[content.frame],
            comments=content.comments(),
            spz_version=spz_version,
            antialiased=content.gaussians.antialiased,
            up=content.upward,
            unit=content.unit or "",
        )
    told = content.frame
    return WriteOptions(
        axes={str(name): letters for name, letters in LETTERS.items()}.get(str(told.get("axes")), "RDF"),
        comments=_comments(content),
        spz_version=spz_version,
        antialiased=content.gaussians.antialiased,
        views=page_views(content),
        up=vertical_axis(content),
        unit=str(told.get("unit") or ""),
        note=page_note(content.record),
    )


def _not_kept(content: Scene | BareSplats, row: Format) -> tuple[str, ...]:
    """What was known of the splats and has no place in a format, in words."""
    offset = content.offset
    said: dict[Statement, str] = {}
    if offset is not None and any(offset):
        said["offset"] = "the offset " + " ".join(f"{value:.12g}" for value in offset)
    if content.gaussians.antialiased:
        said["antialiased"] = "that they are for a renderer that compensates for its blur"
    if (
        isinstance(content, BareSplats)
        and content.up is not None
        and content.up != dataclasses.replace(content, up=None).upward
    ):
        said["up"] = "the direction up " + " ".join(f"{value:g}" for value in content.up)
    return tuple(words for kind, words in said.items() if kind not in row.keeps)


def with_degree(gaussians: Gaussians, degree: int | None) -> Gaussians:
    """The splats with harmonics of at most this degree."""
    if degree is None or gaussians.degree <= degree:
        return gaussians
    return dataclasses.replace(gaussians, harmonics=gaussians.harmonics[..., : (degree + 1) ** 2, :])


def _opened(
    source: Scene | BareSplats | Gaussians | Path | str, frame: Frame | None, device: Device
) -> Scene | BareSplats:
    match source:
        case Scene():
            return source
        case Gaussians():
            keep, notes = finite_rows(source, "the input")
            return BareSplats(gaussians=source.masked(keep) if notes else source, frame=frame or "opencv", notes=notes)
        case BareSplats():
            return source
    path = Path(source)
    if path.is_dir() and (splat_path(path) == path or (path / "scene.json").is_file()):
        return load_scene(path, device=device)
    return load_bare(path, frame=frame)


def _comments(scene: Scene) -> list[str]:
    """The header's comments, told in the axes that are written."""
    words = WORDS.get(str(scene.frame.get("axes")), WORDS["opencv"])
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
