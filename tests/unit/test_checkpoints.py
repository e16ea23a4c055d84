"""Names, files and what is wrong with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from da3gs.checkpoints import MODELS, checkpoint_card, load_model, model_card, save_checkpoint
from da3gs.checkpoints.convert import (
    our_shapes,
    to_our_name,
    to_upstream_names,
    upstream_shapes,
)
from da3gs.errors import CheckpointError, InputError
from da3gs.network import CONFIGS, DepthAnything3, ModelConfig, NestedConfig, NestedDepthAnything3
from da3gs.network.config import (
    BackboneConfig,
    HeadConfig,
    PyramidConfig,
    SplatConfig,
    config_from_dict,
    config_to_dict,
)

OFFICIAL = [name for name in CONFIGS if not name.startswith("da3gs-")]


def tiny_config(*, splats: bool = True) -> ModelConfig:
    pyramid = PyramidConfig(features=16, channels=(8, 8, 8, 8))
    base = CONFIGS["da3-small"]
    assert isinstance(base, ModelConfig)
    return dataclasses.replace(
        base,
        name="tiny",
        backbone=BackboneConfig(
            width=64,
            depth=5,
            heads=1,
            out_layers=(1, 2, 3, 4),
            global_from=2,
            qk_norm_from=2,
            rope_from=2,
            concatenate=True,
            table=5,
        ),
        head=HeadConfig(kind="depth_ray", pyramid=pyramid),
        splats=SplatConfig(pyramid=pyramid) if splats else None,
    )


@pytest.fixture(scope="module")
def tiny() -> DepthAnything3:
    torch.manual_seed(0)
    return DepthAnything3(tiny_config()).eval()


@pytest.fixture
def official_folder(tmp_path: Path) -> Path:
    """A folder as Hugging Face has it, of a small model with random weights."""
    torch.manual_seed(1)
    shapes = upstream_shapes(CONFIGS["da3-small"], aliases=False)
    tensors = {f"model.{name}": torch.rand(shape) for name, shape in shapes.items()}
    folder = tmp_path / "DA3-SMALL"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_name": "da3-small", "config": {"net": {"name": "vits"}}}))
    return folder


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_are_the_official_ones(name: str, test_data: Callable[[str], Path]) -> None:
    manifest = test_data(f"spec/manifest_{name}.json")
    listed = {k.removeprefix("model."): tuple(v) for k, v in json.loads(manifest.read_text()).items()}
    assert upstream_shapes(CONFIGS[name]) == listed
    for upstream, shape in listed.items():
        ours = to_our_name(upstream)
        assert ours is not None
        assert our_shapes(CONFIGS[name])[ours] == shape
        assert upstream in to_upstream_names(ours)


@pytest.mark.parametrize("name", OFFICIAL)
def test_counts_are_those_on_the_cards(name: str) -> None:
    shapes = our_shapes(CONFIGS[name])
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert total == model_card(name).parameters
    tied = len(upstream_shapes(CONFIGS[name])) - len(shapes)
    assert tied == (0 if name.startswith(("da3mono", "da3metric")) else 3 * 2)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_name_of_ours_has_an_official_one_and_comes_back(name: str) -> None:
    for ours in our_shapes(CONFIGS[name]):
        names = to_upstream_names(ours)
        assert names
        assert all(to_our_name(n) == ours for n in names)


def test_unknown_names_translate_to_nothing() -> None:
    assert to_our_name("head.scratch.refinenet5.out_conv.weight") is None
    assert to_our_name("backbone.pretrained.blocks.x.norm1.weight") is None
    assert to_upstream_names("depth_head.nothing") == []


@pytest.mark.parametrize("name", list(CONFIGS))
def test_configurations_survive_json(name: str) -> None:
    assert config_from_dict(json.loads(json.dumps(config_to_dict(CONFIGS[name])))) == CONFIGS[name]


def test_a_broken_configuration_is_an_input_error() -> None:
    values = config_to_dict(CONFIGS["da3gs-nano"])
    with pytest.raises(InputError, match="colour"):
        config_from_dict({**values, "colour": 1})
    with pytest.raises(InputError, match="backbone"):
        config_from_dict({k: v for k, v in values.items() if k != "backbone"})


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_our_file_comes_back(tiny: DepthAnything3, tmp_path: Path, dtype: torch.dtype | None) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny, path, card={"licence": "Apache-2.0"}, dtype=dtype)
    again = load_model(path)
    assert not again.training
    assert again.config == tiny.config
    assert checkpoint_card(path) == {"licence": "Apache-2.0"}
    for name, value in tiny.state_dict().items():
        loaded = again.state_dict()[name]
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, value, rtol=0 if dtype is None else 1e-3, atol=0 if dtype is None else 1e-6)


def test_an_existing_file_is_kept(tiny: DepthAnything3, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists"):
        save_checkpoint(tiny, path)
    assert path.read_text() == "precious"


def test_nested_file_comes_back(tmp_path: Path) -> None:
    tiny = tiny_config()
    pyramid = tiny.head.pyramid
    metric = dataclasses.replace(
        tiny,
        head=HeadConfig(kind="depth_sky", pyramid=pyramid),
        camera=None,
        splats=None,
        backbone=dataclasses.replace(
            tiny.backbone, global_from=None, qk_norm_from=None, rope_from=None, concatenate=False
        ),
    )
    model = NestedDepthAnything3(NestedConfig(name="tiny-nested", geometry=tiny, metric=metric))
    save_checkpoint(model, tmp_path / "nested.safetensors")
    again = load_model(tmp_path / "nested.safetensors")
    assert isinstance(again, NestedDepthAnything3)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_official_folder(official_folder: Path) -> None:
    model = load_model(official_folder)
    stored = load_file(official_folder / "model.safetensors")
    assert torch.equal(model.backbone.class_token, stored["model.backbone.pretrained.cls_token"])
    norm = stored["model.head.scratch.output_conv2_aux.0.2.weight"]
    assert torch.equal(model.depth_head.ray_norm.weight, norm)
    assert torch.equal(model.depth_head.depth_fusion.blocks[0].lateral_unit.first.weight,
                       stored["model.head.scratch.refinenet1.resConfUnit1.conv1.weight"])  # fmt: skip


def test_official_file_alone_is_recognised(official_folder: Path) -> None:
    (official_folder / "config.json").unlink()
    assert load_model(official_folder / "model.safetensors").config.name == "da3-small"


def test_aliases_in_the_file_do_not_win_over_the_stored_name(official_folder: Path) -> None:
    path = official_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.head.scratch.output_conv2_aux.3.2.weight"] = torch.zeros(32)
    save_file(tensors, path)
    norm = load_model(official_folder).depth_head.ray_norm.weight
    assert torch.equal(norm, tensors["model.head.scratch.output_conv2_aux.0.2.weight"])


def test_shards(official_folder: Path) -> None:
    whole = official_folder / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({n: tensors[n] for n in part}, official_folder / file)
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (official_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    assert torch.equal(load_model(official_folder).backbone.class_token, tensors["model.backbone.pretrained.cls_token"])
    (official_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        load_model(official_folder)
    index["weight_map"][names[0]] = "../elsewhere.safetensors"
    (official_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="weight_map"):
        load_model(official_folder)


def test_weights_that_do_not_fit_are_listed(official_folder: Path) -> None:
    path = official_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.cam_dec.fc_t.bias"] = torch.zeros(4)
    del tensors["model.cam_dec.fc_t.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        load_model(official_folder)
    message = str(error.value)
    assert "missing: cam_dec.fc_t.weight" in message
    assert "misshapen: cam_dec.fc_t.bias [4] instead of [3]" in message
    assert "\n" not in message
    tensors["model.cam_dec.fc_zoom.weight"] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"unknown parameters: model\.cam_dec\.fc_zoom\.weight"):
        load_model(official_folder)


def test_parameters_of_another_model_are_unknown(official_folder: Path) -> None:
    (official_folder / "config.json").write_text('{"model_name": "da3mono-large"}')
    with pytest.raises(CheckpointError, match=r"does not fit da3mono-large; missing: .*unknown: .*misshapen: "):
        load_model(official_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(tiny: DepthAnything3, tmp_path: Path, value: float) -> None:
    state = {name: t.clone() for name, t in tiny.state_dict().items()}
    state["backbone.norm.bias"][3] = value
    broken = DepthAnything3(tiny.config)
    broken.load_state_dict(state)
    save_checkpoint(broken, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite in backbone\.pretrained\.norm\.bias"):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "pytorch_model.bin"])
def test_pickled_files_are_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cposix\nsystem\n")
    with pytest.raises(CheckpointError, match="da3gs models convert"):
        load_model(tmp_path / name)
    with pytest.raises(CheckpointError, match="da3gs models convert"):
        load_model(tmp_path)


def test_broken_files(tmp_path: Path, tiny: DepthAnything3) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(tiny, path)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[:-1000], b"\xff" * 64):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"a\.safetensors cannot be read"):
            load_model(path)
    empty, bad = tmp_path / "empty", tmp_path / "bad"
    empty.mkdir()
    bad.mkdir()
    (bad / "model.safetensors").write_bytes(whole)
    (bad / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        load_model(empty)
    with pytest.raises(CheckpointError, match="broken JSON"):
        load_model(bad)
    with pytest.raises(CheckpointError, match="neither a model nor a file 'da4-small'"):
        load_model("da4-small")


def test_low_precision_keeps_heads_and_norms(tiny: DepthAnything3, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny, path)
    low = load_model(path, dtype=torch.bfloat16)
    kinds = {name: value.dtype for name, value in low.state_dict().items()}
    assert kinds["backbone.blocks.0.attention.qkv.weight"] == torch.bfloat16
    assert kinds["backbone.blocks.0.attention_norm.weight"] == torch.float32
    assert kinds["depth_head.depth_neck.weight"] == torch.float32
    images = torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, exact = low.raw(images), tiny.raw(images)
    assert ours.depth.dtype == torch.float32
    assert (ours.depth / exact.depth).log().abs().max() < 0.02  # bfloat16 keeps 8 bits


def test_models_with_a_licence() -> None:
    assert model_card("DA3-Small").commercial
    assert not model_card("da3-giant-1.1").commercial
    assert all(card.licence and (card.bundled or card.repository) for card in MODELS.values())
    assert all(card.config in CONFIGS for card in MODELS.values())
    with pytest.raises(InputError, match="known are da3gs-nano, da3-small"):
        model_card("da3-tiny")


def test_weights_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"da3gs models download da3-base \(Apache-2.0, 541 MB\)"):
        load_model("da3-base")
