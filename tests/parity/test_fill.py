"""The formula weights are those that the fixtures were made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parity.fill import filled_weights
from tests.parity.network import case_config


@pytest.mark.parametrize(
    "name",
    [
        "da3-small",
        "mini-giant",
        "mini-mono",
        "mini-metric",
        "mini-nested",
        pytest.param("da3-base", marks=pytest.mark.slow),
    ],
)
def test_weights(name: str, test_data: Callable[[str], Path]) -> None:
    expected = json.loads(test_data("spec/fixtures_public/fill_check.json").read_text())[name]
    weights = filled_weights(case_config(name, expected["overrides"]), "public-1")
    assert {n: list(w.shape) for n, w in weights.items()} == {n: v[0] for n, v in expected["parameters"].items()}
    digest = hashlib.sha256()
    for parameter in sorted(weights):
        digest.update(weights[parameter].tobytes())
    assert digest.hexdigest() == expected["sha256"]
    assert sum(w.size for w in weights.values()) == expected["count"]
