"""Methods under evaluation: our models, simple baselines and files that others made, behind one interface."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal, Protocol, assert_never, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from da3gs._tensors import Device
from da3gs.cameras import Cameras
from da3gs.checkpoints import BUNDLED
from da3gs.errors import InputError
from da3gs.evaluation.outside import FittedSplats, RenderFiles, SplatFiles
from da3gs.evaluation.protocol import Picture, SceneInput, camera_of
from da3gs.evaluation.warping import plane_depth, warped_photos, warped_points
from da3gs.gaussians import Gaussians
from da3gs.photos.naming import shown
from da3gs.pipeline.model_loading import LoadedModel
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.pipeline.settings import DType, Settings, Splats
from da3gs.rendering import Backend
from da3gs.views import Views

Kind = Literal["model", "nearest", "constant-depth", "depth-warp", "splats", "renders"]
KINDS: tuple[Kind, ...] = ("model", "nearest", "constant-depth", "depth-warp", "splats", "renders")
"""What ``--baseline`` may be; ``splats:DIR`` and ``renders:DIR`` name a folder."""


@runtime_checkable
class Fitted(Protocol):
    """A method that has seen a scene's context."""

    @property
    def splats(self) -> int | None:
        """Number of splats; None where there are none."""

    @property
    def megabytes(self) -> float | None:
        """Size of what is needed to render; None where nobody knows."""

    @property
    def gaussians(self) -> Gaussians | None:
        """The splats."""

    @property
    def cameras(self) -> Cameras | None:
        """Context cameras in the method's own world; None: as they were said to be."""

    @property
    def offset(self) -> tuple[float, float, float]:
        """Offset to subtract from positions of the data set to get the method's."""

    def render(self, camera: Cameras, target: Picture | None) -> Float[Tensor, "H W 3"]:
        """A view from a camera of the method's world; ``target`` tells its name and size, its pixels are off limits."""


@runtime_checkable
class Baseline(Protocol):
    """Anything that turns context views into other views."""

    @property
    def name(self) -> str:
        """Name in reports."""

    def fit(self, scene: SceneInput) -> Fitted:
        """See the context."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """Method to evaluate, as a picklable record."""

    kind: Kind = "model"
    folder: str | None = None
    """Of splats or renders."""
    model: str = BUNDLED
    splats: Splats = "auto"
    refine: float = 0.0
    budget: int | None = None
    dtype: DType = "auto"
    device: Device = "auto"
    backend: Backend = "auto"
    seed: int = 0

    @property
    def uses_model(self) -> bool:
        """Whether a network takes part."""
        return self.kind in ("model", "depth-warp")

    def settings(self) -> Settings:
        """The flags of ``reconstruct``, checked."""
        return Settings(
            splats=self.splats, refine=self.refine, budget=self.budget, dtype=self.dtype, device=self.device,
            backend=self.backend, seed=self.seed,
        )  # fmt: skip


def parse_baseline(text: str | None, method: Method) -> Method:
    """The method that ``--baseline`` names; None is the model.

    Raises:
        InputError: there is no such baseline, or no such folder.
    """
    if text is None:
        return method
    kind, colon, folder = text.partition(":")
    known = next((k for k in KINDS if k == kind), None)
    if known is None or (known in ("splats", "renders")) != bool(colon):
        words = ", ".join(f"{k}:DIR" if k in ("splats", "renders") else k for k in KINDS)
        raise InputError(f"--baseline {text[:60]!r} is unknown; there are: {words}")
    if colon and not Path(folder).is_dir():
        raise InputError(f"--baseline {known}: {shown(folder)!r} is no folder; check the path")
    return dataclasses.replace(method, kind=known, folder=folder or None)


def baseline_of(method: Method, model: LoadedModel | None) -> Baseline:
    """The method, ready to fit."""
    match method.kind:
        case "model":
            assert model is not None
            return ModelSplats(method=method, model=model)
        case "depth-warp":
            assert model is not None
            return DepthWarp(method=method, model=model)
        case "nearest":
            return NearestPhoto()
        case "constant-depth":
            return ConstantDepth()
        case "splats":
            assert method.folder is not None
            return SplatFiles(folder=Path(method.folder), device=method.device, backend=method.backend)
        case "renders":
            assert method.folder is not None
            return RenderFiles(folder=Path(method.folder))
        case other:
            assert_never(other)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModelSplats:
    """Splats of a model, by ``reconstruct``."""

    method: Method
    model: LoadedModel

    @property
    def name(self) -> str:
        """Model, splats, refinement."""
        words = [self.model.card.name, f"splats {self.method.splats}" if self.method.splats != "auto" else ""]
        words.append(f"refined {self.method.refine:g} s" if self.method.refine else "")
        return ", ".join(word for word in words if word)

    def fit(self, scene: SceneInput) -> FittedSplats:
        """Reconstruct the context."""
        made = reconstruct(
            scene.context, model=self.model, splats=self.method.splats, refine=self.method.refine,
            budget=self.method.budget, dtype=self.method.dtype, device=self.method.device,
            backend=self.method.backend, seed=self.method.seed,
        )  # fmt: skip
        count = len(made.gaussians)
        return FittedSplats(
            gaussians=made.gaussians,
            splats=count,
            megabytes=round(4e-6 * count * (14 + 3 * made.gaussians.harmonics.shape[-2]), 3),
            cameras=made.cameras,
            offset=made.offset,
            refinement=made.record.get("refinement"),
            backend=self.method.backend,
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedPhotos:
    """The context photos, and depth where there is any."""

    scene: SceneInput
    how: Literal["nearest", "constant-depth", "depth-warp"]
    depth: Float[Tensor, "V h w"] | None = None
    cameras: Cameras | None = None
    splats: int | None = None
    megabytes: float | None = None
    gaussians: Gaussians | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def render(self, camera: Cameras, target: Picture | None) -> Float[Tensor, "H W 3"]:
        """The nearest photo, or photos warped to the camera."""
        if self.how == "nearest" and target is not None and target.cam_to_world is None:
            return _resized(min(self.scene.pictures, key=lambda p: abs(p.index - target.index)), camera)
        own = self.own_cameras()
        match self.how:
            case "nearest":
                return _resized(self.scene.pictures[nearest_views(own, camera)[0]], camera)
            case "constant-depth":
                order = nearest_views(own, camera)
                photos = [(self.scene.pictures[i].tensor, own[i]) for i in order]
                return warped_photos(photos, camera, plane_depth(own, camera))
            case "depth-warp":
                assert self.depth is not None
                views = self.scene.context.views
                return warped_points(views.images, self.depth, _canvas(own, views), camera, views.sizes)

    def own_cameras(self) -> list[Cameras]:
        """Cameras of the context photos at the size that they are scored at, float64."""
        if self.cameras is None:
            return [camera_of(picture) for picture in self.scene.pictures]
        views = self.scene.context.views
        cameras = []
        for i, picture in enumerate(self.scene.pictures):
            h, w = views.sizes[i]
            window = self.cameras[[i]].cropped(0, 0, h, w)[0].to(dtype=torch.float64)
            cameras.append(window.resized(picture.image.shape[0], picture.image.shape[1]))
        return cameras


def _resized(picture: Picture, camera: Cameras) -> Float[Tensor, "H W 3"]:
    """A photo at the size of a camera's picture."""
    image = Image.fromarray(picture.image)
    if image.size != (camera.width, camera.height):
        image = image.resize((camera.width, camera.height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).float() / 255


def _canvas(own: list[Cameras], views: Views) -> list[Cameras]:
    """The cameras at the network's size."""
    return [camera.resized(h, w) for camera, (h, w) in zip(own, views.sizes, strict=True)]


def nearest_views(cameras: list[Cameras], camera: Cameras) -> list[int]:
    """Positions of the cameras, nearest first: in centre, as a share of their extent, and in viewing direction."""
    centers = torch.stack([c.centers.double() for c in cameras])
    forward = torch.stack([c.forward.double() for c in cameras])
    extent = (centers - centers.mean(0)).norm(dim=-1).max().clamp(min=1e-9)
    apart = (centers - camera.centers.double()).norm(dim=-1) / extent + 1 - forward @ camera.forward.double()
    return [int(i) for i in torch.argsort(apart, stable=True)]


class NearestPhoto:
    """The context photo taken nearest to the target: what a reconstruction has to beat."""

    name = "nearest photo"

    def fit(self, scene: SceneInput) -> FittedPhotos:
        """Keep the photos."""
        return FittedPhotos(scene=scene, how="nearest")


class ConstantDepth:
    """Photos warped as if everything stood on one plane before the target camera, where the viewing axes meet."""

    name = "constant depth"

    def fit(self, scene: SceneInput) -> FittedPhotos:
        """Keep the photos."""
        return FittedPhotos(scene=scene, how="constant-depth")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DepthWarp:
    """Context pixels lifted by a model's depth and drawn as points, without any splats."""

    method: Method
    model: LoadedModel

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"depth warp, {self.model.card.name}"

    def fit(self, scene: SceneInput) -> FittedPhotos:
        """Ask the model for depth."""
        made = reconstruct(
            scene.context, model=self.model, splats="depth", clean=False, dtype=self.method.dtype,
            device=self.method.device, backend=self.method.backend, seed=self.method.seed,
        ).to("cpu")  # fmt: skip
        given = scene.context.views.cameras is not None
        return FittedPhotos(
            scene=scene,
            how="depth-warp",
            depth=made.depth,
            cameras=made.cameras,
            offset=made.offset if given else (0.0, 0.0, 0.0),
        )


def timed_fit(baseline: Baseline, scene: SceneInput) -> tuple[Fitted, float]:
    """The fit and its seconds."""
    start = time.perf_counter()
    fitted = baseline.fit(scene)
    return fitted, time.perf_counter() - start
