"""The figures on the card of the bundled model, from tables that ``benchmarks.quality`` saved.

    python -m da3gs.training.publish RUN/last.safetensors    # weights, and what the card says above its figures
    python -m benchmarks.quality --what scenes --poses both --save SCENES
    python -m benchmarks.quality --sets FOLDER --only desk,banana,berlin,buddha --poses both --save PHOTOS \\
        --resolutions 252 336 504
    python -m benchmarks.quality --what card --tables benchmarks/results/{SCENES,PHOTOS}.json --curve RUN/validation.csv

Only tables of the very weights that are bundled are taken. What stands above the figures is kept.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from da3gs._files import atomic_file, sha256
from da3gs.checkpoints import BUNDLED, model_card
from da3gs.checkpoints.load import weights_of

AIM = (3.0, 0.8)
"""dB above the nearest photo, and share of the way from there to the bound, that ``reconstruct`` should reach."""
_HEADING = "## Figures"
_HELPS = 0.01  # a doubling of the images that lowers AbsRel by less counts as no help

Table = dict[str, Any]
"""What ``save_table`` wrote: title, command, rows, remarks."""


def write_card(scenes: Path, photos: Path, *, curve: Path | None = None, weights: Path | None = None) -> str:
    """Replace the figures on the card beside the bundled weights; returns the new card.

    Args:
        scenes: the saved table of held-out scenes.
        photos: that of real photos.
        curve: a run's validation.csv, its log.csv beside.
        weights: the bundled file; the card has its name with the suffix .md.
    """
    weights = weights_of(model_card(BUNDLED)) if weights is None else weights
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in (scenes, photos)]
    for path, table in zip((scenes, photos), tables, strict=True):
        if not any(sha256(weights) in remark for remark in table["remarks"]):
            raise SystemExit(f"{path.name} was not measured with {weights.name}; run its command again")
    card = weights.with_suffix(".md")
    head = card.read_text(encoding="utf-8").partition(_HEADING)[0] if card.is_file() else f"# {weights.stem}\n\n"
    text = head + figures_text(tables[0], tables[1], [] if curve is None else read_curve(curve))
    with atomic_file(card, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def figures_text(scenes: Table, photos: Table, curve: Sequence[dict[str, Any]] = ()) -> str:
    """The section of the card, Markdown."""
    rows = scenes["rows"]
    head = any(row["head"] is not None for row in rows)
    parts = [
        _HEADING,
        f"Novel views of {rows[0]['scenes']} held-out procedural scenes a size, three photos given: PSNR in dB over "
        'pixels that\na given photo can have seen. "Constant depth" and "true depth" are splats as reconstruct makes '
        'them, from one depth\nfor the whole scene and from the true one, which is the bound; "its depth" is told the '
        'best scale where poses are\ngiven, "reconstruct" is what a user gets. "Share" is how far that is on the way '
        "from the nearest photo to the bound.",
        _markdown([_novel_views(row, head=head) for row in rows]),
        aim_text(rows),
        "Depth after one scale a scene and cameras, on the given photos of the same scenes; angles are means relative "
        "to the\nfirst view.",
        _markdown([_geometry(row) for row in rows]),
        "Real photos: PSNR of held-out ones, that of the nearest photo in brackets. Without poses the held-out cameras "
        "come\nfrom a second pass over all photos, laid on the scene by the other cameras.",
        _markdown(_by_resolution(photos["rows"])),
        *_curve_parts(curve),
        f"Repeated by `{scenes['command']}`,\n`{photos['command']}`,\nand written by `--what card` of the same.",
    ]
    return "\n\n".join(parts) + "\n"


def _novel_views(row: dict[str, Any], *, head: bool) -> dict[str, str]:
    """PSNR by how a novel view was made."""
    names = {"nearest_photo": "nearest photo", "constant_depth": "constant depth", "depth": "its depth"}
    names |= {"head": "its head"} if head else {}
    names |= {"reconstruct": "reconstruct", "true_depth": "true depth"}
    told = "-" if row["share"] is None else f"{100 * row['share']:.0f} %"
    values = {shown: _number(row[name]) for name, shown in names.items()}
    return {"size": row["size"], "poses": row["poses"], **values, "share": told}


def _geometry(row: dict[str, Any]) -> dict[str, str]:
    """How good depth and cameras are."""
    return {
        "size": row["size"],
        "poses": row["poses"],
        "AbsRel": f"{row['absrel']:.3f}",
        "constant depth": f"{row['constant_absrel']:.3f}",
        "δ1": f"{row['delta1']:.3f}",
        "rotation": f"{row['rotation']:.1f}°",
        "direction": f"{row['direction']:.1f}°",
        "AUC5": f"{row['auc5']:.3f}",
        "AUC30": f"{row['auc30']:.3f}",
    }


def aim_text(rows: Sequence[dict[str, Any]]) -> str:
    """Whether the aim is reached, in one sentence for each kind of poses."""
    lines = []
    for poses in dict.fromkeys(row["poses"] for row in rows):
        known = [r for r in rows if r["poses"] == poses and r["share"] is not None]
        reached = bool(known) and all(r["gain"] >= AIM[0] and r["share"] >= AIM[1] for r in known)
        told = ", ".join(f"{r['gain']:+.1f} dB and {100 * r['share']:.0f} % at {r['size']}" for r in known)
        lines.append(f"- With {poses} poses {'reached' if reached else 'not reached'}: {told or 'nothing was seen'}.")
    aim = f"The aim is {AIM[0]:g} dB above the nearest photo and {100 * AIM[1]:.0f} % of the way to the bound."
    return "\n".join((aim, "", *lines))


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Rows ``{"images", "size", "absrel"}`` of a run's validation.csv, poses not given, from log.csv's images seen."""
    with path.with_name("log.csv").open(newline="", encoding="utf-8") as file:
        images = {int(row["step"]): int(float(row["images"])) for row in csv.DictReader(file)}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["posed"] == "0"]
    found = []
    for row in rows:
        logged = [count for step, count in images.items() if step <= int(row["step"])]
        if logged:
            found.append({"images": max(logged), "size": row["size"], "absrel": float(row["absrel"])})
    return found


def thinned(counts: Sequence[int], *, most: int = 6) -> list[int]:
    """Of these numbers the last, and those nearest to its half, its quarter and so on, in order.

    >>> thinned([10, 20, 30, 40, 50, 60, 70, 80])
    [10, 20, 40, 80]
    """
    wanted = [max(counts) / 2**k for k in range(most)]
    return sorted({min(counts, key=lambda n: abs(n - w)) for w in wanted if w >= min(counts)})


def _curve_parts(curve: Sequence[dict[str, Any]]) -> list[str]:
    """Table and verdict; nothing where there is no curve."""
    if not curve:
        return []
    sizes = list(dict.fromkeys(row["size"] for row in curve))
    by_size = {size: {r["images"]: r["absrel"] for r in curve if r["size"] == size} for size in sizes}
    common = set.intersection(*(set(values) for values in by_size.values()))
    counts = thinned(sorted(common))
    rows = [{"images seen": f"{n:,}", **{size: f"{by_size[size][n]:.3f}" for size in sizes}} for n in counts]
    parts = ["AbsRel without poses as the training run went on:", _markdown(rows)]
    if len(counts) > 1:
        drops = [1 - by_size[size][counts[-1]] / by_size[size][counts[-2]] for size in sizes]
        told = ", ".join(f"{100 * drop:.1f} % at {size}" for drop, size in zip(drops, sizes, strict=True))
        helps = sum(drops) / len(drops) > _HELPS
        verdict = "longer training still helps" if helps else "longer training of this recipe no longer helps"
        parts.append(f"From {counts[-2]:,} to {counts[-1]:,} pictures it fell by {told}: {verdict}.")
    return parts


def _by_resolution(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """A row for each set and kind of poses, a column for each long side."""
    sides = {f"long side {row['resolution']}": "-" for row in rows}
    merged: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        line = merged.setdefault((row["set"], row["poses"]), {"set": row["set"], "poses": row["poses"], **sides})
        cell = f"{_number(row['psnr_holdout'])} ({_number(row['psnr_nearest_photo'])})"
        line[f"long side {row['resolution']}"] = cell
    return list(merged.values())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines)
