"""Novel views on the posed photo sets: the bundled model, refined for some seconds, and the baselines.

    python -m benchmarks.evaluation --sets ../shared/data [--out runs/evaluation] [--model NAME] [--only desk,banana]
        [--rows "model,model refined 10 s"]

Each method and set is one ``da3gs evaluate`` with a report of its own under ``--out``; what is finished is not computed
again, so that a run that was stopped goes on, and rows may be computed at different times (refinement for some seconds
needs quiet cores). Writes ``evaluation.md`` and ``evaluation.json`` beside the reports, with the rows that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from da3gs.checkpoints import BUNDLED
from da3gs.evaluation.evaluate import evaluate
from da3gs.evaluation.reports.compare import compare
from da3gs.evaluation.reports.statistics import mean

SETS = {
    "desk": ("desk", "desk/split_ctx_6v.json"),
    "desk-2v": ("desk", "desk/split_ctx_2v.json"),
    "dl3dv": ("dl3dv_layout", "dl3dv_layout/index_ctx_6v.json"),
    "banana": ("banana", "banana/split_ctx_4v.json"),
    "berlin": ("berlin", "berlin/split_ctx_2v.json"),
    "buddha": ("buddha", "buddha/split_ctx_4v.json"),
}
"""Root and split of each set; all have given poses."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A method, and the flags that make it."""

    name: str
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)


ROWS = (
    Row(name="nearest photo", flags={"baseline": "nearest"}),
    Row(name="constant depth", flags={"baseline": "constant-depth"}),
    Row(name="depth warp", flags={"baseline": "depth-warp"}),
    Row(name="model"),
    Row(name="model splats depth", flags={"splats": "depth"}),
    Row(name="model refined 10 s", flags={"refine": 10.0}),
    Row(name="model refined 30 s", flags={"refine": 30.0}),
    Row(name="model predicted poses", flags={"poses": "predicted"}),
)


def folder_of(out: Path, row: Row, name: str) -> Path:
    """Where a report lies."""
    return out / row.name.replace(" ", "-") / name


def run(row: Row, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One method on one set."""
    root, split = SETS[name]
    folder = folder_of(arguments.out, row, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    report = evaluate(
        arguments.sets / root, split=arguments.sets / split, model=arguments.model, output=folder,
        threads=arguments.threads, lpips_trunk=arguments.lpips_trunk, **row.flags,
    )  # fmt: skip
    print(f"{row.name:<24} {name:<9} {report['mean']['psnr']} dB, {time.perf_counter() - started:.1f} s", flush=True)
    return report


def table(reports: dict[str, dict[str, dict[str, Any]]], names: list[str]) -> str:
    """PSNR of every set, then means over the sets, and what they cost."""
    lines = [
        "| method | " + " | ".join(names) + " | PSNR | SSIM | LPIPS | splats | MB | s a scene | steps |",
        "|---|" + "---:|" * (len(names) + 7),
    ]
    for row in ROWS:
        if row.name not in reports:
            continue
        found = [reports[row.name][name] for name in names]
        cells = [cell(report["mean"]["psnr"], 2) for report in found]
        cells += [
            cell(average([r["mean"][m] for r in found]), 3 if m != "psnr" else 2) for m in ("psnr", "ssim", "lpips")
        ]
        cells += [cell(average([r["splats"] for r in found]), 0), cell(average([r["megabytes"] for r in found]), 1)]
        cells.append(cell(average([r["seconds"]["fit"] for r in found]), 2))
        cells.append(" ".join(steps_of(report) for report in found) if row.flags.get("refine") else "-")
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def steps_of(report: dict[str, Any]) -> str:
    """Steps of the refinement in each scene; 0 where its trial said that it would not help."""
    done = [scene["refinement"] or {} for scene in report["scenes"] if scene["status"] == "done"]
    return ",".join(str(entry.get("steps", 0) if entry.get("kept") else 0) for entry in done)


def average(values: list[float | None]) -> float | None:
    """The mean, None where one is missing."""
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def cell(value: float | None, digits: int) -> str:
    """A figure, or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def main() -> int:
    """Run what is not there yet; print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", default="")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--lpips-trunk", help="torchvision's VGG-16 or AlexNet; default: torch's cache")
    arguments = parser.parse_args()
    only = {name for name in arguments.only.split(",") if name}
    names = [n for n in SETS if (not only or n in only) and (arguments.sets / SETS[n][0]).exists()]
    if not names:
        print(f"none of the sets {', '.join(SETS)} lies under {arguments.sets}", file=sys.stderr)
        return 2
    wanted = [name.strip() for name in arguments.rows.split(",") if name.strip()]
    rows = [row for row in ROWS if not wanted or row.name in wanted]
    for row in rows:
        for name in names:
            run(row, name, arguments)
    reports = {}
    for row in ROWS:
        files = [folder_of(arguments.out, row, name) / "report.json" for name in names]
        found = {name: json.loads(file.read_text()) for name, file in zip(names, files, strict=True) if file.is_file()}
        if len(found) == len(names) and all(report["status"] == "finished" for report in found.values()):
            reports[row.name] = found
    summarised(reports, names, arguments)
    failed = sum(report["counts"]["failed"] for found in reports.values() for report in found.values())
    return 1 if failed else 0


def summarised(reports: dict[str, dict[str, dict[str, Any]]], names: list[str], arguments: argparse.Namespace) -> None:
    """Print and write the table of what is there."""
    text = table(reports, names)
    some = next(iter(reports.get("model", {}).values()), None) or next(iter(next(iter(reports.values())).values()))
    facts = {
        "model": some["settings"]["model"],
        "model_sha256": some["settings"]["model_sha256"],
        "versions": some["versions"],
        "threads": arguments.threads or torch.get_num_threads(),
        "lpips_trunk": some["settings"]["lpips"],
        "lpips_reason": some["lpips_reason"],
        "rows": {
            row: {
                name: {
                    k: report[k] for k in ("mean", "counts", "splats", "megabytes", "seconds", "protocol", "versions")
                }
                | {"refinement": [scene.get("refinement") for scene in report["scenes"]]}
                for name, report in found.items()
            }
            for row, found in reports.items()
        },
        "refined_30s_against_model": {
            name: compare(folder_of(arguments.out, ROWS[3], name), folder_of(arguments.out, ROWS[6], name))["metrics"]
            for name in names
            if {ROWS[3].name, ROWS[6].name} <= reports.keys()
        },
    }
    (arguments.out / "evaluation.json").write_text(json.dumps(facts, indent=1) + "\n")
    (arguments.out / "evaluation.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
