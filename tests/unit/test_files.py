"""Outputs: what may be replaced, and that nothing half-written is ever seen."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from da3gs._files import atomic_file, atomic_folder, check_output, open_regular, sha256
from da3gs.errors import InputError
from da3gs.formats.registry import WRITTEN_SUFFIXES, is_kind

RENDER = (".mp4", ".gif", ".png", "/")


def scene_folder(path: Path) -> Path:
    """As little of a scene folder as says that it is one."""
    path.mkdir()
    (path / "scene.json").write_text('{"format": "da3gs scene", "format_version": 1}')
    return path


@pytest.mark.parametrize(
    ("name", "suffixes", "expected"),
    [
        ("a.mp4", RENDER, ".mp4"),
        ("A.MP4", RENDER, ".mp4"),
        ("frames", RENDER, "/"),
        ("frames.d/", RENDER, "/"),
        ("a.compressed.ply", (".ply", ".compressed.ply"), ".compressed.ply"),
        ("a.b.ply", (".ply", ".compressed.ply"), ".ply"),
        ("my.scene", (), "/"),
    ],
)
def test_kinds_of_outputs(tmp_path: Path, name: str, suffixes: tuple[str, ...], expected: str) -> None:
    assert check_output(f"{tmp_path}/{name}", suffixes=suffixes) == expected


@pytest.mark.parametrize("name", ["a.avi", "a.mp4.txt", "noext", ".ply", "dir/"])
def test_suffixes_that_are_not_listed(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no suffix that can be written; use \.mp4, \.ply"):
        check_output(f"{tmp_path}/{name}", suffixes=(".mp4", ".ply"))


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; create it first"):
        check_output(tmp_path / "no" / "where")
    for name in ("..", "/"):
        with pytest.raises(InputError, match="cannot be written"):
            check_output(name)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="does not exist"):
        check_output(tmp_path / "file" / "scene")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_rights(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="not writable"):
        check_output(tmp_path / "locked" / "scene")


def test_scene_folders_only_with_overwrite(tmp_path: Path) -> None:
    path = scene_folder(tmp_path / "a")
    with pytest.raises(InputError, match="a exists already; choose another name or pass --overwrite"):
        check_output(path)
    check_output(path, overwrite=True)
    check_output(path, overwrite=True, inputs=[tmp_path / "photos", tmp_path / "b"])


@pytest.mark.parametrize("content", ["", "{}", "[]", "nonsense", '{"format": "other"}'])
def test_foreign_folders_stay(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "scene.json").write_text(content)
    with pytest.raises(InputError, match="not a scene folder of da3gs"):
        check_output(path, overwrite=True)


def test_files_and_links_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a scene folder"):
        check_output(tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(scene_folder(tmp_path / "a"))
    with pytest.raises(InputError, match="symbolic link"):
        check_output(tmp_path / "link", overwrite=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        check_output(tmp_path / "dangling")


def test_inputs_are_never_replaced(tmp_path: Path) -> None:
    outer = scene_folder(tmp_path / "outer")
    inner = scene_folder(outer / "inner")
    (tmp_path / "alias").symlink_to(outer)
    for path, source in (
        (outer, outer),
        (outer, tmp_path / "alias"),
        (outer, inner),
        (outer, inner / "scene.json"),
        (inner, outer),
        (tmp_path / "alias" / "inner", outer),
    ):
        with pytest.raises(InputError, match="is, holds or lies inside the input"):
            check_output(path, overwrite=True, inputs=[source])
    check_output(outer / "new", inputs=[outer])  # nothing there that could be lost


PAGE = b'<!DOCTYPE html><meta name="generator" content="da3gs splat page">'


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.ply", b"ply\n"), ("a.spz", b"\x1f\x8b.."), ("b.spz", b"NGSP"),
     ("a.mp4", b"\0\0\0\x20ftypisom"), ("a.png", b"\x89PNG\r\n"),
     ("a.gif", b"GIF89a"), ("a.splat", bytes(64)), ("a.html", PAGE), ("a.glb", b"glTF")],
)  # fmt: skip
def test_files_of_the_same_kind(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    suffixes = (".ply", ".spz", ".mp4", ".png", ".gif", ".splat", ".html", ".glb")
    kinds = is_kind if path.suffix in WRITTEN_SUFFIXES else None
    path.write_bytes(content)
    with pytest.raises(InputError, match="exists already"):
        check_output(path, suffixes=suffixes)
    check_output(path, overwrite=True, suffixes=suffixes, is_kind=kinds)
    path.write_bytes(b"my notes about this file")
    with pytest.raises(InputError, match="--overwrite leaves it alone"):
        check_output(path, overwrite=True, suffixes=suffixes, is_kind=kinds)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="--overwrite leaves it alone"):
        check_output(path, overwrite=True, suffixes=suffixes, is_kind=kinds)


def test_files_appear_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.suffix == ".bin"
    assert path.read_bytes() == b"new"
    with contextlib.suppress(RuntimeError), atomic_file(path, overwrite=True) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"new"
    with pytest.raises(InputError, match="exists already"), atomic_file(path):
        raise AssertionError("not reached")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_folders_appear_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("1")
        assert not path.exists()
    with contextlib.suppress(KeyboardInterrupt), atomic_folder(path, overwrite=True) as temporary:
        (temporary / "x").write_text("2")
        raise KeyboardInterrupt
    assert (path / "x").read_text() == "1"
    with atomic_folder(path, overwrite=True) as temporary:
        (temporary / "y").write_text("3")
    assert [p.name for p in path.iterdir()] == ["y"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_killed_runs_go(tmp_path: Path) -> None:
    path = tmp_path / "a[1].scene"
    mine, dead = f".{path.name}.x.{os.getpid()}.tmp", f".{path.name}.x.{2**22 + 1}.tmp"
    for name in (mine, dead, ".b.scene.x.4194305.tmp"):
        (tmp_path / name).mkdir()
    with atomic_folder(path):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {path.name, mine, ".b.scene.x.4194305.tmp"}


@pytest.mark.parametrize("moment", [1, 2])
def test_a_swap_that_is_interrupted_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    path, calls, rename = scene_folder(tmp_path / "a"), [], os.rename

    def interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == moment:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with contextlib.suppress(KeyboardInterrupt), atomic_folder(path, overwrite=True) as temporary:
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == ["scene.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_swap_that_was_killed_is_undone_by_the_next_run(tmp_path: Path) -> None:
    holder = tmp_path / f".a.x.{2**22 + 1}.tmp"
    holder.mkdir()
    scene_folder(holder / ".aside")
    with pytest.raises(InputError, match="exists already"):
        check_output(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    check_output(tmp_path / "a", overwrite=True)


def test_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"abc"
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "regular"), ("", "regular"), ("no", "does not exist"), ("a/b", "cannot be opened")):
        with pytest.raises(InputError, match=message):
            open_regular(tmp_path / name)
    with pytest.raises(InputError, match="regular"):
        open_regular(Path("/dev/zero"))
    assert sha256(tmp_path / "a").startswith("ba7816bf")
