"""Scores that others can trust: checked first, computed scene by scene, kept as they come."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from torch import nn

from da3gs._files import atomic_folder, sha256
from da3gs._progress import Progress, silent
from da3gs._tensors import Device
from da3gs.checkpoints import MODELS
from da3gs.checkpoints.choice import resolved_model
from da3gs.checkpoints.load import weights_of
from da3gs.errors import InputError
from da3gs.evaluation.baselines import Baseline, Method, parse_baseline
from da3gs.evaluation.data import EvalScene
from da3gs.evaluation.found_cameras import with_found_cameras
from da3gs.evaluation.jobs import Given, Job, run_here, run_ray, run_workers
from da3gs.evaluation.novel_views import Scored
from da3gs.evaluation.perceptual import FoundTrunk, find_trunk
from da3gs.evaluation.plan import planned
from da3gs.evaluation.reports.report import build_report, digest, load_report, write_json, write_report
from da3gs.evaluation.request import EvaluationRequest, Plan
from da3gs.formats.jsonfile import load_json
from da3gs.photos.naming import shown
from da3gs.pipeline.model_loading import LoadedModel, limited_threads, loaded_model
from da3gs.pipeline.settings import DType, Splats
from da3gs.rendering import Backend

Task = Literal["views", "pose", "depth", "points"]


def evaluate(
    root: str | Path,
    *,
    task: Task = "views",
    split: str | Path = "every:8",
    model: str | Path | nn.Module | LoadedModel = "auto",
    baseline: str | Baseline | None = None,
    poses: Literal["auto", "given", "predicted"] = "auto",
    align_targets: bool = False,
    output: str | Path | None = None,
    scenes: str | None = None,
    context: int | None = None,
    size: tuple[int, int] | None = None,
    resolution: int | None = None,
    splats: Splats = "auto",
    refine: float = 0.0,
    budget: int | None = None,
    dataset: str = "auto",
    lpips_trunk: str | None = None,
    save_images: bool = False,
    workers: int = 1,
    address: str | None = None,
    dtype: DType = "auto",
    device: Device = "auto",
    backend: Backend = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score a method on many scenes; the content of report.json.

    Everything is checked before anything is computed. With ``output`` the report is written to a folder, each finished
    scene as soon as it is done; the same call goes on where a killed one stopped.

    Args:
        root: a DL3DV-style root, ``.torch`` chunks, or anything that ``reconstruct`` takes.
        task: novel views, or geometry (pose, depth, points).
        split: a split file, ``da3-12`` or ``every:K``.
        model: a name or ``auto``, a file, a folder in the official layout, or a loaded model (then one worker).
        baseline: something else than the model's splats: a name (see ``--baseline``) or an object with ``fit``.
        poses: whether the method gets the context cameras; ``auto``: where there are any; where a single scene has none
            they are looked for in its photos, of context and target frames together.
        align_targets: move target cameras until they fit the target photos; a column of its own.
        scenes: names with commas between; all by default.
        context: how many context views, where the split leaves a choice.
        size: height and width to score at; default: the split's own if it is a published one, else the model's.
        resolution: long side for the network.
        dataset: layout of a geometry data set.
        lpips_trunk: torchvision's VGG-16 or AlexNet, whole or its convolutions as .safetensors; default: VGG-16 from
            torch's cache.
        save_images: keep every render and photo.
        workers: processes of this machine.
        address: of a Ray cluster, instead.
        threads: of torch and the rasteriser, in each worker.

    Raises:
        InputError: the data, the split or the settings cannot be used, or the folder has another report.
    """
    loose = not isinstance(model, str | Path) or not (baseline is None or isinstance(baseline, str))
    _check_workers(workers, address, loose=loose)
    model, name = _named(model)
    method = Method(model=name, splats=splats, refine=refine, budget=budget, dtype=dtype, device=device,
                    backend=backend, seed=seed)  # fmt: skip
    method = parse_baseline(baseline if isinstance(baseline, str) else None, method)
    own = baseline if isinstance(baseline, Baseline) and not isinstance(baseline, str) else None
    asked = EvaluationRequest(
        root=Path(root), task=task, split=str(split), poses=poses, align_targets=align_targets, scenes=scenes,
        context=context, size=size, resolution=resolution, dataset=dataset, method=method, own=own,
    )  # fmt: skip
    known = isinstance(model, str | Path) and (_is_name(name) or not method.uses_model)
    ready = None if known else loaded_model(model, method.settings())
    with limited_threads(threads):
        plan = planned(asked, ready, functools.partial(_searched, asked, ready or name, progress))
    trunk, reason = find_trunk(lpips_trunk) if task == "views" else (None, None)
    digest = _fingerprint(name) if method.uses_model and own is None else None
    said = {"model_sha256": digest, "lpips": None if trunk is None else trunk.name, "save_images": save_images}
    settings = plan.settings | said
    folder = None if output is None else Path(output)
    kept = {} if folder is None else _continued(folder, settings, plan)
    jobs = _jobs(asked, plan, kept, trunk, reason, save_images=save_images and folder is not None)
    if jobs and method.uses_model and own is None and ready is None:
        ready = loaded_model(name, method.settings())
    _begin(folder, settings, plan)
    here = plan.searched is not None or (workers == 1 and address is None)
    given = Given(model=ready if here else None, baseline=own, scene=plan.searched)
    del ready  # each worker loads its own; this one was to see that it can be loaded
    results = _here(jobs, given, threads) if here else _elsewhere(jobs, workers, address, threads)
    return _collected(results, kept, len(jobs), folder, settings, plan, progress)


def _searched(
    asked: EvaluationRequest, model: str | LoadedModel, progress: Progress, scene: EvalScene
) -> EvalScene | None:
    """The scene with cameras found in its photos, as ``reconstruct`` finds them."""
    settings = dataclasses.replace(asked.method.settings(), resolution=asked.resolution or "auto")
    return with_found_cameras(scene, asked.root, loaded_model(model, settings), settings, progress)


def _named(
    model: str | Path | nn.Module | LoadedModel,
) -> tuple[str | Path | nn.Module | LoadedModel, str]:
    """What was asked for, ``auto`` resolved, and what the report calls it."""
    if isinstance(model, str | Path):
        return resolved_model(model), str(resolved_model(model))
    return model, "a loaded model"


def _check_workers(workers: int, address: str | None, *, loose: bool) -> None:
    if not 1 <= workers <= 256:
        raise InputError(f"--workers is a number from 1 to 256, got {workers}")
    if loose and (workers > 1 or address):
        raise InputError("several workers need a model and a baseline by name, since each loads its own")


def _jobs(
    asked: EvaluationRequest,
    plan: Plan,
    kept: Collection[str],
    trunk: FoundTrunk | None,
    reason: str | None,
    *,
    save_images: bool,
) -> list[Job]:
    """What is left to compute, a scene each; paths in full, since workers elsewhere have other working folders."""
    method = dataclasses.replace(
        asked.method, model=_in_full(asked.method.model), folder=asked.method.folder and _in_full(asked.method.folder)
    )
    return [
        Job(
            task=asked.task, root=str(asked.root.resolve()), key=key, context=shots[0], target=shots[1],
            protocol=plan.protocol, method=method, lpips_trunk=None if trunk is None else str(trunk.file.resolve()),
            lpips_reason=reason, save_images=save_images, dataset=plan.dataset,
        )
        for key, shots in plan.scenes.items() if key not in kept
    ]  # fmt: skip


def _in_full(path: str) -> str:
    """The path from the root, of what is there; names of models stay."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _here(jobs: list[Job], given: Given, threads: int | None) -> Iterator[Scored]:
    """The jobs in this process, one after the other."""
    with limited_threads(threads):
        yield from run_here(jobs, given)


def _elsewhere(jobs: list[Job], workers: int, address: str | None, threads: int | None) -> Iterator[Scored]:
    """The jobs in processes of their own, where they were asked to run."""
    each = threads or max(1, (os.cpu_count() or 1) // workers)
    if address is not None:
        yield from run_ray(jobs, address, threads=each)
    elif jobs:
        yield from run_workers(jobs, min(workers, len(jobs)), threads=each)


def _collected(
    results: Iterator[Scored],
    kept: dict[str, dict[str, Any]],
    count: int,
    folder: Path | None,
    settings: dict[str, Any],
    plan: Plan,
    progress: Progress,
) -> dict[str, Any]:
    """Every result kept as it comes, then the report."""
    records, mark = dict(kept), digest(settings)
    stage = f"evaluating {len(plan.scenes)} scenes" if len(plan.scenes) > 1 else "evaluating"
    progress(stage, len(kept), len(plan.scenes))
    for result in results:
        record = result.record
        records[record["name"]] = record
        if folder is not None:
            _keep(folder, result, mark)
        progress(stage, len(records), len(plan.scenes))
    everything = [records[key] for key in plan.scenes]
    report = build_report(
        settings, everything, metrics=plan.metrics, rules=plan.rules, published=plan.published(everything),
        finished=True,
    )  # fmt: skip
    if folder is not None:
        write_report(folder, report, everything)
    return report


def _keep(folder: Path, result: Scored, mark: str) -> None:
    """A finished scene's pictures, then its record; a failed one is tried again next time."""
    record = result.record
    if result.images:
        place = folder / "images" / record["name"]
        place.mkdir(parents=True, exist_ok=True)
        for name, data in result.images.items():
            (place / name).write_bytes(data)
    if record["status"] == "done":
        write_json(folder / "scenes" / f"{record['name']}.json", {"settings": mark, **record})


def _begin(folder: Path | None, settings: dict[str, Any], plan: Plan) -> None:
    """The folder, if any, with a report that says it is unfinished, whole at once, so that a killed run can be told."""
    if folder is None:
        return
    if not (folder / "report.json").is_file():
        empty = build_report(settings, [], metrics=plan.metrics, rules=plan.rules, published=[], finished=False)
        if folder.exists():
            write_json(folder / "report.json", empty)
        else:
            with atomic_folder(folder) as temporary:
                write_json(temporary / "report.json", empty)
    (folder / "scenes").mkdir(exist_ok=True)


def _continued(folder: Path, settings: dict[str, Any], plan: Plan) -> dict[str, dict[str, Any]]:
    """The finished scenes of an earlier run with the same settings.

    Raises:
        InputError: the folder is something else, or its report was made with other settings.
    """
    if not folder.exists() and not folder.is_symlink():
        if not folder.absolute().parent.is_dir():
            raise InputError(f"the folder of {shown(folder.name)} does not exist; create it first")
        return {}
    if not folder.is_dir():
        raise InputError(f"{shown(folder.name)} is no folder; name another with -o")
    if not (folder / "report.json").is_file():
        if any(not _is_leftover(entry.name) for entry in folder.iterdir()):
            raise InputError(f"{shown(folder.name)} holds other things than a report; name another folder with -o")
        return {}
    before = load_report(folder)["settings"]
    differing = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if differing:
        first = differing[0]
        raise InputError(
            f"{shown(folder.name)} holds a report with other settings ({first}: {_brief(before.get(first))}, now "
            f"{_brief(settings.get(first))}); name another folder with -o"
        )
    mark, kept = digest(settings), {}
    for key in plan.scenes:
        record = _stored(folder / "scenes" / f"{key}.json")
        if record.pop("settings", None) == mark and record.get("name") == key:
            kept[key] = record
    return kept


def _is_leftover(name: str) -> bool:
    """Whether a run of ours that was killed left it."""
    return name.startswith(".report.json.") and name.endswith(".tmp")


def _stored(path: Path) -> dict[str, Any]:
    """A scene's record; empty where there is none that can be read."""
    try:
        record = load_json(path) if path.is_file() else {}
    except InputError:
        return {}
    return record if isinstance(record, dict) else {}


def _brief(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:36]}..."


def _fingerprint(model: str) -> str | None:
    """Of the weights, where they are one file."""
    path = Path(model)
    if path.is_file():
        return sha256(path)
    card = MODELS.get(model.lower())
    if card is not None and not path.exists():
        return sha256(weights_of(card)) if card.bundled else card.sha256
    return None


def _is_name(model: str) -> bool:
    """Whether it is a model of the zoo, whose card can be had without loading it."""
    return model.lower() in MODELS and not Path(model).exists()


def failed_scenes(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The scenes of a report that could not be evaluated."""
    return [scene for scene in report["scenes"] if scene["status"] != "done"]
