"""The right value for every kind of input that goes wrong silently elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile import right

for module in pkgutil.iter_modules(right.__path__):
    importlib.import_module(f"tests.hostile.right.{module.name}")


@pytest.mark.parametrize("case", right.RIGHT, ids=lambda case: f"{case.kind}-{case.name}")
def test_right(case: right.Right, tmp_path: Path) -> None:
    case.run(tmp_path)


def test_every_kind_has_its_cases() -> None:
    counted = Counter(case.kind for case in right.RIGHT)
    assert len({(case.kind, case.name) for case in right.RIGHT}) == len(right.RIGHT)
    assert set(counted) == set(right.KINDS), counted
    assert len(right.RIGHT) >= 16 + 60, "the published cases and as many more as were asked for"
