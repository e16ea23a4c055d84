"""PlayCanvas' compressed PLY, by plyfile."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from da3gs.errors import InputError
from da3gs.exports.independent.ply import elements, says_antialiased, stated_axes, statements
from da3gs.exports.independent.record import DecodedSplats


def decode(path: Path) -> DecodedSplats:
    """PlayCanvas': unsigned fractions between the bounds of chunks of 256."""
    found = elements(path)
    chunks, vertices, rest = found["chunk"], found.get("vertex"), found.get("sh")
    if vertices is None or not {"packed_position", "packed_rotation", "packed_scale", "packed_color"} <= set(
        vertices.dtype.names or ()
    ):
        raise InputError(f"{path.name} is no compressed PLY that check knows")
    if len(chunks) * 256 < len(vertices) or (rest is not None and len(rest) != len(vertices)):
        raise InputError(f"{path.name} is broken: its chunks or harmonics do not fit its {len(vertices)} splats")
    chunk = chunks[np.arange(len(vertices)) >> 8]

    def fractions(name: str, *widths: int) -> list[np.ndarray]:
        """Packed columns of these widths in bits, as shares of their range."""
        value, columns = vertices[name].astype(np.int64), []
        for width in reversed(widths):
            columns.append((value % 2**width) / (2**width - 1))
            value = value // 2**width
        return columns[::-1]

    def between(name: str, fraction: np.ndarray) -> np.ndarray:
        """Shares of the chunk's range, as values."""
        if f"min_{name}" not in (chunk.dtype.names or ()):
            return fraction
        low, high = chunk[f"min_{name}"].astype(np.float64), chunk[f"max_{name}"].astype(np.float64)
        return low * (1 - fraction) + high * fraction

    position, scale = fractions("packed_position", 11, 10, 11), fractions("packed_scale", 11, 10, 11)
    *color, alpha = fractions("packed_color", 8, 8, 8, 8)
    which, a, b, c = fractions("packed_rotation", 2, 10, 10, 10)
    small = [(part - 0.5) * math.sqrt(2) for part in (a, b, c)]
    large = np.sqrt(np.maximum(0, 1 - sum(part**2 for part in small)))
    quaternions = np.zeros((len(vertices), 4))
    for index in range(4):
        chosen = np.rint(which * 3) == index
        quaternions[chosen] = np.column_stack([*small[:index], large, *small[index:]])[chosen]
    bands = 0 if rest is None else len(rest.dtype.names or ()) // 3
    harmonics = np.zeros((len(vertices), bands + 1, 3))
    for channel, name in enumerate("rgb"):
        harmonics[:, 0, channel] = (between(name, color[channel]) - 0.5) * (2 * math.sqrt(math.pi))
        for band in range(bands):
            assert rest is not None
            harmonics[:, band + 1, channel] = ((rest[f"f_rest_{channel * bands + band}"] + 0.5) / 256 - 0.5) * 8
    axes, reason = stated_axes(path)
    return DecodedSplats.of(
        ".compressed.ply",
        harmonics,
        means=np.column_stack([between(name, position[i]) for i, name in enumerate("xyz")]),
        scales=np.exp(np.column_stack([between(f"scale_{name}", scale[i]) for i, name in enumerate("xyz")])),
        quaternions=quaternions,
        opacities=alpha,
        axes=axes,
        reason=reason,
        antialiased=says_antialiased(path),
        statements=statements(path),
    )
