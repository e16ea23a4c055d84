"""Structure-from-motion: what is refused, and cameras of real photos against known ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens
from da3gs.photos import Placement, SparsePoints, load_photos
from da3gs.photos.reposed import reposed
from da3gs.pipeline.settings import Settings
from da3gs.poses.pose_alignment import pose_residual
from da3gs.poses.structure_from_motion import structure_from_motion


def noise_photos(folder: Path, count: int, size: tuple[int, int] = (120, 160)) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_photos_that_do_not_match_are_refused_in_one_line(tmp_path, capfd):
    photos = load_photos(noise_photos(tmp_path / "noise", 2), resolution=112)
    with pytest.raises(InputError, match="could place none of the 2 photos"):
        structure_from_motion(photos, resolution=112, views=8)
    assert capfd.readouterr().err == ""


def test_one_photo_and_shared_focal_of_two_sizes_are_refused(tmp_path):
    photos = load_photos(noise_photos(tmp_path / "one", 1), resolution=112)
    with pytest.raises(InputError, match="at least 2 photos"):
        structure_from_motion(photos, resolution=112, views=8)
    folder = noise_photos(tmp_path / "two", 1)
    Image.fromarray(np.zeros((90, 160, 3), np.uint8)).save(folder / "wide.png")
    with pytest.raises(InputError, match="2 different sizes"):
        structure_from_motion(load_photos(folder, resolution=112), resolution=112, views=8, shared_focal=True)
    with pytest.raises(InputError, match="--shared-focal"):
        Settings(shared_focal=True, poses="predicted")


def test_found_cameras_become_given_ones(tmp_path):
    photos = load_photos(noise_photos(tmp_path / "photos", 3), resolution=112)
    lens = Lens(
        intrinsics=np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]),
        height=120, width=160, distortion=(-0.1, 0.0, 0.0, 0.0),
    )  # fmt: skip
    plain = Lens(intrinsics=lens.intrinsics, height=120, width=160)
    poses = np.stack([np.eye(4), np.eye(4)])
    poses[1, 0, 3] = 2.0
    points = SparsePoints(positions=np.zeros((1, 3)), colors=np.zeros((1, 3), np.uint8), errors=np.zeros(1))
    how = (Placement(placed="sfm"), Placement(placed="depth_prior"))
    found = reposed(photos, [0, 2], [plain, lens], poses, how, points=points, dropped=(), resolution=112)
    assert found.estimated
    assert found.photos[1].placement == how[1]
    assert found.views.names == ("0", "2")
    assert found.views.cameras is not None
    torch.testing.assert_close(found.views.cameras.centers, torch.tensor([[0.0, 0, 0], [2, 0, 0]]))
    torch.testing.assert_close(found.views.images[0], photos.views.images[0])
    expected = torch.tensor([[105.0, 0, 56], [0, 105, 42], [0, 0, 1]])
    torch.testing.assert_close(found.views.cameras.intrinsics[0], expected)
    assert not torch.equal(found.views.images[1], photos.views.images[2])  # its distortion is undone
    again = found.photos[1].original()
    assert again.shape == (120, 160, 3)
    np.testing.assert_allclose(found.photos[1].original_intrinsics[:2, 2], [80, 60])


@pytest.mark.slow
def test_the_cameras_of_the_desk_are_found(test_data):
    desk = test_data("data/desk")
    names = sorted((desk / "images").iterdir())[::4]
    photos = load_photos(names, resolution=252)
    found = structure_from_motion(photos, resolution=252, views=len(names))
    known = load_photos(desk / "transforms.json", resolution=252).views
    assert known.cameras is not None
    assert found.views.cameras is not None
    index = [known.names.index(name) for name in found.views.names]
    assert len(index) >= 5
    residual = pose_residual(found.views.cameras, known.cameras[index])
    assert residual.rotation_degrees < 1
    assert residual.center < 0.05
    assert found.points is not None
    assert len(found.dropped) == len(names) - len(index)


def test_points_of_held_out_photos_are_not_used():
    visible = np.array([[True, True, True, False], [True, False, True, True], [False, True, False, True]])
    points = SparsePoints(
        positions=np.arange(12.0).reshape(4, 3), colors=np.zeros((4, 3), np.uint8), errors=np.zeros(4), visible=visible
    )
    np.testing.assert_array_equal(points.seen_by([0, 1]).positions, points.positions[[0, 2]])
    np.testing.assert_array_equal(points.seen_by([2]).positions, points.positions[[1, 3]])
    np.testing.assert_array_equal(points.seen_by([0, 1]).visible, [[True, True], [True, True]])
    unknown = SparsePoints(positions=points.positions, colors=points.colors, errors=points.errors)
    assert len(unknown.seen_by([0]).positions) == 4
