"""The official numbers, from the same weights and inputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.checkpoints.convert import empty_model
from da3gs.network import ModelConfig, named_config
from tests.parity.cases import Case, CaseError, judged, load_case, with_ties
from tests.parity.command import main, verdicts
from tests.parity.fill import fill
from tests.parity.network import case_config
from tests.parity.trace import intermediate_values

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))
OTHERS = [
    "api_minigiant_v3_posed",
    "api_small_v10_posed",
    "api_small_v3",
    "api_small_v3_posed",
    "fn_gs_adapter",
    "fn_ply",
    "fn_ray_pose",
    "minigiant_v2_all",
    "minigiant_v3",
    "minigiant_v4_posed",
    "minimono_v1_all",
    "minimono_v3",
    "mininested_v3",
    "preprocess",
    "small_v2_all",
    "small_v2_posed_all",
    "small_v2_ray_posed",
    "small_v3_batch2",
    "small_v3_ray",
    "small_v5",
    "small_v5_posed",
    "small_v5_ref_first",
    "small_v5_ref_middle",
    "small_v9_chunks",
    pytest.param("base_v2", marks=pytest.mark.slow),
    pytest.param("small_518", marks=pytest.mark.slow),
    pytest.param("small_v2_504", marks=pytest.mark.slow),
]


def assert_holds(path: Path) -> None:
    wrong = [f"{v.array}: {v.text}" for v in verdicts(load_case(path)) if not v.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    assert_holds(path)


@pytest.mark.parametrize("name", OTHERS)
def test_shared(name: str, test_data: Callable[[str], Path]) -> None:
    assert_holds(test_data(f"spec/fixtures_public/{name}.npz"))


@pytest.fixture
def small_case() -> Case:
    return load_case(next(path for path in GOLDEN if path.stem == "fn_nested"))


def test_an_output_that_is_not_known_does_not_hold(small_case: Case) -> None:
    arrays = {**small_case.arrays, "out/new": np.zeros(3, np.float32)}
    found = verdicts(dataclasses.replace(small_case, arrays=arrays))
    assert [v.array for v in found if not v.ok] == ["out/new"]


def test_not_a_number_does_not_hold(small_case: Case) -> None:
    arrays = dict(small_case.arrays)
    computed = {name: arrays[f"out/{name}"] for name in small_case.names("out")}
    assert all(v.ok for v in with_ties(small_case, computed))
    broken = computed["final_depth"].copy()
    broken.flat[0] = np.nan
    wrong = [v for v in with_ties(small_case, {**computed, "final_depth": broken}) if not v.ok]
    assert [v.array for v in wrong] == ["out/final_depth"]


def test_a_wrong_shape_and_a_deviation_do_not_hold(small_case: Case) -> None:
    computed = {name: small_case.arrays[f"out/{name}"] for name in small_case.names("out")}
    wrong = {**computed, "mono_depth": computed["mono_depth"][:, :2], "final_depth": computed["final_depth"] * 1.0005}
    assert {v.array for v in with_ties(small_case, wrong) if not v.ok} == {"out/mono_depth", "out/final_depth"}


def one_picture(kind: str, name: str, values: np.ndarray, bounds: dict[str, object]) -> Case:
    """A case of a single resized picture."""
    meta = {"kind": kind, "tolerances": {f"out/{name}": bounds}}
    return Case(name="picture", arrays={f"out/{name}": values}, meta=meta)


@pytest.mark.parametrize(
    ("kind", "name", "dtype"), [("api", "plain/processed_images", np.uint8), ("preprocess", "a/b/images", np.float32)]
)
def test_pictures_may_differ_by_one_step_in_one_value_of_5000(kind: str, name: str, dtype: type) -> None:
    shape = (2, 50, 66, 3) if kind == "api" else (2, 3, 50, 66)  # 19,800 values: 4 may differ
    std = 255 * np.array([0.229, 0.224, 0.225])[:, None, None] if kind == "preprocess" else 1
    rng = np.random.default_rng(0)
    levels = rng.integers(10, 240, shape).astype(np.float64)
    bounds = {"exact": True} if kind == "api" else {"abs": 1e-5, "rms": 1e-6}
    case = one_picture(kind, name, (levels / std).astype(dtype), bounds)

    def holds(values: int, steps: int, noise: float = 0) -> bool:
        changed = levels.copy()
        changed.flat[rng.choice(levels.size, values, replace=False)] += steps
        (verdict,) = judged(case, {name: (changed / std + noise).astype(dtype)})
        return verdict.ok

    assert [holds(0, 1), holds(1, 1), holds(4, -1), holds(5, 1), holds(1, 2), holds(1, 100)] == [True] * 3 + [False] * 3
    if kind == "preprocess":  # all other values have to agree to the tolerance of the file
        assert not holds(0, 1, noise=2e-5)
    other = one_picture(kind, "a/depth", (levels / std).astype(dtype), bounds)
    changed = levels.copy()
    changed.flat[0] += 1
    assert not judged(other, {"a/depth": (changed / std).astype(dtype)}, group="out")[0].ok
    assert not judged(other, {"a/depth": np.full(shape, np.nan)}, group="out")[0].ok
    assert not judged(case, {name: np.full(shape, np.nan)})[0].ok


def test_unknown_kinds_and_options_are_errors(small_case: Case) -> None:
    with pytest.raises(CaseError, match="unknown kind 'poem'"):
        verdicts(dataclasses.replace(small_case, meta={**small_case.meta, "kind": "poem"}))
    with pytest.raises(CaseError, match="unknown options"):
        verdicts(dataclasses.replace(small_case, meta={**small_case.meta, "options": {"fast": True}}))


def test_exit_status(tmp_path: Path, small_case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    good = next(path for path in GOLDEN if path.stem == "fn_nested")
    assert main([str(good)]) == 0
    bad = tmp_path / "bad.npz"
    arrays = dict(small_case.arrays)
    arrays["out/scale_factor"] = arrays["out/scale_factor"] + np.float32(0.01)
    np.savez(bad, meta=json.dumps(small_case.meta), **arrays)
    assert main([str(good), str(bad)]) == 1
    (tmp_path / "broken.npz").write_bytes(b"PK")
    assert main([str(tmp_path / "broken.npz")]) == 1
    out = capsys.readouterr().out
    assert "bad out/scale_factor" in out
    assert "1 of 2 files hold" in out


def test_values_on_the_way_agree_too(test_data: Callable[[str], Path]) -> None:
    for name, least in (("small_v2_posed_all", 24), ("minigiant_v2_all", 60), ("minimono_v1_all", 30), ("small_v5", 4)):
        case = load_case(test_data(f"spec/fixtures_public/{name}.npz"))
        values = intermediate_values(case)
        found = [v for v in judged(case, values, group="mid") if v.array.removeprefix("mid/") in values]
        assert len(found) >= least
        assert all(v.ok for v in found), [v for v in found if not v.ok]


def test_overrides_make_a_configuration() -> None:
    config = case_config("mine", {"base": "da3-giant", "vit": {"embed_dim": 128, "num_heads": 2, "ffn_layer": "mlp"},
                                  "net": {"rope_start": -1}, "gs_head": {"features": 32}})  # fmt: skip
    assert isinstance(config, ModelConfig)
    assert config.splats is not None
    assert (config.backbone.width, config.backbone.rope_from, config.backbone.feed_forward) == (128, None, "mlp")
    assert (config.backbone.global_from, config.splats.pyramid.features) == (13, 32)
    with pytest.raises(CaseError, match="window"):
        case_config("mine", {"base": "da3-small", "net": {"window": 3}})
    with pytest.raises(CaseError, match="dim_in"):
        case_config("mine", {"base": "da3-small", "head": {"dim_in": 100}})


@pytest.mark.slow
def test_a_large_model_of_true_size_runs() -> None:
    model = empty_model(named_config("da3-large"))
    fill(model, "any")
    images = torch.rand(1, 2, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = model.raw(images)
    assert raw.depth.shape == (1, 2, 56, 70)
    assert raw.depth.isfinite().all()
    assert raw.cameras is not None
    assert raw.cameras.world_to_cam.isfinite().all()


def test_ties_match_the_alternative_only_as_a_whole() -> None:
    case = load_case(next(path for path in GOLDEN if path.stem == "small_v5_ref_saddle_sim_range"))
    other = {name: case.arrays[f"alt/{name}"] for name in case.names("alt")}
    assert all(v.ok for v in with_ties(case, other))
    assert not all(v.ok for v in with_ties(case, {**other, "depth": case.arrays["out/depth"]}))
