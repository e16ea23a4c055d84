"""The report: what was done, with what, and what came of it; as JSON and CSV."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy
import torch

from da3gs import __version__
from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.evaluation.reports.html import report_html
from da3gs.evaluation.reports.statistics import confidence_interval, mean, median
from da3gs.formats.jsonfile import load_json
from da3gs.photos.naming import shown

FORMAT = "da3gs report"
FORMAT_VERSION = 1
VIEW_METRICS = ("psnr", "ssim", "lpips")


def versions() -> dict[str, str | None]:
    """Versions of everything that takes part in the figures."""
    found: dict[str, str | None] = {
        "da3gs": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": platform.machine(),
    }
    for name in ("numba", "lpips", "scikit-image", "gsplat"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _git_commit() -> str | None:
    """The commit of the checkout that da3gs runs from, ``+`` where files differ; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None


def digest(value: object) -> str:
    """A fingerprint of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def build_report(
    settings: dict[str, Any],
    scenes: list[dict[str, Any]],
    *,
    metrics: tuple[str, ...] = VIEW_METRICS,
    rules: list[str],
    published: list[dict[str, Any]],
    finished: bool,
) -> dict[str, Any]:
    """The content of report.json, scenes in the order of their names."""
    scenes = sorted(scenes, key=lambda scene: scene["name"])
    done = [scene for scene in scenes if scene["status"] == "done"]
    report: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "status": "finished" if finished else "unfinished",
        "settings": settings,
        "versions": versions(),
        "protocol": rules,
        "counts": {"scenes": len(scenes), "done": len(done), "failed": len(scenes) - len(done)},
    }
    for name, function in (("mean", mean), ("median", median), ("confidence_95", confidence_interval)):
        report[name] = {metric: _rounded(function(_column(done, metric))) for metric in metrics}
    if any("without_context" in scene for scene in done):
        rest = [scene["without_context"] for scene in done]
        report["mean_without_context"] = {metric: _rounded(mean(_column(rest, metric))) for metric in metrics}
        report["counts"]["targets"] = sum(scene["targets"] for scene in done)
        report["counts"]["targets_among_context"] = sum(scene["targets_among_context"] for scene in done)
    report["lpips_reason"] = next((s["lpips_reason"] for s in done if s.get("lpips_reason")), None)
    for name in ("splats", "megabytes"):
        report[name] = _rounded(mean(_column(done, name)))
    report["seconds"] = {
        part: _rounded(mean([s["seconds"][part] for s in done if part in s.get("seconds", {})]))
        for part in ("fit", "render")
    }
    report["published"] = published
    report["scenes"] = [{key: value for key, value in scene.items() if key != "pictures"} for scene in scenes]
    return report


def _column(rows: list[dict[str, Any]], metric: str) -> list[float]:
    """The values of a metric; none where a scene lacks it, so that every mean is over the same scenes."""
    values = [row.get(metric) for row in rows]
    return [float(value) for value in values if value is not None] if None not in values else []


def _rounded(value: float | tuple[float, float] | None) -> float | list[float] | None:
    match value:
        case None:
            return None
        case tuple():
            return [round(part, 6) for part in value]
    return round(value, 6)


def write_json(path: Path, value: object) -> None:
    """A JSON file that appears whole."""
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def write_report(folder: Path, report: dict[str, Any], scenes: list[dict[str, Any]]) -> None:
    """``report.json``, ``report.csv`` and ``report.html``."""
    with atomic_file(folder / "report.csv", overwrite=True) as temporary:
        temporary.write_text(report_csv(report), "utf-8")
    with atomic_file(folder / "report.html", overwrite=True) as temporary:
        temporary.write_text(report_html(report, scenes), "utf-8")
    write_json(folder / "report.json", report)


def report_csv(report: dict[str, Any]) -> str:
    """A row a view, or a scene where there are no views; what the scene cost stands beside every score."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = list(report["mean"])
    views = any(scene.get("views") for scene in report["scenes"])
    costs = ["splats", "megabytes", "fit_seconds"]
    writer.writerow(["scene", "status", *(["index", "name", "context"] if views else []), *metrics, *costs])
    for scene in report["scenes"]:
        cost = [scene.get("splats"), scene.get("megabytes"), scene.get("seconds", {}).get("fit")]
        for view in scene.get("views") or [None]:
            named = [view["index"], _cell(view["name"]), int(view.get("context", False))] if view else [""] * 3 * views
            figures = ((view or scene).get(metric) for metric in metrics)
            writer.writerow([scene["name"], scene["status"], *named, *figures, *cost])
    return out.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet takes for no formula."""
    return f"'{text}" if text[:1] in "=+-@" else text


def load_report(path: Path | str) -> dict[str, Any]:
    """The report in a folder or file.

    Raises:
        InputError: there is none, or it is not ours.
    """
    path = Path(path)
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{shown(str(path))} holds no report.json; name a folder that da3gs evaluate wrote")
    report = load_json(file)
    whole = isinstance(report, dict) and report.get("format") == FORMAT and report.get("format_version") == 1
    if not whole or not isinstance(report.get("settings"), dict) or not isinstance(report.get("scenes"), list):
        raise InputError(f"{shown(file.name)} of {shown(path.name)} is no report of da3gs evaluate; name another")
    return report
