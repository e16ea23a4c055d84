"""COLMAP models: our reader and writer against each other, against pycolmap, and on broken files."""

from __future__ import annotations

import contextlib
import dataclasses
import struct

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import find_colmap, load_colmap, pinhole_model, save_colmap
from da3gs.formats.cameras.colmap_model import MODELS, ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from da3gs.geometry.rotations import quaternion_to_matrix


def made_model(seed: int = 0) -> ColmapModel:
    """Two cameras, three images and four points that refer to each other."""
    rng = np.random.default_rng(seed)
    cameras = (
        ColmapCamera(id=1, model="PINHOLE", width=640, height=480, params=(500.125, 501.5, 320.25, 240.75)),
        ColmapCamera(
            id=7, model="OPENCV", width=320, height=240, params=(250.0, 251.0, 160.0, 120.0, 0.1, -0.02, 1e-3, 0.0)
        ),
    )
    images = []
    for i, name in enumerate(["b_10.jpg", "sub/a2.png", "ü.jpg"]):
        q = rng.normal(size=4)
        w, x, y, z = (q / np.linalg.norm(q)).tolist()
        tx, ty, tz = rng.normal(size=3).tolist()
        images.append(
            ColmapImage(
                id=3 - i,
                rotation=(w, x, y, z),
                translation=(tx, ty, tz),
                camera_id=7 if i else 1,
                name=name,
                keypoints=rng.uniform(0, 200, (4 * (i < 2), 2)),
                point_ids=np.array([10, 11, 12 if i == 0 else -1, 13])[: 4 * (i < 2)],
            )
        )
    points = ColmapPoints(
        ids=np.arange(10, 14),
        positions=rng.normal(size=(4, 3)),
        colors=rng.integers(0, 256, (4, 3), dtype=np.uint8),
        errors=rng.uniform(0, 2, 4),
        track_lengths=np.array([2, 2, 1, 2]),
        tracks=np.array([[3, 0], [2, 0], [3, 1], [2, 1], [3, 2], [3, 3], [2, 3]]),
    )
    return ColmapModel(cameras=cameras, images=tuple(images), points=points)


def assert_same(a: ColmapModel, b: ColmapModel) -> None:
    assert a.cameras == b.cameras
    for first, second in zip(a.images, b.images, strict=True):
        for field in ("id", "rotation", "translation", "camera_id", "name"):
            assert getattr(first, field) == getattr(second, field), field
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
        np.testing.assert_array_equal(first.point_ids, second.point_ids)
    for field in ("ids", "positions", "colors", "errors", "track_lengths", "tracks"):
        np.testing.assert_array_equal(getattr(a.points, field), getattr(b.points, field))


@pytest.mark.parametrize("binary", [True, False])
def test_round_trip_is_exact(tmp_path, binary):
    model = changed(made_model(), name="with spaces 10.jpg")
    save_colmap(model, tmp_path, binary=binary)
    (tmp_path / "rigs.txt").write_text("of a newer version\n")
    (tmp_path / "frames.bin").write_bytes(b"\xff")
    assert_same(load_colmap(tmp_path), model)


@pytest.mark.parametrize("binary", [True, False])
def test_pycolmap_reads_what_we_write(tmp_path, binary):
    pycolmap = pytest.importorskip("pycolmap")
    model = made_model()
    save_colmap(model, tmp_path, binary=binary)
    theirs = pycolmap.Reconstruction(tmp_path)
    assert theirs.num_images() == 3
    for image in model.images:
        their = theirs.images[image.id]
        assert their.name == image.name
        np.testing.assert_allclose(their.cam_from_world().matrix(), image.world_to_cam()[:3], atol=1e-12)
        np.testing.assert_allclose([p.xy for p in their.points2D], image.keypoints.tolist(), atol=1e-12)
    for camera in model.cameras:
        assert theirs.cameras[camera.id].model.name == camera.model
        np.testing.assert_array_equal(theirs.cameras[camera.id].params, camera.params)
    np.testing.assert_allclose(theirs.points3D[12].xyz, model.points.positions[2], atol=1e-12)
    np.testing.assert_array_equal(theirs.points3D[12].color, model.points.colors[2])


@pytest.mark.parametrize("binary", [True, False])
def test_we_read_what_pycolmap_writes(tmp_path, binary):
    pycolmap = pytest.importorskip("pycolmap")
    model = made_model()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    save_colmap(model, ours, binary=True)
    reconstruction = pycolmap.Reconstruction(ours)
    reconstruction.write_binary(theirs) if binary else reconstruction.write_text(theirs)
    assert (theirs / ("rigs.bin" if binary else "rigs.txt")).exists()  # a newer version's files are ignored
    back = load_colmap(theirs)
    assert {c.id: c for c in back.cameras} == {c.id: c for c in model.cameras}
    mine = {i.name: i for i in model.images}
    for image in back.images:
        np.testing.assert_allclose(image.world_to_cam(), mine[image.name].world_to_cam(), atol=1e-12)
        np.testing.assert_allclose(image.keypoints, mine[image.name].keypoints, atol=1e-12)
    order = np.argsort(back.points.ids)
    np.testing.assert_allclose(back.points.positions[order], model.points.positions, atol=1e-12)


def test_text_and_binary_of_the_desk_agree(test_data):
    from da3gs.formats.cameras import _colmap_binary, _colmap_text

    desk = test_data("data/desk")
    folder = find_colmap(desk)
    assert folder == desk / "sparse" / "0"
    binary = {i.name: i for i in _colmap_binary.read_images(folder / "images.bin")}
    text = {i.name: i for i in _colmap_text.read_images(folder / "images.txt")}
    assert len(binary) == 28
    for name, image in text.items():
        np.testing.assert_allclose(image.world_to_cam(), binary[name].world_to_cam(), atol=1e-12)
    points = [_colmap_binary.read_points(folder / "points3D.bin"), _colmap_text.read_points(folder / "points3D.txt")]
    assert len(points[0].ids) == 1465
    a, b = (np.argsort(p.ids) for p in points)
    np.testing.assert_allclose(points[0].positions[a], points[1].positions[b], atol=1e-9)
    # the points reproject onto their features: half pixels, axes and quaternions are right (SOURCES.md: mean 0.57 px)
    model = load_colmap(folder)
    by_id = {int(i): p for i, p in zip(model.points.ids, model.points.positions, strict=True)}
    errors = []
    for image in model.images:
        k = model.camera_of(image).lens().intrinsics
        seen = image.point_ids >= 0
        world = np.array([by_id[int(i)] for i in image.point_ids[seen]])
        local = world @ image.world_to_cam()[:3, :3].T + image.world_to_cam()[:3, 3]
        pixels = (local / local[:, 2:]) @ k.T
        errors.append(np.linalg.norm(pixels[:, :2] - image.keypoints[seen], axis=1))
    assert np.concatenate(errors).mean() == pytest.approx(0.57, abs=0.1)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_binary_files_cut_anywhere_are_refused(tmp_path, name):
    save_colmap(made_model(), tmp_path)
    path = tmp_path / f"{name}.bin"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            load_colmap(tmp_path)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_wild_counts_allocate_nothing(tmp_path, name):
    save_colmap(made_model(), tmp_path)
    path = tmp_path / f"{name}.bin"
    for count in (2**63, 2**40, 10**6):
        path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
        with pytest.raises(InputError, match="cut short"):
            load_colmap(tmp_path)


def test_random_bytes_never_escape_as_other_errors(tmp_path):
    save_colmap(made_model(), tmp_path)
    rng = np.random.default_rng(1)
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            broken = bytearray(whole)
            for at in rng.integers(0, len(whole), 4):
                broken[at] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(bytes(broken))
            with contextlib.suppress(InputError):
                load_colmap(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_broken_text_is_told_by_line(tmp_path):
    save_colmap(made_model(), tmp_path, binary=False)
    path = tmp_path / "images.txt"
    good = path.read_text()
    for broken, words in [
        (good.replace("b_10.jpg", ""), "line 3"),
        (good.replace("sub/a2.png", "b_10.jpg"), "twice"),
        (good + "x\n", "is not an image"),
        ("# nothing\n", "no registered images"),
        (good.replace(" 1 b_10.jpg", " 9 b_10.jpg"), "camera 9"),
    ]:
        path.write_text(broken)
        with pytest.raises(InputError, match=words):
            load_colmap(tmp_path)


def changed(model: ColmapModel, **values: object) -> ColmapModel:
    return dataclasses.replace(model, images=(dataclasses.replace(model.images[0], **values), *model.images[1:]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rotation": (0.0, 0.0, 0.0, 0.0)}, "length 0"),
        ({"rotation": (2.0, 0.0, 0.0, 0.0)}, "length 2"),
        ({"rotation": (float("nan"), 0.0, 0.0, 0.0)}, "not finite"),
        ({"translation": (float("inf"), 0.0, 0.0)}, "not finite"),
    ],
)
def test_poses_that_are_none(tmp_path, values, words):
    save_colmap(changed(made_model(), **values), tmp_path)
    with pytest.raises(InputError, match=words):
        load_colmap(tmp_path)


def test_lenses():
    def lens(model, *params):
        return ColmapCamera(id=1, model=model, width=100, height=80, params=params).lens()

    assert lens("SIMPLE_RADIAL", 90.0, 50.0, 40.0, 0.1).distortion == (0.1, 0, 0, 0)
    assert lens("RADIAL", 90.0, 50.0, 40.0, 0.1, 0.2).distortion == (0.1, 0.2, 0, 0)
    assert lens("OPENCV", 90.0, 91.0, 50.0, 40.0, 0.1, 0.2, 0.3, 0.4).distortion == (0.1, 0.2, 0.3, 0.4)
    assert lens("PINHOLE", 90.0, 91.0, 50.0, 40.0).intrinsics.tolist() == [[90, 0, 50], [0, 91, 40], [0, 0, 1]]
    for model in ("OPENCV_FISHEYE", "FOV", "THIN_PRISM_FISHEYE"):
        with pytest.raises(InputError, match=f"{model} is not supported yet"):
            lens(model, *[1.0] * MODELS[model][1])
    with pytest.raises(InputError, match="must be above 0"):
        lens("PINHOLE", -90.0, 91.0, 50.0, 40.0)


def test_pinhole_model_shares_cameras(tmp_path):
    torch.manual_seed(0)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = quaternion_to_matrix(torch.randn(3, 4).double()).numpy()
    poses[:, :3, 3] = np.arange(9).reshape(3, 3)
    intrinsics = np.tile(np.array([[90.0, 0, 50], [0, 91, 40], [0, 0, 1]]), (3, 1, 1))
    model = pinhole_model(
        ["a.png", "b.png", "c.png"],
        world_to_cam=poses,
        intrinsics=intrinsics,
        sizes=[(80, 100), (80, 100), (84, 98)],
        positions=np.ones((2, 3)),
    )
    assert [i.camera_id for i in model.images] == [1, 1, 2]
    save_colmap(model, tmp_path)
    back = load_colmap(tmp_path)
    np.testing.assert_allclose([i.world_to_cam() for i in back.images], poses, atol=1e-14)
    assert len(back.points.ids) == 2
