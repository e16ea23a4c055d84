"""Lens models by name: against pycolmap's own projection, or by the picture that a pinhole would have taken."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap_model import MODELS, ColmapCamera
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.photos import load_photos
from da3gs.photos.resampling.slices import landing
from tests.hostile.right import case, right
from tests.hostile.right.layouts import colmap, load, photo
from tests.unit.pictures import rotation, save, textured

HEIGHT, WIDTH = 300, 400
PARAMETERS = {
    "SIMPLE_PINHOLE": (310.0, 201.0, 148.0),
    "PINHOLE": (310.0, 305.0, 201.0, 148.0),
    "SIMPLE_RADIAL": (310.0, 201.0, 148.0, -0.12),
    "RADIAL": (310.0, 201.0, 148.0, -0.12, 0.05),
    "OPENCV": (310.0, 305.0, 201.0, 148.0, -0.12, 0.05, 0.002, -0.003),
    "FULL_OPENCV": (310.0, 305.0, 201.0, 148.0, 0.2, 0.05, 0.002, -0.003, 0.01, 0.3, 0.04, 0.005),
    "OPENCV_FISHEYE": (180.0, 175.0, 201.0, 148.0, 0.03, -0.012, 0.003, -0.0004),
    "SIMPLE_FISHEYE": (180.0, 201.0, 148.0),
    "FISHEYE": (180.0, 175.0, 201.0, 148.0),
    "SIMPLE_RADIAL_FISHEYE": (180.0, 201.0, 148.0, 0.03),
    "RADIAL_FISHEYE": (180.0, 201.0, 148.0, 0.03, -0.01),
    "THIN_PRISM_FISHEYE": (180.0, 175.0, 201.0, 148.0, 0.03, -0.012, 0.002, -0.003, 0.003, -0.0004, 0.004, -0.002),
    "EQUIRECTANGULAR": (400.0, 200.0),
}
"""Numbers as calibrations have them, all different."""


def camera(model: str) -> ColmapCamera:
    """One of them."""
    height = 200 if model == "EQUIRECTANGULAR" else HEIGHT
    return ColmapCamera(id=1, model=model, width=WIDTH, height=height, params=PARAMETERS[model])


def _projects_like_pycolmap(model: str, _: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    if not hasattr(pycolmap.CameraModelId, model):
        pytest.skip(f"this pycolmap does not know {model}")
    ours = camera(model)
    theirs = pycolmap.Camera(model=model, width=ours.width, height=ours.height, params=list(ours.params))
    v, u = np.mgrid[0.15:0.86:15j, 0.15:0.86:15j].reshape(2, -1)
    spread = 3.0 if "FISHEYE" in model else 0.9
    rays = np.stack(((u - 0.5) * spread, (v - 0.5) * spread * 0.7, np.ones_like(u)), -1)
    places, seen = landing(rays, ours.lens(wide=True))
    np.testing.assert_allclose(places, theirs.img_from_cam(rays), atol=1e-6)
    assert seen.mean() > 0.5


for name in PARAMETERS:
    case("lenses", f"colmap-{name.lower().replace('_', '-')}", functools.partial(_projects_like_pycolmap, name))


def _refused_by_name(model: str, _: Path) -> None:
    numbers = (180.0, 201.0, 148.0, *[0.01] * 20)[: MODELS[model][1]]
    unusual = ColmapCamera(id=1, model=model, width=WIDTH, height=HEIGHT, params=numbers)
    with pytest.raises(InputError, match=f"{model} is not supported yet"):
        unusual.lens(wide=True)


for name in sorted(MODELS.keys() - PARAMETERS.keys()):  # in one order on every worker
    case("lenses", f"colmap-{name.lower().replace('_', '-')}-is-refused", functools.partial(_refused_by_name, name))


@right("lenses")
def every_model_of_colmap_is_known_by_its_number(_: Path) -> None:
    """And by how many parameters it has: else a binary file is read out of step."""
    pycolmap = pytest.importorskip("pycolmap")
    for name, (number, count) in MODELS.items():
        if hasattr(pycolmap.CameraModelId, name):
            assert int(getattr(pycolmap.CameraModelId, name)) == number
            assert len(pycolmap.Camera.create_from_model_name(1, name, 300.0, 400, 200).params) == count


K = (-0.12, 0.08, -0.05, 0.05)


def bent(rays: np.ndarray) -> np.ndarray:
    """Brown's lens with four radial terms."""
    r2 = (rays**2).sum(-1, keepdims=True)
    return rays * (1 + r2 * (K[0] + r2 * (K[1] + r2 * (K[2] + r2 * K[3]))))


def straightened(points: np.ndarray) -> np.ndarray:
    """The other way, by iteration."""
    rays = points.copy()
    for _ in range(80):
        rays = rays * points / np.where(points == 0, 1, bent(rays)) * (points != 0)
    return rays


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth pattern on the plane z = 1, 0 to 255."""
    channels = [np.sin(7 * x + 2 * y + k) + np.cos(6 * y - 3 * x * (k + 1)) for k in range(3)]
    return np.stack(channels, -1) * 60 + 128


def photographed(height: int, width: int, focal: float, center: tuple[float, float], *, lens: bool) -> np.ndarray:
    """The pattern, by a pinhole or through the lens."""
    v, u = np.mgrid[0:height, 0:width] + 0.5
    rays = np.stack(((u - center[0]) / focal, (v - center[1]) / focal), -1)
    rays = straightened(rays) if lens else rays
    return waves(rays[..., 0], rays[..., 1]).clip(0, 255)


def posed(folder: Path, image: np.ndarray, **numbers: object) -> Path:
    """A transforms.json of one photo with these numbers."""
    save(folder / "images" / "0.png", image.astype(np.uint8))
    frame = {"file_path": "images/0.png", "transform_matrix": rotation(0.1)}
    size = {"w": image.shape[1], "h": image.shape[0]}
    (folder / "transforms.json").write_text(json.dumps({**size, "frames": [frame], **numbers}))
    return folder


@right("lenses")
def brown_k4_is_the_eighth_power(tmp_path: Path) -> None:
    """OPENCV's extra k4 as nerfstudio and Metashape write it: the straight picture is a pinhole's."""
    image = photographed(288, 384, 260.0, (192.0, 144.0), lens=True)
    numbers = {f"k{i + 1}": k for i, k in enumerate(K)}
    folder = posed(tmp_path, image, camera_model="OPENCV", fl_x=260.0, fl_y=260.0, cx=192.0, cy=144.0, **numbers)
    loaded = load_photos(folder, resolution=384)
    original = loaded.photos[0].read()
    k = original.intrinsics
    assert k is not None
    want = photographed(288, 384, k[0, 0], (k[0, 2], k[1, 2]), lens=False)
    assert np.abs(original.image - want).max() < 6
    assert np.abs(original.image - want).mean() < 1


@right("lenses")
def rational_k4_stays_in_the_denominator(tmp_path: Path) -> None:
    """FULL_OPENCV, or k5 and k6 beside it."""
    for extra in ({"camera_model": "FULL_OPENCV"}, {"camera_model": "OPENCV", "k5": 0.01}, {"k6": 0.01}):
        folder = posed(tmp_path, textured(), fl_x=80.0, k1=0.1, k4=0.2, **extra)
        lens = load_transforms(folder / "transforms.json").frames[0].lens(64, 96)
        assert lens.distortion[5] == 0.2
        assert len(lens.distortion) == 8
    folder = posed(tmp_path, textured(), fl_x=80.0, k1=0.1, k4=0.2, k5=0.0, k6=0.0)
    lens = load_transforms(folder / "transforms.json").frames[0].lens(64, 96)
    assert lens.distortion[5:] == (0.0, 0.0, 0.0, 0.2)


def _fisheye_by_name(model: str, coefficients: dict[str, float], folder: Path) -> None:
    """Of a transforms.json, the same as COLMAP's of that name."""
    fx, *rest = PARAMETERS[model]
    fy, cx, cy = rest[:3] if MODELS[model][1] in (4, 8, 12) and model != "SIMPLE_RADIAL_FISHEYE" else (fx, *rest[:2])
    path = posed(folder, textured(), camera_model=model, fl_x=fx, fl_y=fy, cx=cx, cy=cy, **coefficients)
    given = json.loads((path / "transforms.json").read_text()) | {"w": WIDTH, "h": HEIGHT}
    (path / "transforms.json").write_text(json.dumps(given))
    lens = load_transforms(path / "transforms.json").frames[0].lens(0, 0, wide=True)
    rays = np.random.default_rng(0).normal(loc=(0, 0, 2.5), size=(50, 3))
    np.testing.assert_allclose(landing(rays, lens)[0], landing(rays, camera(model).lens(wide=True))[0], atol=1e-9)


for name, numbers in (
    ("OPENCV_FISHEYE", {"k1": 0.03, "k2": -0.012, "k3": 0.003, "k4": -0.0004}),
    ("RADIAL_FISHEYE", {"k1": 0.03, "k2": -0.01}),
    ("SIMPLE_RADIAL_FISHEYE", {"k1": 0.03}),
    (
        "THIN_PRISM_FISHEYE",
        {"k1": 0.03, "k2": -0.012, "p1": 0.002, "p2": -0.003, "k3": 0.003, "k4": -0.0004, "sx1": 0.004, "sy1": -0.002},
    ),
):
    case("lenses", f"transforms-{name.lower().replace('_', '-')}", functools.partial(_fisheye_by_name, name, numbers))


def _unknown_lens(numbers: dict[str, object], words: str, folder: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_photos(posed(folder, textured(), fl_x=80.0, **numbers))


for name, given, words in (
    ("fisheye624", {"camera_model": "FISHEYE624"}, "FISHEYE624"),
    ("omnidirectional-stereo", {"camera_model": "OMNIDIRECTIONALSTEREO_L"}, "OMNIDIRECTIONALSTEREO_L"),
    ("f-theta", {"ftheta_p0": 0.1}, "FTHETA"),
    ("fov", {"camera_model": "FOV", "omega": 0.9}, "FOV"),
):
    case("lenses", f"transforms-{name}-is-refused", functools.partial(_unknown_lens, given, words))


@right("lenses")
def latlong_of_instant_ngp_is_a_panorama(tmp_path: Path) -> None:
    """A flag of its own in place of a camera model."""
    wide = np.asarray(Image.fromarray(textured()).resize((256, 128)))
    loaded = load_photos(posed(tmp_path, wide, latlong=True), resolution=98)
    assert len(loaded.views) == 6


def _no_size(size: str, words: str, folder: Path) -> None:
    """A camera of a size that no picture has, beside sound photos; sizes are compared only after that."""
    photo(folder / "images" / "0.jpg", 0)
    colmap(folder / "sparse/0", ["0.jpg"], binary=False)
    (folder / "sparse/0/cameras.txt").write_text(f"1 PINHOLE {size} 80.0 80.0 48.0 32.0\n")
    with pytest.raises(InputError, match=words):
        load(folder)


for _name, _size, _words in (
    ("nothing", "0 64", "size 0x64; all must be above 0"),
    ("negative", "96 -64", "size 96x-64; all must be above 0"),
    ("endless", "1" + "0" * 400 + " 64", "a side of 10{19} pixels"),
):
    case("lenses", f"camera of a size that is {_name}", functools.partial(_no_size, _size, _words))
