"""The models there are: what they are called, where they come from, and what their licence allows."""

from __future__ import annotations

import dataclasses
from typing import Literal

from da3gs.errors import InputError

Head = Literal["depth", "rays", "cameras", "splats", "sky", "metric"]
"""What a model can predict."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a user has to know before choosing a model."""

    name: str
    """Name for ``--model`` and ``load_model``."""
    config: str
    """The configuration it is built from."""
    repository: str | None
    """Hugging Face repository of the weights; None: comes with the package."""
    licence: str
    """SPDX identifier of the weights' licence."""
    commercial: bool
    """Whether the licence allows commercial use."""
    parameters: int
    """Number of parameters."""
    heads: tuple[Head, ...]
    """What it predicts."""
    resolution: int
    """Long side in pixels that it works best at."""
    views: int
    """How many views it is meant to see together."""
    revision: str | None = None
    """Commit of the repository that is downloaded; None: the newest."""
    about: str = ""
    """One line on what it is for."""

    @property
    def bundled(self) -> bool:
        """Whether the weights come with the package."""
        return self.repository is None


_GEOMETRY: tuple[Head, ...] = ("depth", "rays", "cameras")
_APACHE, _NON_COMMERCIAL = ("Apache-2.0", True), ("CC-BY-NC-4.0", False)


def _official(
    name: str,
    licence: tuple[str, bool],
    parameters: int,
    heads: tuple[Head, ...],
    about: str,
    *,
    config: str | None = None,
    views: int = 32,
) -> ModelCard:
    return ModelCard(
        name=name,
        config=config or name,
        repository=f"depth-anything/{name.upper()}",
        licence=licence[0],
        commercial=licence[1],
        parameters=parameters,
        heads=heads,
        resolution=504,
        views=views,
        about=about,
    )


_NESTED = "metric scale and sky from a second branch, with splat head"

MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="da3gs-nano",
            config="da3gs-nano",
            repository=None,
            licence="Apache-2.0",
            commercial=True,
            parameters=8_206_258,
            heads=_GEOMETRY,
            resolution=252,
            views=8,
            about="bundled; trained on procedural rooms only, for trying things out",
        ),
        _official("da3-small", _APACHE, 34_299_463, _GEOMETRY, "the fastest official model"),
        _official("da3-base", _APACHE, 135_366_599, _GEOMETRY, "the best model that allows commercial use"),
        _official("da3-large", _NON_COMMERCIAL, 410_941_767, _GEOMETRY, "first release; prefer 1.1"),
        _official("da3-large-1.1", _NON_COMMERCIAL, 410_941_767, _GEOMETRY, "retrained", config="da3-large"),
        _official("da3-giant", _NON_COMMERCIAL, 1_355_674_125, (*_GEOMETRY, "splats"), "with splat head; prefer 1.1"),
        _official(
            "da3-giant-1.1",
            _NON_COMMERCIAL,
            1_355_674_125,
            (*_GEOMETRY, "splats"),
            "with splat head, retrained",
            config="da3-giant",
        ),
        _official("da3mono-large", _APACHE, 334_171_394, ("depth", "sky"), "relative depth of single images", views=1),
        _official(
            "da3metric-large",
            _APACHE,
            334_171_394,
            ("depth", "sky", "metric"),
            "depth in metres, given a focal length",
            views=1,
        ),
        _official(
            "da3nested-giant-large",
            _NON_COMMERCIAL,
            1_689_845_519,
            (*_GEOMETRY, "splats", "sky", "metric"),
            _NESTED + "; prefer 1.1",
        ),
        _official(
            "da3nested-giant-large-1.1",
            _NON_COMMERCIAL,
            1_689_845_519,
            (*_GEOMETRY, "splats", "sky", "metric"),
            _NESTED + ", retrained",
            config="da3nested-giant-large",
        ),
    )
}
"""All models by name."""


def model_card(name: str) -> ModelCard:
    """The card of this name, in any case.

    Raises:
        InputError: there is none.
    """
    card = MODELS.get(name.lower())
    if card is None:
        raise InputError(f"there is no model {name!r}; known are {', '.join(MODELS)}")
    return card
