"""A reconstructed scene: splats, the photos and cameras behind them, and the folder that holds it all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int16, Int32
from torch import Tensor

from da3gs._files import check_output as check_output
from da3gs._progress import Progress, silent
from da3gs._tensors import Device, TensorRecord, drawing_device
from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.photos.records import Photo
from da3gs.rendering.rasterise import Backend
from da3gs.views import Views

FAR = 1e4
"""Cameras further from the origin than this times their extent are moved near it, since float32 could not hold them."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Provenance(TensorRecord):
    """Provenance of each splat, a row a splat in the order of the splats."""

    view: Int16[Tensor, "N"]
    """Position of its view among the scene's; -1 where splats of several were merged."""
    pixel: Int32[Tensor, "N"]
    """``row * width + column`` in its photo, without padding."""
    confidence: Float16[Tensor, "N"]
    """Of the depth there, at least 1; NaN where the model has none."""
    edge: Float16[Tensor, "N"]
    """How far the pixel's depth hangs between those of two opposite neighbours, relative; see ``depth_flyers``."""
    sky: Bool[Tensor, "N"]
    """Whether the model sees sky there."""


class ModelRecord(TypedDict, total=False):
    """Model that made a scene."""

    name: str
    licence: str
    commercial_use: bool


class FrameRecord(TypedDict, total=False):
    """Axes, origin and unit of a scene's world."""

    axes: str
    origin: str
    up: str
    unit: str
    metric: bool
    metres_per_given_unit: float | None
    given_times: float
    vertical_axis: list[float]
    offset: list[float]
    placed: dict[str, Any]


class PosesRecord(TypedDict, total=False):
    """Cameras: where they are from, photo by photo, and how far predicted ones were from given ones."""

    source: str
    cameras: list[dict[str, Any]]
    one_spot: bool
    residual: dict[str, Any] | None
    focal: dict[str, Any] | None


class ViewsRecord(TypedDict, total=False):
    """Photos that were kept, those left out with the reason, and what reading them had to say."""

    kept: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    read: list[str]
    notes: list[str]


class ScoresRecord(TypedDict, total=False):
    """PSNR in dB at the photos and at those held out."""

    input: list[float]
    input_mean: float
    holdout: list[float] | None
    holdout_mean: float | None
    holdout_poses: str | None


class SceneRecord(TypedDict, total=False):
    """Content of scene.json; of a folder that others wrote, what it states, so that everything may be missing."""

    format: str
    format_version: int
    da3gs_version: str
    settings: dict[str, Any]
    input: str
    model: ModelRecord
    frame: FrameRecord
    poses: PosesRecord
    views: ViewsRecord
    splats_from: str
    cleaned: dict[str, int]
    cleaning: dict[str, Any]
    psnr: ScoresRecord
    seconds: dict[str, float]
    peak_memory_mb: float | None
    chunks: dict[str, Any]
    alignment: dict[str, Any] | None
    refinement: dict[str, Any] | None
    budget: dict[str, Any] | None
    splats: int
    harmonics_degree: int
    antialiased: bool
    sizes: list[list[int]]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Scene(TensorRecord):
    """Splats, cameras and photos in one world, and the record of how they came about.

    ``gaussians`` and ``cameras`` share one frame, OpenCV axes. Where the caller's world lies too far from its origin
    for float32, that frame is the caller's moved by ``offset``: ``caller = scene + offset``.
    """

    gaussians: Gaussians
    """The splats."""
    cameras: Cameras
    """Of the views, on their padded canvas."""
    views: Views
    """The photos that the splats were made from."""
    record: SceneRecord
    """The content of scene.json."""
    provenance: Provenance | None = None
    """Where each splat comes from, where that is known."""
    depth: Float[Tensor, "V H W"] | None = None
    """Along each camera's z axis."""
    confidence: Float[Tensor, "V H W"] | None = None
    """Of the depth, at least 1."""
    sky: Bool[Tensor, "V H W"] | None = None
    """True where the model sees sky."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What to add to positions of the scene to get the caller's."""
    cam_to_world_given: Float[np.ndarray, "V 4 4"] | None = None
    """The caller's poses to the last digit, in the caller's world, OpenCV axes; transforms.json gets these."""
    originals: tuple[Photo, ...] | None = None
    """The photos to keep at full size in place of those of ``views``; a row a view."""
    notes: tuple[str, ...] = ()
    """What reading its folder had to pass over, for people."""

    @property
    def frame(self) -> FrameRecord:
        """Axes, origin, direction up and unit as scene.json states them; empty where it does not."""
        frame: object = self.record.get("frame")
        return cast(FrameRecord, frame) if isinstance(frame, dict) else {}

    def save(
        self, path: Path | str, *, overwrite: bool = False, backend: Backend = "auto", progress: Progress = silent
    ) -> None:
        """Write the scene folder, whole or not at all.

        Args:
            path: the folder.
            overwrite: replace an existing scene folder; nothing else is ever replaced.
            backend: draws the reference pictures that ``check`` compares with.
            progress: told about the pieces.

        Raises:
            InputError: ``path`` exists and may not be replaced, or its parent does not exist.
        """
        from da3gs._scene_write import write_scene

        check_output(path, overwrite=overwrite)
        write_scene(self.near_origin(), Path(path), overwrite=overwrite, backend=backend, progress=progress)

    def near_origin(self) -> Scene:
        """The same scene, moved by an offset if its cameras are further from the origin than 1e4 times their extent."""
        offset = far_offset(self.cameras)
        if not offset.any():
            return self
        moved = self.cameras.world_to_cam.double().clone()
        moved[:, :3, 3] += (moved[:, :3, :3] @ offset[:, None].to(moved.device)).squeeze(-1)
        return dataclasses.replace(
            self,
            gaussians=dataclasses.replace(self.gaussians, means=self.gaussians.means - offset.to(self.gaussians.means)),
            cameras=dataclasses.replace(self.cameras, world_to_cam=moved.to(self.cameras.world_to_cam.dtype)),
            offset=tuple((torch.tensor(self.offset, dtype=torch.float64) + offset).tolist()),
        )


def far_offset(cameras: Cameras) -> Float[Tensor, "3"]:
    """Offset to subtract from a world in which float32 positions would be too coarse, float64; zero for any other.

    The mean camera centre in whole units, if that is further from the origin than 1e4 times the extent of the centres
    (the diagonal of their box; 1 for a single one).
    """
    centers = cameras.to(dtype=torch.float64).centers.reshape(-1, 3).cpu()
    extent = float((centers.amax(0) - centers.amin(0)).norm()) if len(centers) else 0.0
    middle = centers.mean(0) if len(centers) else torch.zeros(3, dtype=torch.float64)
    if float(middle.norm()) <= FAR * (extent or 1.0):
        return torch.zeros(3, dtype=torch.float64)
    return middle.round()


def load_scene(path: Path | str, *, device: Device = "cpu") -> Scene:
    """Read a scene folder onto a device.

    Raises:
        InputError: it is no scene folder, or a file in it is missing or broken; the message names it.
        BackendError: the machine has no such device.
    """
    from da3gs._scene_read import read_scene

    return read_scene(Path(path)).to(drawing_device(device))
