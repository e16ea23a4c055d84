"""What the command tests share: photos, a model with random weights, a saved scene; each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.small_scene import small_scene_folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small photos."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "b", "c"):
        coarse = torch.rand(1, 3, 4, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(64, 80), mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((smooth.movedim(0, -1) * 255).byte().numpy()).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the bundled model's shape that has learnt nothing."""
    from da3gs.checkpoints import model_card, save_checkpoint
    from da3gs.network.config import named_config
    from da3gs.network.model import DepthAnything3

    torch.manual_seed(0)
    card = model_card("da3gs-nano")
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_checkpoint(DepthAnything3(named_config(card.config)), path, card=card)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with a small scene."""
    return small_scene_folder(tmp_path / "small.scene")
