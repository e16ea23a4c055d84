"""``--model auto``: the best model on this machine that may be used commercially, and a word on better ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from da3gs.checkpoints import BUNDLED, MODELS, choice, load_model
from da3gs.checkpoints.choice import better_model, chosen_card, resolved_model
from da3gs.pipeline.model_loading import loaded_model
from da3gs.pipeline.settings import Settings


def downloaded(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these models, and no others, lay in the cache."""
    monkeypatch.setattr(choice, "cached_folder", lambda card: Path("there") if card.name in names else None)


def test_the_bundled_model_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded(monkeypatch)
    assert resolved_model("auto") == BUNDLED == resolved_model("AUTO")
    assert load_model("auto").config.name == MODELS[BUNDLED].config
    ready = loaded_model("auto", Settings())
    assert ready.card == MODELS[BUNDLED]


def test_the_largest_that_does_the_same_and_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded(monkeypatch, "da3-small")
    assert chosen_card().name == "da3-small"
    downloaded(monkeypatch, "da3-small", "da3-base")
    assert chosen_card().name == "da3-base"


def test_a_non_commercial_or_monocular_one_is_never_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded(monkeypatch, *(name for name, card in MODELS.items() if not card.commercial), "da3metric-large")
    assert resolved_model("auto") == BUNDLED
    assert resolved_model("da3-giant") == "da3-giant"
    assert resolved_model(Path("auto")) == Path("auto")


def test_the_bundled_one_names_what_is_better() -> None:
    better = better_model(BUNDLED)
    assert better is not None
    assert better.name == "da3-base"
    assert better.commercial
    assert better_model("da3-small") is None
    assert better_model("a loaded model") is None
