"""README and docs: they build without a warning, and every command in them is one that da3gs understands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import da3gs
from da3gs.cli import COMMANDS, command_class
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


def test_readme_quotes_the_table_of_the_rasteriser() -> None:
    """The speed on the front page is that of the results it links to."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.search(r"([\d,]+) splats at 504x336 at (\d+) frames/s on two cores, ([\d.]+) times", text)
    table = re.search(r"\(benchmarks/results/(renderer_\S+)\.md\)", text)
    assert quoted
    assert table
    rows = (ROOT / "benchmarks" / "results" / f"{table[1]}.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in rows if line.startswith(f"| {quoted[1].split(',')[0]} k, 504x336 "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert round(float(cells[1])) == int(quoted[2])
    assert round(float(cells[5]), 1) == float(quoted[3])
