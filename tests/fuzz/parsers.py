"""Every parser, each with sound files to damage: what it cannot read it refuses in one line, and never otherwise."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as safetensors_bytes

from da3gs.errors import Da3gsError
from da3gs.exports.independent import decode_splats
from da3gs.exports.splat_file import load_bare
from da3gs.formats import WRITTEN_SUFFIXES, save_gaussians
from da3gs.formats.cameras.camera_paths import load_camera_path
from da3gs.formats.media.video import save_video
from da3gs.photos import load_photos
from da3gs.photos.decoding.images import read_header, read_picture, read_small
from da3gs.photos.decoding.masks import read_mask
from da3gs.photos.records import Unreadable
from tests.fuzz.damage import damaged, respelt, worded
from tests.hostile.right.folders import nerf_synthetic, polycam, record3d
from tests.hostile.right.layouts import colmap, photo, transforms
from tests.small_scene import small_gaussians, small_scene_folder
from tests.unit.pictures import textured
from tests.unit.test_ksplat import ksplat


@dataclasses.dataclass(frozen=True)
class Parser:
    """One thing that reads, and damage to what it reads."""

    name: str
    """Of the kind of file."""
    damage: Callable[[], st.SearchStrategy[Any]]
    """What replaces the file, as bytes or text."""
    read: Callable[[Path, Any], None]
    """Puts that into an empty folder, and reads it."""


def refused(read: Callable[[], object]) -> None:
    """Reads; a refusal has to be one line of the project's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = ""
        try:
            read()
        except (Da3gsError, Unreadable) as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 1500, "a line that nobody reads"


def _written(suffix: str, **keywords: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(textured()).save(buffer, suffix, **keywords)
    return buffer.getvalue()


def _pictures() -> dict[str, Callable[[], bytes]]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"

    def deep() -> bytes:
        """16 bits of grey."""
        buffer = io.BytesIO()
        Image.fromarray(np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)).save(buffer, "PNG")
        return buffer.getvalue()

    def heif() -> bytes:
        """By its own plugin."""
        import pillow_heif

        pillow_heif.register_heif_opener()
        return _written("HEIF", quality=50)

    return {
        "jpg": lambda: _written("JPEG", exif=exif.tobytes(), quality=80),
        "png": lambda: _written("PNG", exif=exif.tobytes()),
        "16-bit.png": deep,
        "webp": lambda: _written("WEBP", exif=exif.tobytes()),
        "tif": lambda: _written("TIFF"),
        "lzw.tif": lambda: _written("TIFF", compression="tiff_lzw"),
        "bmp": lambda: _written("BMP"),
        "gif": lambda: _written("GIF"),
        "ppm": lambda: _written("PPM"),
        "avif": lambda: _written("AVIF", quality=50),
        "heic": heif,
    }


def _read_picture(suffix: str, folder: Path, data: bytes) -> None:
    path = folder / f"a.{suffix}"
    path.write_bytes(data)
    for read in (read_header, read_picture, read_mask):
        refused(functools.partial(read, path))
    refused(lambda: read_small(path, 16))


@functools.cache
def _splats(suffix: str) -> bytes:
    if suffix == ".ksplat":
        return ksplat([small_gaussians(40, 4)], 1)
    with tempfile.TemporaryDirectory() as folder:
        save_gaussians(small_gaussians(40, 4), Path(folder) / f"a{suffix}")
        return (Path(folder) / f"a{suffix}").read_bytes()


def _read_splats(suffix: str, folder: Path, data: bytes) -> None:
    path = folder / f"a{suffix}"
    path.write_bytes(data)
    refused(lambda: load_bare(path))
    refused(lambda: decode_splats(path))


@functools.cache
def _ply_text() -> str:
    header = _splats(".ply").partition(b"end_header")[0].decode()
    return header.replace("comment ", "comment SplatRenderMode: mip\ncomment ") + "end_header\n"


def _read_ply_header(folder: Path, text: str) -> None:
    _read_splats(".ply", folder, text.encode("utf-8", "surrogatepass") + _splats(".ply").partition(b"end_header\n")[2])


@functools.cache
def _tree(make: Callable[[Path], object]) -> dict[str, bytes]:
    """The files of a folder, made once."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        root = Path(folder)
        return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def _posed(folder: Path) -> None:
    for i in range(3):
        photo(folder / "images" / f"{i}.jpg", i)
    transforms(folder / "transforms.json", [f"images/{i}.jpg" for i in range(3)], k1=0.01, k2=0.0, p1=0.0, p2=0.0)


def _colmap(folder: Path, *, binary: bool) -> None:
    for i in range(3):
        photo(folder / "images" / f"{i}.jpg", i)
    colmap(folder / "sparse/0", [f"{i}.jpg" for i in range(3)], binary=binary)


def _record3d(folder: Path) -> None:
    record3d(folder, "rgb", "metadata.json")


def _binary(folder: Path) -> None:
    _colmap(folder, binary=True)


def _text(folder: Path) -> None:
    _colmap(folder, binary=False)


def _scene(folder: Path) -> None:
    small_scene_folder(folder / "s.scene")


def _in_tree(make: Callable[[Path], object], name: str, load: Callable[[Path], object]) -> Callable[[Path, Any], None]:
    """Reads the folder with one file of it replaced."""

    def read(folder: Path, data: Any) -> None:
        for file, content in _tree(make).items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if not isinstance(data, bytes):
            data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else json.dumps(data).encode()
        (folder / name).write_bytes(data)
        refused(lambda: load(folder))

    return read


def _photos(folder: Path) -> object:
    return load_photos(folder, resolution=98)


def _scene_of(folder: Path) -> None:
    from da3gs.pipeline.check import check
    from da3gs.scene import load_scene

    refused(lambda: load_scene(folder / "s.scene", device="cpu"))
    refused(lambda: check(folder / "s.scene", device="cpu", backend="cpu"))


def _json_parsers() -> list[Parser]:
    found = []
    for title, make, name, load in (
        ("transforms.json", _posed, "transforms.json", _photos),
        ("nerf-synthetic", nerf_synthetic, "transforms_train.json", _photos),
        ("polycam", polycam, "keyframes/corrected_cameras/100333.json", _photos),
        ("record3d", _record3d, "metadata.json", _photos),
        ("scene.json", _scene, "s.scene/scene.json", _scene_of),
        ("scene-transforms", _scene, "s.scene/transforms.json", _scene_of),
    ):
        found += _json_of(title, make, name, load)
    return found


def _json_of(title: str, make: Callable[[Path], object], name: str, load: Callable[[Path], object]) -> list[Parser]:
    read = _in_tree(make, name, load)
    return [
        Parser(f"{title}-values", lambda: respelt(json.loads(_tree(make)[name])), read),
        Parser(f"{title}-bytes", lambda: damaged(_tree(make)[name]), read),
    ]


def _binary_parsers() -> list[Parser]:
    places = [("colmap-binary", _binary, f"sparse/0/{part}.bin", _photos) for part in ("cameras", "images", "points3D")]
    places += [("scene", _scene, f"s.scene/{name}.npz", _scene_of) for name in ("reference", "splats", "depth")]
    places = [(title, make, name, load) for title, make, name, load in places if name in _tree(make)]
    return [
        Parser(f"{title}-{Path(name).name}", functools.partial(_of_tree, make, name), _in_tree(make, name, load))
        for title, make, name, load in places
    ]


def _of_tree(make: Callable[[Path], object], name: str) -> st.SearchStrategy[bytes]:
    return damaged(_tree(make)[name])


def _text_parsers() -> list[Parser]:
    names = ("cameras", "images", "points3D")
    return [
        Parser(
            f"colmap-text-{name}",
            functools.partial(_words_of_tree, f"sparse/0/{name}.txt"),
            _in_tree(_text, f"sparse/0/{name}.txt", _photos),
        )
        for name in names
    ]


def _words_of_tree(name: str) -> st.SearchStrategy[str]:
    return worded(_tree(_text)[name].decode())


@functools.cache
def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _tree(_posed).items():
            archive.writestr(name, content)
    return buffer.getvalue()


@functools.cache
def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        save_video(path, (textured(seed=i) for i in range(6)), fps=6.0)
        return path.read_bytes()


def _read_file(name: str, load: Callable[[Path], object]) -> Callable[[Path, Any], None]:
    def read(folder: Path, data: Any) -> None:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        refused(lambda: load(path))

    return read


PATHS: dict[str, Any] = {
    "inria": [{"id": 0, "img_name": "a", "width": 96, "height": 64, "position": [0, 0, 0], "fx": 80.0, "fy": 80.0,
               "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}],
    "nerfstudio": {"camera_path": [{"camera_to_world": np.eye(4).ravel().tolist(), "fov": 50, "aspect": 1.5}] * 2,
                   "render_height": 64, "render_width": 96, "fps": 12, "seconds": 1.0, "camera_type": "perspective"},
    "supersplat": {"camera": {"fov": 60, "position": [0, 0, -1], "target": [0, 0, 0]}, "animTracks": [
        {"name": "a", "duration": 1, "frameRate": 30, "target": "camera", "keyframes": {
            "times": [0, 30], "values": {"position": [0, 0, 0, 1, 1, 1], "target": [0, 0, 1, 0, 0, 1]}}}]},
}  # fmt: skip
"""Camera paths of other programs."""

SPLIT = {"name": "a", "scenes": {"s": {"context": [0, 2], "target": [1]}}}


def _split(path: Path) -> object:
    from da3gs.evaluation.splits import load_split

    return load_split(path)


def _chunk(path: Path) -> object:
    from da3gs.formats.torch_chunk import load_chunk

    return load_chunk(path)


@functools.cache
def _chunk_bytes() -> bytes:
    from tests.unit.test_photos_dl3dv import chunk_entry

    buffer = io.BytesIO()
    torch.save([chunk_entry("scene", 3)], buffer)
    return buffer.getvalue()


def _weights(path: Path) -> object:
    from da3gs.checkpoints import load_model

    return load_model(path)


@functools.cache
def _weights_bytes() -> bytes:
    return safetensors_bytes({"a.weight": np.zeros((4, 4), np.float32)}, {"format": "pt", "config": "{}"})


def parsers() -> list[Parser]:
    """All of them."""
    found = [
        Parser(f"picture-{suffix}", functools.partial(_damaged, make), functools.partial(_read_picture, suffix))
        for suffix, make in _pictures().items()
    ]
    for suffix in (*(s for s in WRITTEN_SUFFIXES if s.startswith(".")), ".ksplat"):
        make = functools.partial(_splats, suffix)
        found.append(
            Parser(f"splats-{suffix[1:]}", functools.partial(_damaged, make), functools.partial(_read_splats, suffix))
        )
    found.append(Parser("splats-ply-header", lambda: worded(_ply_text()), _read_ply_header))
    found += _json_parsers() + _binary_parsers() + _text_parsers()
    for name, value in PATHS.items():
        found.append(
            Parser(f"path-{name}", functools.partial(respelt, value), _read_file("cameras.json", load_camera_path))
        )
    found.append(Parser("split", lambda: respelt(SPLIT), _read_file("split.json", _split)))
    found.append(Parser("zip", lambda: damaged(_zip()), _read_file("a.zip", _photos)))
    found.append(Parser("video", lambda: damaged(_video()), _read_file("a.mp4", _photos)))
    found.append(Parser("torch-chunk", lambda: damaged(_chunk_bytes()), _read_file("a.torch", _chunk)))
    found.append(Parser("weights", lambda: damaged(_weights_bytes()), _read_file("a.safetensors", _weights)))
    return found


def _damaged(make: Callable[[], bytes]) -> st.SearchStrategy[bytes]:
    return damaged(make())
