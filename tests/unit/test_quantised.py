"""Checkpoints with int8: what comes back, how large they are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from da3gs.checkpoints import load_model, save_checkpoint
from da3gs.checkpoints.quantised import SCALES, dequantised, quantised
from da3gs.checkpoints.stored import StoredTensors
from da3gs.checkpoints.zoo import bundled_card
from da3gs.errors import CheckpointError
from da3gs.network.config import CONFIGS, ModelConfig
from da3gs.network.model import DepthAnything3


def small() -> DepthAnything3:
    torch.manual_seed(0)
    config = CONFIGS["da3gs-small"]
    assert isinstance(config, ModelConfig)
    return DepthAnything3(config).eval()


def test_weights_are_off_by_half_a_step_at_most() -> None:
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 3, 14, 14, generator=g) * 10 ** torch.linspace(-6, 3, 40)[:, None, None, None]
    matrix[7] = 0
    whole, scales = quantised(matrix)
    assert whole.dtype == torch.int8
    assert scales.shape == (40, 21)  # 588 weights a row in groups of 28
    back = dequantised(whole, scales)
    assert torch.equal(back[7], matrix[7])
    assert ((back - matrix).abs().view(40, 21, 28).amax(-1) <= 0.5001 * scales).all()
    torch.testing.assert_close(dequantised(*quantised(back)), back, rtol=1e-6, atol=0)  # written again it is the same


def test_the_file_is_small_and_comes_back(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "small.safetensors"
    save_checkpoint(model, path, card={"licence": "Apache-2.0"}, dtype=torch.float16, int8=True)
    parameters = sum(p.numel() for p in model.parameters())
    assert path.stat().st_size < 1.45 * parameters
    assert bundled_card(path).parameters == parameters
    again = load_model(path)
    assert again.config == model.config
    for name, value in model.state_dict().items():
        loaded = again.state_dict()[name]
        assert loaded.dtype == torch.float32
        assert (loaded - value).abs().max() <= 0.005 * value.abs().max() + 1e-7, name
    with torch.no_grad():
        images = torch.rand(1, 2, 3, 42, 56, generator=torch.Generator().manual_seed(1))
        one, other = model.raw(images), again.raw(images)
    torch.testing.assert_close(other.depth, one.depth, rtol=0.02, atol=0)


def test_scales_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_checkpoint(small(), path, dtype=torch.float16, int8=True)
    tensors, metadata = load_file(path), StoredTensors([path]).metadata
    name = "backbone.blocks.0.attention.qkv.weight"
    assert tensors[name].dtype == torch.int8
    for wrong in (torch.ones(3), torch.full((len(tensors[name]), 12), torch.inf), None):
        odd = {**tensors, name + SCALES: wrong} if wrong is not None else dict(tensors)
        if wrong is None:
            del odd[name + SCALES]
        save_file(odd, path, metadata=metadata)
        with pytest.raises(CheckpointError, match=r"does not fit its matrix|not finite|int8"):
            load_model(path)
