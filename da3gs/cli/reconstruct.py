"""``da3gs reconstruct``: photos in, scene out."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

from da3gs.cli._cleaning import NO_CLEANING, CleaningOptions
from da3gs.cli._parse import (
    NO_WORDS,
    SEEDED_DRAWING,
    Command,
    SeededDrawingOptions,
    Switch,
    Words,
    number_or_auto,
    option,
    seconds_or_auto,
)
from da3gs.cli._session import Session
from da3gs.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(Command):
    """Turn photos into a scene folder with Gaussian splats.

    INPUT is photos, a folder, a .zip, a video, a transforms.json, a COLMAP model or a DL3DV scene; told apart by what
    it is.
    """

    no_keywords = frozenset({"inputs", "output", "overwrite", "view", "dry_run"})

    inputs: Annotated[Words, option("INPUT...", hint="")] = NO_WORDS
    """What to read."""
    output: Annotated[Optional[str], option("SCENE", "-o", hint="(default: ./NAME.scene, numbered when taken)")] = None
    """The scene folder to write."""
    overwrite: Switch = False
    """Replace SCENE if it is a scene folder."""
    view: Switch = False
    """Open the viewer when it is done."""
    dry_run: Switch = False
    """Say what would be read, picked and loaded, and how much memory it needs; write nothing."""
    model: Annotated[str, option("auto|NAME|FILE|FOLDER")] = "auto"
    """A name of `da3gs models`, a file, or an official checkpoint folder; auto: the best on this machine that allows
    commercial use."""
    poses: Literal["auto", "given", "predicted", "rays", "colmap"] = "auto"
    """Where the cameras come from; auto: those of the input if it has any, else those of the model if they are good,
    else structure-from-motion in the best way that holds. predicted, rays: the model's, or those of its ray maps.
    colmap: structure-from-motion and nothing else."""
    features: Literal["auto", "sift", "xfeat", "aliked"] = "auto"
    """Local features that structure-from-motion matches; auto: SIFT, and where it places too few photos XFeat, if
    `da3gs[features]` is installed. xfeat, aliked: these beside SIFT from the start."""
    shared_focal: Switch = False
    """One camera took all photos, at one focal length."""
    splats: Literal["auto", "head", "depth"] = "auto"
    """From the model's splat head, or one Gaussian a pixel from depth; auto: where cameras are exact, from depth that
    stereo finds; else the head where there is one, but with the bundled model, or one that you trained, from depth
    wherever the photos agree on it."""
    views: Annotated[str, option("N|auto")] = "auto"
    """At most this many photos; auto: as many as the model takes."""
    chunk: Annotated[str, option("N|auto")] = "auto"
    """How many photos go through the network together; more are taken in overlapping chunks and joined. auto: 32, or
    what the model takes."""
    fps: Annotated[Optional[float], option("F", hint="")] = None
    """Frames a second to take from a video."""
    resolution: Annotated[str, option("N|auto")] = "auto"
    """Long side in pixels; auto: the model's own."""
    detail: Annotated[str, option("N|auto")] = "auto"
    """Where cameras are exact: long side of the pixel grid that splats are made on; auto: about 1,000, fewer where the
    photos are smaller or the budget is."""
    masks: Annotated[Optional[str], option("DIR", hint="")] = None
    """Pictures by the photos' names, white where a pixel is to be kept."""
    invert_masks: Switch = False
    """The masks are white where a pixel is not to be kept."""
    panoramas: Literal["auto", "always", "never"] = "auto"
    """Which photos are 360-degree panoramas and become six views each: auto: those that say so (360-degree cameras
    write it); always: every photo twice as wide as high."""
    split: Optional[Literal["train", "val", "test", "all"]] = None
    """Of a folder with transforms_train.json, transforms_val.json and transforms_test.json, which to read; train
    unless told."""
    metric: Literal["auto", "on", "off"] = "auto"
    """Whether lengths are metres; auto: where the model is metric."""
    sky: Literal["drop", "shell"] = "drop"
    """Leave the sky out, or put it on a far shell."""
    up: Literal["auto", "camera", "given"] = "auto"
    """Without poses: level the world along gravity, or keep the first camera's axes."""
    clean: bool = True
    """Drop splats at depth edges, in masked regions, and those that are not positive."""
    cleaning: CleaningOptions = NO_CLEANING
    budget: Annotated[Optional[int], option("N", hint="(default: 1500000)")] = None
    """At most this many splats."""
    max_mb: Annotated[Optional[float], option("X", hint="")] = None
    """At most this size of the .ply, in place of --budget."""
    refine: Annotated[str, option("auto|SECONDS")] = "auto"
    """Time to spend on making the splats show the photos better; 0: none; auto: about 15 seconds with the bundled
    model and exact cameras, else none."""
    holdout: Annotated[Optional[str], option("every:K|NAME,...", hint="")] = None
    """Photos to keep out of the model and to score afterwards."""
    upstream: Switch = False
    """The official behaviour to the letter."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the network computes in."""
    images: Literal["used", "original"] = "used"
    """Keep the photos in the scene as they were used, or at full size."""
    common: SeededDrawingOptions = SEEDED_DRAWING

    def run(self, session: Session) -> int:
        """Reconstruct, save, check, say what came of it."""
        if not self.inputs:
            raise InputError("nothing to reconstruct: name photos, a folder, a zip, a video ... (see --help)")
        sources = [Path(word) for word in self.inputs]
        if self.dry_run:
            return self._plan(sources, session)
        from da3gs.cli._scenes import default_scene_path, finished_pieces, one_or_many, save_and_check
        from da3gs.cli._summary import summary, summary_lines
        from da3gs.pipeline.reconstruct import reconstruct
        from da3gs.scene import check_output

        start = time.perf_counter()
        output = default_scene_path(sources) if self.output is None else Path(self.output)
        check_output(output, overwrite=self.overwrite, inputs=sources)
        with session.progress() as progress, finished_pieces(output) as partial:
            scene = reconstruct(one_or_many(sources), progress=progress, partial=partial, **self.keywords())
            report, seconds = save_and_check(
                scene, output, overwrite=self.overwrite, drawing=self.common, progress=progress
            )
        seconds["total"] = time.perf_counter() - start
        facts = summary(scene, output, report, seconds)
        for line in summary_lines(scene, facts):
            session.print(line)
        if self.view and report.passed:
            from da3gs.cli.view import show

            show(scene, session, drawing=self.common, facts=facts)
            return 0
        session.result(facts)
        return 0 if report.passed else 1

    def keywords(self) -> dict[str, Any]:
        """The flags as keywords of `da3gs.reconstruct`."""
        names = ("views", "chunk", "resolution", "detail")
        sizes = {name: number_or_auto(f"--{name}", getattr(self, name)) for name in names}
        return super().keywords() | sizes | {"refine": seconds_or_auto("--refine", self.refine)}

    def _plan(self, sources: list[Path], session: Session) -> int:
        from da3gs.cli._scenes import one_or_many
        from da3gs.pipeline.dry_run import plan

        planned = plan(one_or_many(sources), **self.keywords())
        session.result(planned)
        left_out, notes = planned.pop("left_out"), planned.pop("notes")
        for key, value in planned.items():
            words = "; ".join(left_out) or "none" if key == "dropped" else spelled(value)
            session.print(f"{key.replace('_', ' ')}: {words}")
        for note in notes:
            session.print(f"note: {note}")
        return 0


def spelled(value: object) -> str:
    """A value of a plan in words."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(spelled, value)) or "none"
        case dict():
            return ", ".join(f"{k} {spelled(v)}" for k, v in value.items()) or "none"
        case float():
            return f"{value:.4g}"
    return str(value)


COMMAND = Reconstruct
