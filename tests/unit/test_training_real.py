"""Real scenes as training data: which frames are drawn, how photos are fitted, what is left out."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import no_points, pinhole_model, save_colmap
from da3gs.formats.cameras.colmap_model import ColmapCamera, ColmapImage, ColmapModel
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.procedural.textures import make_textures
from da3gs.procedural.user_textures import texture_files, with_photos
from da3gs.training.data.benchmark_scenes import is_benchmark
from da3gs.training.data.loader import Batches
from da3gs.training.data.real import RealScenes, colmap_scene, drawn_views, farthest_frames, sized_photo
from da3gs.training.presets import PRESETS
from tests.unit.pictures import posed_folder, save, textured
from tests.unit.test_photos_dl3dv import chunk_entry
from tests.unit.test_photos_wide import BENT, WIDE, fisheye, pinhole, turned
from tests.unit.test_photos_wide import _lens as wide_lens
from tests.unit.test_photos_wide import _pose as wide_pose

BENCHMARK = "032dee9fb0a8bc1b90871dc5fe950080d0bcd3caf166447f44e60ca50ac04ec7"


def on_a_line(count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count)
    return poses


def test_farthest_frames_halve_the_gaps_and_are_nested():
    assert farthest_frames(on_a_line(9), 5) == [0, 8, 4, 2, 6]
    assert farthest_frames(on_a_line(9), 3) == [0, 8, 4]
    assert farthest_frames(on_a_line(9), 1) == [0]


def test_views_lie_within_a_stretch_and_targets_between():
    g = np.random.default_rng(0)
    for _ in range(20):
        chosen = drawn_views(g, on_a_line(300), 2, 4)
        assert len(set(chosen)) == 6
        assert 20 <= chosen[1] - chosen[0] <= 50
        assert all(chosen[0] < target < chosen[1] for target in chosen[2:])
    assert drawn_views(g, on_a_line(3), 2, 1) == [0, 2, 1]
    with pytest.raises(InputError, match="3 frames, fewer than the 4"):
        drawn_views(g, on_a_line(3), 2, 2)


def test_photos_are_covered_and_cropped_in_the_middle():
    image = np.zeros((60, 120, 3), np.uint8)
    image[:, 45:75] = 200
    k = np.array([[100.0, 0, 60], [0, 100, 30], [0, 0, 1]])
    photo, moved = sized_photo(image, k, 30, 30)
    assert photo.shape == (30, 30, 3)
    np.testing.assert_allclose(moved, [[50, 0, 15], [0, 50, 15], [0, 0, 1]])
    assert photo[15, 15, 0] == 200
    assert photo[15, 0, 0] == 0


def test_batches_of_real_scenes(tmp_path, caplog):
    posed_folder(tmp_path / "one", 4)
    posed_folder(tmp_path / "broken", 4)
    (tmp_path / "broken" / "images" / "2.png").unlink()
    posed_folder(tmp_path / BENCHMARK, 4)
    torch.save([chunk_entry("chunked", 4)], tmp_path / "000000.torch")
    scenes = RealScenes(tmp_path)
    assert scenes.keys == ["broken", "chunked", "one"]
    with caplog.at_level(logging.WARNING):
        batch = scenes.batch(np.random.default_rng(0), 6, 4, (28, 42), targets=1)
    assert batch.images.shape == (6, 4, 3, 28, 42)
    assert (batch.context, batch.targets) == (3, 1)
    assert not batch.depth.any()
    torch.testing.assert_close(batch.cameras.world_to_cam[:, 0], torch.eye(4).expand(6, 4, 4))
    assert "broken is passed over" in caplog.text
    assert "2.png is missing" in caplog.text
    again = RealScenes(tmp_path).batch(np.random.default_rng(0), 6, 4, (28, 42), targets=1)
    assert torch.equal(batch.images, again.images)


def test_colmap_models(tmp_path):
    for i in range(3):
        save(tmp_path / "scene" / "images" / f"{i}.png", textured(seed=i))
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, -1, -2]
    intrinsics = np.tile([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]], (3, 1, 1))
    model = pinhole_model(
        [f"{i}.png" for i in range(3)], world_to_cam=poses, intrinsics=intrinsics, sizes=[(64, 96)] * 3
    )
    (tmp_path / "scene" / "sparse" / "0").mkdir(parents=True)
    save_colmap(model, tmp_path / "scene" / "sparse" / "0")
    scene = colmap_scene(tmp_path / "scene", "scene")
    np.testing.assert_allclose(scene.cam_to_world[:, 0, 3], [0, 1, 2])
    np.testing.assert_array_equal(scene.picture(1), textured(seed=1))
    assert RealScenes(tmp_path).keys == ["scene"]
    assert RealScenes(tmp_path).batch(np.random.default_rng(0), 1, 3, (28, 42)).images.shape == (1, 3, 3, 28, 42)


def test_fisheye_photos_become_the_views_that_they_fill(tmp_path):
    """A batch holds what a pinhole camera would have seen, not the bent photo with a pinhole's intrinsics."""
    numbers = {**WIDE, "w": 512, "h": 384}
    lens = wide_lens(numbers, BENT)
    poses = [wide_pose(turned(yaw, 5), [0.1 * yaw, 0.0, 0.0]) for yaw in (-20, 0, 20)]
    params = (WIDE["fl_x"], WIDE["fl_y"], WIDE["cx"], WIDE["cy"], *BENT.values())
    camera = ColmapCamera(id=1, model="OPENCV_FISHEYE", width=512, height=384, params=params)
    entries = []
    for index, pose in enumerate(poses):
        save(tmp_path / "scene" / "images" / f"{index}.png", fisheye(lens, pose[:3, :3]))
        back = np.linalg.inv(pose)
        entries.append(ColmapImage(
            id=index + 1, rotation=tuple(matrix_to_quaternion(torch.from_numpy(back[:3, :3])).tolist()), camera_id=1,
            translation=tuple(back[:3, 3].tolist()), name=f"{index}.png", keypoints=np.zeros((0, 2)),
            point_ids=np.zeros(0, np.int64),
        ))  # fmt: skip
    (tmp_path / "scene" / "sparse" / "0").mkdir(parents=True)
    model = ColmapModel(cameras=(camera,), images=tuple(entries), points=no_points())
    save_colmap(model, tmp_path / "scene" / "sparse" / "0")
    scene = colmap_scene(tmp_path / "scene", "scene")
    assert len(scene) >= 3
    assert "0_front" in scene.names
    for index in range(len(scene)):
        image, k = scene.undistorted_picture(index)
        direct = pinhole(k, scene.cam_to_world[index, :3, :3], *image.shape[:2])
        assert np.abs(image.astype(int) - direct).mean() < 1, scene.names[index]
    assert RealScenes(tmp_path).batch(np.random.default_rng(0), 1, 3, (28, 42)).images.shape == (1, 3, 3, 28, 42)


def test_roots_that_cannot_be_used_are_refused(tmp_path):
    posed_folder(tmp_path / "a" / BENCHMARK)
    with pytest.raises(InputError, match="only benchmark scenes"):
        RealScenes(tmp_path / "a")
    posed_folder(tmp_path / "b" / "scene")
    (tmp_path / "b" / "scene" / "transforms.json").write_text("{}")
    with pytest.raises(InputError, match=r"20 scenes in a row cannot be used.*no 'frames'"):
        RealScenes(tmp_path / "b").batch(np.random.default_rng(0), 1, 2, (28, 42))
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="neither scenes"):
        RealScenes(tmp_path / "c")


def test_benchmark_scenes_are_known_by_their_names():
    assert is_benchmark(BENCHMARK)
    assert not is_benchmark("0" * 64)


def test_real_and_procedural_scenes_mix(tmp_path):
    posed_folder(tmp_path / "scene", 4)
    config = dataclasses.replace(
        PRESETS["smoke"], data=str(tmp_path), data_share=0.5, textures=11,
        stages=(dataclasses.replace(PRESETS["smoke"].stages[0], sizes=((28, 42, 1.0),), pixels=28 * 42 * 2),),
    )  # fmt: skip
    with Batches(config) as batches:
        real = [not bool(batches.batch(step).depth.any()) for step in range(10)]
    assert 0 < sum(real) < 10


def test_own_photos_become_textures(tmp_path):
    save(tmp_path / "a.png", np.full((64, 96, 3), (250, 0, 250), np.uint8))
    (tmp_path / "b.png").write_bytes(b"nothing")
    bank = make_textures(np.random.default_rng(0), 22, 64)
    changed = with_photos(bank, np.random.default_rng(0), texture_files(tmp_path))
    pink = (changed.atlas[:, 0] == (250, 0, 250)).all(-1)
    assert 0 < pink.sum() < 22
    assert (changed.atlas[pink][:, -1] == (250, 0, 250)).all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no photos"):
        texture_files(tmp_path / "empty")


def test_index_json_names_chunks(tmp_path):
    torch.save([chunk_entry("chunked", 4)], tmp_path / "000000.torch")
    (tmp_path / "index.json").write_text(json.dumps({"chunked": "000000.torch"}))
    assert RealScenes(tmp_path).keys == ["chunked"]
