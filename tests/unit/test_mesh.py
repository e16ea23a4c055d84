"""Meshes of a scene's depth: right places, colours and axes, as trimesh reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.cli import main
from da3gs.errors import InputError
from da3gs.exports.mesh import ColoredMesh, mesh_of, save_mesh
from da3gs.formats.splats.glb import AXES
from da3gs.gaussians import Gaussians
from da3gs.scene import Scene
from da3gs.views import Views
from tests.unit.corner_scene import corner_cameras, corner_depth, photographed

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Three photos of a corner with its true depth."""
    cameras = corner_cameras([(-0.4, 0.0, 0.2), (0.1, -0.3, 0.1), (0.5, 0.0, 0.0)])
    pictures = torch.from_numpy(np.stack(photographed(cameras))).movedim(-1, 1).float() / 255
    depth = torch.stack([corner_depth(cameras, i, cameras.height, cameras.width) for i in range(3)])
    return Scene(
        gaussians=one_splat(), cameras=cameras,
        views=Views(images=pictures, names=("a", "b", "c")), record={}, depth=depth,
    )  # fmt: skip


def one_splat() -> Gaussians:
    """Any."""
    return Gaussians(
        means=torch.zeros(1, 3), scales=torch.ones(1, 3), quaternions=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.ones(1), harmonics=torch.zeros(1, 1, 3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def mesh(scene: Scene) -> ColoredMesh:
    return mesh_of(scene)


def test_the_surface_lies_on_the_walls(mesh: ColoredMesh) -> None:
    """Within a voxel of the nearest of the three walls."""
    x, y, z = mesh.vertices.T
    away = np.minimum(np.abs(z - 0.5 * np.abs(x) - 5), np.abs(y - 1))
    away = np.minimum(away, np.minimum(np.abs(z - 0.5 * x - 5), np.abs(z + 0.5 * x - 5)))
    assert len(mesh.faces) > 5000
    assert np.quantile(away, 0.95) < 0.05


def test_its_colours_are_the_photos(mesh: ColoredMesh, scene: Scene) -> None:
    """What the first photo shows of the vertices that it sees, to some grey levels where texture is fine."""
    camera = scene.cameras[0]
    pose, intrinsics = camera.world_to_cam.double().numpy(), camera.intrinsics.double().numpy()
    local = mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
    u, v = (local @ intrinsics.T)[:, :2].T / local[:, 2]
    inside = (u > 1) & (v > 1) & (u < camera.width - 1) & (v < camera.height - 1)
    shown = scene.views.images[0].numpy()[:, v[inside].astype(int), u[inside].astype(int)].T * 255
    assert np.median(np.abs(shown - mesh.colors[inside])) < 12


def test_trimesh_reads_both_files(mesh: ColoredMesh, tmp_path: Path) -> None:
    save_mesh(mesh, tmp_path / "mesh.ply")
    save_mesh(mesh, tmp_path / "mesh.glb")
    ply = trimesh.load(tmp_path / "mesh.ply", process=False)
    np.testing.assert_allclose(ply.vertices, mesh.vertices, atol=1e-5)
    assert np.array_equal(ply.faces, mesh.faces)
    assert np.array_equal(ply.visual.vertex_colors[:, :3], mesh.colors)
    glb = trimesh.load(tmp_path / "mesh.glb", process=False, force="mesh")
    assert AXES == "LUF"  # x and y turned round, z kept: a rotation, so that no face turns inside out
    np.testing.assert_allclose(glb.vertices, mesh.vertices * np.array([-1, -1, 1]), atol=1e-5)
    assert np.array_equal(glb.faces, mesh.faces)


def test_faces_look_at_the_cameras(mesh: ColoredMesh) -> None:
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = np.array([0.0, -0.1, 0.1]) - corners.mean(1)
    assert ((normals * towards).sum(-1) > 0).mean() > 0.98


def test_many_faces_become_fewer(scene: Scene) -> None:
    assert 500 < len(mesh_of(scene, most_faces=4000).faces) <= 4000


def test_what_makes_no_mesh_is_said(scene: Scene, mesh: ColoredMesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no depth\.npz"):
        mesh_of(dataclasses.replace(scene, depth=None))
    with pytest.raises(InputError, match="hold no depth"):
        mesh_of(dataclasses.replace(scene, depth=torch.full_like(scene.depth, torch.nan)))
    with pytest.raises(InputError, match=r"written as \.ply or \.glb, got mesh\.obj"):
        save_mesh(mesh, tmp_path / "mesh.obj")


def test_the_command_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        ([], "name a file or folder with -o, or a mesh with --mesh"),
        (["--mesh", str(tmp_path / "mesh.stl")], "a mesh is written as .ply or .glb, got mesh.stl"),
        (["--mesh", str(tmp_path / "mesh.ply")], "is no scene folder"),
    ):
        assert main(["export", str(tmp_path), *words]) == 2
        assert said in capsys.readouterr().err
