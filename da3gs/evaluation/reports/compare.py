"""Comparison of two reports of the same scenes: is the difference more than noise?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from da3gs.errors import InputError
from da3gs.evaluation.reports.report import load_report
from da3gs.evaluation.reports.statistics import confidence_interval, mean, sign_flip_probability
from da3gs.photos.naming import shown

_PROTOCOL = ("task", "split", "frames_digest", "poses", "targets", "size", "undistort", "dataset")
_LOWER_IS_BETTER = ("lpips", "absrel", "sqrel", "accuracy", "completeness", "chamfer", "overall")
_LEVEL = 0.05
_LEAST = 6
"""Fewer pairs cannot reach the level whatever they say: 2 of 2^5 sign patterns are more than 5 %."""


def compare(report_a: str | Path, report_b: str | Path, *, across_protocols: bool = False) -> dict[str, Any]:
    """Pair the scenes of two reports, and the views within them, and test the differences.

    The test flips signs: if A and B were alike, each scene's difference might as well have the other sign. It says
    "more than noise" where fewer than 5 % of all sign patterns give a mean as far from zero, and says nothing for
    fewer than six scenes.

    Args:
        report_a: a folder that ``da3gs evaluate`` wrote.
        report_b: another.
        across_protocols: compare all the same if the protocols differ.

    Raises:
        InputError: one is no report, they share no finished scene, or their protocols differ.
    """
    a, b = load_report(report_a), load_report(report_b)
    for name, report in ((report_a, a), (report_b, b)):
        if report.get("status") != "finished":
            raise InputError(f"the report {shown(Path(name).name)} is unfinished; run its evaluation to the end")
    differing = [name for name in _PROTOCOL if a["settings"].get(name) != b["settings"].get(name)]
    if "task" in differing:
        raise InputError(f"one report is of --task {a['settings']['task']}, the other of {b['settings'].get('task')}")
    if differing and not across_protocols:
        first = differing[0]
        raise InputError(
            f"the reports follow different protocols ({first}: {_brief(a['settings'].get(first))} and "
            f"{_brief(b['settings'].get(first))}); --across-protocols compares them all the same"
        )
    done_a, done_b = _done(a), _done(b)
    common = sorted(done_a.keys() & done_b.keys())
    if not common:
        raise InputError("the reports share no finished scene; compare reports of the same data")
    metrics = {}
    for metric in a["mean"]:
        pairs = [(name, *_paired(done_a[name], done_b[name], metric)) for name in common]
        known = [(name, x, y) for name, x, y in pairs if x is not None and y is not None]
        metrics[metric] = _verdict(metric, known)
    return {
        "a": _named(report_a, a),
        "b": _named(report_b, b),
        "scenes": len(common),
        "only_in_a": sorted(done_a.keys() - done_b.keys()),
        "only_in_b": sorted(done_b.keys() - done_a.keys()),
        "different_settings": {
            name: [a["settings"].get(name), b["settings"].get(name)]
            for name in {**a["settings"], **b["settings"]}
            if a["settings"].get(name) != b["settings"].get(name)
        },
        "metrics": metrics,
    }


def _named(path: str | Path, report: dict[str, Any]) -> dict[str, Any]:
    settings = report["settings"]
    seconds = report.get("seconds")
    return {
        "report": shown(Path(path).name),
        "method": settings.get("method"),
        "model": settings.get("model"),
        "splats": report.get("splats"),
        "megabytes": report.get("megabytes"),
        "seconds": seconds.get("fit") if isinstance(seconds, dict) else None,
    }


def _done(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {s["name"]: s for s in report["scenes"] if isinstance(s, dict) and s.get("status") == "done"}


def _paired(a: dict[str, Any], b: dict[str, Any], metric: str) -> tuple[float | None, float | None]:
    """A scene's two values, over the views that both have."""
    views_a, views_b = ({v["index"]: v.get(metric) for v in s.get("views", [])} for s in (a, b))
    if not views_a or not views_b:
        return a.get(metric), b.get(metric)
    common = [i for i in views_a if views_b.get(i) is not None and views_a[i] is not None]
    return mean([views_a[i] for i in common]), mean([views_b[i] for i in common])


def _verdict(metric: str, pairs: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Means, the mean difference B - A with its interval, how likely it is by chance, and words."""
    if not pairs:
        return {"scenes": 0, "verdict": "not measured in both"}
    differences = [y - x for _, x, y in pairs]
    difference, chance = mean(differences), sign_flip_probability(differences)
    assert difference is not None
    assert chance is not None
    interval = confidence_interval(differences)
    better = "B" if (difference > 0) != (metric in _LOWER_IS_BETTER) else "A"
    if difference == 0:
        verdict = "no difference"
    elif len(pairs) < _LEAST:
        verdict = f"{better} is ahead, but {_scenes(len(pairs))} too few to tell it from noise"
    elif chance < _LEVEL:
        verdict = f"{better} is better, by more than noise"
    else:
        verdict = f"{better} is ahead, but no more than noise"
    return {
        "scenes": len(pairs),
        "a": round(mean([x for _, x, _ in pairs]) or 0.0, 6),
        "b": round(mean([y for _, _, y in pairs]) or 0.0, 6),
        "difference": round(difference, 6),
        "confidence_95": None if interval is None else [round(v, 6) for v in interval],
        "chance": round(chance, 6),
        "b_better_in": sum((d > 0) != (metric in _LOWER_IS_BETTER) for d in differences if d),
        "verdict": verdict,
    }


def _brief(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 32 else f"{text[:28]}..."


def _scenes(count: int) -> str:
    return "1 scene is" if count == 1 else f"{count} scenes are"
