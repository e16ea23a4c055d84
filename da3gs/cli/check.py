"""``da3gs check``: is a splat file what the scene promised?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Optional

from tyro.conf import Positional

from da3gs.cli._parse import DRAWING, Command, DrawingOptions, FileFrame, option
from da3gs.cli._session import Session

if TYPE_CHECKING:
    from da3gs.pipeline.check import CheckReport


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Read a splat file with an independent decoder, render the scene's reference cameras with it and compare.

    Prints splat count, bounds, values that are not finite, and the PSNR of every camera. Exit 1 when it falls under
    the bound. A bare file with nothing to compare with gets its statistics only.
    """

    source: Annotated[Positional[str], option("SCENE|FILE", hint="")]
    """A scene folder, or a splat file."""
    against: Annotated[Optional[str], option("SCENE", hint="")] = None
    """The scene to compare a bare file with."""
    min_psnr: Annotated[Optional[float], option("DB", hint="(default: 60 for .ply, 45 for other formats)")] = None
    """The bound."""
    frame: FileFrame = None
    """The axes of the file's numbers: opencv, opengl, colmap or supersplat."""
    common: DrawingOptions = DRAWING

    def run(self, session: Session) -> int:
        """Check, print, say whether it held."""
        from da3gs.pipeline.check import check

        report = check(
            self.source,
            against=self.against,
            min_psnr=self.min_psnr,
            frame=self.frame,
            device=self.common.device,
            backend=self.common.backend,
        )
        session.result(report.as_dict())
        for line in check_lines(report):
            session.print(line)
        return 0 if report.passed else 1


def check_lines(report: CheckReport) -> list[str]:
    """Report in lines for people."""
    from da3gs.formats.axes import axes_words

    lines = [f"{report.file}: {report.splats:,} splats, {report.nonfinite or 'no'} values that are not finite"]
    if report.bounds is not None:
        low, high = ("(" + ", ".join(f"{x:.4g}" for x in corner) + ")" for corner in report.bounds)
        lines.append(f"bounds {low} to {high}")
    lines.append(f"axes {axes_words(report.axes)} ({report.axes}): {report.axes_reason}")
    if report.statements:
        lines.append(f"it says: {'; '.join(report.statements)}")
    if report.antialiased:
        lines.append("its splats are for a renderer that compensates for its blur")
    for index, value in enumerate(report.psnr_cameras or ()):
        lines.append(f"camera {index}: {value:.2f} dB")
    if report.note is not None:
        lines.append(report.note)
    if report.psnr is None and report.note is None:
        lines.append("nothing to compare with; name the scene with --against")
    if report.psnr is not None:
        if report.precision is not None:
            kept = "every harmonic" if report.degree == 3 else f"harmonics up to degree {report.degree}"
            lines.append(f"{report.format} with {kept}: its precision alone gives {report.precision:.2f} dB")
        lines.append(f"worst {report.psnr:.2f} dB, at least {report.min_psnr:g} wanted")
    lines.append("passed" if report.passed else "FAILED")
    return lines


COMMAND = Check
