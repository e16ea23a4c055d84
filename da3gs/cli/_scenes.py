"""What several commands do with scenes: choose a name, save and check, read splats from whatever was named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from da3gs.scene import Scene


def default_scene_path(sources: Sequence[Path]) -> Path:
    """``NAME.scene`` in the working folder, after the input; ``NAME-2.scene`` and so on where that is taken."""
    first = sources[0]
    if first.name in ("transforms.json", "sparse", "0", "images"):
        first = first.resolve().parent
    name = first.resolve().name if first.is_dir() else first.stem
    name = re.sub(r"[^0-9A-Za-z._-]+", "-", name).strip("-.") or "photos"
    path, number = Path(f"{name}.scene"), 1
    while path.exists() or path.is_symlink():
        number += 1
        path = Path(f"{name}-{number}.scene")
    return path


def save_and_check(scene: Scene, output: Path, *, overwrite: bool) -> dict[str, Any]:
    """Write the scene folder, then read it back as a stranger would; the report of `da3gs.check`."""
    from da3gs.pipeline.check import check

    scene.save(output, overwrite=overwrite)
    return check(output)
