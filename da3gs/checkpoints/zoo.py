"""The models there are: what they are called, where they come from, and what their licence allows."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Literal

from da3gs.errors import InputError

BUNDLED = "da3gs-nano"
"""The model that comes with the package."""
Head = Literal["depth", "rays", "cameras", "splats", "sky", "metric"]
"""What a model can predict."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """Facts of a model to know before choosing it."""

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
    trusted_cameras: bool = False
    """Whether the cameras that it predicts are good enough to begin at; where not, they come from
    structure-from-motion."""
    revision: str | None = None
    """Commit of the repository that is downloaded; None: the newest."""
    sha256: str | None = None
    """Of that commit's model.safetensors, where it is known; else the hub's word is taken."""
    about: str = ""
    """One line on what it is for."""

    @property
    def megabytes(self) -> int:
        """Size of the weights in float32."""
        return round(self.parameters * 4 / 1e6)

    @property
    def bundled(self) -> bool:
        """Whether the weights come with the package."""
        return self.name == BUNDLED

    @property
    def by_photos(self) -> bool:
        """Whether splats from depth take the place of its head's where photos agree on the depth: small heads of our
        own are softer than these; official heads are what their models are for."""
        return self.repository is None and "splats" in self.heads


_PINNED: dict[str, tuple[str, str | None]] = {
    "da3-small": (
        "e08cab65ca0ec38e7826075418411ab90cab4da3",
        "364492e38a3a06d221ac75da7f6621ada3f2361cd24fde11ba79091e9f40efcf",
    ),
    "da3-base": (
        "f4a6c9b3c95e41c82048423d3493a81ec3fa810e",
        "e01067dc1659613083d9145a9a2547ccdbe6ccbbf83c4fe7b3e8a4e2bdae78b5",
    ),
    "da3-large": ("c54c26b16ec04d218e8d584ecf4bce082a9fcc20", None),
    "da3-large-1.1": (
        "0e109ae307c5982f319a67cf6f9f99ccdc0ec97c",
        "739905c423cf0d6ccaf9e61a8401d82ba1ac32d7f4d3ee6dca8f92b377633f64",
    ),
    "da3-giant": (
        "7cd62ae9315b9dff094d2d300e4ad012640607dd",
        "1e47a08338ca73a6d6a21d37fd060b26b993b672bc6ddf6295fe474df2592001",
    ),
    "da3-giant-1.1": ("72ee9f89ce4e50d704e9d55ee9c646ec8dc25a19", None),
    "da3mono-large": (
        "f465978e618db8cc79c83b8bbf24964857db1875",
        "7a799a7f95eb8d4c404c2ca8be3dc3276b350a417ddc4420db72ba850cc0e960",
    ),
    "da3metric-large": (
        "4010e39f3634a45bc60553321fb49fb760bd594e",
        "bbea5b0b3ee389849cffa7ddae89de064a90abd2b055fc5aa99aac68db324776",
    ),
    "da3nested-giant-large": (
        "8615eefb62f2db4f8d6ebaa59160086981672829",
        "8899faf998dedbc230261ab736fa57015280727399429122d44d4f9e7aac2ddd",
    ),
    "da3nested-giant-large-1.1": ("b2359bdf726fb44ef62acca04d629dcf158053e7", None),
}
"""Commit and SHA-256 of the weights, as several public repositories record them for the official files."""

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
        trusted_cameras="cameras" in heads,
        revision=_PINNED[name][0],
        sha256=_PINNED[name][1],
        about=about,
    )


def bundled_card(weights: Path) -> ModelCard:
    """The card of the model that comes with the package; the header of its file tells its size and whether it has a
    splat head."""
    shapes = _stored_shapes(weights)
    splats: tuple[Head, ...] = ("splats",) if any(name.startswith("splat_head.") for name in shapes) else ()
    return ModelCard(
        name=BUNDLED,
        config=BUNDLED,
        repository=None,
        licence="Apache-2.0",
        commercial=True,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        heads=(*_GEOMETRY, *splats),
        resolution=252,
        views=16,  # trained on 8; where cameras are found stereo tells the depth, and more photos leave fewer holes
        about="bundled; trained on procedural rooms, for trying things out with known poses",
    )


def _stored_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes by name from the header of a .safetensors file: a length in 8 bytes, then JSON. Empty where it is missing
    or broken, which loading it will tell."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, _LONGEST_HEADER)))
        beside = ("__metadata__", ".group_scales")  # scales of int8 (``quantised``) are no parameters
        return {name: told["shape"] for name, told in header.items() if not name.endswith(beside)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


_LONGEST_HEADER = 1 << 22
_NESTED = "metric scale and sky from a second branch, with splat head"

MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        bundled_card(Path(__file__).parent / f"{BUNDLED}.safetensors"),
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
