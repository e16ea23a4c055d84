"""The network's parts and what holds whatever the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.network import DepthAnything3, ModelConfig, attention, named_config
from da3gs.network.attention import apply_rope, rope_rotation
from da3gs.network.camera import decode_cameras, encode_cameras, normalized_cameras
from da3gs.network.config import BackboneConfig, HeadConfig, PyramidConfig, SplatConfig
from da3gs.network.heads.dpt import (
    FusionBlock,
    add_position_code_,
    dense_outputs,
    output_stack,
    position_code,
    resized,
)
from da3gs.network.initialization import initialize
from da3gs.network.reference_view import choose_reference, reordered, restored
from da3gs.views import Views


def tiny_config(*, kind: str = "depth_ray", splats: bool = False) -> ModelConfig:
    pyramid = PyramidConfig(features=16, channels=(8, 8, 16, 16))
    any_view = kind == "depth_ray"
    base = named_config("da3-small" if any_view else "da3mono-large")
    assert isinstance(base, ModelConfig)
    first = 2 if any_view else None
    backbone = BackboneConfig(
        width=64,
        depth=6,
        heads=2,
        out_layers=(2, 3, 4, 5),
        global_from=first,
        qk_norm_from=first,
        rope_from=first,
        concatenate=any_view,
        table=5,
    )
    return dataclasses.replace(
        base,
        name="tiny",
        backbone=backbone,
        head=HeadConfig(kind=base.head.kind, pyramid=pyramid),
        splats=SplatConfig(pyramid=pyramid) if splats else None,
    )


def livened(model: DepthAnything3, seed: int = 0) -> DepthAnything3:
    """Weights large enough that every part has its say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.08 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def tiny() -> DepthAnything3:
    torch.manual_seed(0)
    return livened(DepthAnything3(tiny_config(splats=True)))


def images(views: int, height: int = 28, width: int = 42, seed: int = 0) -> Tensor:
    return torch.rand(1, views, 3, height, width, generator=torch.Generator().manual_seed(seed))


def some_cameras(views: int, height: int = 28, width: int = 42) -> Cameras:
    generator = torch.Generator().manual_seed(5)
    eye = torch.randn(views, 3, generator=generator)
    world_to_cam = look_at(eye, torch.tensor([0.0, 0, 6]).expand(views, 3), torch.tensor([0.0, -1, 0]))
    intrinsics = torch.tensor([[40.0, 0, width / 2], [0, 36.0, height / 2], [0, 0, 1]]).expand(views, 3, 3)
    return Cameras(world_to_cam=world_to_cam[None], intrinsics=intrinsics[None], height=height, width=width)


def test_sizes_that_follow_from_others() -> None:
    giant = named_config("da3-giant")
    assert isinstance(giant, ModelConfig)
    assert giant.backbone.feed_forward_width == 4096
    assert giant.backbone.feature_width == 3072
    assert giant.backbone.head_width == 64
    assert giant.splats is not None
    assert giant.splats.channels == 38
    assert [i for i in range(16) if giant.backbone.is_global(i)] == [13, 15]
    small = named_config("da3-small")
    assert isinstance(small, ModelConfig)
    assert [i for i in range(12) if small.backbone.is_global(i)] == [5, 7, 9, 11]
    with pytest.raises(InputError, match="da3gs-nano"):
        named_config("da3-tiny")


def test_nano_fits_the_package() -> None:
    parameters = sum(p.numel() for p in DepthAnything3(named_config("da3gs-nano")).parameters())  # type: ignore[arg-type]
    assert parameters * 2 < 25e6  # bytes in float16


def test_rope_keeps_lengths_and_depends_on_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 64, generator=generator).double()
    positions = torch.tensor([[1, 2], [4, 7], [11, 3], [14, 8]])
    cosine, sine = rope_rotation(positions, 64)
    rotation = (cosine.double(), sine.double())
    turned_q, turned_k = (apply_rope(t.expand(4, 64), rotation) for t in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1).expand(4))
    product = turned_q @ turned_k.T
    # (1,2) to (4,7) is the same step as (11,3) to (14,8); float32 angles leave 1e-6
    torch.testing.assert_close(product[0, 1], product[2, 3], rtol=1e-5, atol=1e-5)
    assert (product[0, 1] - product[1, 0]).abs() > 0.1


def test_rope_turns_the_first_half_by_y_and_the_second_by_x() -> None:
    t = torch.ones(1, 64)
    moved_y = apply_rope(t, rope_rotation(torch.tensor([[3, 0]]), 64))
    assert torch.equal(moved_y[:, 32:], t[:, 32:])
    assert not torch.allclose(moved_y[:, :16], t[:, :16])
    fastest = torch.tensor([np.cos(3) - np.sin(3), np.cos(3) + np.sin(3)], dtype=torch.float32)
    torch.testing.assert_close(moved_y[0, [0, 16]], fastest)


def cubic(x: np.ndarray) -> np.ndarray:
    a, x = -0.75, np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def resampling(new: int, old: int) -> np.ndarray:
    """Rows of cubic weights by the rule of the positions' docstring, written for itself."""
    source = (np.arange(new) + 0.5) / ((new + 0.1) / old) - 0.5
    weights = np.zeros((new, old))
    for row, s in enumerate(source):
        for tap in range(int(np.floor(s)) - 1, int(np.floor(s)) + 3):
            weights[row, np.clip(tap, 0, old - 1)] += cubic(np.array(s - tap))
    return weights


@pytest.mark.parametrize("grid", [(2, 3), (5, 4), (4, 5), (9, 6), (12, 17)])
def test_position_table_at_any_grid(tiny: DepthAnything3, grid: tuple[int, int]) -> None:
    backbone = tiny.backbone
    table = backbone.position_table.detach()[0, 1:].unflatten(0, (5, 5)).double().numpy()
    rows, columns = resampling(grid[0], 5), resampling(grid[1], 5)
    expected = np.einsum("ia,jb,abc->ijc", rows, columns, table)
    found = backbone.positions(*grid).detach()[0, 1:].unflatten(0, grid).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_native_grid_takes_the_table_as_it_is(tiny: DepthAnything3) -> None:
    assert torch.equal(tiny.backbone.positions(5, 5), tiny.backbone.position_table)


def test_position_code_says_where_a_pixel_is() -> None:
    code = position_code(32, 4, 6, 1.5)[0]
    assert (code[:16] - code[:16, :1]).abs().max() == 0  # x half: the same in every row
    assert (code[16:] - code[16:, :, :1]).abs().max() == 0
    diagonal = np.hypot(1.5, 1)
    torch.testing.assert_close(code[0, 0, 0], torch.tensor(np.sin(-1.5 / diagonal * 5 / 6), dtype=torch.float32))
    torch.testing.assert_close(code[24, 0, 0], torch.tensor(np.cos(-1 / diagonal * 3 / 4), dtype=torch.float32))


def test_convolving_before_enlarging_gives_the_same_map() -> None:
    torch.manual_seed(0)
    block = FusionBlock(8, lateral=False)
    x = torch.randn(2, 8, 5, 7)
    official = block.out(resized(block.unit(x), 9, 13))
    torch.testing.assert_close(block(x, None, (9, 13)), official, rtol=1e-5, atol=1e-6)


def test_cameras_survive_encoding() -> None:
    cameras = some_cameras(4)
    again = decode_cameras(encode_cameras(cameras), cameras.height, cameras.width)
    torch.testing.assert_close(again.world_to_cam, cameras.world_to_cam, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.intrinsics, cameras.intrinsics, rtol=1e-5, atol=1e-5)


def test_normalized_cameras_forget_frame_and_scale() -> None:
    cameras = some_cameras(5)
    normalized = normalized_cameras(cameras)
    torch.testing.assert_close(normalized.world_to_cam[0, 0], torch.eye(4), rtol=0, atol=1e-6)
    distances = normalized.centers[0].norm(dim=-1)
    torch.testing.assert_close(distances.median(), torch.tensor(1.0))
    turn = look_at(torch.tensor([3.0, 2, 1]), torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1]))
    elsewhere = dataclasses.replace(cameras, world_to_cam=cameras.world_to_cam @ turn).scaled(7.0)
    again = normalized_cameras(elsewhere)
    torch.testing.assert_close(again.world_to_cam, normalized.world_to_cam, rtol=1e-4, atol=1e-5)


def test_two_cameras_are_divided_by_a_tenth() -> None:
    cameras = some_cameras(2)
    between = (cameras.centers[0, 1] - cameras.centers[0, 0]).norm()
    torch.testing.assert_close(normalized_cameras(cameras).centers[0, 1].norm(), between / 0.1)


def test_the_mean_unit_fits_any_scale_and_a_tripod_has_none() -> None:
    cameras = some_cameras(4).scaled(1e-3)
    normalized = normalized_cameras(cameras, "mean")
    torch.testing.assert_close(normalized.centers[0, 1:].norm(dim=-1).mean(), torch.tensor(1.0))
    center = torch.tensor([30.0, -20, 50]).expand(4, 3)
    around = center + torch.tensor([[1.0, 0, 0], [0, 0.3, 1], [0, 0.1, -1], [1, 1, 1]])
    still = dataclasses.replace(cameras, world_to_cam=look_at(center, around, torch.tensor([0.0, -1, 0]))[None])
    assert normalized_cameras(still, "mean").centers.abs().max() < 0.05
    single = still.map(lambda t: t[:, :1])
    assert normalized_cameras(single, "mean").centers.abs().max() < 0.05


def test_reference_views() -> None:
    tokens = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    assert choose_reference(tokens, "first").tolist() == [0, 0]
    assert choose_reference(tokens, "middle").tolist() == [3, 3]
    shuffled = tokens[:, torch.tensor([3, 1, 0, 6, 5, 2, 4])]
    for index, moved in zip(
        choose_reference(tokens, "saddle_balanced"), choose_reference(shuffled, "saddle_balanced"), strict=True
    ):
        assert [3, 1, 0, 6, 5, 2, 4][int(moved)] == int(index)  # the choice belongs to the view, not to its place
    index = torch.tensor([2, 6])
    first = reordered(tokens, index)
    assert torch.equal(first[0], tokens[0, [2, 0, 1, 3, 4, 5, 6]])
    assert torch.equal(first[1], tokens[1, [6, 0, 1, 2, 3, 4, 5]])
    assert torch.equal(restored(first, index), tokens)


def test_views_keep_their_answers_in_any_order(tiny: DepthAnything3) -> None:
    """The reference is chosen by content, so shuffling the input only shuffles the output."""
    order = [3, 0, 4, 2, 1]
    with torch.no_grad():
        plain, shuffled = tiny.raw(images(5)), tiny.raw(images(5)[:, order])
    assert plain.reference is not None
    torch.testing.assert_close(shuffled.depth, plain.depth[:, order], rtol=2e-4, atol=1e-5)
    torch.testing.assert_close(shuffled.pose_encoding, plain.pose_encoding[:, order], rtol=2e-4, atol=1e-4)


def test_scenes_of_a_batch_do_not_meet(tiny: DepthAnything3) -> None:
    one, other = images(3, seed=1), images(3, seed=2)
    with torch.no_grad():
        both = tiny.raw(torch.cat((one, other)), rays=True, splats=True)
        alone = tiny.raw(other, rays=True, splats=True)
    for name in ("depth", "confidence", "rays", "ray_confidence", "splats", "pose_encoding"):
        torch.testing.assert_close(getattr(both, name)[1:], getattr(alone, name), rtol=2e-4, atol=1e-4, msg=name)


def test_parts_that_are_not_asked_for_do_not_run(tiny: DepthAnything3) -> None:
    with torch.no_grad():
        lean, full = tiny.raw(images(2)), tiny.raw(images(2), rays=True, splats=True, features=(3,))
    assert lean.rays is None
    assert lean.splats is None
    assert full.rays is not None
    assert full.rays.shape == (1, 2, 16, 24, 6)
    assert full.splats is not None
    assert full.splats.shape == (1, 2, 28, 42, 38)
    assert full.features[0].shape == (1, 2, 2, 3, 64)
    assert torch.equal(lean.depth, full.depth)


def test_heads_in_small_parts_say_the_same(tiny: DepthAnything3, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        whole = tiny.raw(images(5), rays=True, splats=True)
        monkeypatch.setattr("da3gs.network.model._PIXELS_AT_ONCE", 1)
        parts = tiny.raw(images(5), rays=True, splats=True)
    for name in ("depth", "rays", "splats"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("tokens", [3, 9, 20])
def test_blocks_in_small_parts_say_the_same(tiny: DepthAnything3, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Three views of seven tokens: less than a view at a time, one, two."""
    with torch.no_grad():
        whole = tiny.raw(images(3))
        monkeypatch.setitem(attention.TOKENS_AT_ONCE, "cpu", tokens)
        parts = tiny.raw(images(3))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = tiny.raw(images(3))
    torch.testing.assert_close(parts.depth, whole.depth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.pose_encoding, whole.pose_encoding, rtol=1e-4, atol=1e-5)
    assert (low.depth / whole.depth).log().abs().max() < 0.15


def test_frozen_weights_take_the_lean_path_without_no_grad(monkeypatch: pytest.MonkeyPatch) -> None:
    """``load_model`` freezes; whoever forgets ``no_grad`` shall not pay for it, and may still train a part."""
    model = DepthAnything3(tiny_config()).requires_grad_(False)
    monkeypatch.setitem(attention.TOKENS_AT_ONCE, "cpu", 3)
    monkeypatch.setattr("da3gs.network.model._PIXELS_AT_ONCE", 1)
    calls = []
    model.depth_head.register_forward_hook(lambda *_: calls.append(1))
    assert not model.raw(images(2)).depth.requires_grad
    assert len(calls) == 2
    model.depth_head.requires_grad_(True)
    model.raw(images(2)).depth.sum().backward()
    assert len(calls) == 3
    assert model.depth_head.depth_neck.weight.grad is not None
    model.backbone.blocks[3].requires_grad_(True)
    model.raw(images(2)).depth.sum().backward()
    assert model.backbone.blocks[3].attention.qkv.weight.grad is not None


def test_cameras_make_a_difference_and_the_first_is_the_reference(tiny: DepthAnything3) -> None:
    with torch.no_grad():
        free, posed = tiny.raw(images(3)), tiny.raw(images(3), normalized_cameras(some_cameras(3)))
    assert posed.reference is None
    assert (free.depth - posed.depth).abs().max() > 1e-3


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = DepthAnything3(tiny_config(splats=True))
    raw = model.raw(images(3), rays=True, splats=True)
    posed = model.raw(images(3), normalized_cameras(some_cameras(3)))
    assert raw.rays is not None
    assert raw.splats is not None
    assert raw.confidence is not None
    assert raw.cameras is not None
    assert raw.ray_confidence is not None
    loss = raw.depth.mean() + raw.confidence.mean() + raw.rays.square().mean() + raw.splats.square().mean()
    loss = loss + raw.cameras.world_to_cam.square().sum() + raw.cameras.intrinsics.mean() + posed.depth.sum()
    (loss + raw.ray_confidence.mean()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    dead = tuple(f"depth_head.{part}.{level}." for part in ("ray_necks", "ray_outputs") for level in range(3))
    assert all(name.startswith(dead) for name in silent), silent
    assert len(silent) == 3 * (10 + 4)


@pytest.mark.parametrize("mixed", [False, True])
def test_bfloat16_is_close(tiny: DepthAnything3, mixed: bool) -> None:
    with torch.no_grad():
        exact = tiny.raw(images(2), rays=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = tiny.raw(images(2), rays=True, mixed_heads=mixed)
    assert low.depth.dtype == torch.float32
    assert low.rays is not None
    assert low.rays.dtype == torch.float32
    assert (low.depth / exact.depth).log().abs().max() < 0.15  # 8 bits through 6 blocks and 15 convolutions
    assert not torch.equal(low.depth, exact.depth)


def test_fresh_weights_say_even_depth_and_cameras_at_the_origin() -> None:
    torch.manual_seed(0)
    model = DepthAnything3(tiny_config())
    initialize(model, depth=2.5, fov=0.8)
    raw = model.raw(images(2))
    assert (raw.depth / 2.5).log().abs().max() < 0.1
    assert raw.cameras is not None
    assert raw.cameras.centers.abs().max() < 0.3
    assert (raw.cameras.fov - 0.8).abs().max() < 0.3


def test_forward_takes_views_with_and_without_a_batch(tiny: DepthAnything3) -> None:
    views = Views(images=images(3)[0], names=("a", "b", "c"), cameras=some_cameras(3).map(lambda t: t[0]))
    prediction = tiny(views, splats=True)
    assert prediction.depth.shape == (3, 28, 42)
    assert prediction.cameras is not None
    assert prediction.cameras.world_to_cam.shape == (3, 4, 4)
    assert prediction.gaussians is not None
    assert len(prediction.gaussians) == 3 * 28 * 42
    batched = tiny(Views(images=images(3), names=("a", "b", "c"), cameras=some_cameras(3)), splats=True)
    assert torch.equal(batched.depth[0], prediction.depth)


def test_rays_and_camera_decoder_are_both_on_offer(tiny: DepthAnything3) -> None:
    views = Views(images=images(2)[0], names=("a", "b"))
    first, second = tiny(views, poses="rays"), tiny(views, poses="rays")
    assert first.cameras is not None
    assert second.cameras is not None
    assert torch.equal(first.cameras.world_to_cam, second.cameras.world_to_cam)  # nothing is drawn from global state
    rotation = first.cameras.world_to_cam[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-5)


def test_monocular_models_fill_their_sky() -> None:
    torch.manual_seed(0)
    model = livened(DepthAnything3(tiny_config(kind="depth_sky")))
    raw = model.raw(images(2))
    assert raw.sky is not None
    sky = torch.zeros_like(raw.sky)
    sky[..., :5, :] = 0.4
    prediction = model.finished(dataclasses.replace(raw, sky=sky))
    assert prediction.cameras is None
    assert prediction.sky is not None
    assert prediction.sky[..., :5, :].all()
    ground = raw.depth[..., 5:, :]
    expected = torch.quantile(ground.flatten(), 0.99)
    torch.testing.assert_close(prediction.depth[..., :5, :], expected.expand(1, 2, 5, 42))
    assert torch.equal(prediction.depth[..., 5:, :], ground)
    upstream = model.finished(dataclasses.replace(raw, sky=sky), upstream=True)
    assert upstream.sky is not None
    assert not upstream.sky.any()  # cut at 0.5 there
    assert torch.equal(upstream.depth, prediction.depth)


def test_what_does_not_fit_is_said_in_one_line(tiny: DepthAnything3) -> None:
    with pytest.raises(InputError, match="multiples of 14, got 40x28"):
        tiny.raw(images(1, 28, 40))
    mono = DepthAnything3(tiny_config(kind="depth_sky"))
    with pytest.raises(InputError, match="takes no cameras"):
        mono.raw(images(2), some_cameras(2))
    with pytest.raises(InputError, match="no Gaussian head"):
        mono.raw(images(2), splats=True)
    with pytest.raises(InputError, match="no rays"):
        mono(Views(images=images(1)[0], names=("a",)), poses="rays")


@pytest.mark.parametrize("tokens", [5, 109])
def test_attention_that_learns_in_bfloat16_is_the_same_attention(tokens: int) -> None:
    """Against float64; the tolerance is that of torch's own kernel in the same precision, three times over."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(2, 3, tokens, 16, generator=generator, dtype=torch.float64) for _ in range(4)]
    drawn[0] *= 3  # weights far from equal

    def outcome(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
        heads = [part.to(dtype).requires_grad_() for part in drawn[:3]]
        result = attend(*heads)
        return [result.detach(), *torch.autograd.grad(result, heads, drawn[3].to(dtype))]

    def flat(*heads: torch.Tensor) -> torch.Tensor:
        return attention.Attention.mixed(*heads).unflatten(-1, (3, -1)).transpose(1, 2)

    torch_own = torch.nn.functional.scaled_dot_product_attention
    exact = outcome(torch_own, torch.float64)
    theirs, ours = (outcome(attend, torch.bfloat16) for attend in (torch_own, flat))
    for right, own, other in zip(exact, ours, theirs, strict=True):
        assert (own - right).norm() < 3 * (other - right).norm()
        assert (own - right).norm() < 0.02 * right.norm()


@pytest.mark.parametrize(("grid", "size"), [((16, 24), (28, 42)), ((1, 1), (14, 14)), ((16, 16), (9, 33))])
def test_dense_outputs_in_bands_are_those_of_the_whole_map(monkeypatch, grid, size) -> None:
    stacks = [output_stack(8, 2), output_stack(8, 1)]
    maps = torch.randn(2, 8, *grid, generator=torch.Generator().manual_seed(0))
    whole = add_position_code_(resized(maps, *size), 1.5)
    with torch.no_grad():
        expected = [stack(whole) for stack in stacks]
        for pixels in (1, 3 * size[1], 10**6):
            monkeypatch.setattr("da3gs.network.heads.dpt._PIXELS_A_BAND", pixels)
            for found, wanted in zip(dense_outputs(maps, size, stacks, aspect=1.5), expected, strict=True):
                torch.testing.assert_close(found, wanted)
    learned = dense_outputs(maps.requires_grad_(), size, stacks, aspect=1.5)
    torch.testing.assert_close(learned, expected)
