"""Every deliberate mistake is noticed by a fixture."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parity import (
    fill,
    mutants_outputs,  # noqa: F401 - registers more
    network,
)
from tests.parity.cases import load_case
from tests.parity.command import verdicts
from tests.parity.mutants import MUTANTS

GOLDEN = Path(__file__).parents[1] / "golden"
NEED_TEST_DATA = {
    "final norm of the backbone eps 1e-6 instead of 1e-5",
    "auxiliary head reads another level",
    "ray pose: confidence not used as weight",
    "nested: Gaussians scaled together with the depth",
    "API: no RANSAC from ten posed views on",
    "preprocessing: one resize straight to the final size",
    "preprocessing: intrinsics not moved by the crop",
    "PLY: opacity stored as it is instead of its logit",
}
"""Mistakes that only cases of the test data notice."""


@pytest.fixture(scope="module", autouse=True)
def cached_weights() -> object:
    """The formula takes a while; the weights are the same for every mistake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "filled_weights", functools.cache(fill.filled_weights))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTANTS))
def test_noticed(name: str, monkeypatch: pytest.MonkeyPatch, test_data: Callable[[str], Path]) -> None:
    cases, make = MUTANTS[name]
    golden = {case: path for case in cases if (path := GOLDEN / f"{case}.npz").is_file()}

    def noticing(case: str) -> bool:
        path = golden.get(case) or test_data(f"spec/fixtures_public/{case}.npz")
        return not all(verdict.ok for verdict in verdicts(load_case(path)))

    network._filled_model.cache_clear()
    make(monkeypatch)
    try:
        assert any(noticing(case) for case in sorted(cases, key=lambda case: case not in golden))
    finally:
        network._filled_model.cache_clear()


def test_every_mistake_names_a_golden_case() -> None:
    """So that they are tried where there is no test data too; what cannot be is named here."""
    without = {name for name, (cases, _) in MUTANTS.items() if not any((GOLDEN / f"{c}.npz").is_file() for c in cases)}
    assert without == NEED_TEST_DATA
