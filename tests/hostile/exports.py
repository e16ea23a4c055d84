"""Pages, glTF files and budgets: exports that cannot be, and files of these kinds that are not what they should be."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from da3gs.formats import load_gaussians
from da3gs.formats.splats.html import save_html
from da3gs.formats.splats.ply import save_ply
from tests.hostile.case import Case
from tests.small_scene import small_gaussians, small_scene_folder

MARKER = b'id="splats">\n'


def scene_and(text: str, spoil: Callable[[Path], object] | None = None) -> Callable[[Path], list[str]]:
    """Arguments that name ``s.scene``, spoilt or not."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        if spoil is not None:
            spoil(folder)
        return text.split()

    return build


def page_and(text: str, spoil: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    """Arguments that name ``p.html``, a page of ours with something else in it."""

    def build(folder: Path) -> list[str]:
        path = folder / "p.html"
        save_html(small_gaussians(), path)
        path.write_bytes(spoil(path.read_bytes()))
        return text.split()

    return build


def with_splats(data: bytes) -> Callable[[bytes], bytes]:
    """The page with other splats in it."""

    def spoil(page: bytes) -> bytes:
        start = page.index(MARKER) + len(MARKER)
        return page[:start] + base64.b64encode(data) + page[page.index(b"\n", start) :]

    return spoil


def bomb() -> bytes:
    """A .sog whose description is 64 MB of spaces."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", b" " * (64 << 20))
    return packed.getvalue()


def many() -> bytes:
    """A .sog that announces more splats than any picture holds."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("meta.json", json.dumps({"version": 2, "count": 2**32 - 1}))
    return packed.getvalue()


def file_and(text: str, name: str, content: bytes) -> Callable[[Path], list[str]]:
    """Arguments beside a file of this content."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return text.split()

    return build


def all_splats_nan(folder: Path) -> None:
    """No splat lies anywhere; a few that do not are left out, and told."""
    path = folder / "s.scene" / "scene.ply"
    save_ply(load_gaussians(path).scaled(math.nan), path, overwrite=True)


def no_splats(folder: Path) -> None:
    """A file without a single splat."""
    nothing = load_gaussians(folder / "s.scene" / "scene.ply").map(lambda t: t[:0])
    save_ply(nothing, folder / "none.ply")


def photo(spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something done to one of the scene's photos."""
    return lambda folder: spoil(folder / "s.scene" / "images" / "photo 1.png")


FOREIGN = b"<!doctype html><html><script>alert(1)</script><p>not ours</p></html>"
POINTS = b"glTF" + struct.pack("<II", 2, 64) + bytes(52)
TO_PLY = "export p.html -o x.ply"

CASES = [
    Case("page-foreign", file_and("export f.html -o x.ply", "f.html", FOREIGN), "f.html is not a splat file"),
    Case("page-foreign-view", file_and("view f.html --port 0", "f.html", FOREIGN), "f.html is not a splat file"),
    Case("page-foreign-render", file_and("render f.html -o x.png", "f.html", FOREIGN), "f.html is not a splat file"),
    Case("page-empty", file_and("export f.html -o x.ply", "f.html", b""), "f.html is not a splat file"),
    Case("page-cut", page_and(TO_PLY, lambda page: page[: page.index(MARKER) + 500]), "p.html is damaged or cut short"),
    Case("page-no-base64", page_and(TO_PLY, lambda page: page.replace(MARKER, MARKER + b"A")), "p.html is damaged"),
    Case("page-bomb", page_and(TO_PLY, with_splats(bomb())), "p.html is damaged: meta.json has more than"),
    Case("page-count", page_and(TO_PLY, with_splats(many())), "announces 4294967295 splats"),
    Case("page-no-splats", page_and(TO_PLY, with_splats(b"<script>alert(1)</script>")), "p.html is damaged"),
    Case("page-nan", scene_and("export s.scene -o x.html", all_splats_nan), "no splat whose numbers are all finite"),
    Case(
        "page-over-a-page-of-others",
        scene_and("export s.scene -o x.html --overwrite", lambda f: (f / "x.html").write_bytes(b"mine")),
        "not a .html file.*leaves it alone",
    ),
    Case("page-exists", scene_and("export s.scene -o x.html", lambda f: (f / "x.html").touch()), "exists already"),
    Case("page-in-no-folder", scene_and("export s.scene -o no/x.html"), "does not exist"),
    Case("points-as-splats", file_and("export p.glb -o x.ply", "p.glb", POINTS), "p.glb is cut short"),
    Case("points-viewed", file_and("view p.glb --port 0", "p.glb", POINTS), "p.glb"),
    Case("points-rendered", file_and("render p.glb -o x.png", "p.glb", POINTS), "p.glb is cut short"),
    Case("points-none", scene_and("export none.ply -o x.glb", no_splats), "no splats"),
    Case("points-nan", scene_and("export s.scene -o x.glb", all_splats_nan), "no splat whose numbers are all finite"),
    Case("points-cut", file_and("check p.glb", "p.glb", POINTS[:11]), "p.glb"),
    Case("points-over-mine",
         scene_and("export s.scene -o x.glb --overwrite", lambda f: (f / "x.glb").write_bytes(b"mine")),
         "not a .glb file"),
    Case("bytes-nan", scene_and("export s.scene -o x.splat", all_splats_nan), "no splat whose numbers are all finite"),
    Case("chunks-nan", scene_and("export s.scene -o x.compressed.ply", all_splats_nan), "no splat whose.*finite"),
    Case("budget-zero", scene_and("export s.scene -o x.ply --budget 0"), "--budget.*0"),
    Case("budget-word", scene_and("export s.scene -o x.ply --budget few"), "--budget"),
    Case("size-nan", scene_and("export s.scene -o x.ply --max-mb nan"), "--max-mb.*nan"),
    Case("size-negative", scene_and("export s.scene -o x.ply --max-mb -1"), "--max-mb"),
    Case("size-and-budget", scene_and("export s.scene -o x.ply --max-mb 1 --budget 5"), "exclude each other"),
    Case("size-below-the-player", scene_and("export s.scene -o x.html --max-mb 0.01"), "--max-mb 0.01 is too small"),
    Case("budget-of-a-bare-file", scene_and("export s.scene/scene.ply -o x.ply --budget 9"), "--budget.*bare file"),
    Case("size-of-a-bare-file", scene_and("export s.scene/scene.ply -o x.spz --max-mb 0.01"), "--max-mb.*bare file"),
    Case("budget-of-cameras", scene_and("export s.scene -o cameras --budget 9"), "files of splats"),
    Case("budget-no-photo", scene_and("export s.scene -o x.ply --budget 9", photo(Path.unlink)),
         r"photo 1\.png does not exist"),
    Case("budget-broken-photo",
         scene_and("export s.scene -o x.ply --budget 9", photo(lambda path: path.write_bytes(b"no picture"))),
         r"photo 1\.png .*cannot be read"),
    Case("nothing-left", scene_and("export s.scene -o x.html --crop=8,8,8,9,9,9"), "none of 300 splats is left"),
]  # fmt: skip
