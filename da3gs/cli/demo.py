"""``da3gs demo``: the whole path on the bundled photos."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

from da3gs.cli._parse import SEEDED_DRAWING, Command, SeededDrawingOptions, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.scene import Scene

SECONDS, FRAMES_A_SECOND = 2.5, 24.0
ENLARGED = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Reconstruct the bundled photos from the pictures alone with the bundled model, check the result, render a short
    video.

    It is what happens to photos of your own: nothing is told of the cameras. Since the package knows the true ones, it
    says how far from them the found ones are. Needs no network and no GPU.
    """

    output: Annotated[Optional[str], option("SCENE", "-o", hint="(default: ./demo.scene, numbered when taken)")] = None
    """The scene folder to write; the video goes beside it."""
    overwrite: Switch = False
    """Replace an earlier demo."""
    view: Switch = False
    """Open the viewer when it is done."""
    common: SeededDrawingOptions = SEEDED_DRAWING

    def run(self, session: Session) -> int:
        """Reconstruct, check, render, say where everything is."""
        from da3gs.checkpoints import BUNDLED
        from da3gs.cli._scenes import numbered, save_and_check
        from da3gs.cli._summary import summary, summary_lines
        from da3gs.pipeline.reconstruct import reconstruct
        from da3gs.pipeline.render_path import render_path
        from da3gs.scene import check_output

        start = time.perf_counter()
        folder = demo_photos()
        output = numbered("demo") if self.output is None else Path(self.output)
        video = output.with_name(output.name.removesuffix(".scene") + ".mp4")
        check_output(output, overwrite=self.overwrite)
        check_output(video, overwrite=self.overwrite, suffixes=(".mp4",))
        common = self.common
        with session.progress() as progress:
            scene = reconstruct(
                sorted(folder.glob("*.jpg")),
                model=BUNDLED,
                progress=progress,
                **common.keywords(),
            )
            report, seconds = save_and_check(scene, output, overwrite=self.overwrite, drawing=common, progress=progress)
            before = time.perf_counter()
            frames = render_path(
                scene,
                video,
                path="wander",
                size=(ENLARGED * scene.cameras.width, ENLARGED * scene.cameras.height),
                seconds=SECONDS,
                fps=FRAMES_A_SECOND,
                backend=common.backend,
                overwrite=self.overwrite,
                progress=progress,
            )
            seconds["video"] = time.perf_counter() - before
        seconds["total"] = time.perf_counter() - start
        facts = summary(scene, output, report, seconds)
        off = distance_from_truth(scene, folder)
        facts = {**facts, "video": str(video), "frames": frames, "cameras_off": off}
        for line in summary_lines(scene, facts):
            session.print(line)
        session.print(truth_line(off))
        session.print(f"{video}: {frames} frames")
        if report.passed:
            for line in next_steps(output):
                session.print(line)
        if self.view and report.passed:
            from da3gs.cli.view import show

            show(scene, session, drawing=common, facts=facts)
            return 0
        session.result(facts)
        return 0 if report.passed else 1


def demo_photos() -> Path:
    """The folder of the bundled photos.

    Raises:
        InputError: the installation lacks it.
    """
    import da3gs

    folder = Path(da3gs.__file__).parent / "demo_photos"
    if not folder.is_dir():
        raise InputError("this installation has no demo photos; reinstall da3gs, or reconstruct photos of your own")
    return folder


def truth_line(off: dict[str, float] | None) -> str:
    """Distance of the cameras from the true ones, in words."""
    if off is None:
        return "  truth    too few cameras were found to compare"
    turn, walk = off["rotation_degrees"], off["center_share"]
    return f"  truth    cameras {turn:.2f} degrees and {walk:.1%} of the walk from the true ones, not looked at before"


def distance_from_truth(scene: Scene, folder: Path) -> dict[str, float] | None:
    """Median rotation in degrees, and median distance of the centres as a share of the walk, between the scene's
    cameras and those that the package knows; None where fewer than two were found."""
    from da3gs.photos import load_photos
    from da3gs.poses.pose_alignment import pose_residual

    if len(scene.views) < 2:
        return None
    known = load_photos(folder, resolution=scene.cameras.width).views
    assert known.cameras is not None
    index = [known.names.index(name) for name in scene.views.names]
    return pose_residual(scene.cameras, known.cameras[index]).as_dict()


def next_steps(scene: Path) -> list[str]:
    """Commands to try after the demo."""
    return [
        "",
        "What to try next:",
        f"  da3gs view {scene}",
        f"  da3gs render {scene} -o orbit.mp4 --path orbit",
        "  da3gs reconstruct YOUR_PHOTOS/ --view",
    ]


COMMAND = Demo
