"""What several commands do with scenes: choose a name, save and check, read splats from whatever was named."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs._tensors import Device, drawing_device
from da3gs.cli._parse import Drawing
from da3gs.formats import load_gaussians
from da3gs.gaussians import Gaussians
from da3gs.pipeline.check import CheckReport, check
from da3gs.scene import Scene, load_scene


def default_scene_path(sources: Sequence[Path]) -> Path:
    """``NAME.scene`` in the working folder, after the input; numbered where that is taken."""
    first = sources[0]
    if first.name in ("transforms.json", "sparse", "0", "images"):
        first = first.resolve().parent
    name = first.resolve().name if first.is_dir() else first.stem
    return numbered(re.sub(r"[^0-9A-Za-z._-]+", "-", name).strip("-.") or "photos")


def numbered(name: str) -> Path:
    """``NAME.scene`` in the working folder, or ``NAME-2.scene`` and so on where that is taken."""
    path, number = Path(f"{name}.scene"), 1
    while path.exists() or path.is_symlink():
        number += 1
        path = Path(f"{name}-{number}.scene")
    return path


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
    from da3gs.formats import splat_suffix

    path = Path(name)
    return (path / "scene.json").is_file() or (not path.is_dir() and splat_suffix(path) is not None)


def open_scene(name: str, *, device: Device = "auto") -> Scene | Gaussians:
    """The scene in a folder, or the splats in a file, on a device.

    Raises:
        InputError: it is neither, or broken.
    """
    path = Path(name)
    if path.is_dir():
        return load_scene(path, device=device)
    return load_gaussians(path).to(drawing_device(device))
