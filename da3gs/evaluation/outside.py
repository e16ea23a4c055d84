"""Results of other programs, scored like our own: splat files, and pictures that were rendered already."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._tensors import Device, drawing_device
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.evaluation.protocol import Picture, SceneInput
from da3gs.formats import READ_SUFFIXES, load_gaussians
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.decoding.images import read_picture
from da3gs.photos.naming import shown
from da3gs.photos.records import Unreadable
from da3gs.rendering import Backend, render


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedSplats:
    """Splats and the cameras that they belong to."""

    gaussians: Gaussians
    splats: int | None
    megabytes: float | None
    cameras: Cameras | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    backend: Backend = "auto"
    """Draws them."""
    refinement: dict[str, Any] | None = None
    """What came of --refine: steps, seconds, PSNR of the context before and after."""

    def render(self, camera: Cameras, target: Picture | None) -> Float[Tensor, "H W 3"]:
        """The splats seen by the camera."""
        return render(self.gaussians, camera, backend=self.backend).color


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SplatFiles:
    """Splat files made by anyone, in the data set's world: ``NAME.ply`` (.spz, .glb, ...), or one file in ``NAME/``."""

    folder: Path
    device: Device = "auto"
    backend: Backend = "auto"

    @property
    def name(self) -> str:
        """The folder's."""
        return f"splat files of {shown(self.folder.resolve().name)}"

    def fit(self, scene: SceneInput) -> FittedSplats:
        """Read the scene's file."""
        path = _one_file(self.folder, scene.key, READ_SUFFIXES, "splat file")
        gaussians = load_gaussians(path).to(drawing_device(self.device))
        return FittedSplats(
            gaussians=gaussians,
            splats=len(gaussians),
            megabytes=round(path.stat().st_size / 1e6, 3),
            cameras=_cameras_beside(path.parent, scene) if path.parent.name == scene.key else None,
            backend=self.backend,
        )


def _cameras_beside(folder: Path, scene: SceneInput) -> Cameras | None:
    """The context cameras in the splats' own world: a transforms.json beside them that names the context frames."""
    path = folder / "transforms.json"
    if not path.is_file():
        return None
    poses = {Path(frame.file_path).stem: frame.cam_to_world for frame in load_transforms(path).frames}
    missing = [p.name for p in scene.pictures if Path(p.name).stem not in poses]
    if missing:
        raise InputError(f"{scene.key}/transforms.json beside the splats lacks the context frame {missing[0]}")
    found = np.stack([poses[Path(p.name).stem] for p in scene.pictures])
    count, views = len(found), scene.context.views
    return Cameras(
        world_to_cam=rigid_inverse(torch.from_numpy(found)).float(),
        intrinsics=torch.eye(3).expand(count, 3, 3),
        height=views.height,
        width=views.width,
    )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RenderFiles:
    """Pictures that someone else rendered: ``NAME/render_00012.png`` (the frame's number) or ``NAME/FRAME.png``; .npy
    holds float32.

    What ``--save-images`` wrote is taken too: where ``target_00000.png`` lies beside, renders are numbered like the
    targets, one after the other.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The folder's."""
        return f"renders of {shown(self.folder.resolve().name)}"

    def fit(self, scene: SceneInput) -> FittedRenders:
        """Find the scene's folder."""
        folder = self.folder / scene.key
        if not folder.is_dir():
            raise InputError(f"{shown(self.folder.name)} has no folder {scene.key} of renders")
        ours = (folder / "target_00000.png").is_file()
        order = {name: number for number, name in enumerate(scene.targets)} if ours else None
        if order is not None and len(order) < len(scene.targets):
            raise InputError(f"{scene.key} has two targets of one name; call its renders by their frames' numbers")
        return FittedRenders(folder=folder, order=order)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedRenders:
    """A folder of pictures."""

    folder: Path
    order: dict[str, int] | None = None
    """Numbers of the targets' renders by the targets' names; None: their frames' numbers."""
    splats: int | None = None
    megabytes: float | None = None
    gaussians: Gaussians | None = None
    cameras: Cameras | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def render(self, camera: Cameras, target: Picture | None) -> Float[Tensor, "H W 3"]:
        """The picture of the target's number or name."""
        assert target is not None
        number = target.index if self.order is None else self.order[target.name]
        stems = (f"render_{number:05d}", Path(target.name).stem)
        path = next(
            (p for stem in stems for s in (".npy", ".png", ".jpg") if (p := self.folder / (stem + s)).is_file()), None
        )
        if path is None:
            raise InputError(f"{shown(self.folder.name)} has no render {stems[0]}.png; render every target")
        try:
            image = _float_picture(path) if path.suffix == ".npy" else read_picture(path).image / np.float32(255)
        except Unreadable as problem:
            raise InputError(f"{shown(self.folder.name)}: {shown(path.name)} {problem}") from problem
        if image.shape != target.image.shape:
            have, want = "x".join(map(str, image.shape[:2])), "x".join(map(str, target.image.shape[:2]))
            raise InputError(f"{shown(self.folder.name)}: {shown(path.name)} is {have}, but is scored at {want}")
        return torch.from_numpy(np.asarray(image, np.float32).copy())


def _float_picture(path: Path) -> Float[np.ndarray, "H W 3"]:
    """A .npy of floats, read without pickles."""
    try:
        image = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{shown(path.name)} is no array that can be read; write it again") from error
    if image.ndim != 3 or image.shape[-1] != 3 or not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{shown(path.name)} is {image.dtype} {image.shape}, not floats of height, width, 3")
    return np.asarray(image, np.float32)


def _one_file(folder: Path, key: str, suffixes: tuple[str, ...], what: str) -> Path:
    for suffix in suffixes:
        if (path := folder / f"{key}{suffix}").is_file():
            return path
    inside = sorted({p for s in suffixes for p in (folder / key).glob(f"*{s}")}) if (folder / key).is_dir() else []
    if len(inside) != 1:
        found = "none" if not inside else f"{len(inside)} in {key}/"
        raise InputError(f"{shown(folder.name)} needs one {what} for scene {key}, found {found}")
    return inside[0]
