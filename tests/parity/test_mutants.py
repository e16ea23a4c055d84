"""Every deliberate mistake is noticed by a fixture."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from benchmarks import parity_fill, parity_network
from benchmarks.parity import verdicts
from benchmarks.parity_cases import load_case
from tests.parity import mutants_outputs  # noqa: F401 - registers more
from tests.parity.mutants import MUTANTS

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path("../shared/spec/fixtures_public")


def found(case: str) -> Path | None:
    paths = (GOLDEN / f"{case}.npz", SHARED / f"{case}.npz")
    return next((path for path in paths if path.is_file()), None)


@pytest.fixture(scope="module", autouse=True)
def cached_weights() -> object:
    """The formula takes a while; the weights are the same for every mistake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity_fill, "filled_weights", functools.cache(parity_fill.filled_weights))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTANTS))
def test_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, make = MUTANTS[name]
    paths = [path for case in cases if (path := found(case)) is not None]
    if not paths:
        pytest.skip("../shared is not here, and no golden case notices this")
    parity_network._filled_model.cache_clear()
    make(monkeypatch)
    try:
        wrong = [v.array for path in paths for v in verdicts(load_case(path)) if not v.ok]
    finally:
        parity_network._filled_model.cache_clear()
    assert wrong


def test_enough_mistakes_are_tried() -> None:
    assert len(MUTANTS) >= 30
    assert all(cases for cases, _ in MUTANTS.values())
    golden = [name for name, (cases, _) in MUTANTS.items() if any((GOLDEN / f"{c}.npz").is_file() for c in cases)]
    assert len(golden) >= 30, json.dumps(golden)
