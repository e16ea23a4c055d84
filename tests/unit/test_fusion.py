"""Depth maps of a sphere and of a plane, fused: the surface lies where it has to."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from da3gs.cameras import look_at
from da3gs.depth.tsdf_fusion import DepthMap, fuse, sampled
from da3gs.errors import InputError
from da3gs.metrics.points import point_errors

SIZE, FOCAL = 128, 160.0
INTRINSICS = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])


def rays() -> np.ndarray:
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.stack(((u - SIZE / 2) / FOCAL, (v - SIZE / 2) / FOCAL, np.ones_like(u)), -1)


def pose(eye: tuple[float, float, float]) -> np.ndarray:
    at = torch.tensor(eye, dtype=torch.float64)
    return look_at(at, torch.zeros(3, dtype=torch.float64), torch.tensor([0.1, -1.0, 0], dtype=torch.float64)).numpy()


def sphere_maps() -> list[DepthMap]:
    """The unit sphere at the origin from twelve cameras at a distance of 3."""
    maps = []
    for turn in np.arange(6) * np.pi / 3:
        for lift in (-0.8, 0.8):
            eye = (3 * np.cos(turn) * np.cos(lift), 3 * np.sin(lift), 3 * np.sin(turn) * np.cos(lift))
            d = rays()
            a, b = (d * d).sum(-1), 3 * d[..., 2]
            inside = b * b - a * 8
            depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
            maps.append(DepthMap(depth=depth, intrinsics=INTRINSICS, world_to_cam=pose(eye)))
    return maps


def test_sphere() -> None:
    """Mean radius within a tenth of a voxel; F1 at one voxel is (nearly) 1."""
    voxel = 0.04
    points = sampled(fuse(sphere_maps(), voxel=voxel, truncation=4 * voxel), 50_000)
    radius = np.linalg.norm(points, axis=1)
    assert abs(np.median(radius) - 1) < voxel / 10
    truth = np.random.default_rng(0).normal(size=(50_000, 3))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    errors = point_errors(points, truth, distance=voxel)
    assert errors["recall"] > 0.99
    assert errors["f1"] > 0.98


def test_plane_and_its_known_f1() -> None:
    """The plane z = 0 from above; moved by half of the distance F1 stays 1, moved by twice it is 0."""
    depth = np.full((SIZE, SIZE), 2.0)
    down = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]])
    mesh = fuse([DepthMap(depth=depth, intrinsics=INTRINSICS, world_to_cam=down)], voxel=0.02, truncation=0.08)
    points = sampled(mesh, 20_000)
    np.testing.assert_allclose(points[:, 2], 0, atol=1e-5)
    side = SIZE / FOCAL  # half the footprint at depth 2
    np.testing.assert_allclose(np.abs(points[:, :2]).max(0), side, atol=0.05)
    truth = np.random.default_rng(0).uniform(-side, side, (20_000, 3)) * [1, 1, 0]
    for shift, expected in ((0.0, 1.0), (0.05, 1.0), (0.2, 0.0)):
        assert point_errors(points + np.array([0, 0, shift]), truth, distance=0.1)["f1"] == pytest.approx(
            expected, abs=0.005
        )
    half = truth[truth[:, 0] > 0]
    errors = point_errors(points, half, distance=0.02)
    assert errors["recall"] > 0.99
    assert errors["precision"] == pytest.approx(0.5, abs=0.03)
    assert errors["f1"] == pytest.approx(2 / 3, abs=0.03)


def test_blocks_leave_no_seams() -> None:
    """A slanted plane crosses many blocks: its area is that of the plane, without gaps or doubles."""
    depth = 4 / (rays() @ np.array([0.3, 0.2, 1.0]))
    mesh = fuse([DepthMap(depth=depth, intrinsics=INTRINSICS, world_to_cam=np.eye(4))], voxel=0.04, truncation=0.16)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    corners = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]])
    d = np.concatenate(((corners - SIZE / 2) / FOCAL, np.ones((4, 1))), 1)
    p = d * (4 / (d @ np.array([0.3, 0.2, 1.0])))[:, None]
    true = (np.linalg.norm(np.cross(p[1] - p[0], p[2] - p[0])) + np.linalg.norm(np.cross(p[2] - p[0], p[3] - p[0]))) / 2
    assert area == pytest.approx(true, rel=0.05)  # the rim of a voxel or so is not seen whole
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), 1)
    assert len(np.unique(mesh.faces, axis=0)) == len(mesh.faces)
    assert len(edges) == 3 * len(mesh.faces)


def test_what_cannot_be_fused_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = DepthMap(depth=np.zeros((8, 8)), intrinsics=INTRINSICS, world_to_cam=np.eye(4))
    with pytest.raises(InputError, match="no depth"):
        fuse([empty], voxel=0.1, truncation=0.4)
    monkeypatch.setattr("da3gs.depth.tsdf_fusion.MAX_BLOCKS", 1000)
    with pytest.raises(InputError, match="too small"):
        fuse(sphere_maps()[:1], voxel=1e-4, truncation=4e-4)
    with pytest.raises(InputError, match="volume"):
        fuse([empty], voxel=0.4, truncation=0.1)


@pytest.mark.slow
def test_open3d_agrees() -> None:
    """Open3D's scalable volume, as an oracle, where it is installed."""
    if importlib.util.find_spec("open3d") is None:
        pytest.skip("open3d is not installed (382 MB); it is an oracle only")
    import open3d

    volume = open3d.pipelines.integration.ScalableTSDFVolume(
        voxel_length=0.04, sdf_trunc=0.16, color_type=open3d.pipelines.integration.TSDFVolumeColorType.NoColor
    )
    lens = open3d.camera.PinholeCameraIntrinsic(SIZE, SIZE, FOCAL, FOCAL, SIZE / 2 - 0.5, SIZE / 2 - 0.5)
    for entry in sphere_maps():
        image = open3d.geometry.RGBDImage.create_from_color_and_depth(
            open3d.geometry.Image(np.zeros((SIZE, SIZE, 3), np.uint8)),
            open3d.geometry.Image(entry.depth.astype(np.float32)),
            depth_scale=1.0, depth_trunc=100.0, convert_rgb_to_intensity=False,
        )  # fmt: skip
        volume.integrate(image, lens, entry.world_to_cam)
    theirs = np.asarray(volume.extract_triangle_mesh().sample_points_uniformly(50_000).points)
    ours = sampled(fuse(sphere_maps(), voxel=0.04, truncation=0.16), 50_000)
    assert point_errors(ours, theirs, distance=0.02)["f1"] > 0.97
