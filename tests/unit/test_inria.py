"""Inria's cameras.json: written with cx and cy, read with and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats.cameras.inria import InriaCameras, load_inria, save_inria
from tests.small_scene import small_cameras


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cameras = small_cameras(3, torch.float64)
    record = InriaCameras(
        names=("a", "b.png", "c"),
        sizes=((42, 56), (30, 56), (42, 40)),
        world_to_cam=cameras.world_to_cam,
        intrinsics=cameras.intrinsics,
    )
    save_inria(record, tmp_path / "cameras.json")
    return tmp_path / "cameras.json"


def test_round_trip(path: Path) -> None:
    again, cameras = load_inria(path), small_cameras(3, torch.float64)
    assert again.names == ("a", "b.png", "c")
    assert again.sizes == ((42, 56), (30, 56), (42, 40))
    torch.testing.assert_close(again.world_to_cam, cameras.world_to_cam, rtol=0, atol=1e-12)
    torch.testing.assert_close(again.intrinsics, cameras.intrinsics)


def test_position_and_rotation_are_camera_to_world(path: Path) -> None:
    entry, camera = json.loads(path.read_text())[1], small_cameras(3, torch.float64)[1]
    torch.testing.assert_close(torch.tensor(entry["position"], dtype=torch.float64), camera.centers)
    forward = torch.tensor(entry["rotation"], dtype=torch.float64)[:, 2]
    torch.testing.assert_close(forward, camera.forward)


def test_without_principal_point(path: Path) -> None:
    entries = json.loads(path.read_text())
    for entry in entries:
        del entry["cx"], entry["cy"], entry["img_name"]
    path.write_text("\ufeff" + json.dumps(entries))
    again = load_inria(path)
    assert again.intrinsics[1, :2, 2].tolist() == [28, 15]
    assert again.names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fx", "wide", "camera 1 is malformed"),
        ("fx", None, "camera 1 is malformed"),
        ("fx", 0, "<= 0"),
        ("fy", float("nan"), "not finite"),
        ("width", -4, "<= 0"),
        ("width", 1e400, "malformed"),
        ("rotation", [[1, 0], [0, 1]], "malformed"),
        ("rotation", [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "not a rotation"),
        ("rotation", [[2, 0, 0], [0, 2, 0], [0, 0, 2]], "not a rotation"),
        ("position", [1, 2], "malformed"),
    ],
)
def test_broken_entries(path: Path, key: str, value: object, message: str) -> None:
    entries = json.loads(path.read_text())
    entries[1][key] = value
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=message):
        load_inria(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", "[[", '"x"', "[" * 100_000])
def test_other_json(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError):
        load_inria(path)
