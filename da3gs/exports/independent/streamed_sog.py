"""Streamed SOG: the finest level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from da3gs.exports.independent.record import DecodedSplats
from da3gs.exports.independent.sog import decode_files


def decode(path: Path) -> DecodedSplats:
    """The splats of every place, in its finest level, by the tree."""
    told = json.loads(path.read_bytes())
    files: dict[int, DecodedSplats] = {}

    def parts(node: dict[str, Any]) -> list[tuple[DecodedSplats, slice]]:
        """Files that the leaves below a node point to."""
        if "children" in node:
            return [part for child in node["children"] for part in parts(child)]
        place = node["lods"][min(node["lods"], key=int)]
        if place["file"] not in files:
            folder = (path.parent / told["filenames"][place["file"]]).parent
            files[place["file"]] = decode_files(path.name, lambda entry: (folder / entry).read_bytes())
        return [(files[place["file"]], slice(place["offset"], place["offset"] + place["count"]))]

    found = parts(told["tree"])
    bands = max(splats.harmonics.shape[1] for splats, _ in found)
    rest = [np.pad(s.harmonics[rows], ((0, 0), (0, bands - s.harmonics.shape[1]), (0, 0))) for s, rows in found]
    return DecodedSplats.of(
        "lod-meta.json",
        np.concatenate(rest),
        means=np.concatenate([splats.means[rows] for splats, rows in found]),
        scales=np.concatenate([splats.scales[rows] for splats, rows in found]),
        quaternions=np.concatenate([splats.quaternions[rows] for splats, rows in found]),
        opacities=np.concatenate([splats.opacities[rows] for splats, rows in found]),
        antialiased=any(splats.antialiased for splats, _ in found),
    )
