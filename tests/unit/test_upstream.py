"""--upstream: the official program's numbers come out of `reconstruct`, quirks included."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.formats.splats.upstream_ply import official_pixels
from da3gs.network import DepthAnything3
from da3gs.network.upstream_api import with_given_cameras
from da3gs.photos import load_photos
from da3gs.pipeline.reconstruct import reconstruct
from da3gs.rendering import render
from da3gs.upstream import cropped_to_smallest, official_render_cameras
from tests.unit.plane_scene import plane_scene, write_photos, write_transforms
from tests.unit.test_checkpoints import tiny_config
from tests.unit.test_reconstruct import similarity

VIEWS, _ = plane_scene(3, 56, 84)


@pytest.fixture(scope="module")
def network() -> DepthAnything3:
    """Random weights, but such that depth, cameras and splats vary."""
    torch.manual_seed(11)
    model = DepthAnything3(tiny_config()).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "scale" in name:
                value.fill_(0.5)
            elif value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    return model


def test_given_poses_without_the_switch_and_with_it(network: DepthAnything3, tmp_path: Path) -> None:
    """Depth in the scale of the given poses, these as they are, splats in the predicted frame, pruned officially."""
    folder = write_transforms(VIEWS, tmp_path / "posed", similarity(2.0, 3))
    views = load_photos(folder, resolution=84).views
    with torch.inference_mode():
        raw = network(views, splats=True, upstream=True)
        expected, _ = with_given_cameras(raw, views.cameras)
        scene = reconstruct(folder, model=network, resolution=84, upstream=True)
    torch.testing.assert_close(scene.depth, expected.depth, rtol=1e-5, atol=0)
    torch.testing.assert_close(scene.cameras.world_to_cam, views.cameras.world_to_cam, rtol=0, atol=1e-5)
    torch.testing.assert_close(scene.cameras.intrinsics, views.cameras.intrinsics)
    keep = official_pixels(expected.depth).flatten()
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        torch.testing.assert_close(
            getattr(scene.gaussians, name), getattr(raw.gaussians, name)[keep], rtol=1e-4, atol=1e-5
        )
    assert scene.record["cleaned"]["official"] == int((~keep).sum())
    honest = reconstruct(folder, model=network, resolution=84)
    assert len(honest.gaussians) != len(scene.gaussians)
    apart = (honest.gaussians.means.median(0).values - scene.gaussians.means.median(0).values).norm()
    assert apart > 0.1  # in the caller's frame they are somewhere else


def test_unposed_scenes_stay_in_the_networks_frame(network: DepthAnything3, tmp_path: Path) -> None:
    photos = write_photos(VIEWS, tmp_path / "photos")
    views = load_photos(photos, resolution=84).views
    with torch.inference_mode():
        expected = network(views, splats=True, upstream=True)
    scene = reconstruct(photos, model=network, resolution=84, upstream=True, clean=False)
    torch.testing.assert_close(scene.depth, expected.depth, rtol=1e-5, atol=0)
    torch.testing.assert_close(scene.cameras.world_to_cam, expected.cameras.world_to_cam, rtol=1e-4, atol=1e-5)
    assert len(scene.gaussians) == scene.depth.numel()  # --no-clean
    assert scene.record["frame"]["up"] == "network"
    scene.save(tmp_path / "s.scene")


def test_intrinsics_alone_are_ignored(network: DepthAnything3, tmp_path: Path) -> None:
    folder = write_transforms(VIEWS, tmp_path / "posed")
    official, ours = (
        reconstruct(folder, model=network, resolution=84, poses="predicted", splats="depth", upstream=upstream)
        for upstream in (True, False)
    )
    assert official.record["poses"]["focal"] is None
    assert ours.record["poses"]["focal"] is not None
    torch.testing.assert_close(ours.cameras.intrinsics, VIEWS.cameras.intrinsics)
    assert not torch.allclose(official.cameras.intrinsics, VIEWS.cameras.intrinsics, rtol=0.01)


def test_different_sizes_are_cropped_to_the_smallest(network: DepthAnything3, tmp_path: Path) -> None:
    folder = write_transforms(VIEWS, tmp_path / "posed")
    content = json.loads((folder / "transforms.json").read_text())
    with Image.open(folder / "images" / "photo_1.png") as picture:
        tall = picture.crop((14, 0, 70, 56)).resize((84, 84))
    tall.save(folder / "images" / "photo_1.png")
    content["frames"][1].update(w=84, h=84, fl_x=133.0, fl_y=138.0, cx=55.0, cy=57.0)
    (folder / "transforms.json").write_text(json.dumps(content))
    photos = load_photos(folder, resolution=84)
    assert photos.views.sizes == [(56, 84), (84, 84), (56, 84)]
    cut = cropped_to_smallest(photos)
    assert cut.views.images.shape == (3, 3, 56, 84)
    torch.testing.assert_close(cut.views.images[1], photos.views.images[1, :, 14:70])  # about the middle
    torch.testing.assert_close(cut.views.images[0], photos.views.images[0, :, :56])
    assert cut.views.cameras.intrinsics[1, 1, 2].item() == pytest.approx(57 - 14)
    assert cut.views.cameras.intrinsics[0, 1, 2].item() == pytest.approx(43)
    assert cut.views.masks is None
    scene = reconstruct(folder, model=network, resolution=84, upstream=True)
    assert scene.depth.shape == (3, 56, 84)
    scene.save(tmp_path / "s.scene")
    with pytest.raises(InputError, match="--images original"):
        reconstruct(folder, model=network, resolution=84, upstream=True, images="original")


def test_photos_of_one_size_are_not_touched(tmp_path: Path) -> None:
    photos = load_photos(write_photos(VIEWS, tmp_path / "photos"), resolution=84)
    assert cropped_to_smallest(photos) is photos


def test_what_the_official_program_fails_with(network: DepthAnything3, tmp_path: Path) -> None:
    folder = write_transforms(VIEWS[[0]], tmp_path / "posed")
    with pytest.raises(InputError, match=r"--upstream with 1 given cameras: the official alignment fails"):
        reconstruct(folder, model=network, resolution=84, upstream=True)
    assert reconstruct(folder, model=network, resolution=84).record["poses"]["source"] == "given"


def test_the_official_renderer_forgets_the_principal_point() -> None:
    centered = VIEWS.cameras.intrinsics.clone()
    centered[:, :2, 2] = torch.tensor([42.0, 28.0])
    cameras = dataclasses.replace(VIEWS.cameras, intrinsics=centered)
    torch.testing.assert_close(official_render_cameras(cameras).intrinsics, centered, rtol=1e-5, atol=1e-4)
    moved = official_render_cameras(VIEWS.cameras)
    assert isinstance(moved, Cameras)
    k = VIEWS.cameras.intrinsics[0].double().numpy()
    left, right = (np.linalg.solve(k, np.array([x, 28.0, 1])) for x in (0.0, 84.0))
    angle = np.arccos(left @ right / np.linalg.norm(left) / np.linalg.norm(right))
    assert moved.intrinsics[0, 0, 0].item() == pytest.approx(84 / 2 / np.tan(angle / 2), rel=1e-5)
    assert moved.intrinsics[0, 0, 2].item() == 42


def test_the_callers_frame_does_not_matter(network: DepthAnything3, tmp_path: Path) -> None:
    """The head's splats, harmonics included, turn with a rotated world.

    The encoder's float32 input differs, and with it stereo's choice on a few pixels, on each processor others: those
    do not touch a view's median. Measured medians: 4e-4 at most; with harmonics that do not turn 1.4e-3 at least.
    """
    pictures = []
    for seed in (None, 3, 8):
        world = None if seed is None else similarity(1.0, seed, shift=0.3)
        folder = write_transforms(VIEWS, tmp_path / f"posed_{seed}", world)
        scene = reconstruct(folder, model=network, resolution=84, splats="head")
        assert scene.gaussians.harmonics.shape[1] == 9
        pictures.append(torch.stack([render(scene.gaussians, camera).color for camera in scene.cameras]))
    assert pictures[0].std() > 0.05
    for picture in pictures[1:]:
        assert (picture - pictures[0]).abs().flatten(1).median(dim=1).values.max() <= 1e-3
