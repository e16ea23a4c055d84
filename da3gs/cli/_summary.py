"""Summary of a reconstruction: one JSON object, or a few lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from da3gs._memory import peak_memory_mb
from da3gs.checkpoints.choice import better_model
from da3gs.cli.refine import refinement_lines
from da3gs.photos.accounts import counted, restored, told
from da3gs.pipeline.check import CheckReport
from da3gs.scene import FrameRecord, Scene, SceneRecord


def summary(scene: Scene, output: Path, report: CheckReport, seconds: dict[str, float]) -> dict[str, Any]:
    """The object of ``da3gs reconstruct --json``."""
    record = scene.record
    return {
        "scene": str(output),
        "splats": len(scene.gaussians),
        "views": len(scene.views),
        "model": record["model"]["name"],
        "licence": record["model"]["licence"],
        "poses": record["poses"]["source"],
        "cameras": record["poses"]["cameras"],
        "dropped": counted(restored(record["views"]["dropped"])),
        "notes": record["views"].get("notes", []),
        "metric": record["frame"]["metric"],
        "psnr_input": record["psnr"]["input_mean"],
        "psnr_holdout": record["psnr"]["holdout_mean"],
        "holdout_poses": record["psnr"]["holdout_poses"],
        "check": {"psnr_file_vs_memory": report.psnr, "passed": report.passed},
        "seconds": {stage: round(value, 3) for stage, value in {**record["seconds"], **seconds}.items()},
        "peak_memory_mb": peak_memory_mb(),
    }


def summary_lines(scene: Scene, facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    record = scene.record
    kept, dropped = record["views"]["kept"], record["views"]["dropped"]
    lines = [
        f"{facts['scene']}: {facts['splats']:,} splats from {facts['views']} photos{spell_input(record['input'])}",
        f"  model    {facts['model']} ({facts['licence']}), {facts['poses']} cameras",
    ]
    if better := better_model(facts["model"]):
        what = f"{better.licence}, {better.megabytes:,} MB"
        lines.append(f"  better   depth of real photos with: da3gs models download {better.name} ({what})")
    if line := camera_line(record):
        lines.append(line)
    elif residual := record["poses"].get("residual"):
        lines.append(f"  cameras  predicted against given: {spell_figures(residual)}")
    if focal := record["poses"].get("focal"):
        about = f"predicted {focal['percent']:+.1f} % from the {focal['source'] or 'given'} focal length"
        lines.append(f"  focal    {about}, at most {focal['largest']:.1f} % ({focal['views']} photos)")
    if unit := spell_unit(record["frame"]):
        lines.append(f"  unit     {unit}")
    lines += [f"  left out {line}" for line in told(restored(dropped))]
    lines += [f"  note     {note}" for note in record["views"].get("notes", [])]
    if cleaned := {reason: count for reason, count in record["cleaned"].items() if count}:
        lines.append("  cleaned  " + ", ".join(f"{count:,} {reason}" for reason, count in cleaned.items()))
    quality = f"  quality  {facts['psnr_input']:.1f} dB at the photos"
    if facts["psnr_holdout"] is not None:
        held = sum(item["role"] == "holdout" for item in kept)
        quality += f", {facts['psnr_holdout']:.1f} dB at {held} held out ({facts['holdout_poses']} cameras)"
    lines.append(quality)
    if refinement := record.get("refinement"):
        lines += refinement_lines(refinement)
    if budget := record.get("budget"):
        lines.append(
            f"  budget   {budget['before']:,} splats to {budget['after']:,}, "
            f"at a price of {budget['psnr_price']:.2f} dB at the photos"
        )
    if facts["poses"] in ("predicted", "rays") and facts["psnr_input"] < DOUBTFUL:
        lines.append(
            "  advice   the predicted cameras do not fit together well: leave --poses out, or try a larger model"
        )
    check = facts["check"]
    against = check["psnr_file_vs_memory"]
    figure = "nothing to compare with" if against is None else f"{against:.1f} dB between file and memory"
    lines.append(f"  check    {'passed' if check['passed'] else 'FAILED'}, {figure}")
    peak = facts["peak_memory_mb"]
    took = "" if peak is None else f", at most {peak / 1000:.1f} GB of memory"
    lines.append(f"  {facts['seconds']['total']:.1f} s{took}")
    return lines


def camera_line(record: SceneRecord) -> str | None:
    """Line on how the cameras were found, where they were searched for; None where they were not."""
    cameras = record["poses"].get("cameras") or []
    ways = Counter(camera["placed"] for camera in cameras)
    errors = [c["reprojection_error"] for c in cameras if c["reprojection_error"] is not None]
    if not errors:
        return None
    if record["poses"].get("one_spot"):
        return f"  cameras  {len(cameras)} photos from one place: nothing tells depth, so they are shown on a sphere"
    words = ", ".join(f"{count} by {_WAYS[way]}" for way, count in ways.most_common())
    fewest = min(c["inliers"] for c in cameras if c["inliers"] is not None)
    return f"  cameras  {words}; {fmean(errors):.2f} px off on average, at least {fewest:,} points each"


DOUBTFUL = 24.0
"""dB at the photos themselves: splats that stand where they belong show their own photos better than this."""
_WAYS = {
    "given": "the input",
    "sfm": "structure-from-motion",
    "depth_prior": "structure-from-motion with depth as a prior",
    "predicted": "the network",
}
_INPUTS = {
    "photos": "",
    "transforms": " of a transforms.json",
    "colmap": " of a COLMAP model",
    "dl3dv": " of a DL3DV scene",
    "polycam": " of a Polycam export",
    "record3d": " of a Record3D export",
}


def spell_unit(frame: FrameRecord) -> str | None:
    """Unit of the scene in words, where it is known."""
    metres = frame.get("metres_per_given_unit")
    if frame.get("metric"):
        times = frame.get("given_times", 1)
        return "metres" if times == 1 else f"metres (the given poses times {times:.4g})"
    return None if metres is None else f"that of the given poses, about {metres:.3g} m by the model"


def spell_input(kind: str) -> str:
    """Origin of the photos in words that follow ``photos``."""
    return _INPUTS.get(kind, f" of a {kind}")


def spell_figures(figures: dict[str, Any]) -> str:
    """Names and figures with commas between."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items() if isinstance(value, int | float)
    )
