"""Many small posed scenes for the evaluation tests, laid out as DL3DV's or as chunks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.unit.plane_scene import plane_scene, write_transforms

VIEWS, DEPTH = plane_scene(9)
FRAMES = len(VIEWS)


def scene_folders(root: Path, count: int) -> Path:
    """``KEY/nerfstudio/{transforms.json, images/}``, each a little darker than the one before."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        folder = write_transforms(VIEWS, root / f"scene-{i:03d}" / "nerfstudio")
        for photo in sorted((folder / "images").iterdir()):
            pixels = np.asarray(Image.open(photo)).astype(np.float32) * (1 - 0.5 * i / max(count, 1))
            Image.fromarray(pixels.round().astype(np.uint8)).save(photo)
    return root


def split_file(path: Path, keys: list[str], context: list[int] | None = None, target: list[int] | None = None) -> Path:
    """One split for all scenes."""
    entry = {"context": context or [0, 4, 8], "target": target or [1, 2, 6]}
    path.write_text(json.dumps(dict.fromkeys(keys, entry)))
    return path


def chunk_entry(key: str = "scene-000") -> dict[str, object]:
    """The plane scene as an entry of a ``.torch`` chunk."""
    assert VIEWS.cameras is not None
    rows, images = [], []
    k = VIEWS.cameras.intrinsics
    for i in range(FRAMES):
        lens = [k[i, 0, 0] / 112, k[i, 1, 1] / 84, k[i, 0, 2] / 112, k[i, 1, 2] / 84, 0, 0]
        rows.append([float(v) for v in lens] + VIEWS.cameras.world_to_cam[i, :3].flatten().tolist())
        buffer = io.BytesIO()
        pixels = (VIEWS.images[i].movedim(0, -1) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(buffer, "PNG")
        images.append(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
    return {
        "key": key, "url": "", "timestamps": torch.arange(FRAMES), "cameras": torch.tensor(rows), "images": images,
    }  # fmt: skip
