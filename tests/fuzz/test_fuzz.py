"""A few inputs of each kind; ``make fuzz`` tries many."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.layouts import BASES, BESIDE, Layout, holds, layouts
from tests.fuzz.parsers import Parser, parsers

PARSERS = parsers()
FEW = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
SHORT = {"picture-jpg", "picture-tif", "splats-ply-header", "transforms.json-values", "colmap-text-images"}
"""What the default run tries; other tests damage splat files."""


@pytest.mark.parametrize(
    "parser",
    [pytest.param(p, id=p.name, marks=() if p.name in SHORT else pytest.mark.slow) for p in PARSERS],
)
def test_damaged_files_are_read_or_refused(parser: Parser) -> None:
    @FEW
    @given(parser.damage())
    def one(data: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            parser.read(Path(folder), data)

    one()


@FEW
@given(layouts())
def test_folders_of_known_pieces(layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        holds(layout, Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_every_piece_beside_every_base(base: Any, tmp_path: Path) -> None:
    """One at a time, and all together."""
    for number, beside in enumerate([*((name,) for name in BESIDE), tuple(BESIDE)]):
        holds(Layout(base=base, deep=1, beside=beside, packed=False), tmp_path / str(number))
