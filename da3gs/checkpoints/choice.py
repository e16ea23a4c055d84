"""Choice of a model where none is named: the best that is on this machine and may be used commercially."""

from __future__ import annotations

from pathlib import Path

from da3gs.checkpoints.download import cached_folder
from da3gs.checkpoints.zoo import BUNDLED, MODELS, ModelCard

AUTO = "auto"
"""The name that stands for it."""


def resolved_model(model: str | Path) -> str | Path:
    """The model itself, or for ``auto`` the name of the best one on this machine.

    >>> resolved_model("da3-small")
    'da3-small'
    """
    return chosen_card().name if isinstance(model, str) and model.lower() == AUTO else model


def chosen_card() -> ModelCard:
    """Model that ``auto`` stands for: the largest any-view model that was downloaded, else the bundled one.

    Models whose licence forbids commercial use are never chosen unasked.
    """
    return next((card for card in _candidates() if cached_folder(card) is not None), MODELS[BUNDLED])


def better_model(name: str) -> ModelCard | None:
    """Model to download instead of the model of this name, where it is the bundled one; else None."""
    return _candidates()[0] if name == BUNDLED else None


def _candidates() -> list[ModelCard]:
    """Official models that do all that the bundled one does, whoever uses them for whatever; the largest first."""
    needed = {"depth", "cameras"}
    fitting = [card for card in MODELS.values() if not card.bundled and card.commercial and needed <= set(card.heads)]
    return sorted(fitting, key=lambda card: -card.parameters)
