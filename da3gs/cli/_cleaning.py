"""The flags that say which splats stay: the same words wherever splats are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from da3gs.cli._parse import option

if TYPE_CHECKING:
    from da3gs.splats.pruning import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Bounds that splats have to keep."""

    min_opacity: Annotated[Optional[float], option("A", hint="")] = None
    """Drop splats below this opacity, 0 to 1."""
    min_confidence: Annotated[Optional[float], option("C", hint="")] = None
    """Drop splats below this confidence of the model."""
    edge: Annotated[Optional[float], option("E", hint="")] = None
    """Drop splats where depth jumps by more than this share."""
    max_size: Annotated[Optional[float], option("S", hint="")] = None
    """Drop splats larger than this (standard deviation, in the scene's unit)."""
    outliers: Annotated[Optional[int], option("N", hint="")] = None
    """Drop splats with fewer than N others around them."""
    crop: Annotated[Optional[str], option("BOX", hint="")] = None
    """Keep what lies in the box x0,y0,z0,x1,y1,z1; write --crop=BOX where it begins with a minus."""
    photos: Annotated[Optional[str], option("NAME,...", hint="")] = None
    """Keep only splats of these photos (names or positions), and those merged from several."""

    def limits(self, names: Sequence[str] | None) -> Limits | None:
        """The bounds, or None where no flag asks for any.

        Args:
            names: of the scene's photos; None for a bare file.

        Raises:
            InputError: a value means nothing, or names a photo that is not there.
        """
        from da3gs.errors import InputError
        from da3gs.splats.pruning import Limits, parse_crop, parse_photos

        if self == Cleaning():
            return None
        if self.photos is not None and names is None:
            raise InputError("--photos needs a scene folder; a bare file does not know its photos")
        return Limits(
            min_opacity=self.min_opacity,
            min_confidence=self.min_confidence,
            edge=self.edge,
            sky=False,
            max_size=self.max_size,
            outliers=self.outliers,
            crop=None if self.crop is None else parse_crop(self.crop),
            views=None if self.photos is None or names is None else parse_photos(self.photos, names),
        )


CleaningOptions = Annotated[Cleaning, tyro.conf.OmitArgPrefixes]
"""The cleaning flags as a field of a command, without a prefix."""

NO_CLEANING = Cleaning()
"""The cleaning flags where none is given."""
