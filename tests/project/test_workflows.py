"""GitHub's workflows call make targets that there are, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="comes with mkdocs")

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def jobs(path: Path) -> dict[str, Any]:
    """The jobs of a workflow."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_is_a_make_target(path: Path) -> None:
    for name, job in jobs(path).items():
        assert job["steps"], name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "run" in step:
                assert re.fullmatch(r"make ([a-z-]+)( PYTHON=python)?", step["run"])[1] in TARGETS  # type: ignore[index]
            else:
                assert "@" in step["uses"]


def test_there_is_one_for_each_suite() -> None:
    called = {step["run"].split()[1] for path in WORKFLOWS for job in jobs(path).values() for step in job["steps"]
              if "run" in step}  # fmt: skip
    assert {
        "check",
        "test",
        "demo",
        "test-browser",
        "test-readers",
        "test-slow",
        "docs",
        "dist",
        "test-wheel",
    } <= called
    assert {path.stem for path in WORKFLOWS} == {"check", "test", "browser", "readers", "docs", "publish"}


def test_forms_are_sound() -> None:
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert len({field["id"] for field in form["body"]}) == len(form["body"])
