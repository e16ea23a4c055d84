"""Folders as people have them: photos of different content, and the files that programs write beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from da3gs.formats.cameras.colmap import pinhole_model, save_colmap
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.photos.accounts import counted
from tests.unit.pictures import rotation, textured

HEIGHT, WIDTH = 64, 96
FOCAL = 80.0


def photo(path: Path, seed: int, *, height: int = HEIGHT, width: int = WIDTH, **keywords: object) -> Path:
    """A photo that no other seed gives; the same seed at another size is the same photo smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = Image.fromarray(textured(2 * HEIGHT, 2 * WIDTH, seed=seed))
    quality = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".heic") else {}
    large.resize((width, height), Image.Resampling.BOX).save(path, **{**quality, **keywords})
    return path


def pose(index: int) -> list[list[float]]:
    """A camera-to-world matrix with OpenGL axes."""
    return rotation(0.1 * index)


def in_opencv(index: int) -> np.ndarray:
    """The same with OpenCV axes."""
    return np.array(pose(index)) * [1.0, -1.0, -1.0, 1.0]


def transforms(path: Path, names: Sequence[str], indices: Sequence[int] | None = None, **more: object) -> Path:
    """A file of cameras of these photos."""
    frames = [
        {"file_path": name, "transform_matrix": pose(i)}
        for i, name in zip(indices or range(len(names)), names, strict=True)
    ]
    common = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**common, "frames": frames, **more}))
    return path


def colmap(folder: Path, names: Sequence[str], indices: Sequence[int] | None = None, *, binary: bool = True) -> Path:
    """A model of these photos."""
    folder.mkdir(parents=True, exist_ok=True)
    poses = np.stack([np.linalg.inv(in_opencv(i)) for i in indices or range(len(names))])
    intrinsics = np.tile(np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]]), (len(names), 1, 1))
    sizes = [(HEIGHT, WIDTH)] * len(names)
    model = pinhole_model(list(names), world_to_cam=poses, intrinsics=intrinsics, sizes=sizes)
    save_colmap(model, folder, binary=binary)
    return folder


def load(source: Path, **keywords: object) -> LoadedPhotos:
    """The photos at a small size."""
    return load_photos(source, resolution=98, **keywords)  # type: ignore[arg-type]


def files_of(loaded: LoadedPhotos) -> list[str]:
    """The files that views come from."""
    return [photo.file for photo in loaded.photos]


def posed_as(loaded: LoadedPhotos, indices: Sequence[int]) -> None:
    """Whether the views have these cameras."""
    assert loaded.cam_to_world_given is not None
    np.testing.assert_allclose(loaded.cam_to_world_given, [in_opencv(i) for i in indices], atol=1e-12)


def reasons(loaded: LoadedPhotos) -> dict[str, int]:
    """How many files go for which reason."""
    return counted(loaded.dropped)


def everything(folder: Path) -> int:
    """How many files and links a folder holds, folders of system files whole."""
    return sum(1 for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def accounted_for(loaded: LoadedPhotos, folder: Path) -> None:
    """Kept, read and dropped together are everything in the folder; nothing is told twice."""
    kept = {(photo.file, photo.sha256) for photo in loaded.photos}
    dropped = sum(item.count for item in loaded.dropped if item.counted_as != "is missing")
    assert len(kept) + len(loaded.read) + dropped == everything(folder), (
        sorted(kept), loaded.read, [(d.name, d.reason, d.count) for d in loaded.dropped],
    )  # fmt: skip
    names = [item.name for item in loaded.dropped]
    assert len(set(names)) == len(names), names
