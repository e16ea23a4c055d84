"""Exports: each file says what the scene says, in the axes that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats import SPLAT_SUFFIXES, load_gaussians
from da3gs.formats.colmap import load_colmap
from da3gs.formats.inria import load_inria
from da3gs.formats.ply import ply_comments
from da3gs.formats.transforms import load_transforms
from da3gs.pipeline.check import check
from da3gs.pipeline.clean import Limits
from da3gs.pipeline.export import axes_of, export, turned_scene
from da3gs.rendering import render
from da3gs.scene import Scene, load_scene
from tests.small_scene import small_gaussians, small_scene_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_scene_folder(tmp_path / "scene")


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_every_splat_format(folder: Path, suffix: str) -> None:
    path = folder.parent / f"a{suffix}"
    assert export(folder, path) == 300
    assert len(load_gaussians(path)) == 300
    if suffix != ".splat":  # which has no harmonics
        assert check(path, against=folder).psnr >= (60 if suffix == ".ply" else 38)


@pytest.mark.parametrize("frame", ["opengl", "supersplat"])
def test_other_axes_show_the_same_pictures(folder: Path, frame: str) -> None:
    scene = load_scene(folder)
    export(scene, folder.parent / "a.ply", frame=frame)
    cameras = scene.cameras.transformed(axes_of(frame))
    picture = render(load_gaussians(folder.parent / "a.ply"), cameras[1]).color
    assert torch.allclose(picture, render(scene.gaussians, scene.cameras[1]).color, atol=2e-3)
    comments = ply_comments(folder.parent / "a.ply")
    assert "Vertical axis: 0 1 0" in comments
    assert any(line.startswith(f"Axes: {'OpenGL' if frame == 'opengl' else 'SuperSplat'}") for line in comments)


def test_fewer_harmonics(folder: Path) -> None:
    export(folder, folder.parent / "a.ply", degree=1)
    again = load_gaussians(folder.parent / "a.ply")
    assert torch.equal(again.harmonics, small_gaussians().harmonics[:, :4])
    with pytest.raises(InputError, match="--sh-degree"):
        export(folder, folder.parent / "b.ply", degree=4)


def test_cleaning(folder: Path) -> None:
    scene = load_scene(folder)
    limits = Limits(min_opacity=0.5, min_confidence=1.5, edge=0.5, sky=True)
    count = export(folder, folder.parent / "a.ply", limits=limits)
    rows = scene.provenance
    wanted = (rows.confidence >= 1.5) & (rows.edge <= 0.5) & ~rows.sky & (scene.gaussians.opacities >= 0.5)
    assert count == int(wanted.sum())
    assert torch.equal(load_gaussians(folder.parent / "a.ply").means, scene.gaussians.means[wanted])
    with pytest.raises(InputError, match=r"needs a scene folder with splats\.npz"):
        export(folder / "scene.ply", folder.parent / "b.ply", limits=limits)


def test_a_folder_of_cameras(folder: Path) -> None:
    scene, out = load_scene(folder), folder.parent / "cameras"
    assert export(folder, out) == 4
    assert {path.name for path in out.iterdir()} == {"cameras.json", "transforms.json", "sparse", "depth"}
    expected = scene.cameras.world_to_cam.double()
    torch.testing.assert_close(load_inria(out / "cameras.json").world_to_cam, expected, rtol=0, atol=1e-6)
    written = np.stack([frame.cam_to_world for frame in load_transforms(out / "transforms.json").frames])
    assert np.array_equal(written, scene.cam_to_world_given)
    images = load_colmap(out / "sparse" / "0").images
    assert np.allclose([image.world_to_cam() for image in images], expected, atol=1e-6)
    depth = np.load(out / "depth" / "photo 1.npy")
    assert depth.shape == (30, 56)
    assert np.array_equal(depth, scene.depth[1, :30].numpy())


def test_a_folder_in_other_axes(folder: Path) -> None:
    export(folder, folder.parent / "cameras", frame="opengl")
    scene: Scene = turned_scene(load_scene(folder), "opengl")
    written = load_inria(folder.parent / "cameras" / "cameras.json").world_to_cam
    torch.testing.assert_close(written.float(), scene.cameras.world_to_cam, rtol=0, atol=1e-6)
    frames = load_transforms(folder.parent / "cameras" / "transforms.json").frames
    assert np.allclose([frame.cam_to_world[:3, 3] for frame in frames], scene.cameras.centers, atol=1e-6)


def test_outputs_that_cannot_be(folder: Path) -> None:
    out = folder.parent
    (out / "mine.ply").write_text("mine")
    for source, output, overwrite, message in (
        (folder, out / "a.obj", False, "no suffix"),
        (folder, out / "mine.ply", False, "exists already"),
        (folder, out / "mine.ply", True, "leaves it alone"),
        (folder, folder / "scene.ply", True, "inside the input"),
        (folder / "scene.ply", folder / "scene.ply", True, "inside the input"),
        (folder / "scene.ply", out / "cameras", False, "needs a scene folder"),
        (out / "nowhere", out / "a.ply", False, "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, output, overwrite=overwrite)
    assert (out / "mine.ply").read_text() == "mine"
    assert {path.name for path in out.iterdir()} == {"scene", "mine.ply"}
