"""Cameras found in made photos whose cameras are known, and what becomes of photos that have none to be found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from da3gs.metrics.pose import relative_pose_errors
from da3gs.photos import LoadedPhotos, load_photos
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.poses.structure_from_motion import structure_from_motion
from da3gs.rendering import render
from tests.unit.corner_scene import FOCAL, SIZE, corner_cameras, photographed, saved, turned_cameras

EYES = [(-0.9, -0.2, 0.0), (-0.4, 0.0, 0.2), (0.1, -0.3, 0.1), (0.7, 0.1, 0.2)]
RESOLUTION = 196


def searched(folder: Path, **flags: object) -> LoadedPhotos:
    """The photos of a folder with the cameras that were found."""
    photos = load_photos(folder, resolution=RESOLUTION)
    return structure_from_motion(photos, resolution=RESOLUTION, views=16, alone=True, **flags)


def errors(found: LoadedPhotos, true: torch.Tensor) -> tuple[float, float]:
    """The largest errors of relative rotations and directions, in degrees."""
    index = [int(photo.name.rpartition("_")[2]) for photo in found.photos]
    rotation, direction = relative_pose_errors(found.views.cameras.world_to_cam, true[index])
    return float(rotation.max()), float(direction.max())


@pytest.fixture(scope="module")
def corner() -> list[np.ndarray]:
    """Photos of a corner."""
    return photographed(corner_cameras(EYES))


def test_cameras_and_lens_are_found(corner: list[np.ndarray], tmp_path: Path) -> None:
    found = searched(saved(corner, tmp_path / "photos"))
    assert len(found.photos) == len(EYES)
    rotation, direction = errors(found, corner_cameras(EYES).world_to_cam)
    assert rotation < 0.2
    assert direction < 0.5
    focal = found.views.cameras.intrinsics[:, 0, 0] * SIZE[1] / found.views.width
    torch.testing.assert_close(focal, torch.full_like(focal, FOCAL), rtol=0.02, atol=0)
    for photo in found.photos:
        assert photo.placement.placed == "sfm"
        assert photo.placement.inliers > 100
        assert photo.placement.reprojection_error < 0.5
    assert found.estimated
    assert not found.one_spot
    assert len(found.points.positions) > 100


def test_the_same_photos_give_the_same_cameras(corner: list[np.ndarray], tmp_path: Path) -> None:
    first, second = (searched(saved(corner[:3], tmp_path / "photos")) for _ in range(2))
    assert np.array_equal(first.cam_to_world_given, second.cam_to_world_given)
    assert np.array_equal(first.points.positions, second.points.positions)


def test_two_photos_are_enough(corner: list[np.ndarray], tmp_path: Path) -> None:
    """Two photos do not tell their lens: with the right focal length to begin at, rotation and direction are right."""
    folder = saved([corner[0], corner[2]], tmp_path / "photos")
    photos = load_photos(folder, resolution=RESOLUTION)
    intrinsics = np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])
    found = structure_from_motion(with_intrinsics(photos, intrinsics), resolution=RESOLUTION, views=16, alone=True)
    assert len(found.photos) == 2
    true = corner_cameras([EYES[0], EYES[2]]).world_to_cam
    assert max(errors(found, true)) < 0.5


def with_intrinsics(photos: LoadedPhotos, intrinsics: np.ndarray) -> LoadedPhotos:
    """Photos whose files tell their intrinsics, as EXIF does."""
    import dataclasses

    def told(photo):
        read = photo.read
        return dataclasses.replace(photo, read=lambda: dataclasses.replace(read(), intrinsics=intrinsics))

    return dataclasses.replace(photos, photos=tuple(told(photo) for photo in photos.photos))


def test_of_two_places_the_larger_group_is_the_scene(corner: list[np.ndarray], tmp_path: Path) -> None:
    elsewhere = photographed(corner_cameras(EYES[:2]), seed=7)
    folder = saved([*corner[:3], *elsewhere], tmp_path / "photos")
    found = searched(folder)
    assert [photo.name for photo in found.photos] == ["photo_0", "photo_1", "photo_2"]
    assert [(photo.name, "could not be placed" in photo.reason) for photo in found.dropped] == [
        ("photo_3.png", True), ("photo_4.png", True)
    ]  # fmt: skip
    assert errors(found, corner_cameras(EYES).world_to_cam)[0] < 0.3


def test_a_mirrored_photo_is_left_out(corner: list[np.ndarray], tmp_path: Path) -> None:
    folder = saved([*corner[:3], corner[3][:, ::-1]], tmp_path / "photos")
    found = searched(folder)
    assert [photo.name for photo in found.photos] == ["photo_0", "photo_1", "photo_2"]
    assert errors(found, corner_cameras(EYES).world_to_cam)[0] < 0.3


def test_turning_on_the_spot_becomes_a_sphere(tmp_path: Path) -> None:
    cameras = turned_cameras([(-18, 1), (-4, 0), (8, -1), (20, 1)])
    pictures = [cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in photographed(cameras)]
    folder = saved(pictures, tmp_path / "photos")
    found = searched(folder)
    assert found.one_spot
    assert len(found.photos) == 4
    assert errors(found, cameras.world_to_cam)[0] < 0.3
    focal = found.views.cameras.intrinsics[:, 0, 0] * SIZE[1] / found.views.width
    torch.testing.assert_close(focal, torch.full_like(focal, FOCAL), rtol=0.02, atol=0)
    scene = reconstruct(folder, resolution=RESOLUTION, holdout="photo_1")
    assert scene.record["poses"]["one_spot"] is True
    assert scene.record["psnr"]["holdout_mean"] > 20  # its border is shown by no other photo
    assert scene.record["psnr"]["holdout_poses"] == "aligned"
    distance = scene.gaussians.means.norm(dim=-1)
    torch.testing.assert_close(distance, torch.ones_like(distance), rtol=1e-3, atol=0)
    assert render(scene.gaussians, scene.cameras[1]).alpha[10:-10, 10:-10].min() > 0.9


@pytest.mark.parametrize("kind", ["the same twice", "white walls", "nothing in common", "a single one"])
def test_photos_without_cameras_become_a_scene_of_one(corner: list[np.ndarray], tmp_path: Path, kind: str) -> None:
    white = np.full((*SIZE, 3), 250, np.uint8)
    pictures, reason = {
        "the same twice": ([corner[0], corner[0]], "is a copy of another photo"),
        "white walls": ([white, white - 3], "nothing ties it"),
        "nothing in common": ([corner[0], photographed(corner_cameras(EYES[:1]), seed=9)[0]], "nothing ties it"),
        "a single one": ([corner[0]], ""),
    }[kind]
    scene = reconstruct(saved(pictures, tmp_path / "photos"), resolution=RESOLUTION)
    assert scene.views.names == ("photo_0",)
    assert scene.record["poses"]["source"] == "predicted"
    assert [camera["placed"] for camera in scene.record["poses"]["cameras"]] == ["predicted"]
    left_out = scene.record["views"]["dropped"]
    assert len(left_out) == len(pictures) - 1
    assert all(reason in photo["reason"] for photo in left_out)
