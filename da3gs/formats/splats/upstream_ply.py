"""The official exporter's PLY, to the letter: the same bytes for the same splats, quirks included.

For comparisons and ``--upstream`` only; ``da3gs.formats.splats.ply`` writes what users should have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.formats.splats.ply import header_bytes, property_names
from da3gs.gaussians import Gaussians


def upstream_rows(
    gaussians: Gaussians,
    depth: Float[Tensor, "V H W"],
    *,
    harmonics: Literal["dc", "all", "padded"] = "dc",
    logit: bool = True,
    nearest: float = 0.9,
    border: bool = True,
    every: int | None = 1,
    centered: bool = False,
) -> tuple[bytes, Float[Tensor, "M P"]]:
    """The header and the rows of the official PLY; its rows have no normals where ``harmonics`` is ``padded``.

    The defaults are what the official exporter asks for. Quaternions are stored as they are, opacities are not held
    away from 0 and 1, and splats of images under 32 pixels are all dropped by ``border``, as upstream does.

    Args:
        gaussians: one splat a pixel, in the order view, row, column.
        depth: the final depth of these pixels.
        harmonics: only the constant band; all; or the constant one and 45 zeros (what MCMC training code reads).
        logit: store opacities as logits, not as they are.
        nearest: keep the pixels whose depth is within this quantile of their view; 1 keeps all.
        border: drop the outer 8/256 of every view.
        every: keep each k-th view; None: about twelve of them.
        centered: move the median to the origin and scale to about [-1, 1].

    Raises:
        InputError: there is not one splat for every pixel.
    """
    if len(gaussians) != depth.numel():
        raise InputError(f"upstream's PLY needs one splat a pixel: {depth.numel()} pixels, got {len(gaussians)} splats")
    if centered:
        gaussians = _centered(gaussians)
    kept = gaussians.masked(official_pixels(depth, nearest=nearest, border=border, every=every).flatten())
    bands = {"dc": 1, "all": kept.harmonics.shape[-2], "padded": 16}[harmonics]
    names = property_names(bands, normals=harmonics != "padded")
    match harmonics:
        case "dc":
            rest = kept.harmonics[:, :0, 0]
        case "all":
            rest = kept.harmonics[:, 1:].transpose(1, 2).flatten(1)
        case "padded":
            rest = kept.means.new_zeros(len(kept), 45)
        case other:
            assert_never(other)
    normals = kept.means.new_zeros(len(kept), 0 if harmonics == "padded" else 3)
    opacities = torch.logit(kept.opacities) if logit else kept.opacities
    columns = [kept.means, normals, kept.harmonics[:, 0], rest]
    columns += [opacities[:, None], kept.scales.log(), kept.quaternions]
    return header_bytes(len(kept), names), torch.cat([column.float() for column in columns], 1)


def save_upstream_ply(
    gaussians: Gaussians, depth: Float[Tensor, "V H W"], path: Path | str, *, overwrite: bool = False
) -> None:
    """Write the file that the official exporter writes for these splats and this depth."""
    header, rows = upstream_rows(gaussians, depth)
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        temporary.write_bytes(header + rows.cpu().numpy().astype("<f4").tobytes())


def official_pixels(
    depth: Float[Tensor, "V H W"], *, nearest: float = 0.9, border: bool = True, every: int | None = 1
) -> Bool[Tensor, "V H W"]:
    """Mask of the pixels that the official exporter keeps; arguments as for ``upstream_rows``."""
    views, height, width = depth.shape
    keep = torch.ones_like(depth, dtype=torch.bool)
    if nearest < 1:
        keep = depth <= torch.quantile(depth.flatten(1), nearest, dim=1)[:, None, None]
    if border:
        rows, columns = int(8 / 256 * height), int(8 / 256 * width)
        inner = torch.zeros_like(keep)
        inner[:, rows:-rows, columns:-columns] = True
        keep &= inner
    step = max(views // 12, 1) if every is None else every
    keep &= (torch.arange(views, device=depth.device) % step == 0)[:, None, None]
    return keep


def _centered(gaussians: Gaussians) -> Gaussians:
    means = gaussians.means - gaussians.means.median(0).values
    factor = 1 / means.abs().quantile(0.95, dim=0).max()
    return Gaussians(
        means=means * factor,
        scales=gaussians.scales * factor,
        quaternions=gaussians.quaternions,
        opacities=gaussians.opacities,
        harmonics=gaussians.harmonics,
    )
