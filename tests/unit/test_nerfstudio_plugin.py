"""What nerfstudio is told of a scene folder; with the real package in tests/readers."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from da3gs import nerfstudio_method, nerfstudio_plugin
from da3gs.cameras import Cameras
from da3gs.errors import InputError, MissingDependencyError
from da3gs.nerfstudio_method import splatfacto_parameters
from da3gs.nerfstudio_plugin import posed_folder, split_indices
from da3gs.rendering import render
from da3gs.scene import load_scene
from tests.small_scene import small_cameras, small_scene, small_scene_folder

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_scene_folder(tmp_path / "scene")


def test_the_folders_own_world(folder: Path) -> None:
    found, scene = posed_folder(folder, align=False), load_scene(folder)
    assert scene.cam_to_world_given is not None
    assert np.array_equal(found.cam_to_world, scene.cam_to_world_given @ FLIP)
    assert [path.name for path in found.images] == [f"photo {i}.png" for i in range(4)]
    assert all(path.is_file() for path in found.images)
    assert found.sizes == ((42, 56), (30, 56), (42, 40), (42, 56))
    assert np.allclose(found.intrinsics, small_cameras().intrinsics)
    assert found.masks == ()  # only one photo has one
    assert np.allclose(found.points, scene.gaussians.means, atol=1e-6)
    assert found.colors.shape == (300, 3)
    assert found.colors.dtype == np.uint8


def test_aligned(folder: Path) -> None:
    """Up is z, cameras lie within 1 of the origin, and every point is seen at the same pixel as before."""
    found, own = posed_folder(folder), posed_folder(folder, align=False)
    centers = found.cam_to_world[:, :3, 3]
    assert np.allclose(centers.mean(0), 0, atol=1e-12)
    assert np.abs(centers).max() == pytest.approx(1)
    assert np.allclose(found.transform[:, :3] @ [0, -1, 0], [0, 0, 1])  # the record's vertical axis
    assert np.linalg.det(found.transform[:, :3]) == pytest.approx(1)
    for index in range(4):
        pixels = []
        for each in (found, own):
            local = (each.points - each.cam_to_world[index, :3, 3]) @ each.cam_to_world[index, :3, :3]
            pixels.append(local[:, :2] / local[:, 2:])
        assert np.allclose(*pixels, atol=1e-5)
    assert np.allclose(found.points, found.scale * (own.points @ found.transform[:, :3].T + found.transform[:, 3]))


def test_far_scenes_and_masks(tmp_path: Path) -> None:
    """The splats of a scene far from the origin lie beside an offset; its cameras do not."""
    scene = small_scene()
    far = torch.tensor([4e5, 0.0, 5e6], dtype=torch.float64)
    world_to_cam = scene.cameras.world_to_cam.double()
    world_to_cam[:, :3, 3] -= world_to_cam[:, :3, :3] @ far
    moved = dataclasses.replace(
        scene,
        gaussians=scene.gaussians.to(dtype=torch.float64).map(lambda t: t),
        cameras=dataclasses.replace(scene.cameras, world_to_cam=world_to_cam),
        views=dataclasses.replace(scene.views, masks=torch.arange(56).expand(4, 42, 56) % 9 > 0),
    )
    moved = dataclasses.replace(
        moved, gaussians=dataclasses.replace(moved.gaussians, means=moved.gaussians.means + far)
    )
    moved.save(tmp_path / "scene")
    found = posed_folder(tmp_path / "scene", align=False)
    assert np.abs(found.points.mean(0) - far.numpy()).max() < 0.5
    assert np.abs(found.cam_to_world[:, :3, 3] - far.numpy()).max() < 3
    assert [path.name for path in found.masks] == [f"photo {i}.png" for i in range(4)]


def test_splats_look_the_same_in_that_world(folder: Path) -> None:
    """From nerfstudio's cameras as from ours, with every band of the harmonics; and splatfacto's numbers are theirs."""
    scene, found = load_scene(folder), posed_folder(folder, splats=True)
    assert found.splats is not None
    np.testing.assert_allclose(found.splats.means, found.points, atol=1e-5)
    cameras = Cameras(
        world_to_cam=torch.from_numpy(np.linalg.inv(found.cam_to_world @ FLIP)).float(),
        intrinsics=scene.cameras.intrinsics, height=scene.cameras.height, width=scene.cameras.width,
    )  # fmt: skip
    torch.testing.assert_close(
        render(found.splats, cameras).color, render(scene.gaussians, scene.cameras).color, atol=2e-3, rtol=0
    )
    start = splatfacto_parameters(found.splats, 3)
    assert {name: tuple(value.shape) for name, value in start.items()} == {
        "means": (300, 3), "scales": (300, 3), "quats": (300, 4), "opacities": (300, 1),
        "features_dc": (300, 3), "features_rest": (300, 15, 3),
    }  # fmt: skip
    torch.testing.assert_close(start["scales"].exp(), found.splats.scales)
    torch.testing.assert_close(start["opacities"].sigmoid()[:, 0], found.splats.opacities, atol=1e-5, rtol=0)
    torch.testing.assert_close(start["features_rest"][:, :8], found.splats.harmonics[:, 1:])
    assert float(start["features_rest"][:, 8:].abs().max()) == 0
    fewer = splatfacto_parameters(found.splats, 0)
    assert fewer["features_rest"].shape == (300, 0, 3)
    assert bool(fewer["features_dc"].isfinite().all())


def test_other_trainers_find_what_they_ask_of_a_colmap_folder(folder: Path) -> None:
    """gsplat's trainer, Inria's, Brush and LichtFeld read ``images/`` beside ``sparse/0``: pinhole cameras, every photo
    there at the size of its camera, and coloured points that lie among the splats."""
    model = pycolmap.Reconstruction(str(folder / "sparse" / "0"))
    assert len(model.images) == 4
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        assert camera.model.name in ("PINHOLE", "SIMPLE_PINHOLE")
        with Image.open(folder / "images" / image.name) as photo:
            assert photo.size == (camera.width, camera.height)
        assert image.has_pose
    points = np.stack([point.xyz for point in model.points3D.values()])
    colors = np.stack([point.color for point in model.points3D.values()])
    means = load_scene(folder).gaussians.means
    assert len(points) > 10
    assert colors.dtype == np.uint8
    apart = (torch.from_numpy(points).float()[:, None] - means).norm(dim=-1)
    assert float(apart.min(1).values.max()) < 1e-6
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(i.name for i in model.images.values())


def test_paths_stay_inside(folder: Path) -> None:
    for written in ("../secret.png", "images/nowhere.png"):
        content = json.loads((folder / "transforms.json").read_text())
        content["frames"][0]["file_path"] = written
        (folder / "transforms.json").write_text(json.dumps(content))
        (folder.parent / "secret.png").write_text("secret")
        with pytest.raises(InputError, match="not in it"):
            posed_folder(folder)
    with pytest.raises(InputError, match="not a scene folder"):
        posed_folder(folder.parent)


def test_splits() -> None:
    assert split_indices(9, 4, "train") == [1, 2, 3, 5, 6, 7]
    assert split_indices(9, 4, "val") == split_indices(9, 4, "test") == [0, 4, 8]
    assert split_indices(3, 0, "train") == split_indices(3, 0, "val") == [0, 1, 2]
    assert split_indices(1, 8, "train") == [0]


def test_the_entry_point_names_what_is_there() -> None:
    [entry] = importlib.metadata.entry_points(group="nerfstudio.dataparser_configs", name="da3gs") or [None]
    if entry is None:
        pytest.skip("installed before the entry point was there; make test installs anew")
    assert entry.value == "da3gs.nerfstudio_plugin:SPECIFICATION"
    with pytest.raises(AttributeError):
        _ = nerfstudio_plugin.nothing
    try:
        import nerfstudio  # noqa: F401
    except ImportError:
        for module in (nerfstudio_plugin, nerfstudio_method):
            with pytest.raises(MissingDependencyError, match=r"da3gs\[nerfstudio\]"):
                _ = module.SPECIFICATION
