"""README and docs: they build without a warning, and every command in them is one that da3gs understands."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import da3gs
from benchmarks import rooms
from da3gs.cli import COMMANDS, command_class, main
from da3gs.cli._parse import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "viewer" / "README.md", *(ROOT / "assets" / "docs").rglob("*.md")])


def blocks(language: str) -> list[tuple[str, str]]:
    """Fenced blocks of a language: page and content."""
    pattern = rf"^```{language}\n(.*?)^```"
    return [(p.name, m) for p in PAGES for m in re.findall(pattern, p.read_text(encoding="utf-8"), re.M | re.S)]


def commands() -> list[str]:
    """Every line of a shell block that runs da3gs, without its comment."""
    lines = [line.strip() for _, block in blocks("sh") for line in block.splitlines()]
    found = [re.sub(r"^.*-m da3gs ", "da3gs ", line) if "torchrun" in line else line for line in lines]
    return sorted({line for line in found if line.startswith("da3gs ")})


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-") or words[0] == "COMMAND":
        return
    assert words[0] in COMMANDS, line
    assert parse(command_class(words[0]), words[1:], words[0]) is not None


@pytest.mark.parametrize(("page", "block"), blocks("python"), ids=lambda value: str(value)[:24])
def test_python_is_understood(page: str, block: str) -> None:
    """It compiles, and every name of da3gs in it is public."""
    compile(block, page, "exec")
    for name in re.findall(r"\bda3gs\.(\w+)", block):
        assert name in da3gs.__all__ or name == "scene", f"{page}: da3gs.{name}"


def test_every_command_has_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"^\{\{ help (\w+) \}\}$", text, re.M)) == set(COMMANDS)


WALK = ("README.md", "phone.md", "reconstruct.md", "render.md", "export.md", "check.md", "refine.md")
SERVES = (" view ", "COMMAND", "YOUR")


@pytest.mark.slow
def test_commands_of_the_pages_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the pages that a newcomer reads, in their order, on four small photos; servers are left out."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (2, 3, 4, 5):
        with Image.open(ROOT / "da3gs" / "demo_photos" / f"desk_{number}.jpg") as picture:
            picture.resize((336, 252)).save(photos / f"desk_{number}.jpg")
    by_page = {page: [text for name, text in blocks("sh") if name == page] for page in WALK}
    lines = [line for page in WALK for text in by_page[page] for line in text.splitlines()]
    walked = [line for line in lines if line.startswith("da3gs ") and not any(word in line for word in SERVES)]
    assert len(walked) > 15
    for line in walked:
        words = shlex.split(line, comments=True)[1:]
        if "colmap/" in words:
            shutil.copytree("kitchen.scene", "colmap", dirs_exist_ok=True)
            (tmp_path / "colmap" / "scene.json").unlink()
        if "any.ply" in words:
            shutil.copy("kitchen.scene/scene.ply", "any.ply")
        if "cameras.json" in words:
            shutil.copy("kitchen.scene/cameras.json", "cameras.json")
        if words[0] in ("reconstruct", "render", "export", "refine") and "--dry-run" not in words:
            words += ["--overwrite"]
        if words[0] == "reconstruct":
            words += ["--detail", "168"]
        assert main([word for word in words if word != "--view"]) == 0, line
    for name, text in blocks("python"):
        if name in ("README.md", "python.md") and "da3gs_viewer" not in text:
            shutil.rmtree("kitchen.scene")
            (tmp_path / "flight.mp4").unlink(missing_ok=True)
            exec(compile(text, name, "exec"), {})


@pytest.mark.slow
def test_docs_build_without_a_warning(tmp_path: Path) -> None:
    """Dead links, unknown objects and bad navigation are errors."""
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "-q",
        "-f",
        str(ROOT / "assets" / "mkdocs.yml"),
        "-d",
        str(tmp_path),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "python" / "index.html").read_text(encoding="utf-8").count("doc-heading") > 10


RESULTS = ROOT / "benchmarks" / "results"
FIGURE = re.compile(
    r"(?<![\w.])(\d[\d,.]*)(?: |-)?(dB|frames/s|MB|kB|GB|%|times|seconds|s\b|°|degrees|million|splats|files|minutes)"
)


def table(text: str, name: str) -> list[list[str]]:
    """The cells of a table of results that a page links to by that name."""
    [path] = set(re.findall(rf"benchmarks/results/({name}\S*)\.md\)", text))
    lines = (RESULTS / f"{path}.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def front_page_figures(text: str) -> set[str]:
    """What the README may say of speed and cameras, from the tables that it links to."""
    row = next(cells for cells in table(text, "renderer") if cells[0].startswith("339 k, 504x336"))
    names, *sets = table(text, "cameras")
    known = [dict(zip(names, cells, strict=True)) for cells in sets]
    known = [one for one in known if re.fullmatch(r"[\d.]+", one["rotation"])]
    assert len(known) == 6, "the README says six"
    assert all(one["photos"] == one["placed"] for one in known), "the README says all"
    worst = math.ceil(10 * max(float(one["rotation"]) for one in known)) / 10
    size = (ROOT / "da3gs" / "checkpoints" / "da3gs-nano.safetensors").stat().st_size
    frames, times, megabytes = round(float(row[1])), round(float(row[5]), 1), round(size / 1e6)
    return {"339,000 splats", f"{frames} frames/s", f"{times} times", f"{worst:g} °", f"{megabytes} MB"}


def stated_figures() -> dict[str, set[str]]:
    """Pages and the figures they may hold, each from the code or a table. The page on formats has a test of its own."""
    from da3gs.exports.losses import SIZE_BOUND
    from da3gs.pipeline.check import BOUND_OTHER, BOUND_PLY
    from da3gs_viewer.upload_session import UploadLimits
    from da3gs_viewer.window import HARDWARE_SPLATS

    limits = UploadLimits()
    return {
        "README.md": front_page_figures((ROOT / "README.md").read_text(encoding="utf-8")),
        "viewer/README.md": {
            f"{HARDWARE_SPLATS:,} splats", f"{limits.files:,} files", f"{limits.megabytes / 1000:g} GB",
            f"{limits.video_minutes:g} minutes",
        },
        "assets/docs/questions.md": {"360 °"},
        "assets/docs/verbs/check.md": {f"{BOUND_PLY:g} dB", f"{BOUND_OTHER:g} dB"},
        "assets/docs/verbs/export.md": {f"{100 * SIZE_BOUND:g} %"},
        "assets/docs/verbs/train.md": {"33 MB"},
    }  # fmt: skip


def test_every_figure_is_one_of_the_code_or_of_a_table() -> None:
    """A figure with a unit in README or docs is listed here with where it comes from, or it does not stand there."""
    stated = stated_figures()
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if name == "assets/docs/formats.md":
            continue
        found = {f"{number} {unit}" for number, unit in FIGURE.findall(page.read_text(encoding="utf-8"))}
        assert found == stated.get(name, set()), name


def test_the_picture_of_the_rooms_is_that_of_the_contract() -> None:
    rows = rooms.layers()
    assert (ROOT / "assets" / "docs" / "rooms.svg").read_text(encoding="utf-8") == rooms.drawn(rows)
    folders = {path.parent.name for path in (ROOT / "da3gs").glob("*/__init__.py")}
    assert folders <= {name for row in rows for name in row}
