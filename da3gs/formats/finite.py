"""Splats whose numbers are not finite: left out by whatever reads a file or a scene, and told."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from da3gs.errors import InputError
from da3gs.gaussians import Gaussians


def finite_rows(gaussians: Gaussians, name: str) -> tuple[Bool[Tensor, "N"], tuple[str, ...]]:
    """Mask of splats with finite numbers only, and a line on the others where there are any; ``name`` is their file's.

    Raises:
        InputError: no splat is finite.
    """
    keep = gaussians.finite
    bad = int((~keep).sum())
    if bad and bad == len(gaussians):
        raise InputError(f"{name} has no splat whose numbers are all finite ({bad} splats); train or export it anew")
    return keep, (f"{bad} splats left out, whose numbers are not finite",) if bad else ()
