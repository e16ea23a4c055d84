"""Reconstruction: photos to a scene."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from da3gs._memory import LARGEST_KEPT, kept_memory, tight_memory
from da3gs._progress import Progress, Stopwatch, silent
from da3gs._tensors import Device, drawing_device
from da3gs.cameras import Cameras
from da3gs.checkpoints import ModelCard
from da3gs.depth.photo_consistency import with_sharp_splats
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.optimisation.budget import DEFAULT_BUDGET, bounded, merge, splats_in
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.pipeline.camera_source import camera_source, on_a_sphere, with_cameras
from da3gs.pipeline.chunked_prediction import predicted_in_memory
from da3gs.pipeline.exact_cameras import surfaces
from da3gs.pipeline.model_loading import LoadedModel, limited_threads, loaded_model
from da3gs.pipeline.prune_prediction import kept_splats_of
from da3gs.pipeline.refine import refined
from da3gs.pipeline.scene_record import Scores, scene_record
from da3gs.pipeline.settings import DType, Images, Metric, Poses, Settings, Sky, Splats, split_holdout
from da3gs.poses.caller_frame import near_origin, resized_poses
from da3gs.poses.features.learned import FeatureKind
from da3gs.poses.pose_alignment import similarity_between
from da3gs.poses.structure_from_motion import MOST_PHOTOS, VIDEO_FPS
from da3gs.poses.world_frame import Up
from da3gs.prediction import Placed
from da3gs.rendering import Backend
from da3gs.rendering.photo_psnr import photo_psnr
from da3gs.scene import Provenance, Scene, SceneRecord
from da3gs.splats.from_prediction import Assembled
from da3gs.upstream import cropped_to_smallest, official_render_cameras
from da3gs.views import Views

Source = str | Path | Sequence[str | Path]
"""Photos, a folder, a zip, a video, a transforms.json, a COLMAP model or a DL3DV scene."""


def reconstruct(
    source: Source | LoadedPhotos,
    *,
    model: str | Path | nn.Module | LoadedModel = "auto",
    poses: Poses = "auto",
    features: FeatureKind = "auto",
    shared_focal: bool = False,
    splats: Splats = "auto",
    views: int | Literal["auto"] = "auto",
    chunk: int | Literal["auto"] = "auto",
    fps: float | None = None,
    resolution: int | Literal["auto"] = "auto",
    detail: int | Literal["auto"] = "auto",
    masks: str | Path | None = None,
    invert_masks: bool = False,
    panoramas: Literal["auto", "always", "never"] = "auto",
    split: str | None = None,
    metric: Metric = "auto",
    sky: Sky = "drop",
    up: Up = "auto",
    clean: bool = True,
    min_opacity: float | None = None,
    min_confidence: float | None = None,
    edge: float | None = None,
    max_size: float | None = None,
    outliers: int | None = None,
    crop: str | None = None,
    photos: str | None = None,
    budget: int | None = None,
    max_mb: float | None = None,
    refine: float | Literal["auto"] = "auto",
    holdout: str | None = None,
    upstream: bool = False,
    dtype: DType = "auto",
    images: Images = "used",
    device: Device = "auto",
    backend: Backend = "auto",
    threads: int | None = None,
    seed: int = 0,
    partial: str | Path | None = None,
    progress: Progress = silent,
) -> Scene:
    """Turn photos into a Gaussian splat; every flag of ``da3gs reconstruct`` is a keyword of the same meaning.

    With given poses the scene lies in the caller's frame, untouched. Without, it is upright (+y down), begins at the
    first kept camera, and its median depth is 1 unless the model is metric.

    Args:
        source: what to read, its kind is told from its content; or photos already loaded.
        model: a name, a file, a folder in the official layout, or a model already loaded; ``auto`` is the best one on
            this machine that may be used commercially.
        chunk: how many views go through the network together; more are predicted in overlapping chunks and joined.
        detail: long side of the grid that splats are made on where cameras are exact; ``auto``: about 1,000.
        crop: a box ``x0,y0,z0,x1,y1,z1`` in the scene's frame; what lies outside goes.
        photos: names or positions with commas between: only their splats stay.
        budget: at most so many splats; 1.5 million where neither this nor ``max_mb`` (of the .ply) is given.
        refine: seconds to spend on making the splats show the photos better; auto: about 15 where cameras are exact
            and the model is the bundled one.
        masks: folder of pictures by the photos' names, white where a pixel is wanted.
        invert_masks: white where it is not.
        split: of a folder with ``transforms_train.json``, ``_val`` and ``_test``: which, or ``all``.
        threads: of torch and the rasteriser; None leaves them as they are.
        partial: a folder for finished chunks, from which the same call goes on; the caller's to delete.
        progress: told about every stage.

    Raises:
        InputError: something about the input or the flags; the message says what and what to do.
        CheckpointError: the weights cannot be used.
    """
    given = dict(locals())
    settings = Settings(**{field.name: given[field.name] for field in dataclasses.fields(Settings)})
    watch = Stopwatch()
    with watch("model"):
        ready = loaded_model(model, settings)
    with limited_threads(threads), torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        loaded = _photos(source, None if masks is None else Path(masks), ready, settings, watch, progress)
        roles = split_of(loaded, settings)
        everything, offset = near_origin(loaded)
        with watch("network"), kept_memory(up_to=LARGEST_KEPT):
            result, everyone, chunks = predicted_in_memory(ready, everything, roles, settings, progress, partial)
        card = ready.card
        del ready  # weights that nobody else holds go
        scene = _reconstruct(card, loaded, everything, offset, roles, result, everyone, settings, watch, progress)
    return scene if chunks is None else dataclasses.replace(scene, record={**scene.record, "chunks": chunks})


def split_of(photos: LoadedPhotos, settings: Settings) -> tuple[list[int], list[int]]:
    """Positions of the context views and of the held-out ones; a photo that was left alone is context."""
    first = photos.photos[0].placement
    alone = len(photos.photos) == 1 and first is not None and first.placed == "predicted"
    return ([0], []) if alone else split_holdout(settings.holdout, photos.views.names)


def _photos(
    source: Source | LoadedPhotos,
    masks: Path | None,
    ready: LoadedModel,
    settings: Settings,
    watch: Stopwatch,
    progress: Progress,
) -> LoadedPhotos:
    """What there is to reconstruct from, with cameras estimated from the photos where no better ones are known."""
    if isinstance(source, LoadedPhotos):
        return source
    with watch("photos"):
        card = ready.card
        long_side = card.resolution if settings.resolution == "auto" else settings.resolution
        wanted = card.views if settings.views == "auto" else settings.views
        search = camera_source(settings, card, posed=False) == "photos"
        photos = load_photos(
            source,
            resolution=long_side,
            views=max(wanted, MOST_PHOTOS) if settings.poses == "colmap" else wanted,
            unposed_views=max(wanted, MOST_PHOTOS) if search else wanted,
            fps=settings.fps or VIDEO_FPS if search else settings.fps,
            masks=masks,
            invert_masks=settings.invert_masks,
            panoramas=settings.panoramas,
            split=settings.split,
            progress=progress,
        )
    if len(photos.views) > 1:
        split_holdout(settings.holdout, photos.views.names)  # refused before cameras are searched for
    with watch("cameras"):
        photos = with_cameras(photos, ready, settings, progress)
    if settings.upstream:
        if settings.images == "original" and len(set(photos.views.sizes)) > 1:
            raise InputError(
                "--upstream crops photos of different sizes to the smallest, so --images original cannot be kept; "
                "leave one of them out"
            )
        photos = cropped_to_smallest(photos)
    return photos


def _reconstruct(
    card: ModelCard,
    photos: LoadedPhotos,
    everything: Views,
    offset: tuple[float, float, float],
    split: tuple[list[int], list[int]],
    result: Placed,
    everyone: Cameras | None,
    settings: Settings,
    watch: Stopwatch,
    progress: Progress,
) -> Scene:
    context, held = split
    views = everything[context]
    depth_told = result.poses == "given" and len(views) > 1 and not photos.one_spot
    refines = settings.refines(bundled=card.bundled, exact=depth_told)
    result, kept, found, shown, facts = _splats(
        card, photos, views, context, offset, result, settings, watch, progress, finer=refines
    )
    gaussians, provenance, made = _improved(kept, found, result, shown, refines, settings, watch, progress)
    del kept, shown
    with watch("score"):
        scores = _scores(gaussians, everything, everyone, split, result, settings, progress, estimated=photos.estimated)
    given = photos.cam_to_world_given if result.poses == "given" else None
    if given is not None and result.resized != 1:  # metres were asked for
        given = resized_poses(given, result.resized)
        x, y, z = (result.resized * shift for shift in offset)
        offset = (x, y, z)
    record = scene_record(
        card, photos, context, held, settings, result, facts["cleaned"], scores, watch.seconds,
        antialiased=gaussians.antialiased,
    )  # fmt: skip
    return Scene(
        gaussians=gaussians,
        cameras=result.cameras.to("cpu"),
        views=dataclasses.replace(views, cameras=None, intrinsics=None),
        record={**record, **facts, **made},
        provenance=provenance,
        depth=result.depth.cpu(),
        confidence=None if result.confidence is None else result.confidence.cpu(),
        sky=None if result.sky is None else result.sky.cpu(),
        offset=offset if given is not None else (0.0, 0.0, 0.0),
        cam_to_world_given=None if given is None else given[context],
        originals=tuple(photos.photos[i] for i in context) if settings.images == "original" else None,
    ).to(drawing_device(settings.device))


def _splats(
    card: ModelCard,
    photos: LoadedPhotos,
    views: Views,
    context: list[int],
    offset: tuple[float, float, float],
    result: Placed,
    settings: Settings,
    watch: Stopwatch,
    progress: Progress,
    *,
    finer: bool,
) -> tuple[Placed, Assembled, int, Views, SceneRecord]:
    """The splats that stay, few enough to be drawn all at once; the prediction that they are of; how many there were
    before any were merged; the photos at the size that shows as much; and what to record of it."""
    shown = views
    alignment: dict[str, Any] | None = None
    surfels: list[Assembled] | None = None
    if result.poses == "given" and (settings.metric == "on" or (photos.estimated and settings.metric == "auto")):
        result = result.in_metres()
    if photos.one_spot and not settings.upstream:
        result, alignment = on_a_sphere(result), {"one_spot": True}
    elif result.poses == "given" and not settings.upstream:
        with watch("alignment"), tight_memory():
            found_surfaces = surfaces(result, views, photos, context, offset, settings, progress)
            result, alignment = found_surfaces.result, found_surfaces.record
        with watch("splats"), tight_memory():
            surfels = found_surfaces.splats(views, settings, _most(settings, 1))
        if surfels is not None and finer:
            shown = found_surfaces.finer_views(views)
        del found_surfaces
    with watch("splats"), tight_memory():
        if surfels is not None:
            result = dataclasses.replace(result, gaussians=None)
        elif settings.splats == "auto" and card.by_photos and not settings.upstream:
            result = with_sharp_splats(result, views)
        kept, dropped = kept_splats_of(result, views, settings, surfels)
        found, surfels = len(kept.gaussians), None
        if not settings.upstream:
            kept = _bounded(kept, result, settings)
    return result, kept, found, shown, {"alignment": alignment, "cleaned": dropped}


def _scores(
    gaussians: Gaussians,
    everything: Views,
    everyone: Cameras | None,
    split: tuple[list[int], list[int]],
    result: Placed,
    settings: Settings,
    progress: Progress,
    *,
    estimated: bool,
) -> Scores:
    """PSNR at the photos, and at those held out."""
    context, held = split
    shown = official_render_cameras(result.cameras) if settings.upstream else result.cameras
    scores = Scores(input=photo_psnr(gaussians, shown, everything[context], backend=settings.backend))
    if not held:
        return scores
    progress("scoring held-out photos", 0, 1)
    cameras, source = _held_cameras(everything, everyone, context, held, result)
    source = "aligned" if estimated else source
    holdout = photo_psnr(gaussians, cameras, everything[held], backend=settings.backend)
    return dataclasses.replace(scores, holdout=holdout, holdout_poses=source)


def _bounded(kept: Assembled, result: Placed, settings: Settings) -> Assembled:
    """Few enough splats to be drawn all at once."""
    most = _most(settings, kept.gaussians.harmonics.shape[-2])
    gaussians, provenance = bounded(kept.gaussians, kept.provenance, result.cameras.to("cpu"), most)
    assert provenance is not None
    return Assembled(gaussians=gaussians, wanted=torch.ones(len(gaussians), dtype=torch.bool), provenance=provenance)


def _most(settings: Settings, bands: int) -> int:
    """Budget of splats, of so many harmonics."""
    if settings.max_mb is not None:
        return splats_in(settings.max_mb, bands)
    return DEFAULT_BUDGET if settings.budget is None else settings.budget


def _improved(
    kept: Assembled,
    found: int,
    result: Placed,
    views: Views,
    refines: bool,
    settings: Settings,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[Gaussians, Provenance | None, SceneRecord]:
    """The splats refined and brought within the budget, as far as that is asked for; and what to record of it.

    ``found`` is how many splats there were before any were merged.
    """
    device = drawing_device(settings.device)
    gaussians = kept.gaussians.to(device)
    rows: Provenance | None = kept.provenance.to(device)
    if settings.upstream:
        return gaussians, rows, {"refinement": None, "budget": None}
    cameras = result.cameras.to(device).resized(views.height, views.width)
    most = _most(settings, gaussians.harmonics.shape[-2])
    refinement, budget = None, None
    if refines:
        limit = settings.refinement(splats=len(gaussians), pixels=views.height * views.width)
        with watch("refinement"):
            done = refined(
                gaussians, rows, cameras, views,
                seconds=limit.seconds, steps=limit.steps, budget=most, seed=settings.seed, backend=settings.backend,
                progress=progress,
            )  # fmt: skip
            gaussians, rows, refinement = done.gaussians, done.provenance, done.record
    if len(gaussians) > most:
        with watch("budget"):
            gaussians, rows, price = merge(
                gaussians, rows, cameras, views, most, backend=settings.backend, progress=progress
            )
            budget = {"most": most, "before": found, "after": len(gaussians), "psnr_price": round(price, 3)}
    return gaussians, rows, {"refinement": refinement, "budget": budget}


def _held_cameras(
    views: Views, everyone: Cameras | None, context: list[int], held: list[int], result: Placed
) -> tuple[Cameras, Literal["given", "aligned"]]:
    """Where the held-out photos were taken, in the scene's frame.

    Without given poses a second pass over all photos has predicted them, and the similarity of the context cameras lays
    them on the scene.
    """
    if everyone is None:
        assert views.cameras is not None
        return views.cameras[held].scaled(result.resized), "given"
    onto = similarity_between(everyone[context], result.cameras)
    return everyone.transformed(onto)[held], "aligned"
