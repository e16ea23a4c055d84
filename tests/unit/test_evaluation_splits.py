"""Split files told apart and checked; rules that choose frames; statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from da3gs.errors import InputError
from da3gs.evaluation.geometry.published import beside_geometry
from da3gs.evaluation.published import FAMILIES, NUMBERS, beside
from da3gs.evaluation.reports.statistics import confidence_interval, sign_flip_probability, student_quantile
from da3gs.evaluation.splits import farthest_views, load_split, parse_split, rule_frames


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_every_published_split_is_read_and_recognised(test_data: Callable[[str], Path]) -> None:
    found = {}
    for path in sorted(test_data("splits").glob("*.json")):
        split = load_split(path)
        assert len(split.scenes) == 140
        found[split.digest[:16]] = split
        if split.format == "long-lrm":
            wider = load_split(path, context=32)
            found[wider.digest[:16]] = wider
            assert {len(s.context or ()) for s in split.scenes} == {16}
            assert {len(s.context or ()) for s in wider.scenes} == {32}
            with pytest.raises(InputError, match="16, 32"):
                load_split(path, context=17)
    assert set(FAMILIES) - {"da3-12"} == set(found)
    assert set(NUMBERS) <= set(FAMILIES)
    twelve = next(s for key, s in found.items() if FAMILIES[key].name == "YoNoSplat 12 views")
    shared = sum(len(set(s.context or ()) & set(s.target or ())) for s in twelve.scenes)
    assert shared == 137, "12.2 % of its targets are context frames"


def test_formats_are_told_apart(tmp_path: Path) -> None:
    ours = load_split(write(tmp_path / "a.json", {"s": {"context": [0, 4], "target": [1, 2]}, "t": None}))
    assert (ours.format, ours.skipped) == ("pixelsplat", ("t",))
    assert ours.frames(ours.scenes[0], 5) == ((0, 4), (1, 2))
    flare = load_split(write(tmp_path / "b.json", {"s": {"input": [0, 4], "target": [1, 4]}}))
    assert flare.format == "flare"
    content = [{"scene_name": "s", "fold_8_kmeans_16_input": [1, 2], "fold_8_kmeans_32_input": [1, 2, 3]}]
    lrm = load_split(write(tmp_path / "c.json", content))
    assert (lrm.format, lrm.views) == ("long-lrm", 16)
    assert lrm.frames(lrm.scenes[0], 20) == ((1, 2), (0, 8, 16))
    bom = tmp_path / "bom.json"
    bom.write_bytes(b"\xef\xbb\xbf" + json.dumps({"s": {"context": [0, 4], "target": [1, 2]}}).encode())
    assert load_split(bom).digest == load_split(tmp_path / "a.json").digest


WRONG: dict[str, tuple[object, str]] = {
    "empty": ({}, "empty split"),
    "empty-list": ([], "empty split"),
    "number": (3, "no split file"),
    "all-null": ({"s": None}, "all null"),
    "no-lists": ({"s": {"context": [1]}}, "no lists"),
    "no-dict": ({"s": 4}, "no lists"),
    "empty-context": ({"s": {"context": [], "target": [1]}}, "context of scene s is empty"),
    "empty-target": ({"s": {"context": [0], "target": []}}, "target of scene s is empty"),
    "negative": ({"s": {"context": [-1], "target": [1]}}, "'-1'"),
    "fraction": ({"s": {"context": [0.5], "target": [1]}}, r"'0\.5'"),
    "bool": ({"s": {"context": [True], "target": [1]}}, "True"),
    "twice": ({"s": {"context": [2, 2], "target": [1]}}, "frame 2 twice"),
    "all-context": ({"s": {"context": [0, 1, 2], "target": [1, 2]}}, "all 2 targets"),
    "climbing-key": ({"../s": {"context": [0], "target": [1]}}, "no scene key"),
    "long-key": ({"s" * 129: {"context": [0], "target": [1]}}, "no scene key"),
    "hidden-key": ({".s": {"context": [0], "target": [1]}}, "no scene key"),
    "mixed": ({"s": {"context": [0], "target": [1]}, "t": {"input": [0], "target": [1]}}, "mixes"),
    "lrm-twice": ([{"scene_name": "s", "fold_8_kmeans_2_input": [1, 2]}] * 2, "listed twice"),
    "lrm-nameless": ([{"fold_8_kmeans_2_input": [1, 2]}], "no scene_name"),
    "lrm-listless": ([{"scene_name": "s"}], "no list"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_splits_say_what_is_wrong(tmp_path: Path, case: str) -> None:
    value, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        load_split(write(tmp_path / "wrong.json", value))
    assert "\n" not in str(caught.value)
    assert "wrong.json" in str(caught.value)


def test_indices_are_held_against_the_scene(tmp_path: Path) -> None:
    split = load_split(write(tmp_path / "a.json", {"s": {"context": [0, 9], "target": [4]}}))
    with pytest.raises(InputError, match="context 9 of scene s is out of range, since it has 9 frames"):
        split.frames(split.scenes[0], 9)


@pytest.mark.parametrize("text", ["every:1", "every:x", "every:", "nowhere.json", "every:-8"])
def test_rules_that_mean_nothing(text: str) -> None:
    with pytest.raises(InputError, match="--split"):
        parse_split(text)


def ring(count: int) -> np.ndarray:
    """Cameras on a circle, looking inwards."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, turn in enumerate(np.arange(count) * 2 * np.pi / count):
        c, s = np.cos(turn), np.sin(turn)
        poses[i, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        poses[i, :3, 3] = [-s, 0, -c]
    return poses


def test_farthest_views_by_hand() -> None:
    """On a ring of 8 the opposite comes second (distance 1 + 1), then the quarters, the earlier of equals."""
    assert farthest_views(ring(8), 4) == [0, 4, 2, 6]
    line = np.tile(np.eye(4), (5, 1, 1))
    line[:, 0, 3] = [0, 1, 2, 3, 10]
    assert farthest_views(line, 3) == [0, 4, 3]
    assert farthest_views(ring(3), 9) == [0, 1, 2]


def test_the_official_protocol_is_regenerated() -> None:
    split = parse_split("da3-12")
    context, target = rule_frames(split, ring(64), 64, most=8)
    assert target == tuple(range(0, 64, 8))
    assert len(context) == 12
    assert not set(context) & set(target)
    assert rule_frames(split, ring(64), 64, most=8) == (context, target)
    with pytest.raises(InputError, match="da3-12 chooses context by camera poses"):
        rule_frames(split, None, 64, most=8)
    assert len(rule_frames(split, ring(9), 9, most=8)[0]) == 7, "fewer frames than wanted: all of the rest"


def test_every_kth() -> None:
    split = parse_split("every:4")
    assert rule_frames(split, None, 9, most=16) == ((1, 2, 3, 5, 6, 7), (0, 4, 8))
    assert rule_frames(split, None, 9, most=3)[0] == (1, 3, 7)
    assert len(rule_frames(split, ring(40), 40, most=5)[0]) == 5
    with pytest.raises(InputError, match="none to reconstruct from"):
        rule_frames(split, None, 1, most=3)


OURS = {
    "size": (270, 480),
    "poses": "given",
    "targets": "given",
    "scenes": [f"scene-{i:03d}" for i in range(140)],
    "left_out": 0,
    "undistorted": False,
    "refine": 0.0,
    "enlarged": False,
}


def test_printed_numbers_name_every_difference(test_data: Callable[[str], Path]) -> None:
    elsewhere = beside("da3-12", **OURS)
    assert [row["differences"] for row in elsewhere] == [["scenes of DL3DV-Benchmark, ours others"]] * 7
    file = test_data("splits/zipsplat_dl3dv_ctx_6v_tgt_8v.json")  # it tells the scenes of DL3DV-Benchmark
    benchmark = {"scenes": [scene.name for scene in load_split(file).scenes]}
    same = beside("da3-12", **OURS | benchmark)
    assert [row["differences"] for row in same] == [[]] * 7
    assert same[-1]["psnr"] == 21.33
    changes = {"size": (252, 252), "targets": "aligned", "poses": "predicted", "scenes": ["one"], "left_out": 2}
    other = beside("da3-12", **OURS | changes | {"undistorted": True, "refine": 10.0, "enlarged": True})
    assert len(other[0]["differences"]) == 8
    assert beside("unknown", **OURS) == []
    column = OURS | benchmark | {"size": (252, 252), "targets": "optimised", "poses": "predicted"}
    square = beside("7c3a0725a5a55d30", **column)
    assert [row["method"] for row in square if not row["differences"]] == ["Depth Anything 3 giant", "ZipSplat"]
    posed = beside("7c3a0725a5a55d30", **column | {"poses": "given"})
    assert [row for row in posed if not row["differences"]] == [], "given poses and moved targets: nobody printed that"


def test_printed_geometry_names_every_difference() -> None:
    same = beside_geometry("pose", "7scenes", poses="predicted", resolution=504, scenes=7, frames=91)
    assert [row["differences"] for row in same] == [[]] * 9
    assert (same[-1]["auc3"], same[-1]["auc30"]) == (0.285, 0.868)
    few = beside_geometry("pose", "dtu", poses="predicted", resolution=252, scenes=1, frames=49)
    assert [len(row["differences"]) for row in few] == [3] * 9
    surfaces = beside_geometry("points", "7scenes", poses="given", resolution=504, scenes=7, frames=91)
    assert {row["note"] for row in surfaces if not row["differences"]} == {"given poses"}
    assert all(row["differences"] for row in beside_geometry(
        "points", "scannetpp", poses="given", resolution=504, scenes=20, frames=100))  # fmt: skip
    assert beside_geometry("points", "dtu", poses="given", resolution=504, scenes=22, frames=49) == []
    assert beside_geometry("pose", "posed", poses="given", resolution=504, scenes=2, frames=9) == []


def test_students_t_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 5, 13, 139, 2000):
        assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-5)
    values = np.random.default_rng(0).normal(20, 3, 30).tolist()
    low, high = confidence_interval(values) or (0, 0)
    expected = stats.t.interval(0.95, 29, np.mean(values), stats.sem(values))
    assert (low, high) == pytest.approx(expected)
    assert confidence_interval([1.0]) is None


def test_sign_flips() -> None:
    assert sign_flip_probability([]) is None
    assert sign_flip_probability([2.0]) == 1
    assert sign_flip_probability([1.0] * 6) == pytest.approx(2 / 64)
    assert sign_flip_probability([1.0, -1.0]) == 1
    many = np.random.default_rng(0).normal(0.0, 1, 200)
    assert (sign_flip_probability((many - many.mean()).tolist()) or 0) > 0.9
    assert (sign_flip_probability((many + 0.5).tolist()) or 1) < 0.001
