"""Losses of a conversion: what a file holds, read back by the independent decoders, against what it was made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.exports.independent import decode_splats
from da3gs.formats.far_offset import FINEST, median_splat
from da3gs.formats.records import Format
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import harmonic_basis

COLOR_BOUND = 2.0
"""Of 255; more is a loss, of a colour from any side and of an opacity alike."""

SIZE_BOUND = 0.05
"""Of a splat's largest standard deviation."""

_SAMPLES = 100_000
_SIDES = torch.nn.functional.normalize(
    torch.tensor([(x, y, z) for x in (-1.0, 0, 1) for y in (-1.0, 0, 1) for z in (-1.0, 0, 1) if x or y or z]), dim=1
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Losses of a file: the distance of its worst splat from what it was made of."""

    positions: float = 0.0
    """Distance, in the unit of the file."""
    positions_relative: float = 0.0
    """The same, in standard deviations of the median splat."""
    colors: float = 0.0
    """Of 255, as seen from the worst of 26 sides."""
    opacities: float = 0.0
    """Of 255."""
    sizes: float = 0.0
    """Share of its largest standard deviation."""
    not_kept: tuple[str, ...] = ()
    """What was known of the splats and has no place in the format."""

    def lines(self) -> list[str]:
        """Lines on what is lost beyond the bounds; empty where nothing is."""
        found = []
        if self.positions_relative > FINEST:
            found.append(f"positions up to {self.positions:.3g} off, {self.positions_relative:.2%} of the median splat")
        if self.colors > COLOR_BOUND:
            found.append(f"colours up to {self.colors:.1f} of 255 off")
        if self.opacities > COLOR_BOUND:
            found.append(f"opacities up to {self.opacities:.1f} of 255 off")
        if self.sizes > SIZE_BOUND:
            found.append(f"sizes up to {self.sizes:.1%} off")
        if self.not_kept:
            found.append(f"not kept: {', '.join(self.not_kept)}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "not_kept": list(self.not_kept), "beyond_bounds": self.lines()}


def measured_losses(
    gaussians: Gaussians, path: Path, row: Format, not_kept: tuple[str, ...] = (), *, exact: bool = False
) -> Losses:
    """Losses of a file against the splats that it was written from; both in the axes of the file.

    Args:
        gaussians: what was written.
        path: the file.
        row: its format.
        not_kept: what has no place in it.
        exact: measure formats too that store float32.

    Raises:
        InputError: the file cannot be read back.
    """
    if (row.lossless and not exact) or not len(gaussians):
        return Losses(not_kept=not_kept)
    before = gaussians.detach().to("cpu", torch.float32)
    if row.order is not None:
        before = before.masked(row.order(before))
    again = decode_splats(path)
    moved = (torch.from_numpy(again.means).float() - before.means).norm(dim=-1)
    largest = before.scales.amax(-1).clamp(min=1e-30)
    sizes = torch.from_numpy(again.scales).float().amax(-1) / largest - 1
    opacities = torch.from_numpy(again.opacities).float() - before.opacities
    step = 1 + len(before) // _SAMPLES
    colors = _shown(torch.from_numpy(again.harmonics[::step]).float()) - _shown(before.harmonics[::step])
    size, worst = median_splat(before), float(moved.max())
    return Losses(
        positions=worst,
        positions_relative=worst / size if size > 0 else 0.0,
        colors=255 * float(colors.abs().max()),
        opacities=255 * float(opacities.abs().max()),
        sizes=float(sizes.abs().max()),
        not_kept=not_kept,
    )


def _shown(harmonics: Float[Tensor, "N K 3"]) -> Float[Tensor, "S N 3"]:
    """Colours from all sides, as a screen shows them."""
    basis = harmonic_basis(_SIDES, round(harmonics.shape[-2] ** 0.5) - 1)
    return (torch.einsum("sk,nkc->snc", basis, harmonics) + 0.5).clamp(0, 1)
