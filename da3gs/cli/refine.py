"""``da3gs refine``: a scene's splats made better against its photos."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Optional

from tyro.conf import Positional

from da3gs.cli._cleaning import NO_CLEANING, CleaningOptions
from da3gs.cli._parse import SEEDED_DRAWING, Command, SeededDrawingOptions, Switch, option
from da3gs.cli._session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refine(Command):
    """Make the splats of a scene show its photos better, and write a new scene.

    Photos are left out in turn first: where refinement does not help there, the splats stay as they are.
    """

    source: Annotated[Positional[str], option("SCENE", hint="")]
    """A scene folder."""
    output: Annotated[str, option("SCENE2", "-o", hint="(required)")]
    """The scene folder to write."""
    overwrite: Switch = False
    """Replace SCENE2 if it is a scene folder."""
    seconds: Annotated[Optional[float], option("S", hint="(default: 30)")] = None
    """How long it may take."""
    steps: Annotated[Optional[int], option("N", hint="")] = None
    """Steps instead of seconds: the same on every machine."""
    holdout: Annotated[Optional[str], option("every:K|NAME,...", hint="")] = None
    """Photos of the scene not to refine against, only to score."""
    optimise_cameras: Switch = False
    """Move the cameras too."""
    surround: Switch = False
    """Put blurred colours of the scene behind everything, so that what no photo saw is not black."""
    budget: Annotated[Optional[int], option("N", hint="(default: 250000)")] = None
    """At most this many splats."""
    cleaning: CleaningOptions = NO_CLEANING
    common: SeededDrawingOptions = SEEDED_DRAWING

    def run(self, session: Session) -> int:
        """Refine, save, check, say what came of it."""
        from da3gs.cli._scenes import save_and_check, tell
        from da3gs.pipeline.refine import check_limits, refine
        from da3gs.scene import check_output, load_scene
        from da3gs.splats.pruning import cleaned_scene

        check_limits(self.seconds, self.steps, self.budget)
        start = time.perf_counter()
        check_output(self.output, overwrite=self.overwrite, inputs=[self.source])
        scene = load_scene(self.source, device=self.common.device)
        tell(Path(self.source), scene.notes)
        scene = cleaned_scene(scene, self.cleaning.limits(scene.views.names))
        with session.progress() as progress:
            done = refine(
                scene,
                seconds=self.seconds,
                steps=self.steps,
                holdout=self.holdout,
                optimise_cameras=self.optimise_cameras,
                surround=self.surround,
                budget=self.budget,
                seed=self.common.seed or 0,
                backend=self.common.backend,
                progress=progress,
            )
            report, seconds = save_and_check(
                done, Path(self.output), overwrite=self.overwrite, drawing=self.common, progress=progress
            )
        facts = done.record["refinement"] or {}
        session.result(
            {
                "scene": self.output,
                "splats": len(done.gaussians),
                "refinement": facts,
                "check": {"psnr_file_vs_memory": report.psnr, "passed": report.passed},
                "seconds": {**seconds, "total": round(time.perf_counter() - start, 3)},
            }
        )
        session.print(f"{self.output}: {facts['splats_before']:,} splats to {len(done.gaussians):,}")
        for line in refinement_lines(facts):
            session.print(line)
        return 0 if report.passed else 1


def refinement_lines(facts: dict[str, Any]) -> list[str]:
    """Outcome of refinement in lines for people."""
    trial = facts["trial"]
    at = "" if trial is None else f" at photos left out in turn ({', '.join(trial['photos'])})"
    behind = ["  surround blurred colours behind everything"] if facts.get("surround") else []
    won = "" if trial is None else f", {' and '.join(f'{gain:+.1f}' for gain in trial['gains'])} dB{at}"
    if not facts["kept"]:
        why = f"nothing was won{at}"
        if trial is not None and trial["best_step"]:
            why = f"a trial promised it{won}, but nothing was won in the time that was left: give more seconds"
        return [*behind, f"  refined  no: {why}; the splats are as they were"]
    lines = [
        *behind,
        f"  refined  {facts['steps']} steps in {facts['seconds']:.0f} s, "
        f"{facts['psnr_before']:.1f} to {facts['psnr_after']:.1f} dB at the photos{won}",
    ]
    if "psnr_holdout_after" in facts:
        lines.append(
            f"  held out {facts['psnr_holdout_before']:.1f} to {facts['psnr_holdout_after']:.1f} dB at photos not used"
        )
    return lines


COMMAND = Refine
