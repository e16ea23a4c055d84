"""Bad input, bad arguments, bad weights: one line on stderr, status 2, and nothing written, changed or left behind."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.case import Case
from tests.hostile.runner import Outcome, Place, WarmRunner, run_truly, snapshot

LINE = re.compile(r"da3gs: error: [^\n]+\n")
ONE_IN, TRULY = 4, 6
"""The short suite runs one case in four of each module, and as many cases in a process from nothing; the slow, all."""
pytestmark = pytest.mark.process


def all_cases() -> dict[str, Case]:
    """Every case in a list of this folder's modules, by module and name."""
    cases: dict[str, Case] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem.startswith(("test_", "__", "case", "runner")):
            continue
        module = importlib.import_module(f"tests.hostile.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, list | tuple) and value and all(isinstance(item, Case) for item in value):
                for case in value:
                    name = f"{path.stem}-{case.name}"
                    assert cases.setdefault(name, case) is case, f"two cases are called {name}"
    return cases


CASES = all_cases()
SAMPLE = list(CASES)[:: max(1, len(CASES) // TRULY)]


def short_and_slow() -> Iterator[object]:
    """The names of all cases, three in four of each module marked as slow."""
    count: Counter[str] = Counter()
    for name in CASES:
        module = name.partition("-")[0]
        yield pytest.param(name, marks=pytest.mark.slow if count[module] % ONE_IN else ())
        count[module] += 1


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmRunner]:
    """The process to fork from."""
    if not hasattr(os, "fork") or not hasattr(os, "memfd_create"):
        pytest.skip("forking needs Linux; the slow tests run the same cases")
    runner = WarmRunner()
    yield runner
    runner.close()


def prepared(case: Case, parent: Path) -> tuple[list[str], Place]:
    """The case's arguments and the folders that it runs in."""
    place = Place.below(parent)
    return [str(word) for word in case.build(place.folder)], place


def hold_to_the_contract(case: Case, outcome: Outcome, before: dict[str, tuple[object, ...]], place: Place) -> None:
    """All of cli.md's rule."""
    assert outcome.code == case.code, outcome
    assert LINE.fullmatch(outcome.stderr), f"one line was expected on stderr, got:\n{outcome.stderr}"
    assert re.search(case.expect, outcome.stderr), f"{case.expect!r} is not in: {outcome.stderr}"
    assert outcome.stdout == ""
    assert str(place.folder) not in outcome.stderr.replace("--", "") or str(place.folder) in case.expect
    assert snapshot(place.folder) == before, "the working folder has changed"
    assert snapshot(place.temporary) == {}, "temporary files were left behind"


def test_every_module_gives_cases() -> None:
    """A list that ``all_cases`` does not find would be left out in silence."""
    skipped = ("test_hostile", "test_right", "test_kill", "test_view_process", "__init__", "case", "runner")
    modules = {path.stem for path in Path(__file__).parent.glob("*.py")} - set(skipped)
    assert {name.partition("-")[0] for name in CASES} == modules


@pytest.mark.parametrize("name", list(short_and_slow()))
def test_hostile(name: str, warm: WarmRunner, tmp_path: Path) -> None:
    case = CASES[name]
    arguments, place = prepared(case, tmp_path)
    before = snapshot(place.folder)
    hold_to_the_contract(case, warm.run(arguments, place), before, place)


@pytest.mark.parametrize("name", SAMPLE)
def test_hostile_from_nothing(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    arguments, place = prepared(case, tmp_path)
    before = snapshot(place.folder)
    hold_to_the_contract(case, run_truly(arguments, place), before, place)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in SAMPLE])
def test_hostile_from_nothing_the_rest(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    arguments, place = prepared(case, tmp_path)
    before = snapshot(place.folder)
    hold_to_the_contract(case, run_truly(arguments, place), before, place)
