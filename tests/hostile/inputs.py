"""Photos, folders, archives, videos and posed data sets that must be refused in one line.

Each case makes its input from nothing, so that the whole set needs no shared data and takes little room.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.case import Case

Build = Callable[[Path], list[str]]


def picture(seed: int = 0, height: int = 64, width: int = 96) -> np.ndarray:
    """Coloured noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture_bytes(kind: str = "JPEG", seed: int = 0, height: int = 64, width: int = 96) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, height, width)).save(buffer, kind)
    return buffer.getvalue()


def reconstruct(*inputs: str) -> list[str]:
    """The arguments after ``da3gs``."""
    return ["reconstruct", *inputs, "-o", "out.scene"]


def file_case(name: str, content: bytes) -> Build:
    """One file, named on the command line."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return reconstruct(name)

    return build


def second_photo(name: str, content: bytes) -> Build:
    """A good photo, and beside it one that is not; both named."""

    def build(folder: Path) -> list[str]:
        (folder / "good.jpg").write_bytes(picture_bytes())
        (folder / name).write_bytes(content)
        return reconstruct("good.jpg", name)

    return build


def folder_case(files: dict[str, bytes]) -> Build:
    """A folder with these files."""

    def build(folder: Path) -> list[str]:
        (folder / "photos").mkdir()
        for name, content in files.items():
            path = folder / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return reconstruct("photos")

    return build


def zip_case(entries: dict[str, bytes], *, mode: int | None = None) -> Build:
    """A zip with these entries and a good photo; ``mode`` is the Unix mode of the entries."""

    def build(folder: Path) -> list[str]:
        with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("good.jpg", picture_bytes())
            for name, content in entries.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (mode or (stat.S_IFREG | 0o644)) << 16
                archive.writestr(info, content)
        return reconstruct("photos.zip")

    return build


def cut_zip(folder: Path) -> list[str]:
    """A zip without its second half."""
    zip_case({"b.jpg": picture_bytes(seed=1)})(folder)
    whole = (folder / "photos.zip").read_bytes()
    (folder / "photos.zip").write_bytes(whole[: len(whole) // 2])
    return reconstruct("photos.zip")


def pose(angle: float = 0.0) -> list[list[float]]:
    """A rigid matrix."""
    c, s = math.cos(angle), math.sin(angle)
    return [[c, 0.0, s, angle], [0.0, 1.0, 0.0, 0.0], [-s, 0.0, c, 0.0], [0.0, 0.0, 0.0, 1.0]]


def transforms_case(change: Callable[[dict], object] | None = None, *, text: str | None = None) -> Build:
    """A posed folder with three photos whose transforms.json was changed in place, or replaced by a text."""

    def build(folder: Path) -> list[str]:
        (folder / "set" / "images").mkdir(parents=True)
        for i in range(3):
            (folder / "set" / "images" / f"{i}.jpg").write_bytes(picture_bytes(seed=i))
        content = {
            "fl_x": 80.0, "fl_y": 80.0, "cx": 48.0, "cy": 32.0, "w": 96, "h": 64,
            "frames": [{"file_path": f"images/{i}.jpg", "transform_matrix": pose(0.1 * i)} for i in range(3)],
        }  # fmt: skip
        if change is not None:
            change(content)
        (folder / "set" / "transforms.json").write_text(json.dumps(content) if text is None else text)
        return reconstruct("set")

    return build


def set_frame(key: str, value: object) -> Callable[[dict], object]:
    """Give the second frame another value."""
    return lambda content: content["frames"][1].__setitem__(key, value)


def set_common(key: str, value: object) -> Callable[[dict], object]:
    """Give the whole file another value."""
    return lambda content: content.__setitem__(key, value)


def linked_photo(folder: Path) -> list[str]:
    """A transforms.json whose photo is a link out of its folder."""
    transforms_case()(folder)
    (folder / "outside.jpg").write_bytes(picture_bytes())
    (folder / "set" / "images" / "1.jpg").unlink()
    os.symlink(folder / "outside.jpg", folder / "set" / "images" / "1.jpg")
    return reconstruct("set")


CAMERAS = struct.pack("<QiiQQ4d", 1, 1, 1, 96, 64, 80.0, 80.0, 48.0, 32.0)
POINTS = struct.pack("<Q", 0)


def colmap_images(name: str = "0.jpg", quaternion: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)) -> bytes:
    """The bytes of an images.bin with one image."""
    return struct.pack("<Qi7di", 1, 1, *quaternion, 0.0, 0.0, 0.0, 1) + name.encode() + b"\0" + struct.pack("<Q", 0)


def colmap_case(**files: bytes) -> Build:
    """A COLMAP model with one photo, some of its files replaced."""

    def build(folder: Path) -> list[str]:
        model = folder / "set" / "sparse" / "0"
        model.mkdir(parents=True)
        (folder / "set" / "images").mkdir()
        (folder / "set" / "images" / "0.jpg").write_bytes(picture_bytes())
        content = {"cameras": CAMERAS, "images": colmap_images(), "points3D": POINTS, **files}
        for name, data in content.items():
            (model / f"{name}.bin").write_bytes(data)
        return reconstruct("set")

    return build


def pipe(folder: Path) -> list[str]:
    """A named pipe that nobody writes to: opening it would wait for ever."""
    os.mkfifo(folder / "pipe.jpg")
    return reconstruct("pipe.jpg")


def device_link(folder: Path) -> list[str]:
    """An endless device under the name of a photo."""
    os.symlink("/dev/zero", folder / "endless.jpg")
    return reconstruct("endless.jpg")


def folder_named_like_a_photo(folder: Path) -> list[str]:
    """A folder among photos."""
    (folder / "good.jpg").write_bytes(picture_bytes())
    (folder / "album.jpg").mkdir()
    return reconstruct("good.jpg", "album.jpg")


def line_break_in_a_name(folder: Path) -> list[str]:
    """A file name that would make two lines of the message."""
    name = "first\nda3gs: error: second.jpg"
    (folder / name).write_bytes(b"no picture")
    return reconstruct(name)


def two_scenes(folder: Path) -> list[str]:
    """A folder with two posed sets side by side."""
    for name in ("a", "b"):
        (folder / "root" / name).mkdir(parents=True)
        transforms_case()(folder / "root" / name)
    return reconstruct("root")


def fisheye_model(folder: Path) -> list[str]:
    """A COLMAP model with a fisheye lens of a kind that is not read."""
    camera = struct.pack("<QiiQQ16d", 1, 1, 11, 96, 64, 80.0, 80.0, 48.0, 32.0, 0.1, *[0.0] * 11)
    return colmap_case(cameras=camera)(folder)


def bomb_header() -> bytes:
    """A PNG that announces 60000 x 60000 pixels."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def without_photos(content: dict) -> None:
    """All frames name a photo that is not there."""
    for frame in content["frames"]:
        frame["file_path"] = "no.jpg"


LARGE = picture_bytes(height=400, width=600)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
NETWORK = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd) run showpage\n%%EOF\n"
SCALED = (2 * np.array(pose())).tolist()
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0]).tolist()
NOT_FINITE = [[math.nan] * 4] * 4

CASES: list[Case] = [
    Case("input-missing", lambda folder: reconstruct("nowhere.jpg"), r"nowhere\.jpg does not exist"),
    Case("photo-empty", file_case("a.jpg", b""), r"a\.jpg is empty"),
    Case("photo-text", second_photo("b.jpg", b"this is no picture"), r"b\.jpg is not a picture"),
    Case("photo-truncated", second_photo("b.jpg", LARGE[:30000]), r"b\.jpg is cut short"),
    Case("photo-header-only", file_case("a.png", picture_bytes("PNG")[:40]), r"a\.png"),
    Case("photo-postscript", file_case("a.jpg", POSTSCRIPT), r"a\.jpg is not a picture"),
    Case("photo-raw", file_case("a.nef", b"II*\0" + bytes(100)), r"a\.nef is a camera's raw file"),
    Case("photo-too-small", file_case("a.png", picture_bytes("PNG", 0, 20, 90)), r"90x20 pixels; both sides"),
    Case("photo-too-long", file_case("a.png", picture_bytes("PNG", 0, 40, 900)), r"900x40 pixels; the long side"),
    Case("photo-bomb", file_case("a.png", bomb_header()), r"60000x60000 pixels; at most 250 megapixels"),
    Case("photo-pipe", pipe, r"pipe\.jpg is neither a file nor a folder"),
    Case("photo-device", device_link, r"endless\.jpg is neither a file nor a folder"),
    Case("photo-name-with-line-break", line_break_in_a_name, r"first\?da3gs: error: second\.jpg is not a picture"),
    Case("photos-with-folder", folder_named_like_a_photo, r"album\.jpg is a folder among 2 inputs"),
    Case("folder-empty", folder_case({}), r"the folder photos holds no photos"),
    Case("folder-text-only", folder_case({"notes.txt": b"x"}), r"the folder photos holds no photos"),
    Case("folder-all-broken", folder_case({"a.jpg": b"x", "b.png": b""}), r"no photo that can be used: a\.jpg"),
    Case("folder-two-scenes", two_scenes, r"holds 2 scenes"),
    Case("zip-climbs-out", zip_case({"../../evil.jpg": picture_bytes()}), r"evil\.jpg' leads out of the archive"),
    Case("zip-absolute", zip_case({"/tmp/da3gs-evil.jpg": picture_bytes()}), r"leads out of the archive"),
    Case("zip-link", zip_case({"link.jpg": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), r"is a link or a device"),
    Case("zip-bomb", zip_case({"bomb.bmp": bytes(40 << 20)}), r"bomb\.bmp' is packed suspiciously tight"),
    Case("zip-many-files", zip_case({f"{i}.txt": b"" for i in range(2001)}), r"at most 2000 are unpacked"),
    Case("zip-cut-short", cut_zip, r"photos\.zip is not a zip that can be read"),
    Case("zip-of-nothing", file_case("a.zip", b"PK\5\6" + bytes(18)), r"a\.zip: it holds no photos"),
    Case("video-playlist", file_case("a.mp4", PLAYLIST), r"a\.mp4 is not a video that da3gs reads"),
    Case("video-network", file_case("a.mp4", NETWORK), r"a\.mp4 is not a video that da3gs reads"),
    Case("video-script", file_case("a.mkv", b"ffconcat version 1.0\nfile '/etc/passwd'\n"), r"a\.mkv is not a video"),
    Case("video-header-only", file_case("a.mp4", b"\0\0\0\x20ftypisom" + bytes(20)), r"a\.mp4 (is damaged|has no)"),
    Case("video-noise", file_case("a.webm", b"\x1aE\xdf\xa3" + picture(3).tobytes()), r"a\.webm (is damaged|has no)"),
    Case("json-broken", transforms_case(text='{"frames": ['), r"transforms\.json is not valid JSON"),
    Case("json-too-deep", transforms_case(text="[" * 200_000), r"transforms\.json is not usable JSON"),
    Case("json-long-number", transforms_case(text='{"frames": ' + "1" * 6000 + "}"), r"is not valid JSON"),
    Case("json-not-transforms", file_case("a.json", b'{"hello": 1}'), r"a\.json has no 'frames'"),
    Case("json-no-frames", transforms_case(set_common("frames", [])), r"'frames' must be a list"),
    Case("json-no-matrix", transforms_case(lambda c: c["frames"][1].pop("transform_matrix")), r"has no 'transform_m"),
    Case("json-wrong-type", transforms_case(set_frame("transform_matrix", "identity")), r"frame 1: .* is 'identity'"),
    Case("pose-not-finite", transforms_case(set_frame("transform_matrix", NOT_FINITE)), r"frame 1: .*finite"),
    Case("pose-scaled", transforms_case(set_frame("transform_matrix", SCALED)), r"frame 1: .*holds no rotation"),
    Case("pose-mirrored", transforms_case(set_frame("transform_matrix", MIRROR)), r"frame 1: .*mirrors"),
    Case("intrinsics-negative", transforms_case(set_common("fl_x", -80)), r"fl_x=-80"),
    Case("intrinsics-missing", transforms_case(lambda c: (c.pop("fl_x"), c.pop("fl_y"))), r"has no focal length"),
    Case("intrinsics-other-shape", transforms_case(set_common("w", 64)), r"96x64 pixels but its camera is for 64x64"),
    Case("lens-unknown", transforms_case(set_common("camera_model", "FISHEYE624")), r"FISHEYE624' is not"),
    Case("lens-no-panorama", transforms_case(set_common("camera_model", "EQUIRECTANGULAR")), r"twice as wide"),
    Case("lens-folds", transforms_case(set_common("k1", -90.0)), r"distortion .* cannot be undone"),
    Case("path-climbs-out", transforms_case(set_frame("file_path", "../outside.jpg")), r"outside\.jpg' leads out"),
    Case("path-absolute", transforms_case(set_frame("file_path", "/etc/hostname")), r"hostname' leads out of set"),
    Case("path-link", linked_photo, r"leads out of set"),
    Case("photos-all-missing", transforms_case(without_photos), r"no\.jpg is missing"),
    Case("colmap-cut-cameras", colmap_case(cameras=CAMERAS[:40]), r"cameras\.bin is cut short"),
    Case("colmap-cut-images", colmap_case(images=colmap_images()[:50]), r"images\.bin is cut short"),
    Case("colmap-cut-points", colmap_case(points3D=struct.pack("<Q", 9)), r"points3D\.bin is cut short"),
    Case("colmap-wild-count", colmap_case(images=struct.pack("<Q", 2**62)), r"images\.bin is cut short"),
    Case("colmap-quaternion", colmap_case(images=colmap_images(quaternion=(0.0,) * 4)), r"quaternion of length 0"),
    Case("colmap-leads-out", colmap_case(images=colmap_images("../../../a.jpg")), r"a\.jpg' leads out"),
    Case("colmap-fisheye", fisheye_model, r"RAD_TAN_THIN_PRISM_FISHEYE is not supported yet"),
    Case("colmap-no-images", colmap_case(images=struct.pack("<Q", 0)), r"no registered images"),
]  # fmt: skip
