"""Exports: each file says what the scene says, in the axes that were asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs._scene_write import vertical_axis
from da3gs.cli import main
from da3gs.errors import InputError
from da3gs.exports.axis_conventions import turned_scene
from da3gs.formats import READ_SUFFIXES, WRITTEN_SUFFIXES, load_gaussians, load_splat_file
from da3gs.formats.cameras.colmap import load_colmap
from da3gs.formats.cameras.inria import load_inria
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.formats.records import SpzVersion
from da3gs.formats.splats.ply import ply_comments
from da3gs.metrics.image import psnr
from da3gs.pipeline.check import check
from da3gs.pipeline.export import export, prepared
from da3gs.rendering import render
from da3gs.scene import Scene, load_scene
from da3gs.splats.pruning import Limits
from tests.readers.viewers import VIEWERS
from tests.small_scene import small_gaussians, small_scene, small_scene_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_scene_folder(tmp_path / "scene")


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_every_splat_format(folder: Path, suffix: str) -> None:
    path = folder.parent / f"a{suffix}" if suffix.startswith(".") else folder.parent / "a" / suffix
    assert export(folder, path) == 300
    if suffix in READ_SUFFIXES:
        assert len(load_gaussians(path)) == 300
    if suffix != ".splat":  # which has no harmonics
        assert check(path, against=folder).psnr >= (60 if suffix == ".ply" else 38)
    export(folder, path, overwrite=True)


@pytest.mark.parametrize("frame", ["opencv", "opengl", "colmap", "supersplat"])
def test_other_axes_show_the_same_pictures(tmp_path: Path, frame: str) -> None:
    """Splats, cameras and harmonics of degree 3 turn together: every photo's picture stays, from every written file."""
    scene = dataclasses.replace(small_scene(), gaussians=small_gaussians(bands=16))
    export(scene, tmp_path / "a.ply", frame=frame)
    export(scene, tmp_path / "cameras", frame=frame)
    splats = load_splat_file(tmp_path / "a.ply").gaussians
    inria = load_inria(tmp_path / "cameras" / "cameras.json").world_to_cam
    poses = [frame.cam_to_world for frame in load_transforms(tmp_path / "cameras" / "transforms.json").frames]
    colmap = [image.world_to_cam() for image in load_colmap(tmp_path / "cameras" / "sparse" / "0").images]
    points = load_colmap(tmp_path / "cameras" / "sparse" / "0").points
    assert np.abs(np.asarray(points.positions)[:, None] - splats.means.numpy()[None]).max(-1).min(1).max() < 1e-5
    for index in range(4):
        expected = render(scene.gaussians, scene.cameras[index]).color
        for world_to_cam in (inria[index], np.linalg.inv(poses[index]), colmap[index]):
            camera = dataclasses.replace(
                scene.cameras[index], world_to_cam=torch.as_tensor(np.asarray(world_to_cam)).float()
            )
            assert psnr(render(splats, camera).color, expected) > 80


@pytest.mark.parametrize("frame", ["opengl", "supersplat"])
def test_the_comments_speak_of_the_axes_that_are_written(folder: Path, frame: str) -> None:
    for suffix in (".ply", ".compressed.ply"):
        export(folder, folder.parent / f"a{suffix}", frame=frame)
        comments = ply_comments(folder.parent / f"a{suffix}")
        assert "Vertical axis: 0 1 0" in comments
        assert any(line.startswith(f"Axes: {'OpenGL' if frame == 'opengl' else 'SuperSplat'}") for line in comments)


def test_a_scene_in_memory_knows_its_turned_up_side() -> None:
    scene = small_scene()  # whose record names no axis yet
    assert vertical_axis(scene) == [0, -1, 0]
    assert vertical_axis(turned_scene(scene, "opengl")) == [0, 1, 0]


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
    mine = [out / f"mine.{kind}" for kind in ("ply", "html", "glb")]
    for path in mine:
        path.write_text("mine")
    for source, output, overwrite, message in (
        (folder, out / "a.obj", False, "no suffix"),
        (folder, out / "a.ksplat", False, "no suffix"),
        (folder, out / "mine.html", True, "not a .html file"),
        (folder, out / "mine.glb", True, "not a .glb file"),
        (folder, out / "mine.ply", False, "exists already"),
        (folder, out / "mine.ply", True, "leaves it alone"),
        (folder, folder / "scene.ply", True, "inside the input"),
        (folder / "scene.ply", folder / "scene.ply", True, "inside the input"),
        (folder / "scene.ply", out / "cameras", False, "needs a scene folder"),
        (out / "nowhere", out / "a.ply", False, "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, output, overwrite=overwrite)
    assert all(path.read_text() == "mine" for path in mine)
    assert {path.name for path in out.iterdir()} == {"scene", *(path.name for path in mine)}


@pytest.mark.parametrize(("name", "version", "other"), [("a.spz", 4, "3.spz"), ("3.spz", 3, "a.spz")])
def test_advice_names_the_viewers_that_are_better_served_otherwise(
    folder: Path, name: str, version: SpzVersion, other: str
) -> None:
    """Those of the table of programs that refuse this version, or show the other one upright and this one not."""
    advice = prepared(folder, folder.parent / "a.spz", spz_version=version).advice
    for viewer in VIEWERS:
        stands, stands_otherwise = (viewer.shown.get(file, "---")[1] for file in (name, other))
        if name in viewer.refused or (stands_otherwise == "U" and stands != "U"):
            assert viewer.name.split()[0] in advice, advice


def test_advice_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the command, in a line and in JSON; of files that open everywhere there is none."""
    assert main(["export", str(folder), "-o", str(folder.parent / "a.spz"), "--quiet"]) == 0
    assert "advice   Spark does not open .spz version 4" in capfd.readouterr().out
    assert main(["export", str(folder), "-o", str(folder.parent / "a.spz"), "--quiet", "--overwrite", "--json"]) == 0
    assert "--spz-version 3" in json.loads(capfd.readouterr().out)["advice"]
    assert main(["export", str(folder), "-o", str(folder.parent / "a.glb"), "--quiet", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["advice"] is None
    assert main(["export", str(folder), "-o", str(folder.parent / "a" / "lod-meta.json"), "--quiet"]) == 0
    assert "advice   Babylon.js lays streamed SOG on its back" in capfd.readouterr().out
