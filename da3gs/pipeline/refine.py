"""Refinement of a scene's splats by gradient descent against its photos."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast

import torch

from da3gs._progress import Progress, silent
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.optimisation.cross_validation import Validation, cross_validate
from da3gs.optimisation.optimizer import Limit, Options, SplatOptimizer
from da3gs.pipeline.settings import split_holdout
from da3gs.rendering import Backend, warmup
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.rendering.rasterise import choose_backend
from da3gs.scene import Provenance, Scene, ScoresRecord
from da3gs.splats.background_shell import surrounded
from da3gs.splats.merging import thinned
from da3gs.views import Views

DEFAULT_SECONDS = 30.0
DEFAULT_BUDGET = 250_000
"""Splats that a CPU can refine in good time."""
MAX_STEPS, MAX_SECONDS = 1_000_000, 86_400.0
_FAINT = 0.01
"""Splats that end fainter than this go."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refined:
    """What came of refining."""

    gaussians: Gaussians
    """The refined splats, or the start where refinement did not help."""
    provenance: Provenance | None
    """A row a splat."""
    cameras: Cameras
    """Moved where that was asked for."""
    record: dict[str, Any]
    """Steps, seconds, PSNR before and after; for scene.json."""


def refine(
    scene: Scene,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    holdout: str | None = None,
    optimise_cameras: bool = False,
    surround: bool = False,
    budget: int | None = None,
    seed: int = 0,
    backend: Backend = "auto",
    progress: Progress = silent,
) -> Scene:
    """The scene with splats that show its photos better; the scene given stays as it is.

    Adam minimises ``0.8 L1 + 0.2 (1 - SSIM)`` over the photos, one a step. First photos are left out in turn, with the
    splats that come from them: only if they get better do all photos refine the scene, for as long as those kept
    winning. On the way faded splats go, and those with most of the error are split while there is room. Where the
    result shows the photos worse than the start, the scene comes back as it was.

    Args:
        seconds: wall-clock time for all of it; 30 where no steps are given.
        steps: steps of the refinement, and up to a third as many (at least 24) for the trial; the result does not
            depend on the machine's speed.
        holdout: ``every:K`` or names: photos of the scene that are only scored, before and after.
        optimise_cameras: move the cameras too, all but the first.
        surround: begin with blurred colours of the scene behind everything, for what no photo saw. They stay where
            refinement does not help, too. Seen from outside they are a ball round the scene.
        budget: at most so many splats; 250 000 by default.

    Raises:
        InputError: a value is out of range, or the scene has no photos or splats.
    """
    check_limits(seconds, steps, budget)
    context, held = split_holdout(holdout, scene.views.names)
    views, cameras = scene.views[context], scene.cameras[context]
    gaussians, rows = scene.gaussians, _renumbered(scene.provenance, context + held)
    if surround:
        gaussians, rows = surrounded(gaussians, rows, cameras, views)
    done = refined(
        gaussians,
        rows,
        cameras,
        views,
        seconds=DEFAULT_SECONDS if seconds is None and steps is None else seconds,
        steps=steps,
        optimise_cameras=optimise_cameras,
        budget=budget,
        seed=seed,
        backend=backend,
        progress=progress,
    )
    record = {**done.record, "surround": surround}
    if held:
        at, photos = scene.cameras[held], scene.views[held]
        record["psnr_holdout_before"] = _mean(photo_psnr(scene.gaussians, at, photos, backend=backend))
        record["psnr_holdout_after"] = _mean(photo_psnr(done.gaussians, at, photos, backend=backend))
    everywhere = scene.cameras.world_to_cam.clone()
    everywhere[context] = done.cameras.world_to_cam
    moved_cameras = dataclasses.replace(scene.cameras, world_to_cam=everywhere)
    scores = photo_psnr(done.gaussians, moved_cameras, scene.views, backend=backend)
    before: object = scene.record.get("psnr")
    figures: ScoresRecord = {
        **(cast(ScoresRecord, before) if isinstance(before, dict) else {}),
        "input": [round(score, 3) for score in scores],
        "input_mean": _mean(scores),
        "holdout": None,
        "holdout_mean": record.get("psnr_holdout_after"),
    }
    moved = optimise_cameras and bool(record["kept"])
    return dataclasses.replace(
        scene,
        gaussians=done.gaussians,
        provenance=_renumbered(done.provenance, _places(context + held)),
        cameras=moved_cameras,
        cam_to_world_given=None if moved else scene.cam_to_world_given,
        record={**scene.record, "psnr": figures, "refinement": record},
    )


def _places(order: list[int]) -> list[int]:
    """The inverse of a permutation."""
    return sorted(range(len(order)), key=order.__getitem__)


def _renumbered(rows: Provenance | None, order: list[int]) -> Provenance | None:
    """The rows with views counted in this order; merged splats stay -1."""
    if rows is None:
        return None
    place = torch.tensor([*_places(order), -1], dtype=rows.view.dtype, device=rows.view.device)
    return dataclasses.replace(rows, view=place[rows.view.long()])


def check_limits(seconds: float | None, steps: int | None, budget: int | None) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: naming the flag, its value and the range.
    """
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise InputError(f"--seconds is a time above 0 and up to {MAX_SECONDS:.0f}, got {seconds:g}")
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise InputError(f"--steps is a number from 1 to {MAX_STEPS}, got {steps}")
    if budget is not None and budget < 1:
        raise InputError(f"--budget is a number of splats from 1 up, got {budget}")


@torch.inference_mode(False)
@torch.no_grad()
def refined(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    views: Views,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    optimise_cameras: bool = False,
    budget: int | None = None,
    seed: int = 0,
    backend: Backend = "auto",
    progress: Progress = silent,
) -> Refined:
    """Splats refined against photos, if that helps at a photo left out; see ``refine``.

    With a single photo nothing can be left out: its own PSNR must rise then.
    """
    if not len(views) or not len(gaussians):
        raise InputError(f"{len(gaussians)} splats and {len(views)} photos; refinement needs at least one of each")
    if choose_backend(backend, gaussians) == "cpu":
        warmup()  # compiling counts as nobody's time
    begin = time.perf_counter()
    room = DEFAULT_BUDGET if budget is None else budget
    most = min(room, len(gaussians))
    options = Options(cameras=optimise_cameras, most=room, seed=seed, backend=backend)
    before = _mean(photo_psnr(gaussians, cameras, views, backend=backend))
    trial = None
    limit = Limit(steps=steps, seconds=seconds)
    if len(views) > 1:
        trial = cross_validate(gaussians, provenance, cameras, views, limit, options, progress=progress)
        if trial.best_step == 0:
            return _unchanged(gaussians, provenance, cameras, trial, before, begin)
        limit = trial.limit(limit, len(views), time.perf_counter() - begin)
    start, rows = thinned(gaussians, provenance, cameras, most)
    optimizer = SplatOptimizer(start, cameras, views, options)
    optimizer.run(limit, _reporter(progress, "refining", optimizer, cameras, views, backend))
    splats, moved = optimizer.splats().detach(), optimizer.cameras().detach()
    keep = (splats.opacities >= _FAINT) & splats.finite
    splats = splats.masked(keep)
    ends = photo_psnr(splats, moved, views, backend=backend) if len(splats) else [0.0]
    after = _mean(ends)
    if not len(splats) or after <= before:
        return _unchanged(gaussians, provenance, cameras, trial, before, begin)
    elapsed = time.perf_counter() - begin
    return Refined(
        gaussians=splats,
        provenance=None if rows is None else rows.map(lambda t: t[optimizer.origins][keep]),
        cameras=moved,
        record={
            "kept": True,
            "steps": optimizer.steps,
            "trial": None if trial is None else trial.as_dict(),
            "splats_before": len(gaussians),
            "splats_after": len(splats),
            "psnr_before": before,
            "psnr_after": after,
            "seconds": round(elapsed, 3),
        },
    )


def _reporter(
    progress: Progress, stage: str, optimizer: SplatOptimizer, cameras: Cameras, views: Views, backend: Backend
) -> Callable[[int, float], None]:
    """Progress with the PSNR of a photo, looked at every third of the way."""
    looked = [-1.0, 0.0]

    def on_step(step: int, share: float) -> None:
        """Look at the first photo every third of the way."""
        if share >= looked[0] + 0.3:
            looked[0] = share
            camera = optimizer.cameras().detach()[[0]]
            looked[1] = photo_psnr(optimizer.splats().detach(), camera, views[[0]], backend=backend)[0]
        progress(f"{stage}, {looked[1]:.1f} dB at {views.names[0]}", min(round(100 * share), 100), 100)

    return on_step


def _unchanged(
    gaussians: Gaussians,
    provenance: Provenance | None,
    cameras: Cameras,
    trial: Validation | None,
    before: float,
    begin: float,
) -> Refined:
    """The start, where refinement did not help."""
    return Refined(
        gaussians=gaussians,
        provenance=provenance,
        cameras=cameras,
        record={
            "kept": False,
            "steps": 0,
            "trial": None if trial is None else trial.as_dict(),
            "splats_before": len(gaussians),
            "splats_after": len(gaussians),
            "psnr_before": before,
            "psnr_after": before,
            "seconds": round(time.perf_counter() - begin, 3),
        },
    )


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)
