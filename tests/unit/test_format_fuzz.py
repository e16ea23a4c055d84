"""Splat files with anything in them: splats, or one line; never another exception, in our readers and in check's."""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from da3gs.errors import InputError
from da3gs.exports.independent import decode_splats
from da3gs.formats import READ_SUFFIXES, WRITTEN_SUFFIXES, load_gaussians, save_gaussians
from tests.fuzz.damage import damaged, respelt
from tests.small_scene import small_gaussians
from tests.unit.test_ksplat import ksplat

FILES = [suffix for suffix in (*WRITTEN_SUFFIXES, ".ksplat") if suffix.startswith(".")]
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@functools.cache
def sound(suffix: str) -> bytes:
    """A file as it should be."""
    if suffix == ".ksplat":
        return ksplat([small_gaussians(40, 4)], 1)
    with tempfile.TemporaryDirectory() as folder:
        save_gaussians(small_gaussians(40, 4), Path(folder) / f"a{suffix}")
        return (Path(folder) / f"a{suffix}").read_bytes()


def read(path: Path) -> None:
    """With both readers; what they refuse is one line."""
    for reader in (load_gaussians, decode_splats):
        said = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reader(path)
            except InputError as error:
                said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize("suffix", FILES)
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"

    @FUZZ
    @given(damaged(sound(suffix)))
    def holds(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    holds()


def test_descriptions_of_sog(tmp_path: Path) -> None:
    (tmp_path / "a.sog").write_bytes(sound(".sog"))
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}

    @FUZZ
    @given(respelt(json.loads(files["meta.json"])))
    def holds(meta: Any) -> None:
        with zipfile.ZipFile(tmp_path / "b.sog", "w") as archive:
            for name, content in {**files, "meta.json": json.dumps(meta).encode()}.items():
                archive.writestr(name, content)
        read(tmp_path / "b.sog")

    holds()


def test_documents_of_gltf(tmp_path: Path) -> None:
    whole = sound(".glb")
    length = int.from_bytes(whole[12:16], "little")
    rest = whole[20 + length :]

    @FUZZ
    @given(respelt(json.loads(whole[20 : 20 + length])))
    def holds(document: Any) -> None:
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        sizes = (20 + len(text) + len(rest)).to_bytes(4, "little") + len(text).to_bytes(4, "little")
        (tmp_path / "b.glb").write_bytes(b"glTF\2\0\0\0" + sizes + b"JSON" + text + rest)
        read(tmp_path / "b.glb")

    holds()


def test_trees_of_streamed_sog(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(40, 1), tmp_path / "web" / "lod-meta.json")
    meta = json.loads((tmp_path / "web" / "lod-meta.json").read_bytes())

    @FUZZ
    @given(respelt(meta))
    def holds(changed: Any) -> None:
        (tmp_path / "web" / "lod-meta.json").write_text(json.dumps(changed))
        read(tmp_path / "web" / "lod-meta.json")

    holds()


def test_every_format_that_is_read_is_damaged_here() -> None:
    assert {suffix for suffix in READ_SUFFIXES if suffix.startswith(".")} <= set(FILES)
