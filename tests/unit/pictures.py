"""Small pictures made for tests."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image


def textured(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth random colours with a mark in the top-left corner, so that turning and resizing can be told."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (5, 7, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()
    picture[: height // 8, : width // 6] = (250, 20, 20)
    return picture


def save(path: Path, picture: np.ndarray | None = None, **keywords: object) -> Path:
    """A picture file, by its suffix; high quality where that can be chosen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(textured() if picture is None else picture)
    if path.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        keywords = {"quality": 95, **keywords}
    image.save(path, **keywords)
    return path


def rotation(angle: float) -> list[list[float]]:
    """About y, as nested lists, with a zero translation."""
    c, s = math.cos(angle), math.sin(angle)
    return [[c, 0.0, s, angle], [0.0, 1.0, 0.0, 0.5], [-s, 0.0, c, -0.25], [0.0, 0.0, 0.0, 1.0]]


def posed_folder(folder: Path, count: int = 3, **changes: object) -> dict:
    """A folder with ``count`` photos and a transforms.json; its content, with ``changes`` in it."""
    for i in range(count):
        save(folder / "images" / f"{i}.png", textured(seed=i))
    content = {
        "camera_model": "OPENCV",
        "fl_x": 80.0, "fl_y": 81.0, "cx": 47.0, "cy": 33.0, "w": 96, "h": 64,
        "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
        "frames": [{"file_path": f"images/{i}.png", "transform_matrix": rotation(0.1 * i)} for i in range(count)],
        **changes,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content))
    return content
