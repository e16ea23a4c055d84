"""Data sets with true geometry: DTU, ETH3D, 7Scenes and ScanNet++ as they are laid out, or any posed data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
from jaxtyping import Float, Float32

from da3gs._files import open_regular
from da3gs.errors import InputError
from da3gs.evaluation.data import EvalScene, Frame, open_scenes
from da3gs.evaluation.fusion import Mesh, sampled
from da3gs.evaluation.splits import SCENE_KEY
from da3gs.formats.colmap import find_colmap, load_colmap
from da3gs.formats.transforms import check_rigid, load_transforms
from da3gs.photos.folders import stays_inside
from da3gs.photos.images import Unreadable, read_header, read_picture
from da3gs.photos.naming import natural_key, shown

Dataset = Literal["posed", "dtu", "eth3d", "7scenes", "scannetpp"]
SAMPLES = 1_000_000
"""Points on a true mesh."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How surfaces of a data set are fused and compared, in its unit; the official benchmark's numbers."""

    voxel: float
    truncation: float
    distance: float
    """Of precision and recall."""
    thinning: float
    """Side of the cubes that keep one point each."""
    max_depth: float | None = None
    every: int = 1
    """Every how many-th frame is used."""
    note: str = ""


RULES: dict[Dataset, Rules | None] = {
    "posed": None,
    "dtu": Rules(
        voxel=1.5, truncation=6.0, distance=2.0, thinning=0.2,
        note="fused by TSDF and compared without DTU's observation masks: not the official DTU figures",
    ),
    "eth3d": Rules(voxel=0.039, truncation=0.2, distance=0.25, thinning=0.039),
    "7scenes": Rules(voxel=4 / 512, truncation=0.04, distance=0.05, thinning=4 / 512, every=11),
    "scannetpp": Rules(voxel=0.02, truncation=0.15, distance=0.05, thinning=0.02, max_depth=5.0, every=5),
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
    """Which layout a root has.

    Raises:
        InputError: it does not have the layout that was asked for.
    """
    if not root.is_dir():
        return "posed"
    tests: dict[Dataset, bool] = {
        "dtu": (root / "Rectified").is_dir() and (root / "Cameras").is_dir(),
        "7scenes": any(root.glob("seq-*")) or any(root.glob("*/seq-*")),
        "eth3d": any(root.glob("*/dslr_calibration_undistorted")) or (root / "dslr_calibration_undistorted").is_dir(),
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
            places = [p for p in (root / "Rectified").iterdir() if p.is_dir()]
            return _named(places, lambda place: _dtu(root, place), strip="_train")
        case "7scenes":
            places = [root] if any(root.glob("seq-*")) else [p for p in root.iterdir() if any(p.glob("seq-*"))]
            return _named(places, _seven_scenes)
        case "eth3d":
            inner = "dslr_calibration_undistorted"
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
    key: str, photos: list[Path], poses: np.ndarray, intrinsics: list[np.ndarray | None], root: Path
) -> EvalScene:
    """Photos with pinhole cameras, intrinsics in pixels of each photo."""
    for pose in poses:
        check_rigid(np.linalg.inv(pose), f"{key}: a camera")
    for photo in photos:
        if not stays_inside(photo, root):
            raise InputError(f"{key}: {shown(photo.name)} leads out of the data set; put the photo itself there")

    def read(index: int, undistort: bool) -> Frame:
        try:
            image = read_picture(photos[index], upright=False).image
        except Unreadable as problem:
            raise InputError(f"{key}, frame {index}: {shown(photos[index].name)} {problem}") from problem
        return Frame(image=image, mask=None, intrinsics=intrinsics[index])

    return EvalScene(key=key, names=tuple(p.stem for p in photos), cam_to_world=poses, read=read)


def _matrix(path: Path, rows: int, columns: int) -> Float[np.ndarray, "r c"]:
    """Numbers in a small text file."""
    with open_regular(path) as file:
        words = file.read(4096).split()
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError as error:
        raise InputError(f"{shown(path.name)} holds something else than numbers; check the file") from error
    if len(values) != rows * columns or not np.isfinite(values).all():
        raise InputError(f"{shown(path.name)} holds {len(values)} numbers, {rows * columns} were expected")
    return values.reshape(rows, columns)


def _seven_scenes(place: Path) -> TrueScene:
    """``seq-01/frame-000000.{color.png,depth.png,pose.txt}``: camera-to-world, depth in millimetres, one Kinect."""
    photos = [p for seq in sorted(place.glob("seq-*")) for p in sorted(seq.glob("frame-*.color.png"))]
    if not photos:
        raise InputError(f"{shown(place.name)} holds no frame-*.color.png in seq-* folders")
    poses = np.stack([_matrix(p.with_name(p.name.replace(".color.png", ".pose.txt")), 4, 4) for p in photos])
    header = _header(photos[0])
    scale = header[1] / 640
    camera = np.array([[585 * scale, 0, 320 * scale], [0, 585 * scale, 240 * scale], [0, 0, 1.0]])
    key = place.resolve().name

    def depth(index: int) -> Float32[np.ndarray, "H W"]:
        path = photos[index].with_name(photos[index].name.replace(".color.png", ".depth.png"))
        return _millimetres(path)

    scene = _scene(key, photos, poses, [camera] * len(photos), place)
    mesh = place / f"{key}.ply"
    return TrueScene(scene=scene, depth=depth, points=(lambda: surface_points(mesh)) if mesh.is_file() else None)


def _millimetres(path: Path) -> Float32[np.ndarray, "H W"]:
    """A 16-bit PNG of millimetres as metres; 0 and 65535 are unknown."""
    _header(path)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(f"{shown(path.name)} is no 16-bit grey PNG of depth; check the file")
    return np.where(image == 65535, 0, image).astype(np.float32) / 1000


def _header(path: Path) -> tuple[int, int]:
    try:
        header = read_header(path)
    except Unreadable as problem:
        raise InputError(f"{shown(path.name)} {problem}") from problem
    return header.height, header.width


def _eth3d(place: Path) -> TrueScene:
    """``dslr_calibration_undistorted`` (COLMAP), ``images/``, ``dslr_scan_eval/*.ply`` with ``scan_alignment.mlp``."""
    folder = find_colmap(place / "dslr_calibration_undistorted")
    if folder is None:
        raise InputError(f"{shown(place.name)}/dslr_calibration_undistorted holds no COLMAP model")
    model = load_colmap(folder)
    images = sorted(model.images, key=lambda i: natural_key(i.name))
    lenses = {c.id: c.lens() for c in model.cameras}
    photos = [place / "images" / i.name for i in images]
    poses = np.stack([np.linalg.inv(i.world_to_cam()) for i in images])
    scene = _scene(place.resolve().name, photos, poses, [lenses[i.camera_id].intrinsics for i in images], place)
    scans = place / "dslr_scan_eval"
    return TrueScene(scene=scene, points=(lambda: _aligned_scans(scans)) if scans.is_dir() else None)


_MESH = re.compile(r'<MLMesh[^>]*filename="([^"]+)"[^>]*>\s*<MLMatrix44>([^<]*)</MLMatrix44>')


def _aligned_scans(folder: Path) -> Float[np.ndarray, "N 3"]:
    """Laser scans, each moved by its matrix of the MeshLab project."""
    project = folder / "scan_alignment.mlp"
    if not project.is_file():
        return np.concatenate([surface_points(p) for p in sorted(folder.glob("*.ply"))] or [np.zeros((0, 3))])
    with open_regular(project) as file:
        text = file.read(1 << 20).decode("utf-8", "replace")
    parts = []
    for name, numbers in _MESH.findall(text):
        values = np.array([float(word) for word in numbers.split()], np.float64)
        path = folder / name
        if len(values) != 16 or not stays_inside(path, folder):
            raise InputError(f"{shown(project.name)}: the entry {shown(name)} makes no sense; check the file")
        matrix = values.reshape(4, 4)
        parts.append(surface_points(path) @ matrix[:3, :3].T + matrix[:3, 3])
    if not parts:
        raise InputError(f"{shown(project.name)} names no scans; check the file")
    return np.concatenate(parts)


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
    lenses: list[Any] = [frame.lens(*((0, 0) if "w" in frame.numbers else _header(photos[0]))) for frame in frames]
    scene = _scene(place.resolve().name, photos, poses, [lens.intrinsics for lens in lenses], place)
    mesh = place / "scans" / "mesh_aligned_0.05.ply"
    return TrueScene(scene=scene, points=(lambda: surface_points(mesh)) if mesh.is_file() else None)


def _dtu(root: Path, place: Path) -> TrueScene:
    """``Rectified/scan1/rect_001_3_r5000.png``, ``Cameras/00000000_cam.txt``, ``Points/stl/stl001_total.ply``,
    ``Depths_raw/scan1/depth_map_0000.pfm``; millimetres."""
    photos = sorted(place.glob("rect_*_3_r5000.png")) or sorted(place.glob("rect_*.png"))
    if not photos:
        raise InputError(f"Rectified/{shown(place.name)} holds no rect_*.png")
    key = place.name.removesuffix("_train")
    numbers = [int(photo.name.split("_")[1]) - 1 for photo in photos]
    cameras = [_dtu_camera(root / "Cameras" / f"{number:08d}_cam.txt") for number in numbers]
    poses = np.stack([np.linalg.inv(world_to_cam) for world_to_cam, _ in cameras])
    scene = _scene(key, photos, poses, [k for _, k in cameras], root)
    raw = next((root / n for n in ("Depths_raw", "depth_raw", "Depths") if (root / n / key).is_dir()), None)
    digits = re.search(r"(\d+)$", key)
    cloud = root / "Points" / "stl" / f"stl{int(digits[1]):03d}_total.ply" if digits else None

    def depth(index: int) -> Float32[np.ndarray, "H W"]:
        assert raw is not None
        return read_pfm(raw / key / f"depth_map_{numbers[index]:04d}.pfm")

    return TrueScene(
        scene=scene,
        depth=None if raw is None else depth,
        points=(lambda: surface_points(cloud)) if cloud is not None and cloud.is_file() else None,
    )


def _dtu_camera(path: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    with open_regular(path) as file:
        words = file.read(4096).decode("ascii", "replace").split()
    try:
        at, then = words.index("extrinsic"), words.index("intrinsic")
        world_to_cam = np.array([float(w) for w in words[at + 1 : at + 17]]).reshape(4, 4)
        intrinsics = np.array([float(w) for w in words[then + 1 : then + 10]]).reshape(3, 3)
    except ValueError as error:
        raise InputError(f"{shown(path.name)} is no camera of MVSNet's form; check the file") from error
    return world_to_cam, intrinsics


def read_pfm(path: Path) -> Float32[np.ndarray, "H W"]:
    """A grey portable float map; rows are stored from the bottom up.

    Raises:
        InputError: it is none, or cut short.
    """
    with open_regular(path) as file:
        head = [file.readline(64).strip() for _ in range(3)]
        try:
            width, height = (int(word) for word in head[1].split())
            order = "<" if float(head[2]) < 0 else ">"
        except ValueError as error:
            raise InputError(f"{shown(path.name)} is no portable float map; check the file") from error
        if head[0] != b"Pf" or not 0 < width * height <= 250_000_000:
            raise InputError(f"{shown(path.name)} is no grey portable float map of a usable size; check the file")
        data = file.read(4 * width * height)
    if len(data) < 4 * width * height:
        raise InputError(f"{shown(path.name)} is cut short; fetch it again")
    values = np.frombuffer(data, f"{order}f4").reshape(height, width)[::-1]
    return np.where(np.isfinite(values), values, 0).astype(np.float32)


def surface_points(path: Path) -> Float[np.ndarray, "N 3"]:
    """Points of a .ply: a million spread over its triangles where it has any, else its vertices.

    Raises:
        InputError: it cannot be read.
    """
    import plyfile

    try:
        with open_regular(path) as file:
            data = plyfile.PlyData.read(file)
        vertex = data["vertex"]
        vertices = np.stack([np.asarray(vertex[axis], np.float64) for axis in "xyz"], -1)
        faces = np.zeros((0, 3), np.int64)
        if "face" in data and len(data["face"]):
            rows = [np.asarray(row, np.int64) for row in data["face"].data[data["face"].properties[0].name]]
            faces = np.stack([row[:3] for row in rows if len(row) == 3])
    except InputError:
        raise
    except (plyfile.PlyParseError, KeyError, ValueError, IndexError, MemoryError, UnicodeDecodeError) as error:
        raise InputError(f"{shown(path.name)} is no usable .ply of a surface ({str(error)[:80]})") from error
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InputError(f"{shown(path.name)}: a triangle names a vertex that is not there")
    if not np.isfinite(vertices).all():
        raise InputError(f"{shown(path.name)} holds points that are not finite")
    return sampled(Mesh(vertices=vertices, faces=faces), SAMPLES) if len(faces) else vertices
