"""The page on formats shows the tables that were measured, row by row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "assets" / "docs" / "formats.md").read_text(encoding="utf-8")
TABLES = re.findall(r"benchmarks/results/(formats-\S+)\.md\)", PAGE)


@pytest.mark.parametrize("table", TABLES)
def test_rows_of_the_page_are_those_of_the_results(table: str) -> None:
    lines = (ROOT / "benchmarks" / "results" / f"{table}.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 5
    assert "\n".join(rows) in PAGE


def test_both_tables_are_there() -> None:
    assert len(TABLES) == 2
    written = {row.split("|")[1].strip() for row in PAGE.splitlines() if row.startswith("|")}
    assert {"ply", "compressed.ply", "splat", "spz", "spz 3", "sog", "glb", "usda", "usdz", "lod-meta.json"} <= written
