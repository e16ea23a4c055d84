"""Splats as binary glTF: the letter of KHR_gaussian_splatting, and what other readers and writers make of it."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats import load_gaussians, load_splat_file, save_gaussians
from da3gs.formats.splats.glb import save_glb
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0, evaluate_harmonics
from da3gs.geometry.rotations import quaternion_to_matrix
from tests.small_scene import small_gaussians

SPLATTING = "KHR_gaussian_splatting"
FIELDS = ("means", "scales", "quaternions", "opacities", "harmonics")


def chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON and the binary chunk, by section 4.4 of the glTF 2.0 specification."""
    data = path.read_bytes()
    assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert (kind, length % 4) == (b"JSON", 0)
    rest, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert (kind, rest % 4, 28 + length + rest) == (b"BIN\0", 0, len(data))
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def write(path: Path, document: dict[str, Any], binary: bytes) -> None:
    """A .glb of these chunks."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    path.write_bytes(
        head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_structure(tmp_path: Path, bands: int) -> None:
    splats = small_gaussians(301, bands)
    save_glb(splats, tmp_path / "a.glb")
    document, binary = chunks(tmp_path / "a.glb")
    assert document["extensionsUsed"] == [SPLATTING]
    assert "extensionsRequired" not in document, "a reader that does not know it shows points"
    [primitive] = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    said = primitive["extensions"][SPLATTING]
    assert (said["kernel"], said["colorSpace"]) == ("ellipse", "srgb_rec709_display")
    columns = {}
    for semantic, index in primitive["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert (accessor["componentType"], accessor["count"], view["byteOffset"] % 4) == (5126, 301, 0)
        assert view["byteLength"] == 301 * 4 * width
        columns[semantic] = np.frombuffer(binary, "<f4", 301 * width, view["byteOffset"]).reshape(301, width)
    assert document["buffers"][0]["byteLength"] == sum(view["byteLength"] for view in document["bufferViews"])
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    half_turn = np.array([-1, -1, 1], np.float32)  # about z: y up, x left, z forward
    assert np.array_equal(columns["POSITION"], splats.means.numpy() * half_turn)
    assert np.array_equal(np.array(position["min"], np.float32), columns["POSITION"].min(0))
    assert np.array_equal(np.array(position["max"], np.float32), columns["POSITION"].max(0))
    assert np.array_equal(columns[f"{SPLATTING}:SCALE"], splats.scales)
    assert np.array_equal(columns[f"{SPLATTING}:OPACITY"][:, 0], splats.opacities)
    xyzw = torch.from_numpy(columns[f"{SPLATTING}:ROTATION"].copy())
    np.testing.assert_allclose(xyzw.norm(dim=-1), 1, atol=1e-6)
    turned = torch.from_numpy(np.diag(half_turn)) @ quaternion_to_matrix(splats.quaternions)
    shapes = [axes @ torch.diag_embed(splats.scales**2) @ axes.mT for axes in
              (quaternion_to_matrix(xyzw[:, [3, 0, 1, 2]]), turned)]  # fmt: skip
    torch.testing.assert_close(*shapes, rtol=1e-4, atol=1e-7)
    orders = [(degree, n) for degree in range(4) for n in range(2 * degree + 1)][:bands]
    assert {name for name in columns if "SH_" in name} == {f"{SPLATTING}:SH_DEGREE_{d}_COEF_{n}" for d, n in orders}
    harmonics = np.stack([columns[f"{SPLATTING}:SH_DEGREE_{d}_COEF_{n}"] for d, n in orders], 1)
    seen = torch.nn.functional.normalize(torch.randn(301, 3, generator=torch.Generator().manual_seed(2)), dim=-1)
    there = evaluate_harmonics(torch.from_numpy(harmonics), seen * torch.from_numpy(half_turn))
    torch.testing.assert_close(there, evaluate_harmonics(splats.harmonics, seen), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_round_trip_loses_nothing(tmp_path: Path, bands: int) -> None:
    splats = small_gaussians(700, bands)
    save_gaussians(splats, tmp_path / "a.glb")
    again = load_gaussians(tmp_path / "a.glb")
    for field in ("means", "scales", "opacities", "harmonics"):
        assert torch.equal(getattr(again, field), getattr(splats, field)), field
    torch.testing.assert_close(again.quaternions, splats.quaternions, rtol=0, atol=2e-7)


def test_points_for_programs_that_know_no_splats(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    splats = small_gaussians(500)
    save_gaussians(splats, tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    [cloud] = scene.geometry.values()
    assert isinstance(cloud, trimesh.PointCloud)
    turned = splats.means.numpy() * np.array([-1, -1, 1])
    np.testing.assert_allclose(cloud.vertices, turned, atol=1e-6)
    linear = cloud.colors[:, :3] / 255
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    wanted = (splats.harmonics[:, 0] * C0 + 0.5).clamp(0, 1).numpy()
    bright = wanted > 0.3  # where a byte of linear light is fine enough
    assert np.abs(shown - wanted)[bright].max() < 0.01
    assert np.abs(cloud.colors[:, 3] / 255 - splats.opacities.numpy()).max() < 0.01


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], extra: bytes = b"") -> Path:
    """The file with another JSON, and more behind its data."""
    document, binary = chunks(path)
    change(document)
    write(path, document, binary + extra)
    return path


def foreign(path: Path, splats: Gaussians) -> Path:
    """A file of splats that states no axes, as other programs write it."""
    save_glb(splats, path)
    return rewritten(path, lambda document: document["asset"].pop("extras"))


def test_nodes_move_splats(tmp_path: Path) -> None:
    """A node turns by 90 degrees about z, doubles and shifts; its child, with the mesh, shifts too."""
    splats = small_gaussians(40, 16)
    path = foreign(tmp_path / "a.glb", splats)
    inner = load_splat_file(path).gaussians

    def nest(document: dict[str, Any]) -> None:
        half = 0.5**0.5
        document["nodes"] = [
            {"children": [1], "rotation": [0, 0, half, half], "scale": [2, 2, 2], "translation": [5, 6, 7]},
            {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1]},
        ]

    outer = load_splat_file(rewritten(path, nest))
    assert (outer.axes, outer.stated) == ("LUF", False)
    moved = (inner.means + torch.tensor([1.0, 0, 0])) * 2
    expected = torch.stack((-moved[:, 1], moved[:, 0], moved[:, 2]), -1) + torch.tensor([5.0, 6, 7])
    torch.testing.assert_close(outer.gaussians.means, expected)
    torch.testing.assert_close(outer.gaussians.scales, inner.scales * 2)
    direction = torch.nn.functional.normalize(torch.tensor([[0.2, -0.5, 0.8]]), dim=-1).expand(40, 3)
    back = torch.stack((direction[:, 1], -direction[:, 0], direction[:, 2]), -1)
    torch.testing.assert_close(
        evaluate_harmonics(outer.gaussians.harmonics, direction), evaluate_harmonics(inner.harmonics, back),
        rtol=0, atol=1e-5,
    )  # fmt: skip


def test_small_types(tmp_path: Path) -> None:
    """Opacities in bytes, rotations in signed shorts, scales in plain bytes, all three interleaved."""
    splats = small_gaussians(50, 1)
    path = foreign(tmp_path / "a.glb", splats)
    rows = np.zeros(50, [("turn", "<i2", 4), ("size", "u1", 3), ("opacity", "u1")])
    xyzw = np.roll(load_splat_file(path).gaussians.quaternions.numpy(), -1, 1)
    rows["turn"] = np.rint(xyzw * 32767)
    rows["size"] = [1, 2, 3]
    rows["opacity"] = np.rint(splats.opacities.numpy() * 255)

    def change(document: dict[str, Any]) -> None:
        start = document["buffers"][0]["byteLength"]
        document["buffers"][0]["byteLength"] += rows.nbytes
        document["bufferViews"].append(
            {"buffer": 0, "byteOffset": start, "byteLength": rows.nbytes, "byteStride": rows.itemsize}
        )
        view = len(document["bufferViews"]) - 1
        attributes = document["meshes"][0]["primitives"][0]["attributes"]
        for semantic, accessor in {
            "ROTATION": {"byteOffset": 0, "componentType": 5122, "type": "VEC4", "normalized": True},
            "SCALE": {"byteOffset": 8, "componentType": 5121, "type": "VEC3"},
            "OPACITY": {"byteOffset": 11, "componentType": 5121, "type": "SCALAR", "normalized": True},
        }.items():
            attributes[f"{SPLATTING}:{semantic}"] = len(document["accessors"])
            document["accessors"].append({"bufferView": view, "count": 50, **accessor})

    again = load_splat_file(rewritten(path, change, rows.tobytes())).gaussians
    assert again.scales.tolist() == [[1, 2, 3]] * 50
    assert (again.opacities - splats.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert np.abs(np.roll(again.quaternions.numpy(), -1, 1) - xyzw).max() < 1e-4


def test_several_primitives(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.glb", small_gaussians(20, 4))
    rewritten(path, lambda d: d["meshes"][0]["primitives"].append(d["meshes"][0]["primitives"][0]))
    assert len(load_gaussians(path)) == 40


def primitive(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "points only": (lambda d: primitive(d).pop("extensions"), "holds meshes or points, no Gaussian splats"),
    "no scale": (lambda d: primitive(d)["attributes"].pop(f"{SPLATTING}:SCALE"), "splats without .*SCALE"),
    "half a degree": (lambda d: primitive(d)["attributes"].pop(f"{SPLATTING}:SH_DEGREE_1_COEF_2"), "harmonics of a"),
    "degree 2 alone": (
        lambda d: [primitive(d)["attributes"].pop(f"{SPLATTING}:SH_DEGREE_1_COEF_{n}") for n in range(3)],
        "harmonics of a degree",
    ),
    "linear light": (
        lambda d: primitive(d)["extensions"][SPLATTING].update(colorSpace="lin_rec709_display"), "lin_rec709_display"
    ),
    "compressed": (
        lambda d: primitive(d)["extensions"][SPLATTING].update(extensions={"X_spz": {}}), "compresses its splats .X_spz"
    ),
    "required": (lambda d: d.update(extensionsRequired=["EXT_meshopt_compression"]), "needs the extension EXT_meshopt"),
    "elsewhere": (lambda d: d["buffers"][0].update(uri="../secret.bin"), "keeps its data in other files"),
    "huge count": (lambda d: d["accessors"][0].update(count=2**40), "cut short"),
    "negative offset": (lambda d: d["accessors"][0].update(byteOffset=-4), "make no sense"),
    "counts differ": (lambda d: d["accessors"][3].update(count=3), "different lengths"),
    "sparse": (lambda d: d["accessors"][0].update(sparse={}), "sparse accessor"),
    "wide": (lambda d: d["accessors"][2].update(type="VEC3"), "another number of components"),
    "no such view": (lambda d: d["accessors"][0].update(bufferView=99), "no bufferViews number 99"),
    "type": (lambda d: d["accessors"][0].update(componentType=9), "is damaged"),
    "ring": (lambda d: d["nodes"][0].update(children=[0]), "nodes are no tree"),
    "mirrored": (lambda d: d["nodes"][0].update(scale=[-1, 1, 1]), "stretches or mirrors"),
    "stretched": (lambda d: d["nodes"][0].update(scale=[1, 2, 1]), "stretches or mirrors"),
    "matrix": (lambda d: d["nodes"][0].update(matrix=[1, 2]), "is damaged"),
    "nan": (lambda d: d["nodes"][0].update(matrix=[float("nan")] * 16), "stretches or mirrors"),
    "no object": (lambda d: d.update(nodes=[7]), "is damaged"),
    "nodes a number": (lambda d: d.update(nodes=7), "is damaged"),
    "scene": (lambda d: d.update(scene=5), "no scenes number 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    save_glb(small_gaussians(40), tmp_path / "a.glb")
    rewritten(tmp_path / "a.glb", change)
    with pytest.raises(InputError, match=message) as caught:
        load_gaussians(tmp_path / "a.glb")
    assert "\n" not in str(caught.value)


def test_broken_containers_give_one_line(tmp_path: Path) -> None:
    save_glb(small_gaussians(40), tmp_path / "a.glb")
    whole = (tmp_path / "a.glb").read_bytes()
    for data, message in (
        (whole[:15], "cut short"),
        (whole[:-1], "cut short"),
        (whole[:4] + b"\1" + whole[5:], "glTF version 1"),
        (whole[:20] + b"x" + whole[21:], "JSON cannot be read"),
        (struct.pack("<4sII", b"glTF", 2, 24) + struct.pack("<I4s", 4, b"JSON") + b"[  ]", "JSON is no object"),
        (struct.pack("<4sII", b"glTF", 2, 24) + struct.pack("<I4s", 4, b"JSON") + b"{  }", "no Gaussian splats"),
    ):
        (tmp_path / "b.glb").write_bytes(data)
        with pytest.raises(InputError, match=message):
            load_gaussians(tmp_path / "b.glb")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would be empty"):
        save_glb(small_gaussians(0), tmp_path / "a.glb")
    bad = small_gaussians()
    bad.opacities[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        save_glb(bad, tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
    save_glb(small_gaussians(), tmp_path / "a.glb")
    with pytest.raises(InputError, match="exists already"):
        save_glb(dataclasses.replace(small_gaussians()), tmp_path / "a.glb")
