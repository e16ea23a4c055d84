"""Views of different sizes in one call."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from da3gs.errors import InputError
from da3gs.network import DepthAnything3, NestedConfig, NestedDepthAnything3
from da3gs.network.camera import normalized_cameras
from da3gs.network.sizes import inside, photo_sizes, size_groups
from da3gs.views import Views
from tests.unit.test_network import images, livened, some_cameras, tiny_config

SIZES = ((28, 42), (42, 28), (28, 42), (28, 28))


@pytest.fixture(scope="module")
def tiny() -> DepthAnything3:
    torch.manual_seed(0)
    return livened(DepthAnything3(tiny_config(splats=True)))


def padded() -> Tensor:
    canvas = images(4, 42, 42) + 0.01
    return torch.where(inside(SIZES, 42, 42)[None, :, None], canvas, 0.0)


def test_groups() -> None:
    groups = size_groups(SIZES)
    assert [(g.height, g.width, g.slots.tolist()) for g in groups] == [(28, 42, [0, 2]), (42, 28, [1]), (28, 28, [3])]


def test_sizes_are_read_off_the_padding() -> None:
    canvas = padded()[0]
    mask = inside(SIZES, 42, 42)
    assert photo_sizes(Views(images=canvas, names=("a", "b", "c", "d"), masks=mask), 14) == SIZES
    wanted = mask.clone()
    wanted[:, 10:] = False  # a region that the user does not want is no padding
    assert photo_sizes(Views(images=canvas, names=("a", "b", "c", "d"), masks=wanted), 14) == SIZES
    full = torch.ones_like(mask)
    assert photo_sizes(Views(images=canvas, names=("a", "b", "c", "d"), masks=full), 14) is None
    assert photo_sizes(Views(images=canvas, names=("a", "b", "c", "d")), 14) is None


def test_one_size_in_two_groups_says_what_one_group_says(tiny: DepthAnything3) -> None:
    """Tokens of all groups meet in the global blocks exactly as those of one group do."""
    x = images(4)
    slots = [torch.tensor([0, 3]), torch.tensor([1, 2])]
    with torch.no_grad():
        whole = tiny.backbone([x], [torch.arange(4)], exported=(4,))
        parts = tiny.backbone([x[:, s] for s in slots], slots, exported=(4,))
    assert torch.equal(whole.reference, parts.reference)
    torch.testing.assert_close(parts.camera_tokens, whole.camera_tokens, rtol=1e-4, atol=1e-5)
    for level, split in zip(whole.features, parts.features, strict=True):
        for part, s in zip(split, slots, strict=True):
            torch.testing.assert_close(part, level[0][:, s], rtol=1e-4, atol=1e-5)


def test_equal_sizes_are_the_plain_path(tiny: DepthAnything3) -> None:
    with torch.no_grad():
        plain = tiny.raw(images(3), rays=True, splats=True, features=(2,))
        told = tiny.raw(images(3), rays=True, splats=True, features=(2,), sizes=((28, 42),) * 3)
    for name in ("depth", "confidence", "rays", "splats", "pose_encoding"):
        assert torch.equal(getattr(told, name), getattr(plain, name)), name
    assert torch.equal(told.features[0], plain.features[0])


def test_padding_is_not_seen(tiny: DepthAnything3) -> None:
    x = padded()
    noisy = torch.where(inside(SIZES, 42, 42)[None, :, None], x, 0.7)
    with torch.no_grad():
        first = tiny.raw(x, rays=True, splats=True, features=(5,), sizes=SIZES)
        second = tiny.raw(noisy, rays=True, splats=True, features=(5,), sizes=SIZES)
    for name in ("depth", "confidence", "rays", "ray_confidence", "splats"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    seen = inside(SIZES, 42, 42)
    assert (first.depth[0, ~seen] == 1).all()
    assert first.confidence is not None
    assert (first.confidence[0, seen] > 1).all()
    assert first.features[0].shape == (1, 4, 3, 3, 64)
    assert first.rays is not None
    assert first.rays.shape == (1, 4, 24, 24, 6)


def test_the_principal_point_is_the_middle_of_the_view_itself(tiny: DepthAnything3) -> None:
    for poses in ("camera", "rays"):
        raw = tiny.raw(padded(), rays=True, sizes=SIZES)
        cameras = tiny.finished(raw, poses=poses).cameras
        assert cameras is not None
        assert (cameras.height, cameras.width) == (42, 42)
        if poses == "camera":
            middles = cameras.intrinsics[0, :, :2, 2]
            torch.testing.assert_close(middles, torch.tensor(SIZES, dtype=torch.float32).flip(-1) / 2)


def test_order_of_sizes_does_not_matter(tiny: DepthAnything3) -> None:
    order = [3, 1, 0, 2]
    x = padded()
    with torch.no_grad():
        plain = tiny.raw(x, sizes=SIZES)
        moved = tiny.raw(x[:, order], sizes=tuple(SIZES[i] for i in order))
    torch.testing.assert_close(moved.depth, plain.depth[:, order], rtol=2e-4, atol=1e-5)


def test_monocular_views_are_as_if_alone() -> None:
    torch.manual_seed(0)
    mono = livened(DepthAnything3(tiny_config(kind="depth_sky")))
    x = padded()
    with torch.no_grad():
        together = mono.raw(x, sizes=SIZES)
        for i, (height, width) in enumerate(SIZES):
            alone = mono.raw(x[:, i : i + 1, :, :height, :width])
            torch.testing.assert_close(together.depth[0, i, :height, :width], alone.depth[0, 0], rtol=1e-4, atol=1e-5)


def test_given_cameras_of_mixed_views(tiny: DepthAnything3) -> None:
    cameras = normalized_cameras(some_cameras(4, 42, 42))
    with torch.no_grad():
        told = tiny.raw(padded(), cameras, sizes=SIZES)
        untold = tiny.raw(padded(), cameras)
    assert told.depth.isfinite().all()
    assert not torch.equal(told.depth, untold.depth)


def test_forward_finds_the_sizes(tiny: DepthAnything3) -> None:
    views = Views(images=padded()[0], names=("a", "b", "c", "d"), masks=inside(SIZES, 42, 42))
    with torch.no_grad():
        assert torch.equal(tiny(views).depth, tiny.raw(padded(), sizes=SIZES).depth[0])


def test_sky_of_the_padding_does_not_count() -> None:
    torch.manual_seed(0)
    geometry, metric = tiny_config(), tiny_config(kind="depth_sky")
    nested = NestedDepthAnything3(NestedConfig(name="tiny", geometry=geometry, metric=metric))
    livened(nested.geometry)
    livened(nested.metric)
    with torch.no_grad():
        raw = nested.raw(padded(), sizes=SIZES)
        assert raw.metric.sky is not None
        sky = torch.zeros_like(raw.metric.sky)
        sky[..., :4, :] = 1
        calm = dataclasses.replace(raw, metric=dataclasses.replace(raw.metric, sky=sky))
        wild_depth = torch.where(inside(SIZES, 42, 42), raw.geometry.depth, 1e4)
        wild = dataclasses.replace(calm, geometry=dataclasses.replace(raw.geometry, depth=wild_depth))
        (first, scale), (second, same) = nested.finished(calm), nested.finished(wild)
    torch.testing.assert_close(scale, same)
    seen = inside(SIZES, 42, 42)
    torch.testing.assert_close(first.depth[0, seen], second.depth[0, seen])
    assert first.metric


def test_sizes_off_the_grid_are_refused(tiny: DepthAnything3) -> None:
    with pytest.raises(InputError, match="multiples of 14, got 30x28"):
        tiny.raw(images(2, 42, 42), sizes=((28, 30), (42, 42)))
