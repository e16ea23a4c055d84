"""Weights: which models there are, their names here and upstream, and loading them.

What needs torch is imported when it is first used, so that `da3gs models` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from da3gs.checkpoints.zoo import BUNDLED, MODELS, ModelCard, model_card

if TYPE_CHECKING:
    from da3gs.checkpoints.load import Network, checkpoint_card, load_model, save_checkpoint

__all__ = [
    "BUNDLED",
    "MODELS",
    "ModelCard",
    "Network",
    "checkpoint_card",
    "load_model",
    "model_card",
    "save_checkpoint",
]

_LOADING = ("Network", "checkpoint_card", "load_model", "save_checkpoint")


def __getattr__(name: str) -> object:
    if name not in _LOADING:
        raise AttributeError(f"module 'da3gs.checkpoints' has no attribute {name!r}")
    value: object = getattr(importlib.import_module("da3gs.checkpoints.load"), name)
    globals()[name] = value
    return value
