"""Novel views of held-out procedural scenes, between a copied photo and what true depth gives.

Part of ``python -m benchmarks.quality --what scenes``. A scene has three context views and two novel ones. Everything
is scored at the novel views, over the pixels that a context view can have seen (told from the true depth), and all
splats are made by the same builder, uncleaned but for ``reconstruct``:

- ``nearest_photo``: the context photo taken nearest to the novel view, as it is.
- ``constant_depth``: one depth for the whole scene, the median of the true one.
- ``depth``: the network's depth; with given poses after the best scale of the scene (the median ratio).
- ``head``: the splats of the Gaussian head, where there is one, scaled alike.
- ``reconstruct``: what a user gets, cleaning and fitting of depth to the photos included; told no scale.
- ``true_depth``: the bound.

With predicted poses the novel cameras are laid on the predicted ones by the similarity of the context cameras.
``--model truth`` is a network that answers with the truth: what then is missing to the bound is not the network's.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from da3gs.cameras import Cameras
from da3gs.checkpoints import MODELS
from da3gs.errors import InputError
from da3gs.evaluation.baselines import nearest_views
from da3gs.evaluation.protocol import Picture, Poses, Protocol, scene_input
from da3gs.gaussians import Gaussians
from da3gs.metrics.image import psnr
from da3gs.network.camera import encode_cameras
from da3gs.network.config import ModelConfig, named_config
from da3gs.network.model import DepthAnything3
from da3gs.network.raw import RawOutputs
from da3gs.photos import LoadedPhotos
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import Splats
from da3gs.poses.pose_alignment import similarity_between
from da3gs.prediction import Placed
from da3gs.rendering import render
from da3gs.splats.from_prediction import assemble
from da3gs.training.data.batch import Batch
from da3gs.training.data.loader import validation_batches
from da3gs.training.losses.geometric import Truth, conditioning, scene_truth
from da3gs.training.losses.photometric import seen_by_context, splats_of, true_cameras_in_network_scale
from da3gs.training.validation import validate

CONTEXT, TARGETS = 3, 2
SIZES = {252: (168, 252), 336: (252, 336), 504: (336, 504)}
"""Height and width by long side."""
WAYS = ("nearest_photo", "constant_depth", "depth", "head", "reconstruct", "true_depth")
TRUTH = "truth"
"""What ``--model`` calls the network that was told the scenes."""
_FAR = 10.0  # times the farthest surface: where splats of the sky stand

Scores = dict[str, list[float]]
"""PSNR in dB of every novel view, by how its picture was made."""


def held_out(scenes: int, size: tuple[int, int]) -> list[Batch]:
    """Scenes that no training run sees, one a batch; the same ones for every model."""
    return validation_batches(scenes, size, views=CONTEXT, at_once=1, targets=TARGETS)


def filled(depth: Float[Tensor, "V H W"]) -> Float[Tensor, "V H W"]:
    """The depth with the sky far behind everything."""
    return torch.where(depth > 0, depth, _FAR * depth.max())


class Knowing(DepthAnything3):
    """A network that was told the scenes: it recognises the photos and answers with their true depth and cameras."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        config = named_config("da3gs-nano")
        assert isinstance(config, ModelConfig)
        nn.Module.__init__(self)
        self.config = config
        self.splat_head = None
        self.camera_decoder = self.camera_encoder = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.known = [context_of(batch) for batch in batches]

    def raw(self, images: Tensor, cameras: Cameras | None = None, **_: Any) -> RawOutputs:
        """The truth of the scene whose photos these are, but for rounding to 8 bits."""
        apart = [float((batch.images - images).abs().mean()) for batch in self.known]
        batch = self.known[apart.index(min(apart))]
        assert min(apart) < 1 / 255
        truth = scene_truth(batch.depth, batch.cameras)
        encoding = encode_cameras(truth.cameras)
        return RawOutputs(depth=filled(truth.depth[0])[None], cameras=truth.cameras, pose_encoding=encoding)


def knowing(batches: Sequence[Batch]) -> LoadedModel:
    """The network that was told these scenes."""
    card = dataclasses.replace(MODELS["da3gs-nano"], name=TRUTH)
    return LoadedModel(network=Knowing(batches).eval(), card=card)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Exam:
    """A scene's photos, its truth, and where its novel views count."""

    truth: Truth
    photos: Float[Tensor, "T H W 3"]
    seen: Bool[Tensor, "T H W"]
    posed: LoadedPhotos
    """The context photos with the true cameras."""
    unposed: LoadedPhotos
    """Without."""

    @property
    def cameras(self) -> Cameras:
        """The true ones, of all views."""
        return self.truth.cameras[0]

    def of_pictures(self, pictures: Float[Tensor, "T H W 3"]) -> list[float]:
        """PSNR of pictures of the novel views."""
        return psnr(pictures, self.photos, self.seen).tolist()

    def of_splats(self, splats: Gaussians, cameras: Cameras) -> list[float]:
        """PSNR of splats under the novel cameras of their world."""
        return self.of_pictures(render(splats, cameras).color)

    def of_depth(self, depth: Float[Tensor, "V H W"], cameras: Cameras, confidence: Tensor | None = None) -> Gaussians:
        """Splats of the context photos by this depth under these cameras, as reconstruct makes them."""
        views = self.unposed.views
        return assemble(Placed(depth=depth, cameras=cameras, confidence=confidence), views).gaussians

    def laid_on(self, predicted: Cameras) -> Cameras:
        """The novel cameras in the world of the context's predicted ones."""
        onto = similarity_between(self.cameras[:CONTEXT], predicted)
        return self.cameras[CONTEXT:].transformed(onto)


def exam_of(batch: Batch) -> Exam:
    """The exam that a batch of one scene makes."""
    truth = scene_truth(batch.depth, batch.cameras)
    cameras = truth.cameras[0]
    height, width = batch.images.shape[-2:]
    images = (batch.images[0].movedim(1, -1) * 255).round().byte().numpy()
    poses, intrinsics = cameras.cam_to_world.double().numpy(), cameras.intrinsics.double().numpy()
    pictures = [
        Picture(
            index=i,
            name=f"view_{i}",
            image=np.ascontiguousarray(images[i]),
            mask=None,
            intrinsics=intrinsics[i],
            cam_to_world=poses[i],
        )
        for i in range(CONTEXT)
    ]
    protocol = Protocol(
        size=(height, width), network=None, resolution=width, undistort=False, poses="given", targets="given"
    )
    return Exam(
        truth=truth,
        photos=batch.images[0, CONTEXT:].movedim(1, -1),
        seen=seen_by_context(truth, CONTEXT)[0],
        posed=scene_input("scene", pictures, protocol, poses=True).context,
        unposed=scene_input("scene", pictures, protocol, poses=False).context,
    )


def references(exam: Exam) -> Scores:
    """What needs no network: the nearest photo, constant depth, and the bound of true depth."""
    cameras, depth = exam.cameras, exam.truth.depth[0, :CONTEXT]
    context, targets = cameras[:CONTEXT], cameras[CONTEXT:]
    own = [context[i] for i in range(CONTEXT)]
    nearest = [nearest_views(own, targets[i])[0] for i in range(TARGETS)]
    flat = torch.full_like(depth, float(depth[depth > 0].median()))
    return {
        "nearest_photo": exam.of_pictures(exam.unposed.views.images[nearest].movedim(1, -1)),
        "constant_depth": exam.of_splats(exam.of_depth(flat, context), targets),
        "true_depth": exam.of_splats(exam.of_depth(filled(depth), context), targets),
    }


def network_views(model: LoadedModel, exam: Exam, poses: Poses, splats: Splats) -> Scores:
    """What a network makes of the scene: its depth, its head's splats, and the whole way of reconstruct.

    Raises:
        InputError: it is no any-view model of one branch.
    """
    network = any_view(model)
    context = exam.cameras[:CONTEXT].map(lambda t: t[None])
    given = conditioning(context, network.config.pose_unit) if poses == "given" else None
    head = network.splat_head is not None
    out = network.raw(exam.unposed.views.images[None], given, splats=head, reference="first")
    found: Gaussians | None = None
    if poses == "given":
        scaled = true_cameras_in_network_scale(out, exam.truth, CONTEXT)
        own, targets = scaled[0][:CONTEXT], scaled[0][CONTEXT:]
        found = splats_of(out, scaled, network.config).map(lambda t: t[0]) if head else None
    else:
        prediction = network.finished(out).map(lambda t: t[0])
        assert prediction.cameras is not None
        own, found = prediction.cameras, prediction.gaussians
        targets = exam.laid_on(own)
    confidence = None if out.confidence is None else out.confidence[0]
    scores = {"depth": exam.of_splats(exam.of_depth(out.depth[0], own, confidence), targets)}
    if found is not None:
        scores["head"] = exam.of_splats(found, targets)
    photos = exam.posed if poses == "given" else exam.unposed
    scene = reconstruct(photos, model=model, poses=poses, splats=splats)
    targets = exam.cameras[CONTEXT:] if poses == "given" else exam.laid_on(scene.cameras)
    return {**scores, "reconstruct": exam.of_splats(scene.gaussians, targets)}


def any_view(model: LoadedModel) -> DepthAnything3:
    """The network, where it can be measured here.

    Raises:
        InputError: it cannot.
    """
    network = model.network
    if not isinstance(network, DepthAnything3) or network.camera_decoder is None:
        raise InputError(f"{model.card.name} is no any-view model of one branch; name another one")
    return network


def scene_rows(
    model: LoadedModel | None, size: tuple[int, int], poses: Sequence[Poses], *, scenes: int, splats: Splats = "auto"
) -> list[dict[str, Any]]:
    """A row of the table for each way of poses: PSNR of novel views, depth and cameras; without a model, those of one
    that knows the truth."""
    batches = held_out(scenes, size)
    model = knowing(batches) if model is None else model
    sums: dict[str, Scores] = {kind: {way: [] for way in WAYS} for kind in poses}
    for batch in batches:
        with torch.inference_mode():
            exam = exam_of(batch)
            shared = references(exam)
            for kind in poses:
                for way, values in {**shared, **network_views(model, exam, kind, splats)}.items():
                    sums[kind][way] += values
    context = [context_of(batch) for batch in batches]
    rows = []
    for kind in poses:
        means = {way: mean(sums[kind][way]) for way in WAYS}
        figures = validate(any_view(model), context, posed=kind == "given")
        rows.append(
            {
                "size": f"{size[0]}x{size[1]}", "poses": kind, "scenes": scenes, **means,
                "gain": gain(means), "share": share(means),
                "absrel": round(figures.absrel, 4), "constant_absrel": round(figures.constant_absrel, 4),
                "delta1": round(figures.delta1, 4), "rotation": round(figures.rotation, 2),
                "direction": round(figures.direction, 2), "auc5": round(figures.auc5, 4),
                "auc30": round(figures.auc30, 4),
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def context_of(batch: Batch) -> Batch:
    """The batch without its novel views."""
    cameras = batch.cameras
    return dataclasses.replace(
        batch,
        images=batch.images[:, :CONTEXT],
        depth=batch.depth[:, :CONTEXT],
        cameras=dataclasses.replace(
            cameras, world_to_cam=cameras.world_to_cam[:, :CONTEXT], intrinsics=cameras.intrinsics[:, :CONTEXT]
        ),
        sky=None if batch.sky is None else batch.sky[:, :CONTEXT],
        targets=0,
    )


def mean(values: Iterable[float]) -> float | None:
    """The mean of what is a number (a novel view of which nothing was seen has no PSNR); None where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return round(sum(known) / len(known), 3) if known else None


def gain(means: dict[str, float | None]) -> float | None:
    """dB by which ``reconstruct`` beats the nearest photo."""
    made, copy = means["reconstruct"], means["nearest_photo"]
    return None if made is None or copy is None else round(made - copy, 3)


def share(means: dict[str, float | None]) -> float | None:
    """How far ``reconstruct`` gets on the way from the nearest photo (0) to the bound of true depth (1)."""
    copy, bound, above = means["nearest_photo"], means["true_depth"], gain(means)
    if copy is None or bound is None or above is None or bound <= copy:
        return None
    return round(above / (bound - copy), 3)
