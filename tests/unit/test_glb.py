"""Points as binary glTF: its structure by the letter of the format, and as a reader that we did not write sees it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.formats.glb import save_glb
from da3gs.geometry.harmonics import C0
from tests.small_scene import small_gaussians


def test_structure(tmp_path: Path) -> None:
    """Header, chunks and padding as section 4.4 of the glTF 2.0 specification has them."""
    splats = small_gaussians(301)
    save_glb(splats, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert length % 4 == 0
    document = json.loads(data[20 : 20 + length])
    rest, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert (kind, rest % 4, 28 + length + rest) == (b"BIN\0", 0, len(data))
    assert "points, not splats" in document["asset"]["extras"]["note"]
    [primitive] = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    assert (position["componentType"], position["type"], position["count"]) == (5126, "VEC3", 301)
    means = splats.means.numpy() * np.array([1, -1, -1], np.float32)
    assert np.array_equal(np.array(position["min"], np.float32), means.min(0))
    assert np.array_equal(np.array(position["max"], np.float32), means.max(0))
    views = document["bufferViews"]
    for accessor, width in zip(document["accessors"], (12, 16), strict=True):
        view = views[accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == width * accessor["count"]
    assert document["buffers"][0]["byteLength"] == sum(view["byteLength"] for view in views) <= rest


def test_trimesh_reads_it(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    splats = small_gaussians(500)
    save_gaussians(splats, tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    [cloud] = scene.geometry.values()
    assert isinstance(cloud, trimesh.PointCloud)
    flipped = splats.means.numpy() * np.array([1, -1, -1])
    np.testing.assert_allclose(cloud.vertices, flipped, atol=1e-6)
    np.testing.assert_allclose(scene.bounds, [flipped.min(0), flipped.max(0)], atol=1e-6)
    linear = cloud.colors[:, :3] / 255
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    wanted = (splats.harmonics[:, 0] * C0 + 0.5).clamp(0, 1).numpy()
    bright = wanted > 0.3  # where a byte of linear light is fine enough
    assert np.abs(shown - wanted)[bright].max() < 0.01
    assert np.abs(cloud.colors[:, 3] / 255 - splats.opacities.numpy()).max() < 0.01


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would be empty"):
        save_glb(small_gaussians(0), tmp_path / "a.glb")
    bad = small_gaussians()
    bad.opacities[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        save_glb(bad, tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
    save_glb(small_gaussians(), tmp_path / "a.glb")
    with pytest.raises(InputError, match="not a splat file: it is glTF"):
        load_gaussians(tmp_path / "a.glb")
    with pytest.raises(InputError, match="exists already"):
        save_glb(small_gaussians(), tmp_path / "a.glb")
