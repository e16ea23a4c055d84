"""``da3gs export``: splats and cameras as files of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

from tyro.conf import Positional

from da3gs.cli._cleaning import NO_CLEANING, CleaningOptions
from da3gs.cli._parse import DRAWING, Command, DrawingOptions, FileFrame, Frame, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.pipeline.export import Prepared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write splats as .glb, .spz, .ply, .compressed.ply, .splat or .html, or a scene's cameras and depth as a folder.

    The .html is a page for everyone: it opens from disk, without a network, at the first photo's camera. A .glb is glTF
    with KHR_gaussian_splatting. What a format costs: `da3gs check FILE --against SCENE`.

    A folder gets cameras.json, transforms.json, COLMAP's sparse/0 and depth/ (16-bit PNG, float32 .npy, preview); one
    that is called depth gets the depth alone.
    """

    source: Annotated[Positional[str], option("SCENE|FILE", hint="")]
    """A scene folder, or a splat file."""
    output: Annotated[Optional[str], option("FILE|DIR", "-o", hint="(required, or --mesh)")] = None
    """What to write; the suffix says what, a folder has none or a trailing slash."""
    mesh: Annotated[Optional[str], option("FILE.ply|FILE.glb", hint="")] = None
    """Write a triangle mesh in the photos' colours, made of the scene's depth."""
    overwrite: Switch = False
    """Replace the output if it is of the same kind."""
    frame: Annotated[Optional[Frame], option("FRAME", hint="(default: the format's, for most opencv)")] = None
    """Axes of the numbers that are written: opencv, opengl, colmap or supersplat."""
    input_frame: FileFrame = None
    """Axes of the numbers of a splat file that is read."""
    spz_version: Annotated[Literal[3, 4], option("3|4")] = 4
    """Version of .spz: 4, or 3 for programs that do not read 4 yet."""
    sh_degree: Annotated[Optional[int], option("N", hint="(default: all)")] = None
    """Leave out harmonics above this degree."""
    budget: Annotated[Optional[int], option("N", hint="(default: all)")] = None
    """At most this many splats: neighbours become one, going by the scene's photos."""
    max_mb: Annotated[Optional[float], option("X", hint="")] = None
    """At most this size of the file, in place of --budget."""
    cleaning: CleaningOptions = NO_CLEANING
    common: DrawingOptions = DRAWING

    def run(self, session: Session) -> int:
        """Write, say what and where."""
        if self.output is None and self.mesh is None:
            raise InputError("nothing to write: name a file or folder with -o, or a mesh with --mesh")
        mesh = None if self.mesh is None else self._mesh(self.mesh, session)
        if self.output is None:
            session.result({"mesh": mesh})
        else:
            self._splats(self.output, mesh, session)
        return 0

    def _mesh(self, output: str, session: Session) -> dict[str, object]:
        """Write the mesh, say how large it is."""
        from da3gs.exports.mesh import check_mesh_output, mesh_of, save_mesh
        from da3gs.scene import load_scene

        check_mesh_output(Path(output), overwrite=self.overwrite)
        if not (Path(self.source) / "scene.json").is_file():
            raise InputError(f"--mesh is made of a scene's depth, and {self.source} is no scene folder")
        mesh = mesh_of(load_scene(self.source))
        save_mesh(mesh, output, overwrite=self.overwrite)
        session.print(f"{output}: {len(mesh.faces):,} triangles written")
        return {"output": output, "vertices": len(mesh.vertices), "faces": len(mesh.faces)}

    def _splats(self, output: str, mesh: dict[str, object] | None, session: Session) -> None:
        """Write the splats or the cameras, say what and where."""
        from da3gs.pipeline.export import prepared

        with session.progress() as progress:
            ready = prepared(
                self.source,
                output,
                frame=self.frame,
                input_frame=self.input_frame,
                spz_version=self.spz_version,
                degree=self.sh_degree,
                limits=self.cleaning.limits(self._photos()),
                budget=self.budget,
                max_mb=self.max_mb,
                device=self.common.device,
                backend=self.common.backend,
                overwrite=self.overwrite,
                progress=progress,
            )
        megabytes = ready.megabytes
        for line in plan_lines(ready, megabytes):
            session.print(line)
        session.flush()
        written, losses = ready.write(), ready.losses()
        session.result(
            {
                "output": output,
                "mesh": mesh,
                "written": written,
                "megabytes": megabytes,
                "dropped": ready.dropped,
                "budget": ready.merged,
                "losses": None if losses is None else losses.as_dict(),
                "offset": ready.content.offset,
                "notes": ready.notes,
                "advice": ready.advice or None,
            }
        )
        if ready.advice:
            session.print(f"advice   {ready.advice}")
        for line in () if losses is None else losses.lines():
            session.print(f"lost     {line}")
        session.print(f"{output}: {'cameras' if ready.suffix == '/' else 'splats'} written")

    def _photos(self) -> list[str] | None:
        """Names of the scene's photos; None for a bare file."""
        from da3gs.formats.cameras.transforms import load_transforms

        path = Path(self.source) / "transforms.json"
        return [Path(frame.file_path).stem for frame in load_transforms(path).frames] if path.is_file() else None


def plan_lines(ready: Prepared, megabytes: float | None) -> list[str]:
    """Plan of the export in lines for people."""
    if megabytes is None:
        return [f"{ready.count:,} cameras"]
    lines = [f"read     {note}" for note in ready.notes]
    if ready.content.offset is not None and any(ready.content.offset):
        lines.append("offset   " + " ".join(f"{value:.12g}" for value in ready.content.offset) + ", to be added")
    if ready.dropped:
        lines.append("cleaned  " + ", ".join(f"{count:,} {reason}" for reason, count in ready.dropped.items()))
    if merged := ready.merged:
        price = f"at a price of {merged['psnr_price']:.2f} dB at the photos"
        lines.append(f"budget   {merged['before']:,} splats to {merged['after']:,}, {price}")
    return [*lines, f"{ready.count:,} splats, {megabytes:.2f} MB"]


COMMAND = Export
