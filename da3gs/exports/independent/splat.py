"""antimatter15's ``.splat``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from da3gs.exports.independent.record import DecodedSplats


def decode(path: Path) -> DecodedSplats:
    """antimatter15's: rows of 8 float32 words, the last two of which are 8 bytes."""
    words = np.fromfile(path, "<f4").reshape(-1, 8)
    octets = words[:, 6:].copy().view(np.uint8).astype(np.float64)
    return DecodedSplats.of(
        ".splat",
        ((octets[:, None, 0:3] / 255) - 0.5) * (2 * math.sqrt(math.pi)),
        means=words[:, 0:3],
        scales=words[:, 3:6],
        quaternions=octets[:, 4:8] / 128 - 1,
        opacities=octets[:, 3] / 255,
    )
