"""Scenes on the command line: names for new ones, saving with a check, opening whatever was named."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs._tensors import Device, drawing_device
from da3gs.cli._parse import Drawing
from da3gs.errors import InputError
from da3gs.exports.splat_file import BareSplats, load_bare
from da3gs.formats.axes import Frame
from da3gs.formats.registry import format_of_name, splat_path
from da3gs.pipeline.check import CheckReport, check
from da3gs.scene import Scene, load_scene

_log = logging.getLogger(__name__)


def default_scene_path(sources: Sequence[Path]) -> Path:
    """``NAME.scene`` in the working folder, after the input; numbered where that is taken."""
    first = sources[0]
    if first.name in ("transforms.json", "sparse", "0", "images"):
        first = first.resolve().parent
    name = first.resolve().name if first.is_dir() else first.stem
    return numbered(re.sub(r"[^0-9A-Za-z._-]+", "-", name).strip("-.") or "photos")


def one_or_many(sources: list[Path]) -> Path | list[Path]:
    """A single input by itself, so that a folder is read as a folder."""
    return sources[0] if len(sources) == 1 else sources


def numbered(name: str) -> Path:
    """``NAME.scene`` in the working folder, or ``NAME-2.scene`` and so on where that is taken."""
    path, number = Path(f"{name}.scene"), 1
    while path.exists() or path.is_symlink():
        number += 1
        path = Path(f"{name}-{number}.scene")
    return path


@contextlib.contextmanager
def finished_pieces(output: Path) -> Iterator[Path]:
    """The folder beside an output that keeps the finished pieces of a killed or interrupted run.

    It is gone when a run succeeds. One that ends with an error takes away what it made itself, and leaves what was
    there before: a mistyped flag after hours of work costs none of it.
    """
    partial = output.parent / f".{output.name}.partial"
    before = set(partial.iterdir()) if partial.is_dir() else set()
    try:
        yield partial
    except KeyboardInterrupt:
        raise
    except BaseException:
        for made in set(partial.glob("*") if before else [partial]) - before:
            shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink(missing_ok=True)
        raise
    shutil.rmtree(partial, ignore_errors=True)


def save_and_check(
    scene: Scene, output: Path, *, overwrite: bool, drawing: Drawing, progress: Progress
) -> tuple[CheckReport, dict[str, float]]:
    """Write the scene folder, then read it back as a stranger would: the report of `da3gs.check`, and the seconds."""
    start = time.perf_counter()
    scene.save(output, overwrite=overwrite, backend=drawing.backend, progress=progress)
    saved = time.perf_counter()
    progress("checking the file", 0, 1)
    report = check(output, device=drawing.device, backend=drawing.backend)
    return report, {"save": saved - start, "check": time.perf_counter() - saved}


def is_scene_or_splats(name: str) -> bool:
    """Whether this is a scene folder, or a file with a suffix of a splat format."""
    path = Path(name)
    if path.is_dir():
        return (path / "scene.json").is_file() or splat_path(path) != path
    return format_of_name(path) is not None


def open_scene(name: str, *, frame: Frame | None = None, device: Device = "auto") -> Scene | BareSplats:
    """The scene in a folder, or the splats in a file, in OpenCV's axes, on a device; what reading a file had to make up
    is logged.

    Args:
        name: the folder or file.
        frame: the axes of a file's numbers, in place of what it or its format says.
        device: where to.

    Raises:
        InputError: it is neither, or broken; or ``frame`` is given for a scene, which states its own.
    """
    path = Path(name)
    if path.is_dir() and (splat_path(path) == path or (path / "scene.json").is_file()):
        if frame is not None:
            raise InputError(f"--frame {frame} is for splat files; the scene {path.name or path} states its axes")
        scene = load_scene(path, device=device)
        tell(path, scene.notes)
        return scene
    bare = load_bare(path, frame=frame).turned("opencv")
    tell(path, bare.notes)
    return dataclasses.replace(bare, gaussians=bare.gaussians.to(drawing_device(device)))


def tell(path: Path, notes: Sequence[str]) -> None:
    """Log what reading had to make up or pass over."""
    for note in notes:
        _log.warning("%s: %s", path.name, note)
