"""Broken and hostile scenes and splat files, and outputs that must not be touched."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.case import Case
from tests.small_scene import small_scene_folder

Damage = Callable[[Path], object]


def scene_case(name: str, command: list[str], damage: Damage, expect: str) -> Case:
    """A command on a scene folder ``s`` that was damaged."""

    def build(folder: Path) -> list[str]:
        damage(small_scene_folder(folder / "s"))
        return command

    return Case(name, build, expect)


def file_case(name: str, command: list[str], content: Callable[[bytes], bytes], expect: str) -> Case:
    """A command on a splat file ``s.ply`` made from a sound one."""

    def build(folder: Path) -> list[str]:
        sound = small_scene_folder(folder / ".sound")
        (folder / "s.ply").write_bytes(content((sound / "scene.ply").read_bytes()))
        return command

    return Case(name, build, expect)


def output_case(name: str, command: list[str], prepare: Damage, expect: str) -> Case:
    """A command whose output may not be written, with a scene ``s`` and photos ``photos/a.png`` beside."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s")
        (folder / "photos").mkdir()
        Image.linear_gradient("L").convert("RGB").save(folder / "photos" / "a.png")
        prepare(folder)
        return command

    return Case(name, build, expect)


def nothing(folder: Path) -> None:
    """The scene is sound."""


def remove(name: str) -> Damage:
    """Delete a file."""
    return lambda scene: (scene / name).unlink()


def cut(name: str) -> Damage:
    """Keep the first two thirds of a file."""

    def damage(scene: Path) -> None:
        data = (scene / name).read_bytes()
        (scene / name).write_bytes(data[: len(data) * 2 // 3])

    return damage


def text(name: str, content: str) -> Damage:
    """Write something else."""
    return lambda scene: (scene / name).write_text(content)


def edited(name: str, **values: object) -> Damage:
    """Change keys of a JSON file; of the second frame where it is transforms.json."""

    def damage(scene: Path) -> None:
        record = json.loads((scene / name).read_text())
        target = record["frames"][1] if name == "transforms.json" else record
        target.update(values)
        (scene / name).write_text(json.dumps(record))

    return damage


def arrays(name: str, **values: np.ndarray) -> Damage:
    """Change arrays of an .npz."""

    def damage(scene: Path) -> None:
        changed = dict(np.load(scene / name)) | values
        np.savez(scene / name, **changed)

    return damage


def bomb(name: str) -> Damage:
    """Every array announces a terabyte and is a few kilobytes of compressed zeros."""

    def damage(scene: Path) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)}
        with zipfile.ZipFile(scene / name) as archive:
            members = archive.namelist()
        with zipfile.ZipFile(scene / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in members:
                with archive.open(member, "w") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(bytes(1 << 22))

    return damage


def pipe(name: str) -> Damage:
    """A pipe that nobody writes to in place of a file."""

    def damage(scene: Path) -> None:
        (scene / name).unlink()
        os.mkfifo(scene / name)

    return damage


def link_out(scene: Path) -> None:
    """A photo that is a link to a file outside."""
    photo = scene / "images" / "photo 1.png"
    photo.rename(scene.parent / "outside.png")
    photo.symlink_to("../../outside.png")


def held_inside(folder: Path) -> None:
    """The photos lie within the scene that is to be replaced."""
    (folder / "photos").rename(folder / "s" / "photos")


def folder_with_notes(folder: Path) -> None:
    """A folder of somebody else's."""
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")


CHECK, RENDER = ["check", "s"], ["render", "s", "-o", "out.png", "--camera", "0"]
CHECK_FILE, RENDER_FILE = ["check", "s.ply"], ["render", "s.ply", "-o", "out.png"]
SCALED = [[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]

CHECKS = [
    Case("check-nothing-there", lambda folder: ["check", "no.scene"], "no.scene does not exist"),
    Case("check-empty-folder", lambda folder: ["check", "."], "not a scene folder"),
    scene_case("check-record-missing", CHECK, remove("scene.json"), "no scene.json"),
    scene_case("check-record-cut", CHECK, cut("scene.json"), "scene.json of s is broken"),
    scene_case("check-splats-missing", CHECK, remove("scene.ply"), "scene.ply does not exist"),
    scene_case("check-splats-cut", CHECK, cut("scene.ply"), "scene.ply is broken or cut short"),
    scene_case("check-splats-pipe", CHECK, pipe("scene.ply"), "not a regular file"),
    scene_case("check-reference-missing", CHECK, remove("reference.npz"), "no reference.npz"),
    scene_case("check-reference-cut", CHECK, cut("reference.npz"), "reference.npz is damaged or cut short"),
    scene_case("check-reference-pipe", CHECK, pipe("reference.npz"), "reference.npz is not a regular file"),
    scene_case("check-reference-bomb", CHECK, bomb("reference.npz"), "reference.npz: 'color' should be"),
    scene_case(
        "check-reference-nan", CHECK, arrays("reference.npz", intrinsics=np.full((4, 3, 3), np.nan)), "not finite"
    ),
    scene_case("check-reference-pickle", CHECK, arrays("reference.npz", color=np.array([{}])), "it is object"),
    scene_case("check-against-nothing", [*CHECK, "--against", "no"], nothing, "no is not a scene folder"),
    scene_case("check-bound-nan", [*CHECK, "--min-psnr", "nan"], nothing, "--min-psnr"),
    scene_case("check-bound-word", [*CHECK, "--min-psnr", "high"], nothing, "--min-psnr"),
    file_case("check-empty-file", CHECK_FILE, lambda data: b"", "not a splat file"),
    file_case("check-picture", CHECK_FILE, lambda data: b"\x89PNG\r\n\x1a\n", "not a splat file"),
    file_case(
        "check-huge-count",
        CHECK_FILE,
        lambda data: data.replace(b"vertex 300", b"vertex 999999999999"),
        "broken or cut short",
    ),
    file_case("check-no-scales", CHECK_FILE, lambda data: data.replace(b"scale_", b"scalp_"), "lacks scale_0"),
]

RENDERS = [
    Case("render-nothing-there", lambda folder: ["render", "no", "-o", "out.png"], "no does not exist"),
    scene_case("render-record-foreign", RENDER, text("scene.json", '{"format": "other"}'), "not of da3gs"),
    scene_case("render-record-newer", RENDER, edited("scene.json", format_version=2**40), "newer"),
    scene_case("render-record-deep", RENDER, text("scene.json", "[" * 200_000), "nested too deeply"),
    scene_case("render-splats-cut", RENDER, cut("scene.ply"), "scene.ply is cut short"),
    scene_case("render-cameras-missing", RENDER, remove("transforms.json"), "transforms.json of the scene does not"),
    scene_case("render-cameras-cut", RENDER, cut("transforms.json"), "transforms.json is not valid JSON"),
    scene_case("render-camera-nan", RENDER, edited("transforms.json", w=float("nan")), "a finite number is needed"),
    scene_case("render-camera-scaled", RENDER, edited("transforms.json", transform_matrix=SCALED), "no rotation"),
    scene_case("render-photo-climbs", RENDER, edited("transforms.json", file_path="../../x.png"), "outside the scene"),
    scene_case("render-photo-absolute", RENDER, edited("transforms.json", file_path="/dev/zero"), "outside the scene"),
    scene_case("render-photo-linked-out", RENDER, link_out, "outside the scene"),
    scene_case("render-photo-cut", RENDER, cut("images/photo 1.png"), "photo 1.png of the scene cannot be read"),
    scene_case("render-photo-text", RENDER, text("images/photo 1.png", "hello"), "photo 1.png of the scene cannot"),
    scene_case("render-depth-cut", RENDER, cut("depth.npz"), "depth.npz is damaged or cut short"),
    scene_case("render-provenance-bomb", RENDER, bomb("splats.npz"), "splats.npz: 'view' should be int16 300"),
    file_case("render-file-cut", RENDER_FILE, lambda data: data[:-100], "s.ply is cut short"),
    file_case("render-file-text", RENDER_FILE, lambda data: b"hello", "s.ply is not a splat file"),
    file_case("render-file-no-header-end", RENDER_FILE, lambda data: data[:200], "no end_header"),
    file_case(
        "render-file-count-overflow",
        RENDER_FILE,
        lambda data: data.replace(b"vertex 300", b"vertex 9" + b"9" * 400),
        "makes no sense",
    ),
    file_case(
        "render-file-mesh",
        RENDER_FILE,
        lambda data: b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
        "lack y, z.*it is a point cloud",
    ),
]

TO = ["render", "s", "--camera", "0", "-o"]
PHOTOS = ["reconstruct", "photos/a.png", "-o"]
OUTPUTS = [
    output_case("output-suffix", [*TO, "out.avi"], nothing, "out.avi"),
    output_case("output-folder-missing", [*TO, "no/out.png"], nothing, "does not exist"),
    output_case("output-exists", [*TO, "out.png"], text("out.png", "mine"), "exists already"),
    output_case(
        "output-of-another-kind",
        [*TO, "out.png", "--overwrite"],
        text("out.png", "mine"),
        "--overwrite leaves it alone",
    ),
    output_case(
        "output-folder-for-file", [*TO, "out.png", "--overwrite"], lambda f: (f / "out.png").mkdir(), "leaves it alone"
    ),
    output_case("output-is-the-input", ["render", "s", "-o", "s/", "--overwrite"], nothing, "inside the input"),
    output_case("output-inside-the-input", [*TO, "s/images/photo 0.png", "--overwrite"], nothing, "inside the input"),
    output_case("scene-exists", [*PHOTOS, "s"], nothing, "exists already"),
    output_case("scene-over-foreign-folder", [*PHOTOS, "mine", "--overwrite"], folder_with_notes, "not a scene folder"),
    output_case("scene-over-file", [*PHOTOS, "f", "--overwrite"], text("f", "mine"), "not a scene folder"),
    output_case(
        "scene-over-photos", [*PHOTOS, "photos", "--overwrite"], nothing, "inside the input|not a scene folder"
    ),
    output_case(
        "scene-holds-the-photos",
        ["reconstruct", "s/photos", "-o", "s", "--overwrite"],
        held_inside,
        "is, holds or lies inside the input",
    ),
    output_case("scene-parent-missing", [*PHOTOS, "no/where"], nothing, "does not exist"),
    output_case(
        "scene-link", [*PHOTOS, "link", "--overwrite"], lambda f: (f / "link").symlink_to("s"), "symbolic link"
    ),
]

EXPORT = ["export", "s.bin", "-o", "out.ply"]


def bytes_case(name: str, content: bytes, expect: str) -> Case:
    """Export of a file with this content."""

    def build(folder: Path) -> list[str]:
        (folder / "s.bin").write_bytes(content)
        return EXPORT

    return Case(name, build, expect)


def spz(version: int = 3, count: int = 1, data: int = 20) -> bytes:
    """An .spz file of zeros."""
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, version, count, 0, 12, 0, 0) + bytes(data))


EXPORTS = [
    Case("export-nothing-there", lambda folder: ["export", "no", "-o", "out.ply"], "no does not exist"),
    scene_case("export-record-cut", ["export", "s", "-o", "out.ply"], cut("scene.json"), "not valid JSON"),
    bytes_case("export-spz-bomb", spz(data=1 << 24), "more bytes than its 1 splats"),
    bytes_case("export-spz-count", spz(count=2**32 - 1), "4294967295 splats do not fit"),
    bytes_case("export-spz-version", spz(version=4), "version 4"),
    bytes_case("export-spz-cut", spz()[:-9], "damaged or cut short"),
    bytes_case("export-unknown", b"gLTF" + bytes(60), "not a splat file"),
    output_case("export-exists", ["export", "s", "-o", "out.ply"], text("out.ply", "mine"), "exists already"),
    output_case(
        "export-of-another-kind",
        ["export", "s", "-o", "out.ply", "--overwrite"],
        text("out.ply", "mine"),
        "--overwrite leaves it alone",
    ),
    output_case("export-over-itself", ["export", "s", "-o", "s/scene.ply", "--overwrite"], nothing, "inside the input"),
    output_case("export-over-photos", ["export", "s", "-o", "photos/", "--overwrite"], nothing, "not a scene folder"),
]

CASES = [*CHECKS, *RENDERS, *OUTPUTS, *EXPORTS]
