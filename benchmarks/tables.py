"""Tables of figures in benchmarks/results: the same rows to compute with and to read."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """What figures are of: processor, cores, versions."""
    import torch

    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {python}, torch {torch.__version__}"


def save_table(
    name: str, title: str, rows: Sequence[dict[str, Any]], *, command: str, remarks: Sequence[str] = ()
) -> None:
    """Write ``results/NAME.json`` and ``NAME.md``.

    Args:
        name: of the files.
        title: what the figures are.
        rows: a dictionary a row, all with the same keys.
        command: what repeats them.
        remarks: lines under the table.
    """
    load = round(os.getloadavg()[0], 1)
    stem = RESULTS / name
    report = {"title": title, "command": command, "machine": machine(), "load": load, "rows": list(rows)}
    stem.with_suffix(".json").write_text(json.dumps({**report, "remarks": list(remarks)}, indent=1) + "\n")
    lines = [f"# {title}", "", f"`{command}`; {machine()}; load average {load}.", ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join("-" if value is None else str(value) for value in row.values()) + " |" for row in rows]
    lines += ["", *remarks] if remarks else []
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
