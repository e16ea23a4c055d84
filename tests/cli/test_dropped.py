"""Nothing is passed over in silence: every reason that the code knows is on stdout, in the JSON and in scene.json."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import da3gs.photos
from da3gs.cli import main
from da3gs.cli._summary import summary, summary_lines
from da3gs.photos import load_photos
from da3gs.photos.accounts import counted, recorded
from da3gs.photos.records import Dropped
from da3gs.pipeline.check import check
from da3gs.scene import load_scene
from tests.cli.leftovers import INPUTS, Input
from tests.small_scene import small_scene

SIZE = 84
REASON = re.compile(r"(is|has|holds|was|cannot|does) ")
"""How reasons begin, which read on from a file's name."""
NO_REASONS = ("InputError", "BackendError", "_Form")
"""Calls whose texts are no reasons."""
NEVER_PASSED_OVER = {
    "does not exist": "a photo that was named; one that a file names is missing",
    "is a folder, not a file": "likewise",
    "is .+, but its camera is for .+x.+": "photos of an evaluation, whose scene fails in words",
    "has the .+ 0 everywhere": "what a mask looks like, told where it masks everything",
    "has .+s from .+ to .+": "likewise",
    "has .+s up to .+, kept where they are not 0": "likewise",
}
"""Texts that begin like reasons, and where they are used."""

made = pytest.mark.parametrize("made", INPUTS, ids=lambda build: build.__name__)
Build = Callable[[Path, pytest.MonkeyPatch], Input]


def reasons_in(node: ast.AST) -> Iterator[str]:
    """Patterns of the reasons in code; what is filled in is anything."""
    match node:
        case ast.Expr(value=ast.Constant()):  # a docstring
            return
        case ast.Call(func=ast.Name(id=name)) if name in NO_REASONS:
            return
        case ast.JoinedStr(values=[ast.Constant(value=str() as start), *_]) if REASON.match(start):
            yield "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in node.values)  # type: ignore[arg-type]
        case ast.JoinedStr():
            return
        case ast.Constant(value=str() as text) if REASON.match(text):
            yield re.escape(text)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from reasons_in(child)


def dropped_of(source: Input) -> list[Dropped]:
    return list(load_photos(source.source, resolution=SIZE, **source.keywords).dropped)


def test_every_reason_in_the_code_has_an_input(tmp_path: Path) -> None:
    """A new reason takes a new input, and so is told everywhere by the tests below."""
    files = sorted(Path(str(da3gs.photos.__file__)).parent.rglob("*.py"))
    patterns = {pattern for file in files for pattern in reasons_in(ast.parse(file.read_text(encoding="utf-8")))}
    assert len(patterns) > 60
    seen: set[str] = set()
    for build in INPUTS:
        with pytest.MonkeyPatch.context() as patch:
            for item in dropped_of(build(tmp_path / build.__name__, patch)):
                seen |= {item.reason, item.counted_as}
    unused = {pattern for pattern in patterns if not any(re.match(pattern, reason) for reason in seen)}
    never = {pattern.replace("\\ ", " ") for pattern in unused}
    assert never == set(NEVER_PASSED_OVER)


def told_everywhere(wanted: dict[str, int], folder: Path, facts: dict[str, Any]) -> None:
    """In the JSON, in what is printed for people, and in scene.json."""
    assert facts["dropped"] == wanted
    text = "\n".join(summary_lines(load_scene(folder, device="cpu"), facts))
    entries = json.loads((folder / "scene.json").read_text())["views"]["dropped"]
    for reason, count in wanted.items():
        of_reason = [entry for entry in entries if entry.get("kind", entry["reason"]) == reason]
        assert sum(entry.get("count", 1) for entry in of_reason) == count, reason
        told = of_reason[0]["reason"] if len(of_reason) == 1 else reason
        assert f"left out {count}: {told} (" in text, (reason, text)


@made
def test_every_reason_is_told(made: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the record, the JSON and the lines of a scene."""
    with monkeypatch.context() as patch:
        dropped = dropped_of(made(tmp_path / "input", patch))
    record = {
        "model": {"name": "da3gs-nano", "licence": "Apache-2.0"}, "poses": {"source": "given", "cameras": []},
        "views": {"kept": [], "dropped": recorded(dropped)}, "input": "folder", "frame": {"metric": False},
        "psnr": {"input_mean": 30.0, "holdout_mean": None, "holdout_poses": None}, "seconds": {"total": 1.0},
        "cleaned": {},
    }  # fmt: skip
    dataclasses.replace(small_scene(), record=record).save(tmp_path / "a")
    loaded = load_scene(tmp_path / "a", device="cpu")
    told_everywhere(counted(dropped), tmp_path / "a", summary(loaded, tmp_path / "a", check(tmp_path / "a"), {}))


@pytest.mark.slow
@made
def test_every_reason_is_told_by_the_command(
    made: Build, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On stdout for people, then in the JSON and in scene.json."""
    with monkeypatch.context() as patch:
        source = made(tmp_path / "input", patch)
        wanted = counted(dropped_of(source))
        flags = [
            "--model",
            str(model),
            "--resolution",
            str(SIZE),
            "--refine",
            "0",
            "--quiet",
            "-o",
            str(tmp_path / "a"),
        ]
        assert main(["reconstruct", *source.words(), *flags, "--poses", "rays"]) == 0
        text = capfd.readouterr().out
        assert main(["reconstruct", *source.words(), *flags, "--poses", "rays", "--overwrite", "--json"]) == 0
    told_everywhere(wanted, tmp_path / "a", json.loads(capfd.readouterr().out))
    for reason, count in wanted.items():
        assert f"left out {count}: " in text
        assert reason in text or count == 1
