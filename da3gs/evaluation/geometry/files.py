"""Files that data sets keep their true geometry in: matrices, depth maps, surfaces, scans."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32

from da3gs._files import open_regular
from da3gs.depth.tsdf_fusion import Mesh, sampled
from da3gs.errors import InputError
from da3gs.formats.cameras.transforms import check_rigid
from da3gs.photos.decoding.images import read_header
from da3gs.photos.folders.survey import stays_inside
from da3gs.photos.naming import shown
from da3gs.photos.records import Unreadable

SAMPLES = 1_000_000
"""Points on a true mesh."""


def read_matrix(path: Path, rows: int, columns: int) -> Float[np.ndarray, "r c"]:
    """Numbers in a small text file.

    Raises:
        InputError: there are more or fewer, or something else.
    """
    with open_regular(path) as file:
        words = file.read(4096).split()
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError as error:
        raise InputError(f"{shown(path.name)} holds something else than numbers; check the file") from error
    if len(values) != rows * columns or not np.isfinite(values).all():
        raise InputError(f"{shown(path.name)} holds {len(values)} numbers, {rows * columns} were expected")
    return values.reshape(rows, columns)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture.

    Raises:
        InputError: it cannot be read.
    """
    try:
        header = read_header(path)
    except Unreadable as problem:
        raise InputError(f"{shown(path.name)} {problem}") from problem
    return header.height, header.width


def read_millimetres(path: Path) -> Float32[np.ndarray, "H W"]:
    """A 16-bit PNG of millimetres as metres; 0 and 65535 are unknown.

    Raises:
        InputError: it is none.
    """
    image_size(path)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(f"{shown(path.name)} is no 16-bit grey PNG of depth; check the file")
    return np.where(image == 65535, 0, image).astype(np.float32) / 1000


_MESH = re.compile(r'<MLMesh[^>]*filename="([^"]+)"[^>]*>\s*<MLMatrix44>([^<]*)</MLMatrix44>')


def aligned_scans(folder: Path) -> Float[np.ndarray, "N 3"]:
    """Laser scans, each moved by its matrix of the MeshLab project.

    Raises:
        InputError: a scan or the project cannot be used.
    """
    project = folder / "scan_alignment.mlp"
    if not project.is_file():
        return np.concatenate([surface_points(p) for p in sorted(folder.glob("*.ply"))] or [np.zeros((0, 3))])
    with open_regular(project) as file:
        text = file.read(1 << 20).decode("utf-8", "replace")
    parts = []
    for name, numbers in _MESH.findall(text):
        try:
            values = np.array([float(word) for word in numbers.split()], np.float64)
        except ValueError:
            values = np.zeros(0)
        path = folder / name
        if len(values) != 16 or not np.isfinite(values).all() or not stays_inside(path, folder):
            raise InputError(f"{shown(project.name)}: the entry {shown(name)} makes no sense; check the file")
        matrix = values.reshape(4, 4)
        parts.append(surface_points(path) @ matrix[:3, :3].T + matrix[:3, 3])
    if not parts:
        raise InputError(f"{shown(project.name)} names no scans; check the file")
    return np.concatenate(parts)


def read_mvsnet_camera(path: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """World-to-camera and intrinsics of MVSNet's text form.

    Raises:
        InputError: it is none, or no camera is like that.
    """
    with open_regular(path) as file:
        words = file.read(4096).decode("ascii", "replace").split()
    try:
        at, then = words.index("extrinsic"), words.index("intrinsic")
        world_to_cam = np.array([float(w) for w in words[at + 1 : at + 17]]).reshape(4, 4)
        intrinsics = np.array([float(w) for w in words[then + 1 : then + 10]]).reshape(3, 3)
    except ValueError as error:
        raise InputError(f"{shown(path.name)} is no camera of MVSNet's form; check the file") from error
    check_rigid(world_to_cam, shown(path.name))
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    if not np.isfinite(intrinsics).all() or min(fx, fy) <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise InputError(f"{shown(path.name)} holds intrinsics that no camera has; check the file")
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
