"""Addresses, inputs and limits that cannot be, of the viewer; and the cleaning flags that exports share with it."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.arguments import words
from tests.hostile.case import Case
from tests.small_scene import small_scene_folder


def with_scene(text: str, *, rows: bool = True) -> object:
    """Arguments that name ``s.scene``, with or without its splats.npz."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        if not rows:
            (folder / "s.scene" / "splats.npz").unlink()
        return text.split()

    return build


def strange_page(folder: Path) -> list[str]:
    """A photo named like markup that is no photo."""
    (folder / "<img src=x onerror=alert(1)>.jpg").write_bytes(b"no picture")
    return ["view", "<img src=x onerror=alert(1)>.jpg", "--port", "0"]


def broken_splats(folder: Path) -> list[str]:
    """A .splat file cut in the middle of a splat."""
    (folder / "cut.splat").write_bytes(b"\0" * 33)
    return ["view", "cut.splat", "--port", "0"]


CASES = [
    Case("host-elsewhere", words("view --host 192.0.2.1 --port 0"), "no address of this machine"),
    Case("host-no-name", words("view --host no.such.host.invalid --port 0"), "no address of this machine"),
    Case("port-out-of-range", words("view --port 70000"), "70000"),
    Case("files-none", words("view --port 0 --max-files 0"), "--max-files.*0"),
    Case("megabytes-negative", words("view --port 0 --max-megabytes -1"), "--max-megabytes"),
    Case("minutes-nan", words("view --port 0 --max-video-minutes nan"), "--max-video-minutes"),
    Case("nothing-there", words("view nowhere.scene --port 0"), "nowhere.scene"),
    Case("strange-photo", strange_page, "onerror"),
    Case("cut-splats", broken_splats, "cut.splat"),
    Case("crop-empty", with_scene("export s.scene -o x.ply --crop 0,0,0,0,1,1"), "--crop"),
    Case("crop-words", with_scene("export s.scene -o x.ply --crop here"), "--crop.*here"),
    Case("size-zero", with_scene("export s.scene -o x.ply --max-size 0"), "--max-size.*0"),
    Case("outliers-negative", with_scene("export s.scene -o x.ply --outliers -3"), "--outliers"),
    Case("photos-unknown", with_scene("export s.scene -o x.ply --photos nobody"), "--photos.*nobody"),
    Case("rows-missing", with_scene("export s.scene -o x.ply --min-confidence 2", rows=False), "splats.npz"),
    Case("photos-of-a-bare-file", with_scene("export s.scene/scene.ply -o x.ply --photos 0"), "--photos.*scene folder"),
]
