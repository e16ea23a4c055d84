"""Fresh weights: filters that see, blocks that take part; and the card of a published model."""

import dataclasses

import torch

from da3gs.network.config import CONFIGS, ModelConfig
from da3gs.network.model import DepthAnything3, normalize_images
from da3gs.training.publish import card_text
from da3gs.training.validation import Figures
from da3gs.training.weight_init import awaken, cosine_filters


def _small() -> DepthAnything3:
    nano = CONFIGS["da3gs-nano"]
    assert isinstance(nano, ModelConfig)
    backbone = dataclasses.replace(nano.backbone, width=64, depth=6, heads=1, out_layers=(2, 3, 4, 5), table=8)
    return DepthAnything3(dataclasses.replace(nano, backbone=backbone))


def test_cosine_filters_are_orthogonal_and_start_with_the_mean():
    filters = cosine_filters(40, 14)
    assert filters.shape == (40, 3, 14, 14)
    flat = torch.nn.functional.normalize(filters.flatten(1), dim=1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(40), atol=1e-5, rtol=0)
    assert filters[0].std() == 0
    assert (filters[24:].sum((1, 2, 3)).abs() < 1e-4).all()  # the colour contrasts do not see grey


def test_patches_answer_alike_whatever_the_spectrum():
    g = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(6, 3, 7, 9, generator=g), size=(70, 98), mode="bilinear")
    images = (images + 0.02 * torch.rand(6, 3, 70, 98, generator=g)).clamp(0, 1)[None]  # smooth, with faint detail
    model = _small()
    awaken(model, images)
    with torch.no_grad():
        answers = model.backbone.patch_embed(normalize_images(images).flatten(0, 1))
    torch.testing.assert_close(answers.mean((0, 2, 3)), torch.zeros(64), atol=1e-3, rtol=0)
    torch.testing.assert_close(answers.std((0, 2, 3)), torch.ones(64), atol=1e-2, rtol=0)
    table = model.backbone.position_table[0, 1:].reshape(8, 8, 64)
    assert (table[:, 1:] - table[:, :-1]).abs().mean() < 0.3 * table.abs().mean() * 8  # neighbours are alike


def test_the_card_tells_what_was_measured():
    figures = Figures(
        absrel=0.1,
        delta1=0.9,
        constant_absrel=0.4,
        silog=0.1,
        constant_silog=0.5,
        rotation=1.0,
        direction=2.0,
        auc5=0.3,
        auc30=0.8,
    )
    text = card_text("da3gs-nano", 1234567, 8_206_258, {"252x336 given": figures}, 48)
    assert "Images seen: 1,234,567." in text
    assert "| 252x336 | given | 0.100 | 0.900 | 0.400 | 1.0° | 2.0° | 0.300 | 0.800 |" in text
    assert "depth, ray and camera network with 8.2 million" in text
    assert "trained from nothing" in text
    small = card_text("da3gs-small", 1, 1, {"252x336 given": figures}, 48, splats=True, backbone="DINOv2 (Apache-2.0)")
    assert "splat network" in small
    assert "- Backbone: DINOv2 (Apache-2.0);" in small
    assert "`da3gs train small`, then `small-decay` and `small-splats`" in small
