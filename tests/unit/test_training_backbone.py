"""Pretrained backbones: DINOv2 weights of any naming, what does not fit, and runs that begin with them."""

import dataclasses
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from da3gs.checkpoints import checkpoint_card
from da3gs.checkpoints.dinov2 import load_dinov2
from da3gs.errors import CheckpointError, InputError
from da3gs.network.config import BackboneConfig
from da3gs.network.model import DepthAnything3
from da3gs.training import PRESETS, Stage, load_config, train
from da3gs.training.networks import trainable_network
from da3gs.training.pretrained import (
    begin_with_backbone,
    camera_decoder_is_dead,
    fit_camera_decoder,
    rate_scales,
)
from da3gs.training.run import freeze, parameter_groups

WIDTH, DEPTH, TABLE = 64, 6, 5
CHANGES = {
    "backbone.width": WIDTH,
    "backbone.depth": DEPTH,
    "backbone.heads": 1,
    "backbone.table": TABLE,
    "backbone.out_layers": (2, 3, 4, 5),
    "backbone.global_from": 2,
    "camera.encoder_heads": 1,
}
TINY = dataclasses.replace(
    PRESETS["small"],
    name="tiny",
    architecture=CHANGES,
    steps=4,
    stages=(Stage(steps=1, sizes=((28, 42, 1.0),), pixels=4 * 28 * 42, views=(2, 2)),),
    textures=11,
    validate_steps=0,
    log_steps=2,
    frozen_blocks=2,
    bfloat16=False,
)


def dinov2_tensors(*, gated: bool = False, table: int = TABLE) -> dict[str, torch.Tensor]:
    """Random weights in DINOv2's official names and shapes."""
    g = torch.Generator().manual_seed(1)

    def draw(*shape: int, around: float = 0.0) -> torch.Tensor:
        return around + 0.1 * torch.randn(shape, generator=g)

    c, hidden = WIDTH, 4 * WIDTH
    tensors = {
        "cls_token": draw(1, 1, c),
        "mask_token": draw(1, c),
        "pos_embed": draw(1, 1 + table**2, c),
        "patch_embed.proj.weight": draw(c, 3, 14, 14),
        "patch_embed.proj.bias": draw(c),
        "norm.weight": draw(c, around=1.0),
        "norm.bias": draw(c),
    }
    for i in range(DEPTH):
        layer = {f"norm{k}.weight": draw(c, around=1.0) for k in (1, 2)} | {f"norm{k}.bias": draw(c) for k in (1, 2)}
        layer |= {"attn.qkv.weight": draw(3 * c, c), "attn.qkv.bias": draw(3 * c)}
        layer |= {"attn.proj.weight": draw(c, c), "attn.proj.bias": draw(c)}
        layer |= {f"ls{k}.gamma": draw(c, around=0.5) for k in (1, 2)}
        if gated:
            wide = (hidden * 2 // 3 + 7) // 8 * 8
            layer |= {"mlp.w12.weight": draw(2 * wide, c), "mlp.w12.bias": draw(2 * wide)}
            layer |= {"mlp.w3.weight": draw(c, wide), "mlp.w3.bias": draw(c)}
        else:
            layer |= {"mlp.fc1.weight": draw(hidden, c), "mlp.fc1.bias": draw(hidden)}
            layer |= {"mlp.fc2.weight": draw(c, hidden), "mlp.fc2.bias": draw(c)}
        tensors |= {f"blocks.{i}.{name}": value for name, value in layer.items()}
    return tensors


def in_hugging_face_names(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As transformers' Dinov2Model names them, under the prefix of a model that holds one."""
    pairs = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
        "blocks.": "encoder.layer.",
    }
    found = {}
    for name, value in official.items():
        if "attn.qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                new = name.replace("blocks.", "encoder.layer.").replace("attn.qkv", f"attention.attention.{part}")
                found[f"dinov2.{new}"] = third.clone()
            continue
        new = name.replace("norm.", "layernorm.") if name.startswith("norm.") else name
        for old, theirs in pairs.items():
            new = new.replace(old, theirs)
        found[f"dinov2.{new}"] = value
    return found | {"classifier.weight": torch.zeros(3, 3)}


def backbone_config(**changes) -> BackboneConfig:
    return dataclasses.replace(trainable_network("da3gs-small", CHANGES).backbone, **changes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "dinov2.safetensors"
    save_file(dinov2_tensors(), path)
    return path


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("gated", [False, True])
def test_every_naming_gives_the_same_backbone(tmp_path, gated):
    official = dinov2_tensors(gated=gated)
    config = backbone_config(feed_forward="swiglu" if gated else "mlp")
    save_file(official, tmp_path / "official.safetensors")
    save_file(in_hugging_face_names(official), tmp_path / "model.safetensors")
    torch.save({"teacher": 1, "model": official}, tmp_path / "dinov2.pth")
    chunked = {
        (f"backbone.blocks.0.{name.removeprefix('blocks.')}" if name.startswith("blocks.") else f"backbone.{name}"): t
        for name, t in official.items()
    }
    save_file(chunked, tmp_path / "chunked.safetensors")
    found = load_dinov2(tmp_path / "official.safetensors", config)
    assert torch.equal(found["blocks.3.attention.qkv.weight"], official["blocks.3.attn.qkv.weight"])
    assert torch.equal(found["blocks.1.feed_forward_scale"], official["blocks.1.ls2.gamma"])
    assert torch.equal(found["position_table"], official["pos_embed"])
    for other in ("model.safetensors", "dinov2.pth", "chunked.safetensors"):
        assert same(found, load_dinov2(tmp_path / other, config)), other
    assert same(found, load_dinov2(tmp_path / "official.safetensors", dataclasses.replace(config, qk_norm_from=2)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"register_tokens": torch.zeros(1, 4, WIDTH)}, "has register tokens"),
        ({"blocks.2.attn.rel": torch.zeros(1)}, "unknown: blocks.2.attn.rel"),
        ({"blocks.0.ls1.gamma": None, "norm.bias": None}, "missing: blocks.0.attention_scale, norm.bias"),
        ({"norm.bias": torch.full((WIDTH,), torch.nan)}, "not finite: norm.bias"),
        ({"pos_embed": torch.zeros(1, 17, WIDTH)}, r"misshapen: pos_embed \[1, 17, 64\] instead of \[1, 26, 64\]"),
        ({"pos_embed": None}, "holds no DINOv2"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, complaint):
    tensors = dinov2_tensors() | change
    save_file({k: v for k, v in tensors.items() if v is not None}, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=complaint):
        load_dinov2(tmp_path / "odd.safetensors", backbone_config())


def test_another_size_and_a_missing_file_are_named(weights, tmp_path):
    with pytest.raises(CheckpointError, match="6 blocks of width 64, the network has 12 of width 384"):
        load_dinov2(weights, trainable_network("da3-small", {}).backbone)
    with pytest.raises(CheckpointError, match="heads: DINOv2 has 1 at width 64, the network 2"):
        load_dinov2(weights, backbone_config(heads=2))
    with pytest.raises(CheckpointError, match="there is no backbone file"):
        load_dinov2(tmp_path / "none.pth", backbone_config())


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"pos_embed": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="may run code"):
        load_dinov2(tmp_path / "evil.pth", backbone_config())


def test_the_start_leaves_the_backbone_as_it_is(weights):
    """Camera tokens begin near the class token, those of known cameras as well: features hardly move."""
    torch.manual_seed(0)
    images = torch.rand(2, 2, 3, 42, 56)
    model = DepthAnything3(trainable_network("da3gs-small", CHANGES))
    begin_with_backbone(model, weights, images)
    given = load_file(weights)
    assert torch.equal(model.backbone.blocks[5].feed_forward.up.weight, given["blocks.5.mlp.fc1.weight"])
    token = model.backbone.camera_token[0]
    spread = token[0].std()
    assert 0 < (token[0] - token[1]).abs().mean() < 0.3 * spread
    told = model.camera_encoder(torch.randn(1, 3, 9))
    assert (told - token[0]).abs().mean() < spread


def test_query_key_norms_are_fitted(weights):
    """With the norms of da3-small the attention goes on nearly as without; with fresh ones it would not."""
    torch.manual_seed(0)
    images = torch.rand(1, 3, 3, 42, 56)

    def features(changes: dict, *, fitted: bool = True) -> torch.Tensor:
        model = DepthAnything3(trainable_network("da3gs-small", CHANGES | changes))
        begin_with_backbone(model, weights, images)
        if not fitted:
            for name, parameter in model.backbone.named_parameters():
                if "query_norm" in name or "key_norm" in name:
                    torch.nn.init.constant_(parameter, float(name.endswith("weight")))
        with torch.no_grad():
            x = model.backbone.embed(images).flatten(0, 1)
            for block in model.backbone.blocks:
                x = block(x)
        return x

    plain = features({})
    fitted = (features({"backbone.qk_norm_from": 2}) - plain).square().mean()
    fresh = (features({"backbone.qk_norm_from": 2}, fitted=False) - plain).square().mean()
    assert fitted < 0.2 * fresh


def rectified(model: DepthAnything3, images: torch.Tensor) -> torch.Tensor:
    """The camera decoder's first rectified layer, a row a view."""
    found = []
    hook = model.camera_decoder.trunk[1].register_forward_hook(lambda _, __, y: found.append(y.detach().clone()))
    with torch.no_grad():
        model.raw(images, None, reference="first")
    hook.remove()
    return found[0].flatten(0, -2)


def test_a_fresh_camera_decoder_hears_how_views_differ(weights):
    """Half of its rectifiers are on, and their response is of unit size, however far the tokens are from zero."""
    torch.manual_seed(0)
    images = torch.rand(4, 2, 3, 42, 56)
    model = DepthAnything3(trainable_network("da3gs-small", CHANGES))
    begin_with_backbone(model, weights, images)
    with torch.no_grad():
        model.backbone.norm.bias.add_(20.0)
    fit_camera_decoder(model, images)
    response = rectified(model, images)
    assert 0.4 < (response > 0).float().mean() < 0.6
    assert 0.5 < response.square().mean() / 0.5 < 2.0
    assert not camera_decoder_is_dead(model, images)


def test_a_dead_camera_decoder_begins_afresh(weights, tmp_path):
    config = dataclasses.replace(TINY, backbone=str(weights), steps=1)
    train(config, tmp_path / "first")
    state = load_file(tmp_path / "first/last.safetensors")
    with safe_open(tmp_path / "first/last.safetensors", "pt") as file:
        card = file.metadata()
    bias = next(name for name in state if name.endswith("camera_decoder.trunk.0.bias"))
    state[bias] = torch.full_like(state[bias], -1e4)
    save_file(state, tmp_path / "dead.safetensors", card)
    train(dataclasses.replace(config, backbone=""), tmp_path / "second", init=tmp_path / "dead.safetensors")
    assert load_file(tmp_path / "second/last.safetensors")[bias].abs().max() < 1e3


def test_frozen_parts_stay_and_rates_fall_towards_the_first_block(weights):
    config = dataclasses.replace(TINY, backbone_rate=0.5, layer_decay=0.8, camera_rate=0.3, backbone=str(weights))
    model = DepthAnything3(config.network())
    freeze(model, config)
    assert not model.backbone.position_table.requires_grad
    assert not any(p.requires_grad for p in model.backbone.blocks[1].parameters())
    assert all(p.requires_grad for p in model.backbone.blocks[2].parameters())
    scales = rate_scales(model, config)
    assert scales[id(model.backbone.blocks[5].attention.qkv.weight)] == 0.5
    assert scales[id(model.backbone.blocks[3].attention.qkv.weight)] == pytest.approx(0.5 * 0.8**2)
    assert id(model.backbone.camera_token) not in scales
    assert scales[id(model.camera_decoder.trunk[2].weight)] == 0.3
    assert id(model.camera_decoder.translation.weight) not in scales
    groups = parameter_groups(model, 0.05, scales)
    together = [p for group in groups for p in group["params"]]
    assert len(together) == len({id(p) for p in together}) == sum(p.requires_grad for p in model.parameters())
    found = {(group["scale"], group["weight_decay"]) for group in groups}
    assert {(1.0, 0.05), (1.0, 0.0), (0.5, 0.05)} <= found


def test_a_run_from_a_backbone_stopped_and_resumed_makes_the_same_weights(weights, tmp_path):
    """A signal ends it; resumed without the file, every tensor is bit for bit that of a run that never stopped."""
    train(TINY, tmp_path / "straight", backbone=weights)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "stopped", backbone=weights, progress=interrupt)
    train(TINY, tmp_path / "stopped", resume=True)
    expected, found = (load_file(tmp_path / name / "state.safetensors") for name in ("straight", "stopped"))
    assert same(expected, found)
    given = load_file(weights)
    assert torch.equal(found["model.backbone.blocks.1.attention.qkv.weight"], given["blocks.1.attn.qkv.weight"])
    assert not torch.equal(found["model.backbone.blocks.2.attention.qkv.weight"], given["blocks.2.attn.qkv.weight"])
    assert "optimizer.exp_avg.backbone.blocks.1.attention.qkv.weight" not in found
    card = checkpoint_card(tmp_path / "stopped" / "last.safetensors")
    assert card["backbone"] == "dinov2.safetensors"
    train(TINY, tmp_path / "next", init=tmp_path / "stopped" / "last.safetensors", steps=1)
    assert checkpoint_card(tmp_path / "next" / "last.safetensors")["backbone_sha256"] == card["backbone_sha256"]


def test_frozen_blocks_need_weights_and_two_starts_are_one_too_many(weights, tmp_path):
    with pytest.raises(InputError, match="pass --backbone FILE with DINOv2 weights, or --init"):
        train(TINY, tmp_path / "run")
    with pytest.raises(InputError, match="leave --backbone out, or --init"):
        train(TINY, tmp_path / "run", backbone=weights, init="da3gs-nano")
    assert load_config("small", settings=("frozen_blocks=2",)).frozen_blocks == 2
