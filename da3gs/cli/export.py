"""``da3gs export``: splats and cameras as files of other programs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session

if TYPE_CHECKING:
    from da3gs.pipeline.clean import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write splats as .ply, .compressed.ply, .splat or .spz, or a scene's cameras and depth as a folder.

    A folder gets cameras.json, transforms.json, COLMAP's sparse/0 and depth/ (16-bit PNG, float32 .npy, preview); one
    that is called depth gets the depth alone.
    """

    source: Annotated[Positional[str], option("SCENE|FILE", hint="")]
    """A scene folder, or a splat file."""
    output: Annotated[str, option("FILE|DIR", "-o", hint="(required)")]
    """What to write; the suffix says what, a folder has none or a trailing slash."""
    overwrite: Switch = False
    """Replace the output if it is of the same kind."""
    frame: Literal["opencv", "opengl", "colmap", "supersplat"] = "opencv"
    """Axes of the world that is written."""
    sh_degree: Annotated[int | None, option("N", hint="(default: all)")] = None
    """Leave out harmonics above this degree."""
    min_opacity: Annotated[float | None, option("A", hint="")] = None
    """Drop splats below this opacity, 0 to 1."""
    min_confidence: Annotated[float | None, option("C", hint="")] = None
    """Drop splats below this confidence of the model; needs a scene."""
    edge: Annotated[float | None, option("E", hint="")] = None
    """Drop splats where depth jumps by more than this share; needs a scene."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Write, say what and where."""
        from da3gs.pipeline.export import export

        written = export(
            self.source,
            self.output,
            frame=self.frame,
            degree=self.sh_degree,
            limits=self._limits(),
            overwrite=self.overwrite,
        )
        session.result({"output": self.output, "written": written})
        session.print(f"{self.output}: {written:,} written")
        return 0

    def _limits(self) -> Limits | None:
        """The bounds, or None where no flag asks for any."""
        from da3gs.pipeline.clean import Limits

        if (self.min_opacity, self.min_confidence, self.edge) == (None, None, None):
            return None
        return Limits(min_opacity=self.min_opacity, min_confidence=self.min_confidence, edge=self.edge, sky=False)


COMMAND = Export
