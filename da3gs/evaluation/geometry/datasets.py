"""Data sets with true geometry: DTU, ETH3D, 7Scenes and ScanNet++ as they are laid out, or any posed data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float, Float32

from da3gs.errors import InputError
from da3gs.evaluation.data import EvalScene, Frame, open_scenes
from da3gs.evaluation.geometry.files import (
    aligned_scans,
    image_size,
    read_matrix,
    read_millimetres,
    read_mvsnet_camera,
    read_pfm,
    surface_points,
)
from da3gs.evaluation.splits import SCENE_KEY
from da3gs.formats.cameras.colmap import find_colmap, load_colmap
from da3gs.formats.cameras.transforms import check_rigid, load_transforms
from da3gs.photos.decoding.images import read_picture
from da3gs.photos.folders.survey import stays_inside
from da3gs.photos.naming import natural_key, shown
from da3gs.photos.records import Unreadable

Dataset = Literal["posed", "dtu", "eth3d", "7scenes", "scannetpp"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Rules by which surfaces of a data set are fused and compared, in its unit; the official benchmark's numbers."""

    voxel: float
    truncation: float
    distance: float
    """Of precision and recall."""
    thinning: float
    """Side of the cubes that keep one point each."""
    max_depth: float | None = None
    every: int = 1
    """Every how many-th frame is used."""
    first: int = 0
    """Which frame the network sees first."""
    note: str = ""
    """What the official benchmark does otherwise."""


RULES: dict[Dataset, Rules | None] = {
    "posed": None,
    "dtu": Rules(
        voxel=1.5, truncation=6.0, distance=2.0, thinning=0.2, first=33,
        note="fused by TSDF and compared without DTU's observation masks: not the official DTU figures",
    ),
    "eth3d": Rules(voxel=0.039, truncation=0.2, distance=0.25, thinning=0.039),
    "7scenes": Rules(voxel=4 / 512, truncation=0.04, distance=0.05, thinning=4 / 512, every=11),
    "scannetpp": Rules(voxel=0.02, truncation=0.15, distance=0.05, thinning=0.02, max_depth=5.0, every=5,
                       note="frames of the DSLR; the official benchmark takes a telephone's"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrueScene:
    """A posed scene with what is known of its geometry."""

    scene: EvalScene
    """Photos and cameras."""
    depth: Callable[[int], Float32[np.ndarray, "H W"]] | None = None
    """Reads a frame's true depth, 0 where unknown."""
    points: Callable[[], Float[np.ndarray, "N 3"]] | None = None
    """Reads the true surface as points."""


def dataset_of(root: Path, asked: str) -> Dataset:
    """Layout of a root.

    Raises:
        InputError: it does not have the layout that was asked for.
    """
    if not root.is_dir():
        return "posed"
    tests: dict[Dataset, bool] = {
        "dtu": (root / "Cameras").is_dir() and ((root / "Rectified").is_dir() or bool(_sixty_four(root))),
        "7scenes": any(root.glob("seq-*")) or any(root.glob("*/seq-*")),
        "eth3d": any(root.glob(f"*/{_CALIBRATION}")) or (root / _CALIBRATION).is_dir(),
        "scannetpp": any(root.glob("*/dslr/nerfstudio/transforms_undistorted.json")),
    }
    if asked not in ("auto", "posed"):
        if not tests.get(cast(Dataset, asked), False):
            raise InputError(f"{shown(root.name)} is not laid out as --dataset {asked}; see da3gs evaluate --help")
        return cast(Dataset, asked)
    if asked == "posed":
        return "posed"
    return next((name for name, fits in tests.items() if fits), "posed")


def open_true_scenes(root: Path, dataset: Dataset) -> dict[str, Callable[[], TrueScene]]:
    """The scenes of a root by name; each is opened when it is called.

    Raises:
        InputError: there is none.
    """
    match dataset:
        case "posed":
            found = open_scenes(root)
            return {key: lambda key=key: TrueScene(scene=found[key]) for key in found}  # type: ignore[misc]
        case "dtu":
            rectified = root / "Rectified"
            places = [p for p in rectified.iterdir() if p.is_dir()] if rectified.is_dir() else _sixty_four(root)
            return _named(places, lambda place: _dtu(root, place), strip="_train")
        case "7scenes":
            places = [root] if any(root.glob("seq-*")) else [p for p in root.iterdir() if any(p.glob("seq-*"))]
            return _named(places, _seven_scenes)
        case "eth3d":
            inner = _CALIBRATION
            places = [root] if (root / inner).is_dir() else [p for p in root.iterdir() if (p / inner).is_dir()]
            return _named(places, _eth3d)
        case "scannetpp":
            places = [p.parents[2] for p in root.glob("*/dslr/nerfstudio/transforms_undistorted.json")]
            return _named(places, _scannetpp)


def _named(
    places: list[Path], opener: Callable[[Path], TrueScene], *, strip: str = ""
) -> dict[str, Callable[[], TrueScene]]:
    found: dict[str, Callable[[], TrueScene]] = {}
    for place in sorted(places, key=lambda p: natural_key(p.name)):
        key = place.resolve().name.removesuffix(strip)
        if SCENE_KEY.fullmatch(key) is None:
            raise InputError(f"the scene folder {shown(key)} must be named with letters, digits, '.', '_' and '-'")
        found.setdefault(key, lambda place=place: opener(place))  # type: ignore[misc]
    if not found:
        raise InputError("the root holds no scene of this layout; check the path")
    return found


def _scene(
    key: str, photos: list[Path], poses: Float[np.ndarray, "N 4 4"], intrinsics: list[np.ndarray | None], root: Path
) -> EvalScene:
    """Photos with pinhole cameras, intrinsics in pixels of each photo."""
    for photo, pose in zip(photos, poses, strict=True):
        check_rigid(pose, f"{key}: the camera of {shown(photo.name)}")
    for photo in photos:
        if not stays_inside(photo, root):
            raise InputError(f"{key}: {shown(photo.name)} leads out of the data set; put the photo itself there")

    def read(index: int, undistort: bool) -> Frame:
        """One photo with its intrinsics and pose."""
        try:
            image = read_picture(photos[index], upright=False).image
        except Unreadable as problem:
            raise InputError(f"{key}, frame {index}: {shown(photos[index].name)} {problem}") from problem
        return Frame(image=image, mask=None, intrinsics=intrinsics[index])

    return EvalScene(key=key, names=tuple(p.stem for p in photos), cam_to_world=poses, read=read)


def _seven_scenes(place: Path) -> TrueScene:
    """``seq-01/frame-000000.{color.png,depth.png,pose.txt}``: camera-to-world, depth in millimetres, one Kinect.

    One sequence, as in the official benchmark: the second of ``stairs``, else the first. The surface is
    ``../meshes/NAME.ply`` or ``NAME.ply`` beside the sequences, else the true depth maps fused.
    """
    key = place.resolve().name
    sequences = sorted(place.glob("seq-*"))
    wanted = place / ("seq-02" if key == "stairs" else "seq-01")
    sequence = wanted if wanted in sequences else sequences[0]
    photos = [p for p in sorted(sequence.glob("frame-*.color.png")) if _beside(p, ".pose.txt").is_file()]
    if not photos:
        raise InputError(f"{shown(key)}/{shown(sequence.name)} holds no frame-*.color.png with its pose.txt")
    poses = np.stack([read_matrix(_beside(p, ".pose.txt"), 4, 4) for p in photos])
    scale = image_size(photos[0])[1] / 640
    camera = np.array([[585 * scale, 0, 320 * scale], [0, 585 * scale, 240 * scale], [0, 0, 1.0]])

    def depth(index: int) -> Float32[np.ndarray, "H W"]:
        """The sensor's depth beside a photo, in metres."""
        return read_millimetres(_beside(photos[index], ".depth.png"))

    scene = _scene(key, photos, poses, [camera] * len(photos), place)
    mesh = _first_file(place / f"{key}.ply", place.parent / "meshes" / f"{key}.ply")
    return TrueScene(scene=scene, depth=depth, points=None if mesh is None else (lambda: surface_points(mesh)))


def _beside(photo: Path, suffix: str) -> Path:
    return photo.with_name(photo.name.replace(".color.png", suffix))


def _first_file(*places: Path) -> Path | None:
    return next((place for place in places if place.is_file()), None)


_CALIBRATION = "dslr_calibration_undistorted"
_UNUSED: dict[str, tuple[range, ...]] = {
    "delivery_area": (range(711, 715),),
    "electro": (range(9289, 9294), range(9298, 9299)),
    "playground": (range(587, 593),),
    "relief": (range(427, 439),),
    "relief_2": (range(458, 469),),
}
"""Numbers of the photos of ETH3D that the official benchmark leaves out."""


def _eth3d(place: Path) -> TrueScene:
    """``dslr_calibration_undistorted`` (COLMAP), ``images/``; ``combined_mesh.ply`` as the official benchmark made it,
    else ``dslr_scan_eval/*.ply`` with ``scan_alignment.mlp``."""
    folder, key = find_colmap(place / _CALIBRATION), place.resolve().name
    if folder is None:
        raise InputError(f"{shown(place.name)}/{_CALIBRATION} holds no COLMAP model")
    model = load_colmap(folder)
    images = [i for i in sorted(model.images, key=lambda i: natural_key(i.name)) if not _is_unused(key, i.name)]
    if not images:
        raise InputError(f"{shown(place.name)}/{_CALIBRATION} has no photo that the benchmark uses")
    lenses = {c.id: c.lens() for c in model.cameras}
    photos = [place / "images" / i.name for i in images]
    poses = np.stack([np.linalg.inv(i.world_to_cam()) for i in images])
    scene = _scene(key, photos, poses, [lenses[i.camera_id].intrinsics for i in images], place)
    scans, mesh = place / "dslr_scan_eval", place / "combined_mesh.ply"
    if mesh.is_file():
        return TrueScene(scene=scene, points=lambda: surface_points(mesh))
    return TrueScene(scene=scene, points=(lambda: aligned_scans(scans)) if scans.is_dir() else None)


def _is_unused(scene: str, photo: str) -> bool:
    digits = re.search(r"(\d+)\.[A-Za-z]+$", photo)
    return digits is not None and any(int(digits[1]) in numbers for numbers in _UNUSED.get(scene, ()))


def _scannetpp(place: Path) -> TrueScene:
    """``dslr/nerfstudio/transforms_undistorted.json``, its pictures, ``scans/mesh_aligned_0.05.ply``.

    Its poses are nerfstudio's: x and y of the mesh's world are swapped and z is negated.
    """
    frames = load_transforms(place / "dslr" / "nerfstudio" / "transforms_undistorted.json").frames
    swap = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
    poses = np.stack([swap @ frame.cam_to_world for frame in frames])
    folder = next(
        (place / "dslr" / n for n in ("resized_undistorted_images", "undistorted_images")
         if (place / "dslr" / n).is_dir()),
        place / "dslr" / "resized_undistorted_images",
    )  # fmt: skip
    photos = [folder / frame.file_path for frame in frames]
    lenses: list[Any] = [frame.lens(*((0, 0) if "w" in frame.numbers else image_size(photos[0]))) for frame in frames]
    scene = _scene(place.resolve().name, photos, poses, [lens.intrinsics for lens in lenses], place)
    mesh = place / "scans" / "mesh_aligned_0.05.ply"
    return TrueScene(scene=scene, points=(lambda: surface_points(mesh)) if mesh.is_file() else None)


def _sixty_four(root: Path) -> list[Path]:
    """The scenes of DTU as its pose task has them: ``scan24/image/00000000.png``, also below ``scans``."""
    found = [p.parent for pattern in ("scan*/image", "scans/scan*/image") for p in root.glob(pattern) if p.is_dir()]
    return found[:1000]


def _dtu(root: Path, place: Path) -> TrueScene:
    """``Rectified/scan1/rect_001_3_r5000.png``, ``Cameras/00000000_cam.txt``, ``Points/stl/stl001_total.ply``,
    ``Depths_raw/scan1/depth_map_0000.pfm``; millimetres.

    MVSNet's training copy ``Rectified/scan1_train`` (640x512) goes with ``Cameras/train``, whose intrinsics are for
    pictures of a quarter of that size.
    """
    photos = sorted(place.glob("rect_*_3_r5000.png")) or sorted(place.glob("rect_*.png"))
    counted = 1
    if (place / "image").is_dir():
        photos, counted = sorted((place / "image").glob("*.png")), 0
    numbers = [_number(photo) - counted for photo in photos]
    if not photos:
        raise InputError(f"{shown(place.name)} holds neither rect_*.png nor image/*.png")
    small = place.name.endswith("_train") and (root / "Cameras" / "train").is_dir()
    folder = root / "Cameras" / "train" if small else root / "Cameras"
    cameras = [read_mvsnet_camera(folder / f"{number:08d}_cam.txt") for number in numbers]
    poses = np.stack([np.linalg.inv(world_to_cam) for world_to_cam, _ in cameras])
    larger = np.array([[4.0], [4.0], [1.0]]) if small else 1.0
    key = place.name.removesuffix("_train")
    scene = _scene(key, photos, poses, [k * larger for _, k in cameras], root)
    raw = next(
        (root / n / k for n in ("Depths_raw", "depth_raw", "Depths") for k in (place.name, key)
         if (root / n / k).is_dir()), None,
    )  # fmt: skip
    digits = re.search(r"(\d+)$", key)
    cloud = root / "Points" / "stl" / f"stl{int(digits[1]):03d}_total.ply" if digits else None

    def depth(index: int) -> Float32[np.ndarray, "H W"]:
        """The depth map of a photo, in the units of the surface."""
        assert raw is not None
        return read_pfm(raw / f"depth_map_{numbers[index]:04d}.pfm")

    return TrueScene(
        scene=scene,
        depth=None if raw is None else depth,
        points=(lambda: surface_points(cloud)) if cloud is not None and cloud.is_file() else None,
    )


def _number(photo: Path) -> int:
    """The number in a photo's name."""
    words = photo.stem.removeprefix("rect_").split("_")
    if not words[0].isdecimal():
        raise InputError(f"{shown(photo.name)} has no number that tells its camera; name it as DTU does")
    return int(words[0])
