"""The wheel and the source archive: what they carry, and that the wheel works by itself (``make test-wheel``)."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest

import da3gs

ROOT = Path(__file__).parents[2]
BUILT = os.environ.get("DA3GS_WHEEL")
CARRIED = (
    "da3gs/checkpoints/da3gs-nano.safetensors",
    "da3gs/checkpoints/da3gs-nano.md",
    "da3gs/demo_photos/transforms.json",
    "da3gs/formats/player/page.html",
    "da3gs/py.typed",
    "da3gs_viewer/page/upload.html",
    "da3gs_viewer/py.typed",
)
needs_wheel = pytest.mark.skipif(BUILT is None, reason="make test-wheel builds and installs it")


def built(suffix: str) -> Path:
    """The one archive of this kind."""
    assert BUILT is not None
    [path] = (ROOT / BUILT).glob(f"da3gs-*{suffix}")
    return path


def test_what_it_says_of_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == da3gs.__version__
    assert f"version: {da3gs.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {da3gs.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert set(project["scripts"]) == {"da3gs"}
    for name in project["license-files"]:
        assert (ROOT / name).is_file()


def requirements(name: str) -> set[str]:
    """Distributions that are asked for without an extra, the indirect ones too."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for line in importlib.metadata.requires(waiting.pop()) or []:
            asked = re.split(r"[^\w.-]", line)[0].lower().replace("_", "-")
            if "extra ==" not in line and asked not in found:
                found.add(asked)
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another system
                    importlib.metadata.distribution(asked)
                    waiting.append(asked)
    return found


def test_what_modules_import_is_asked_for() -> None:
    """Imports at the top of a module; those inside of functions are of extras."""
    known, asked = importlib.metadata.packages_distributions(), requirements("da3gs")
    for path in (*(ROOT / "da3gs").rglob("*.py"), *(ROOT / "viewer").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"da3gs", "da3gs_viewer"}:
                owners = {owner.lower().replace("_", "-") for owner in known.get(top, [])}
                assert owners & asked, f"{path.relative_to(ROOT)} imports {top}, which no requirement brings"


@needs_wheel
def test_the_wheel_carries_two_packages_and_what_they_need() -> None:
    names = zipfile.ZipFile(built(".whl")).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"da3gs", "da3gs_viewer", f"da3gs-{da3gs.__version__}.dist-info"}
    assert set(CARRIED) <= set(names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not [name for name in names if "test" in name.lower() or name.endswith(".pyc")]


@needs_wheel
def test_the_source_archive_carries_the_same() -> None:
    with tarfile.open(built(".tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.replace("da3gs_viewer/", "viewer/da3gs_viewer/") for name in CARRIED} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "assets/mkdocs.yml"} <= names


@needs_wheel
@pytest.mark.slow
def test_the_wheel_alone_makes_shows_and_exports_a_scene(tmp_path: Path) -> None:
    """Outside of the tree, in an empty home, in an environment that holds it and what it asks for."""
    assert BUILT is not None
    command = ROOT / BUILT / "environment" / Path(sys.executable).parent.name / "da3gs"
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PYTHONPATH": ""}

    def run(*words: str) -> dict[str, object]:
        """A command's JSON."""
        done = subprocess.run(
            [str(command), *words, "--json"], cwd=tmp_path, env={**os.environ, **home}, capture_output=True, text=True,
            timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return dict(json.loads(done.stdout))

    made = run("demo")
    assert made["splats"]
    assert dict(made["check"])["passed"]  # type: ignore[call-overload]
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000
    run("export", "demo.scene", "-o", "demo.html")
    assert "<canvas" in (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert run("check", "demo.scene")["passed"]
    with subprocess.Popen(
        [str(command), "view", "demo.scene", "--port", "0", "--no-browser", "--json"],
        cwd=tmp_path, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            with urllib.request.urlopen(url, timeout=60) as page:
                assert b"<html" in page.read(4096)
        finally:
            server.terminate()
