"""Panoramas and fisheye photos: each pinhole view is what a pinhole camera there would have taken."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import no_points, save_colmap
from da3gs.formats.cameras.colmap_model import ColmapCamera, ColmapImage, ColmapModel
from da3gs.formats.cameras.lens import Lens, lens_of, panorama_lens
from da3gs.formats.media.video import save_video
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.photos import load_photos, load_views
from da3gs.photos.records import LoadedPhotos
from da3gs.photos.resampling.slices import landing, slices_of

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {}/></rdf:RDF></x:xmpmeta>'
)
WHOLE = 'GPano:ProjectionType="equirectangular"'


def sky(directions: np.ndarray) -> np.ndarray:
    """A smooth colouring of the sphere, without any symmetry: what the camera's surroundings look like."""
    x, y, z = np.moveaxis(directions / np.linalg.norm(directions, axis=-1, keepdims=True), -1, 0)
    red = 0.5 + 0.25 * np.sin(5 * x + 1) + 0.2 * np.cos(3 * y - z)
    green = 0.5 + 0.3 * np.sin(4 * y + 2 * x) + 0.15 * np.sin(6 * z)
    blue = 0.5 + 0.25 * np.cos(5 * z - 2 * y + 0.5) + 0.2 * np.sin(3 * x)
    return np.rint(255 * np.stack((red, green, blue), -1).clip(0, 1)).astype(np.uint8)


def panorama(height: int = 512, width: int = 1024) -> np.ndarray:
    """The surroundings, longitude across, latitude down."""
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    latitude = ((np.arange(height) + 0.5) / height - 0.5) * math.pi
    a, b = np.meshgrid(longitude, latitude)
    return sky(np.stack((np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)), -1))


def pinhole(intrinsics: np.ndarray, rotation: np.ndarray, height: int, width: int) -> np.ndarray:
    """What a pinhole camera turned so would take; ``rotation`` from its axes to those of ``sky``."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(intrinsics).T
    return sky(rays @ rotation.T)


def fisheye(lens: Lens, rotation: np.ndarray) -> np.ndarray:
    """What OpenCV's fisheye camera would take; black beyond what the lens bends inwards."""
    u, v = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    k = lens.intrinsics
    x, y = (u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]
    radius = np.hypot(x, y)
    k1, k2, k3, k4 = lens.distortion or (0.0,) * 4
    angles = np.linspace(0, math.pi, 20001)
    bent = angles * (1 + k1 * angles**2 + k2 * angles**4 + k3 * angles**6 + k4 * angles**8)
    last = int(np.argmin(np.diff(bent) > 0)) or len(bent) - 1
    angle = np.interp(radius, bent[: last + 1], angles[: last + 1])
    rays = np.stack((x / radius * np.sin(angle), y / radius * np.sin(angle), np.cos(angle)), -1)
    return sky(rays @ rotation.T)


def turned(yaw: float, pitch: float) -> np.ndarray:
    """A camera's rotation to the world."""
    a, b = math.radians(yaw), math.radians(pitch)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    return turn @ np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])


def save_png(path: Path, image: np.ndarray, xmp: str | None = None) -> None:
    """A picture, with metadata."""
    info = PngImagePlugin.PngInfo()
    if xmp is not None:
        info.add_itxt("XML:com.adobe.xmp", XMP.format(xmp))
    Image.fromarray(image).save(path, pnginfo=info)


def assert_like(image: np.ndarray, direct: np.ndarray, mask: np.ndarray | None = None) -> None:
    """Equal to the error of cubic interpolation of 8-bit pixels: a level or two."""
    error = np.abs(image.astype(int) - direct.astype(int))
    if mask is not None:
        error = error[mask]
    assert error.mean() < 0.5
    assert error.max() <= 4


def check_views(loaded: LoadedPhotos) -> None:
    """Every view of the loaded photos against its direct rendering, with the pose and intrinsics that it states."""
    for view, entry in enumerate(loaded.photos):
        original = entry.read()
        rotation = loaded.cam_to_world_given[view, :3, :3]
        height, width = original.image.shape[:2]
        direct = pinhole(original.intrinsics, rotation, height, width)
        assert_like(original.image, direct, original.mask)
        used = pinhole(loaded.intrinsics_known[view], rotation, *loaded.views.images.shape[-2:])
        picture = loaded.views.images[view].permute(1, 2, 0).numpy() * 255
        wanted = None if loaded.views.masks is None else loaded.views.masks[view].numpy()
        error = np.abs(picture - used)
        assert (error if wanted is None else error[wanted]).mean() < 1.5


def test_a_panorama_becomes_the_sides_of_a_cube(tmp_path: Path) -> None:
    save_png(tmp_path / "p.png", panorama(), WHOLE)
    loaded = load_photos(tmp_path / "p.png", resolution=224)
    assert loaded.views.names == tuple(f"p_{side}" for side in ("front", "right", "back", "left", "up", "down"))
    ahead = loaded.cam_to_world_given[:, :3, 2].round(12) + 0.0
    assert ahead.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0], [0, -1, 0], [0, 1, 0]]
    assert not loaded.cam_to_world_given[:, :3, 3].any(), "all from one place"
    fov = loaded.views.cameras.fov.rad2deg()
    assert fov.numpy() == pytest.approx(100, abs=0.01)
    check_views(loaded)


def test_twice_as_wide_as_high_is_no_panorama_by_itself(tmp_path: Path) -> None:
    save_png(tmp_path / "p.png", panorama(128, 256))
    assert len(load_photos(tmp_path / "p.png", resolution=98).views) == 1
    assert len(load_photos(tmp_path / "p.png", resolution=98, panoramas="always").views) == 6
    save_png(tmp_path / "q.png", panorama(128, 256), WHOLE)
    assert len(load_views(tmp_path / "q.png", resolution=98, panoramas="never")) == 1
    save_png(tmp_path / "r.png", panorama(128, 256), 'GPano:ProjectionType="cylindrical"')
    assert len(load_photos(tmp_path / "r.png", resolution=98).views) == 1
    save_png(tmp_path / "s.png", panorama(100, 300)[:, :250], WHOLE)
    assert len(load_photos(tmp_path / "s.png", resolution=98, panoramas="always").views) == 1


def test_jpegs_of_360_degree_cameras(tmp_path: Path) -> None:
    tags = XMP.format("").replace("/></rdf:RDF>", "><GPano:ProjectionType>equirectangular</GPano:ProjectionType>"
                                  "</rdf:Description></rdf:RDF>")  # fmt: skip
    Image.fromarray(panorama(128, 256)).save(tmp_path / "p.jpg", quality=98, xmp=tags.encode())
    assert len(load_photos(tmp_path / "p.jpg", resolution=98).views) == 6


def _said_in_a_box(path: Path) -> None:
    """Google's Spherical Video V1: XML in a box at the end of the movie box; what lies behind it moves."""
    data = bytearray(path.read_bytes())
    place = data.index(b"moov") - 4
    size = int.from_bytes(data[place : place + 4], "big")
    text = b"<rdf:SphericalVideo><GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    box = (24 + len(text)).to_bytes(4, "big") + b"uuid" + bytes(16) + text
    table = data.index(b"stco") + 8
    for entry in range(int.from_bytes(data[table : table + 4], "big")):
        at = table + 4 + 4 * entry
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    data[place : place + 4] = (size + len(box)).to_bytes(4, "big")
    path.write_bytes(data[: place + size] + box + data[place + size :])


@pytest.mark.parametrize("said", [True, False])
def test_videos_of_360_degrees(tmp_path: Path, said: bool) -> None:
    """Six views a frame, where the video says so or the user does; each is what a pinhole camera would have seen."""
    path = tmp_path / "a.mp4"
    save_video(path, (np.roll(panorama(256, 512), 40 * i, 1) for i in range(2)), fps=1.0)
    assert len(load_photos(path, resolution=98, fps=2.0).views) == 2
    if said:
        _said_in_a_box(path)
    loaded = load_photos(path, resolution=98, fps=2.0, panoramas="auto" if said else "always")
    sides = ("front", "right", "back", "left", "up", "down")
    assert loaded.views.names == tuple(f"frame_{i:06d}_{side}" for i in range(2) for side in sides)
    for view, (yaw, pitch) in enumerate([(0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -90)]):
        original = loaded.photos[view].read()
        direct = pinhole(original.intrinsics, turned(yaw, pitch), *original.image.shape[:2])
        assert np.abs(original.image.astype(int) - direct).mean() < 6, "the codec's loss"
    assert len(load_photos(path, resolution=98, fps=2.0, panoramas="never").views) == 2


def test_several_panoramas_have_no_common_poses(tmp_path: Path) -> None:
    for turn, name in enumerate(("a.png", "b.png")):
        save_png(tmp_path / name, np.roll(panorama(128, 256), 32 * turn, 1), WHOLE)
    save_png(tmp_path / "c.png", panorama(128, 256)[:, :170])
    loaded = load_photos(tmp_path, resolution=98)
    assert len(loaded.views) == 13
    assert loaded.views.cameras is None
    assert [photo.index for photo in loaded.photos] == list(range(13))
    known = np.isfinite(loaded.intrinsics_known).all((1, 2))
    assert known.tolist() == [True] * 12 + [False]


def test_a_part_of_a_panorama(tmp_path: Path) -> None:
    """Rows 150 to 400 and columns 256 to 768 of a panorama, stored at half size."""
    part = panorama(1024, 2048)[300:800, 512:1536]
    part = cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    words = {"FullPanoHeightPixels": 1024, "FullPanoWidthPixels": 2048, "CroppedAreaImageHeightPixels": 500,
             "CroppedAreaImageWidthPixels": 1024, "CroppedAreaTopPixels": 300,
             "CroppedAreaLeftPixels": 512}  # fmt: skip
    save_png(tmp_path / "p.png", part, WHOLE + "".join(f' GPano:{word}="{n}"' for word, n in words.items()))
    loaded = load_photos(tmp_path / "p.png", resolution=224)
    assert "p_front" in loaded.views.names
    assert "p_back" not in loaded.views.names, "it shows nothing there"
    front = loaded.photos[0].read()
    direct = pinhole(front.intrinsics, np.eye(3), *front.image.shape[:2])
    seen = cv2.erode(np.ones(front.image.shape[:2], np.uint8) if front.mask is None else front.mask.astype(np.uint8),
                     np.ones((5, 5), np.uint8)) > 0  # fmt: skip
    assert_like(front.image, direct, seen)
    rows = seen.mean(1)
    assert rows[len(rows) // 2] > 0.85
    assert rows[0] < 0.2, "higher than the part reaches"


def _transforms(folder: Path, image: np.ndarray, poses: list[np.ndarray], extra: dict) -> Path:
    frames = []
    for index, pose in enumerate(poses):
        save_png(folder / f"{index}.png", image)
        opengl = (pose * np.array([1.0, -1.0, -1.0, 1.0])).tolist()
        frames.append({"file_path": f"{index}.png", "transform_matrix": opengl})
    (folder / "transforms.json").write_text(json.dumps({**extra, "frames": frames}))
    return folder / "transforms.json"


def _pose(rotation: np.ndarray, center: list[float]) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, center
    return pose


def test_posed_panoramas(tmp_path: Path) -> None:
    poses = [_pose(np.eye(3), [0, 0, 0]), _pose(turned(30, 10), [1, 2, 3])]
    source = _transforms(tmp_path, panorama(), poses, {"camera_model": "EQUIRECTANGULAR"})
    loaded = load_photos(source, resolution=224)
    assert len(loaded.views) == 12
    assert loaded.cam_to_world_given[6:, :3, 3].tolist() == [[1, 2, 3]] * 6
    for view in range(6):
        expected = turned(30, 10) @ loaded.cam_to_world_given[view, :3, :3]
        np.testing.assert_allclose(loaded.cam_to_world_given[6 + view, :3, :3], expected, atol=1e-12)


WIDE = {"fl_x": 170.0, "fl_y": 168.0, "cx": 258.0, "cy": 190.0, "w": 512, "h": 384}
BENT = {"k1": 0.03, "k2": -0.012, "k3": 0.003, "k4": -0.0004}


def _lens(numbers: dict, bent: dict) -> Lens:
    return lens_of(
        fx=numbers["fl_x"], fy=numbers["fl_y"], cx=numbers["cx"], cy=numbers["cy"], height=numbers["h"],
        width=numbers["w"], distortion=tuple(bent.values()), projection="fisheye",
    )  # fmt: skip


def test_landing_is_opencvs_fisheye() -> None:
    lens = _lens(WIDE, BENT)
    rays = np.random.default_rng(0).normal(size=(200, 3)) + np.array([0, 0, 1.5])
    rays[:, 2] = np.abs(rays[:, 2]) + 0.05
    expected = cv2.fisheye.projectPoints(rays[:, None], np.zeros(3), np.zeros(3), lens.intrinsics,
                                         np.array(lens.distortion))[0][:, 0]  # fmt: skip
    places, _ = landing(rays, lens)
    np.testing.assert_allclose(places, expected, atol=1e-9)


@pytest.mark.parametrize("source", ["transforms", "colmap"])
def test_a_wide_fisheye_photo_becomes_several_views(tmp_path: Path, source: str) -> None:
    lens, rotation = _lens(WIDE, BENT), turned(-20, 5)
    image, pose = fisheye(lens, rotation), _pose(rotation, [0.5, -1.0, 2.0])
    if source == "transforms":
        given = _transforms(tmp_path, image, [pose], {**WIDE, **BENT, "camera_model": "OPENCV_FISHEYE"})
    else:
        save_png(tmp_path / "0.png", image)
        world_to_cam = np.linalg.inv(pose)
        camera = ColmapCamera(
            id=1, model="OPENCV_FISHEYE", width=512, height=384,
            params=(WIDE["fl_x"], WIDE["fl_y"], WIDE["cx"], WIDE["cy"], *BENT.values()),
        )  # fmt: skip
        turn = matrix_to_quaternion(torch.from_numpy(world_to_cam[:3, :3])).tolist()
        entry = ColmapImage(
            id=1, rotation=tuple(turn), translation=tuple(world_to_cam[:3, 3].tolist()), camera_id=1, name="0.png",
            keypoints=np.zeros((0, 2)), point_ids=np.zeros(0, np.int64),
        )  # fmt: skip
        (tmp_path / "sparse").mkdir()
        save_colmap(ColmapModel(cameras=(camera,), images=(entry,), points=no_points()), tmp_path / "sparse")
        given = tmp_path
    loaded = load_photos(given, resolution=224)
    assert loaded.views.names[:3] == ("0_front", "0_right", "0_left")
    np.testing.assert_allclose(loaded.cam_to_world_given[0], pose, atol=1e-9)
    assert np.abs(loaded.cam_to_world_given[:, :3, 3] - [0.5, -1.0, 2.0]).max() < 1e-9
    right = loaded.cam_to_world_given[1, :3, 2] @ pose[:3, 0]
    assert right > math.sin(math.radians(30))
    check_views(loaded)


def test_a_narrow_fisheye_photo_is_one_view_without_holes(tmp_path: Path) -> None:
    numbers = {**WIDE, "fl_x": 330.0, "fl_y": 320.0}
    lens, rotation = _lens(numbers, BENT), turned(40, -10)
    image = fisheye(lens, rotation)
    source = _transforms(
        tmp_path,
        image,
        [_pose(rotation, [0, 0, 0])] * 2,
        {**numbers, **BENT, "is_fisheye": True, "camera_model": "OPENCV"},
    )
    loaded = load_photos(source, resolution=224)
    assert loaded.views.names == ("0", "1")
    assert loaded.photos[0].read().mask is None
    assert loaded.photos[0].original().shape == image.shape
    check_views(loaded)


def test_beyond_the_edge_of_the_photo_is_masked() -> None:
    lens = _lens(WIDE, BENT)
    for part in slices_of(lens):
        assert np.linalg.det(part.to_photo) == pytest.approx(1)
    with pytest.raises(InputError, match="cannot be undone"):
        slices_of(_lens(WIDE, {"k1": -50.0, "k2": 0.0, "k3": 0.0, "k4": 0.0}))
    with pytest.raises(InputError, match="twice as wide as high"):
        panorama_lens(300, 400)


def test_masks_are_cut_like_their_photos(tmp_path: Path) -> None:
    save_png(tmp_path / "p.png", panorama(128, 256), WHOLE)
    (tmp_path / "masks").mkdir()
    mask = np.full((128, 256), 255, np.uint8)
    mask[:, :128] = 0  # left of the middle: nothing to the left is wanted
    Image.fromarray(mask).save(tmp_path / "masks" / "p.png")
    loaded = load_photos(tmp_path / "p.png", resolution=98, masks=tmp_path / "masks")
    assert "p_left" not in loaded.views.names
    assert ("p_left", "is masked everywhere") in [(d.name, d.reason) for d in loaded.dropped]
    front = loaded.photos[loaded.views.names.index("p_front")].read()
    assert front.mask is not None
    share = front.mask.mean(0)
    assert share[: len(share) // 2 - 2].max() == 0
    assert share[len(share) // 2 + 2 :].min() == 1
