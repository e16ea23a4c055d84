"""nerfstudio reads our scene folders: ``ns-train splatfacto da3gs --data SCENE``; the method is in a module of its own.

The entry point ``nerfstudio.dataparser_configs`` names ``SPECIFICATION`` here. Classes that derive from nerfstudio's
are made when they are asked for, so that this module imports without nerfstudio; it imports none of its trainer either,
since plugins are discovered while that is half imported.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from da3gs._optional import require
from da3gs._scene_read import read_record
from da3gs.errors import InputError
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.formats.splats.ply import load_ply
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.geometry.similarity import Similarity
from da3gs.scene import FrameRecord

_FLIP = np.array([1.0, -1.0, -1.0, 1.0])
"""From OpenCV's camera axes to OpenGL's."""
_POINTS = 200_000
SPLATS = "da3gs_splats"
"""Where the splats stand in what the data parser hands on."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PosedFolder:
    """Facts of a scene folder for nerfstudio, in the world that it trains in."""

    images: tuple[Path, ...]
    """The photos."""
    masks: tuple[Path, ...]
    """White where pixels count; a row a photo, or none at all."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each photo."""
    intrinsics: Float[np.ndarray, "V 3 3"]
    """In pixels."""
    cam_to_world: Float[np.ndarray, "V 4 4"]
    """OpenGL axes, z of the world is up, cameras within the unit cube."""
    transform: Float[np.ndarray, "3 4"]
    """From the folder's world to that one, before scaling."""
    scale: float
    """What positions were multiplied by after that."""
    points: Float[np.ndarray, "N 3"]
    """Centres of some of the splats, in that world."""
    colors: UInt8[np.ndarray, "N 3"]
    """Of the points."""
    splats: Gaussians | None = None
    """All of them, in that world, where they were asked for."""


def posed_folder(folder: Path, *, align: bool = True, points: bool = True, splats: bool = False) -> PosedFolder:
    """Read a scene folder: photos, cameras, and the splats as points to start from.

    Args:
        folder: with scene.json and transforms.json.
        align: turn the world so that the scene's vertical axis is z, its cameras lie round the origin, within 1 of it;
            else the folder's own world is kept.
        points: whether to read the splats as points.
        splats: whether to read the splats as they are.

    Raises:
        InputError: the folder is no scene, or something in it is missing.
    """
    record = read_record(folder)
    frames = load_transforms(folder / "transforms.json").frames
    images = tuple(_inside(folder, frame.file_path) for frame in frames)
    masks = tuple(_inside(folder, frame.mask_path) for frame in frames if frame.mask_path is not None)
    lenses = [frame.lens(0, 0) for frame in frames]
    if any(any(lens.distortion) for lens in lenses):
        raise InputError(f"{folder.name} holds distorted photos; scene folders of da3gs never do: reconstruct it again")
    poses = np.stack([frame.cam_to_world for frame in frames])
    told = record.get("frame") or {}
    transform, scale = _alignment(poses, told) if align else (np.eye(4)[:3], 1.0)
    rotation, shift = transform[:, :3], transform[:, 3]
    moved = poses * _FLIP
    moved[:, :3] = rotation @ moved[:, :3]
    moved[:, :3, 3] = scale * (moved[:, :3, 3] + shift)
    offset = np.array(told.get("offset") or (0.0, 0.0, 0.0), np.float64)
    means, colors = _start(folder, offset) if points else (np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    return PosedFolder(
        images=images,
        masks=masks if len(masks) == len(images) else (),
        sizes=tuple((lens.height, lens.width) for lens in lenses),
        intrinsics=np.stack([lens.intrinsics for lens in lenses]),
        cam_to_world=moved,
        transform=transform,
        scale=scale,
        points=scale * (means @ rotation.T + shift),
        colors=colors,
        splats=_splats(folder, offset, transform, scale) if splats else None,
    )


def _inside(folder: Path, written: str) -> Path:
    path = folder / written
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise InputError(f"{folder.name} names {written[:80]!a}, which is not in it; save the scene anew")
    return path


def _alignment(poses: np.ndarray, told: FrameRecord) -> tuple[np.ndarray, float]:
    """The rigid part (3 4), and the scale after it."""
    up = np.array(told.get("vertical_axis") or -poses[:, :3, 1].mean(0), np.float64)
    up /= max(float(np.linalg.norm(up)), 1e-12)
    side = np.eye(3)[np.abs(up).argmin()]
    x = np.cross(side, up)
    x /= np.linalg.norm(x)
    rotation = np.stack((x, np.cross(up, x), up))
    centers = poses[:, :3, 3]
    shift = -rotation @ centers.mean(0)
    largest = float(np.abs(centers @ rotation.T + shift).max())
    return np.column_stack((rotation, shift)), 1 / largest if largest > 1e-9 else 1.0


def _start(folder: Path, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    splats = load_ply(folder / "scene.ply")
    splats = splats.masked(torch.arange(0, len(splats), 1 + len(splats) // _POINTS))
    colors = ((splats.harmonics[:, 0] * C0 + 0.5).clamp(0, 1) * 255).round().byte().numpy()
    return splats.means.double().numpy() + offset, colors


def _splats(folder: Path, offset: np.ndarray, transform: np.ndarray, scale: float) -> Gaussians:
    """The scene's splats in another world, drawn as its record says."""
    found = load_ply(folder / "scene.ply")
    found = dataclasses.replace(
        found.to(dtype=torch.float64), antialiased=read_record(folder).get("antialiased") is True
    )
    found = dataclasses.replace(found, means=found.means + torch.from_numpy(offset))
    moved = Similarity(
        scale=torch.tensor(scale, dtype=torch.float64),
        rotation=torch.from_numpy(transform[:, :3].copy()),
        translation=torch.from_numpy(scale * transform[:, 3]),
    )
    return found.transformed(moved).to(dtype=torch.float32)


@functools.cache
def _plugin() -> dict[str, Any]:
    """The classes and the specification that nerfstudio looks for."""
    cameras = require("nerfstudio.cameras.cameras", why="the data parser")
    base = require("nerfstudio.data.dataparsers.base_dataparser", why="the data parser")
    registry = require("nerfstudio.plugins.registry_dataparser", why="the data parser")
    boxes = require("nerfstudio.data.scene_box", why="the data parser")

    class SceneDataParser(base.DataParser):  # type: ignore[name-defined]
        """Reads a scene folder of da3gs."""

        config: Any

        def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> Any:
            asked = self.config
            found = posed_folder(asked.data, align=asked.align, points=asked.load_3D_points, splats=asked.splats)
            chosen = split_indices(len(found.images), self.config.eval_every, split)
            numbers = torch.from_numpy(found.intrinsics[chosen]).float()
            sizes = torch.tensor([found.sizes[i] for i in chosen])
            metadata: dict[str, Any] = {} if found.splats is None else {SPLATS: found.splats}
            if len(found.points):
                metadata["points3D_xyz"] = torch.from_numpy(found.points).float()
                metadata["points3D_rgb"] = torch.from_numpy(found.colors)
            return base.DataparserOutputs(
                image_filenames=[found.images[i] for i in chosen],
                mask_filenames=[found.masks[i] for i in chosen] if found.masks else None,
                cameras=cameras.Cameras(
                    camera_to_worlds=torch.from_numpy(found.cam_to_world[chosen, :3]).float(),
                    fx=numbers[:, 0, 0], fy=numbers[:, 1, 1], cx=numbers[:, 0, 2], cy=numbers[:, 1, 2],
                    height=sizes[:, 0], width=sizes[:, 1], camera_type=cameras.CameraType.PERSPECTIVE,
                ),
                scene_box=boxes.SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]])),
                dataparser_transform=torch.from_numpy(found.transform).float(),
                dataparser_scale=found.scale,
                metadata=metadata,
            )  # fmt: skip

    @dataclasses.dataclass
    class SceneDataParserConfig(base.DataParserConfig):  # type: ignore[name-defined]
        """A scene folder of da3gs."""

        _target: Any = dataclasses.field(default_factory=lambda: SceneDataParser)
        align: bool = True
        """Turn the scene upright and scale it into the unit cube."""
        eval_every: int = 8
        """Every so many photos one is kept for evaluation; 0 keeps none."""
        load_3D_points: bool = True
        """Start from the splats of the scene, as points."""
        splats: bool = False
        """Hand the splats themselves on, for the method of this name."""
        name: ClassVar[str] = "da3gs"

    for made in (SceneDataParser, SceneDataParserConfig):
        made.__module__, made.__qualname__ = __name__, made.__name__  # so that saved configurations can be read back
    config = SceneDataParserConfig()
    return {
        "SceneDataParser": SceneDataParser,
        "SceneDataParserConfig": SceneDataParserConfig,
        "SPECIFICATION": registry.DataParserSpecification(config=config, description="a scene folder of da3gs"),
    }


def split_indices(count: int, every: int, split: str) -> list[int]:
    """Positions of the photos of a split: ``train`` is the rest of ``val`` and ``test``, which are every so many."""
    held = list(range(0, count, every)) if every > 0 and count > 1 else []
    if split in ("val", "test"):
        return held or list(range(count))
    return [index for index in range(count) if index not in set(held)]


def __getattr__(name: str) -> Any:
    """The names that nerfstudio asks for, made on demand."""
    if name in ("SceneDataParser", "SceneDataParserConfig", "SPECIFICATION"):
        return _plugin()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
