"""Depth for people who want no splats."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.errors import InputError
from da3gs.exports.depth_maps import depth_per_value, export_depth
from tests.small_scene import small_scene

SIZES = [(42, 56), (30, 56), (42, 40), (42, 56)]


@pytest.mark.parametrize("unit", ["arbitrary", "metre"])
def test_pngs_arrays_and_previews_agree(tmp_path: Path, unit: str) -> None:
    scene = small_scene()
    scene = dataclasses.replace(scene, record={"frame": {"unit": unit}})
    record = export_depth(scene, tmp_path / "depth")
    assert json.loads((tmp_path / "depth" / "depth.json").read_text()) == record
    assert record["unit"] == unit
    per_value = record["depth_per_value"]
    assert per_value == 0.001 or unit == "arbitrary"
    for index, (height, width) in enumerate(SIZES):
        true = scene.depth[index, :height, :width].numpy()
        sky = scene.sky[index, :height, :width].numpy()
        array = np.load(tmp_path / "depth" / f"photo {index}.npy")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, true)
        with Image.open(tmp_path / "depth" / f"photo {index}.png") as picture:
            assert picture.mode == "I;16"
            assert float(picture.text["depth_per_value"]) == per_value
            assert picture.text["unit"] == unit
            values = np.asarray(picture).astype(np.float64)
        assert values.shape == (height, width)
        assert (values[sky] == 0).all()
        np.testing.assert_allclose(values[~sky] * per_value, true[~sky], atol=0.51 * per_value)
        with Image.open(tmp_path / "depth" / f"photo {index}_preview.png") as preview:
            assert preview.size == (width, height)
            colors = np.asarray(preview)
        assert (colors[sky] == 0).all()
        near, far = true == true[~sky].min(), true == true[~sky].max()
        assert colors[near & ~sky][0, 0] > colors[near & ~sky][0, 2]  # near is red
        assert colors[far & ~sky][0, 2] > colors[far & ~sky][0, 0]  # far is blue


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(0.5, 0.001), (65.0, 0.001), (66.0, 0.002), (131.0, 0.002), (200.0, 0.005), (650.0, 0.01), (5000.0, 0.1)],
)
def test_metric_steps_are_round(depth: float, expected: float) -> None:
    assert depth_per_value(np.array([depth]), metric=True) == expected


def test_any_scale_uses_the_whole_range() -> None:
    for factor in (1e-6, 1.0, 1e6):
        depth = np.random.default_rng(0).uniform(1, 2, 1000) * factor
        values = depth / depth_per_value(depth, metric=False)
        assert 60_000 < values.max() <= 65_535


def test_a_few_far_pixels_do_not_spoil_the_rest() -> None:
    depth = np.concatenate((np.full(100_000, 2.0), [1e9]))
    assert 2.0 / depth_per_value(depth, metric=False) > 10_000


def test_no_depth_and_broken_depth(tmp_path: Path) -> None:
    scene = small_scene()
    with pytest.raises(InputError, match="no depth"):
        export_depth(dataclasses.replace(scene, depth=None), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    depth = scene.depth.clone()
    depth[0, :5] = torch.nan
    depth[0, 5:8] = -1
    depth[2] = torch.inf
    export_depth(dataclasses.replace(scene, depth=depth, sky=None), tmp_path / "b")
    with Image.open(tmp_path / "b" / "photo 0.png") as picture:
        values = np.asarray(picture)
    assert (values[:8] == 0).all()
    assert (values[8:] > 0).all()
    with Image.open(tmp_path / "b" / "photo 2.png") as picture:
        assert not np.asarray(picture).any()


def test_the_export_command_writes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from da3gs.cli import main
    from tests.small_scene import small_scene_folder

    scene = small_scene_folder(tmp_path / "s.scene")
    for output, folder in (("out/", "out/depth"), ("depth", "depth")):
        assert main(["export", str(scene), "-o", f"{tmp_path}/{output}"]) == 0
        names = {path.name for path in (tmp_path / folder).iterdir()}
        assert {"depth.json", "photo 1.png", "photo 1.npy", "photo 1_preview.png"} <= names
        assert len(names) == 1 + 3 * 4
    assert not (tmp_path / "depth" / "cameras.json").exists()
    capfd.readouterr()
    assert main(["export", str(scene), "-o", f"{tmp_path}/depth"]) == 2
    assert "exists already" in capfd.readouterr().err
