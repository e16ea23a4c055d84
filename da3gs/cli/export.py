"""``da3gs export``: splats and cameras as files of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from da3gs.cli._cleaning import NO_CLEANING, CleaningOptions
from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write splats as .ply, .compressed.ply, .splat, .spz or .html, or a scene's cameras and depth as a folder.

    The .html is a page for everyone: it opens from disk, without a network, at the first photo's camera. A .glb gets
    points in place of splats. What a format costs: `da3gs check FILE --against SCENE`.

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
    cleaning: CleaningOptions = NO_CLEANING
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Write, say what and where."""
        from da3gs.pipeline.export import export

        written = export(
            self.source,
            self.output,
            frame=self.frame,
            degree=self.sh_degree,
            limits=self.cleaning.limits(self._photos()),
            overwrite=self.overwrite,
        )
        session.result({"output": self.output, "written": written})
        what = "points (glTF has no splats)" if self.output.lower().endswith(".glb") else "written"
        session.print(f"{self.output}: {written:,} {what}")
        return 0

    def _photos(self) -> list[str] | None:
        """Names of the scene's photos; None for a bare file."""
        from da3gs.formats.transforms import load_transforms

        path = Path(self.source) / "transforms.json"
        return [Path(frame.file_path).stem for frame in load_transforms(path).frames] if path.is_file() else None


COMMAND = Export
