"""Splat files of every format that are cut, too large, of other versions, or lead elsewhere."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from da3gs.formats import save_gaussians
from da3gs.formats.splats.ply import load_ply, save_ply
from tests.hostile.case import Case
from tests.small_scene import small_gaussians, small_scene_folder

TO_PLY = "export {} -o x.ply"


def spoilt(name: str, spoil: Callable[[bytes], bytes], command: str = TO_PLY) -> Callable[[Path], list[str]]:
    """A file of ours whose content was changed."""

    def build(folder: Path) -> list[str]:
        path = folder / name
        save_gaussians(small_gaussians(), path)
        path.write_bytes(spoil(path.read_bytes()))
        return command.format(name).split()

    return build


def made(name: str, content: Callable[[], bytes], command: str = TO_PLY) -> Callable[[Path], list[str]]:
    """A file of this content."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content())
        return command.format(name).split()

    return build


def exported(command: str, spoil: Callable[[Path], object] | None = None) -> Callable[[Path], list[str]]:
    """Arguments beside ``s.scene``."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        if spoil is not None:
            spoil(folder)
        return command.split()

    return build


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def gltf(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The .glb with another JSON."""

    def spoil(data: bytes) -> bytes:
        (length,) = struct.unpack_from("<I", data, 12)
        document = json.loads(data[20 : 20 + length])
        change(document)
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        rest = data[20 + length :]
        return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest

    return spoil


def sog(change: Callable[[dict[str, bytes]], object]) -> Callable[[bytes], bytes]:
    """The .sog with other files in it."""

    def spoil(data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        change(files)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return packed.getvalue()

    return spoil


def sog_meta(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The .sog with another description."""

    def respell(files: dict[str, bytes]) -> None:
        meta = json.loads(files["meta.json"])
        change(meta)
        files["meta.json"] = json.dumps(meta).encode()

    return sog(respell)


def spz4(count: int = 1, *, version: int = 4, streams: int = 5, plain: int | None = None) -> bytes:
    """An .spz of version 4 whose first stream unpacks to 64 MB."""
    packed = [zstandard.ZstdCompressor().compress(bytes(size)) for size in (64 << 20, 1, 3, 3, 4)]
    sizes = [plain or 9, 1, 3, 3, 4]
    header = struct.pack("<IIIBBBBI12x", 0x5053474E, version, count, 0, 12, 0, streams, 32)
    return (
        header + b"".join(struct.pack("<QQ", len(p), n) for p, n in zip(packed, sizes, strict=True)) + b"".join(packed)
    )


def ksplat(sections: int) -> bytes:
    """A header that announces sections which are not there."""
    return struct.pack("<BBxxIIIIH", 0, 1, sections, sections, 9, 9, 0).ljust(4096, b"\0")


def beside(folder: Path) -> None:
    """A streamed SOG that names a file of its neighbour."""
    save_gaussians(small_gaussians(), folder / "web" / "lod-meta.json")
    save_gaussians(small_gaussians(), folder / "other" / "meta.json")
    path = folder / "web" / "lod-meta.json"
    path.write_bytes(path.read_bytes().replace(b"0_0/meta.json", b"../other/meta.json"))


def photos_among(folder: Path) -> None:
    """A folder of ours in which somebody keeps a picture."""
    save_gaussians(small_gaussians(), folder / "web" / "lod-meta.json")
    (folder / "web" / "me.webp").write_bytes(b"mine")


def _photo_alone(files: dict[str, bytes]) -> None:
    files.clear()
    files["a.jpg"] = b"mine"


def nan(folder: Path) -> None:
    """No splat lies anywhere."""
    path = folder / "s.scene" / "scene.ply"
    save_ply(load_ply(path).scaled(math.nan), path, overwrite=True)


CASES = [
    Case("glb-cut", spoilt("p.glb", half), r"p\.glb is cut short"),
    Case("glb-cut-check", spoilt("p.glb", half, "check {}"), r"p\.glb .*cut short"),
    Case("glb-points", spoilt("p.glb", gltf(lambda d: d["meshes"][0]["primitives"][0].pop("extensions"))),
         "no Gaussian splats"),
    Case("glb-count", spoilt("p.glb", gltf(lambda d: d["accessors"][0].update(count=2**50))), "cut short"),
    Case("glb-elsewhere", spoilt("p.glb", gltf(lambda d: d["buffers"][0].update(uri="/etc/passwd"))), "in other files"),
    Case("glb-needs", spoilt("p.glb", gltf(lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]))),
         "needs the extension KHR_draco"),
    Case("glb-version", spoilt("p.glb", lambda data: data[:4] + b"\7" + data[5:]), "glTF version 7"),
    Case("glb-ring", spoilt("p.glb", gltf(lambda d: d["nodes"][0].update(children=[0]))), "no tree"),
    Case("glb-mirrored-view", spoilt("p.glb", gltf(lambda d: d["nodes"][0].update(scale=[1, 1, -1])),
                                     "view {} --port 0"), "stretches or mirrors"),
    Case("sog-cut", spoilt("p.sog", half), r"p\.sog is damaged or cut short"),
    Case("sog-cut-render", spoilt("p.sog", half, "render {} -o x.png"), "damaged or cut short"),
    Case("sog-cut-check", spoilt("p.sog", half, "check {}"), r"p\.sog is broken or cut short"),
    Case("sog-bomb", spoilt("p.sog", sog(lambda f: f.update({"sh0.webp": bytes(1 << 28)}))), "sh0.webp has more than"),
    Case("sog-bomb-meta", spoilt("p.sog", sog(lambda f: f.update({"meta.json": b" " * (1 << 27)}))), "has more than"),
    Case("sog-lacks", spoilt("p.sog", sog(lambda f: f.pop("quats.webp"))), "lacks quats.webp"),
    Case("sog-size", spoilt("p.sog", sog_meta(lambda m: m.update(count=100_000))), "pixels, not 100000"),
    Case("sog-count", spoilt("p.sog", sog_meta(lambda m: m.update(count=2**40))), "announces 1099511627776"),
    Case("sog-version", spoilt("p.sog", sog_meta(lambda m: m.update(version=9))), "SOG version 9"),
    Case("sog-nan", spoilt("p.sog", sog_meta(lambda m: m["means"].update(mins=[0, 0, float("nan")]))), "not finite"),
    Case("sog-palette", spoilt("p.sog", sog_meta(lambda m: m["shN"].update(count=2))), "of a palette of 2"),
    Case("sog-empty", made("p.sog", lambda: b""), "not a splat file"),
    Case("sog-photos", made("p.sog", lambda: sog(_photo_alone)(_zip())), "lacks meta.json"),
    Case("sog-nan-written", exported("export s.scene -o x.sog", nan), "no splat whose numbers are all finite"),
    Case("sog-too-small", exported("export s.scene -o x.sog --max-mb 0.01 --sh-degree 0 --budget 7"), "exclude each"),
    Case("streamed-beside", exported("export web -o x.ply", beside), "lies in no folder beside it"),
    Case("streamed-over-pictures", exported("export s.scene -o web/lod-meta.json --overwrite", photos_among),
         "leaves it alone"),
    Case("streamed-exists", exported("export s.scene -o s.scene/lod-meta.json"), "s.scene exists already"),
    Case("streamed-into-it", exported("export s.scene -o s.scene/lod-meta.json --overwrite"), "inside the input"),
    Case("spz4-bomb", made("p.spz", spz4), "more bytes than its 1 splats"),
    Case("spz4-count", made("p.spz", lambda: spz4(2**32 - 1)), "4294967295 splats do not fit"),
    Case("spz4-stream", made("p.spz", lambda: spz4(plain=2**62)), "a stream of 4611686018427387904 bytes"),
    Case("spz4-streams", made("p.spz", lambda: spz4(streams=200)), "200 streams"),
    Case("spz5", made("p.spz", lambda: spz4(version=5)), "version 5; da3gs reads 1 to 4"),
    Case("spz4-cut", spoilt("p.spz", half), r"p\.spz"),
    Case("spz-version", exported("export s.scene -o x.spz --spz-version 2"), "--spz-version"),
    Case("frame-unknown", exported("export s.scene -o x.glb --input-frame unity"), "--input-frame"),
    Case("usd-read", spoilt("p.usda", lambda data: data), "only writes"),
    Case("usd-cut", spoilt("p.usda", half, "check {}"), "broken or cut short"),
    Case("usdz-cut", spoilt("p.usdz", half, "check {}"), "broken or cut short"),
    Case("usd-mesh", made("p.usda", lambda: b'#usda 1.0\ndef Mesh "a" {}\n', "check {}"), "ParticleField3DGauss"),
    Case("ksplat-sections", made("p.ksplat", lambda: ksplat(2**31)), "2147483648 sections"),
    Case("ksplat-cut", made("p.ksplat", lambda: ksplat(1)[:100]), "cut short"),
    Case("ksplat-version", made("p.ksplat", lambda: b"\3" + ksplat(0)[1:]), "version 3.1"),
    Case("ksplat-written", exported("export s.scene -o x.ksplat"), "no suffix that can be written"),
]  # fmt: skip


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", b"a photo")
    return packed.getvalue()
