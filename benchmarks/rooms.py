"""The picture of the rooms in the page on architecture: the layers of the import contract, drawn as SVG.

Run: ``python -m benchmarks.rooms [-o assets/docs/rooms.svg]``.
"""

from __future__ import annotations

import argparse
import html
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PURPOSE = {
    "cli": "one module a command",
    "da3gs_viewer": "the scene in the browser",
    "training": "losses, data, the loop",
    "evaluation": "protocols, scores, reports",
    "pipeline": "the verbs: reconstruct, refine, render, check",
    "exports": "files for other programs, independent readers",
    "optimisation": "splats against photos",
    "poses": "cameras from photos",
    "depth": "depth where cameras are known",
    "splats": "prediction to Gaussians; pruning, merging",
    "checkpoints": "the model zoo",
    "procedural": "scenes that we draw",
    "upstream": "the official behaviour",
    "scene": "Scene and its folder",
    "photos": "files to Views",
    "network": "Views to depth, rays, cameras",
    "rendering": "Gaussians to pictures",
    "formats": "one module a file format: splats, cameras, media",
    "prediction": "what a network says",
    "views": "photos and cameras",
    "keyframes": "camera paths",
    "gaussians": "the splats",
    "cameras": "where photos were taken",
    "geometry": "pure tensor maths",
    "metrics": "PSNR, SSIM, pose and depth errors",
}
"""What each room is for; rooms without a word here (errors, small tools) are left out of the picture."""

WIDTH, ROW, GAP = 760, 46, 8
COLORS = {"network": "#7a5195", "photos": "#2f6fb3", "rendering": "#2f8f5b", "pipeline": "#b3582f"}
PLAIN, TEXT = "#4a5568", "#ffffff"


def layers() -> list[list[str]]:
    """The rooms of every layer, from the top."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    rows = contract["contracts"][0]["layers"]
    named = [[name.rpartition(".")[2] for name in re.findall(r"[\w.]+", row)] for row in rows]
    return [kept for row in named if (kept := [name for name in row if name in PURPOSE])]


def drawn(rows: list[list[str]]) -> str:
    """The picture: a row a layer; what lies lower is imported by what lies above it."""
    height = len(rows) * (ROW + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>Rooms of da3gs: imports go downward only</title>",
    ]
    for level, names in enumerate(rows):
        top, width = GAP + level * (ROW + GAP), (WIDTH - GAP * (len(names) + 1)) / len(names)
        for place, name in enumerate(names):
            left = GAP + place * (width + GAP)
            middle = left + width / 2
            parts += [
                f'<rect x="{left:g}" y="{top}" width="{width:g}" height="{ROW}" rx="6" '
                f'fill="{COLORS.get(name, PLAIN)}"/>',
                f'<text x="{middle:g}" y="{top + 20}" text-anchor="middle" font-size="15" font-weight="600" '
                f'fill="{TEXT}">{name}</text>',
                f'<text x="{middle:g}" y="{top + 37}" text-anchor="middle" font-size="11" '
                f'fill="{TEXT}">{html.escape(PURPOSE[name])}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "assets" / "docs" / "rooms.svg")
    options = parser.parse_args()
    options.output.write_text(drawn(layers()), encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
