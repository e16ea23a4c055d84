"""The model, the device and the threads that a run uses."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from da3gs._tensors import chosen_device
from da3gs.checkpoints import MODELS, ModelCard, checkpoint_card, load_model
from da3gs.checkpoints.choice import resolved_model
from da3gs.checkpoints.pickled import named_card
from da3gs.checkpoints.zoo import Head
from da3gs.errors import InputError
from da3gs.pipeline.settings import Settings

_PRECISIONS = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network ready to run, and what there is to know of it."""

    network: nn.Module
    """In eval mode on its device."""
    card: ModelCard
    """Name, licence, resolution."""


def loaded_model(model: str | Path | nn.Module | LoadedModel, settings: Settings) -> LoadedModel:
    """The model in eval mode on the device that the settings name, in their precision.

    Raises:
        CheckpointError: its weights are missing or broken.
        BackendError: the machine has no such device.
    """
    if isinstance(model, LoadedModel):
        return model
    device = chosen_device(settings.device)
    if isinstance(model, nn.Module):
        return LoadedModel(network=model.to(device).eval(), card=card_of(model, None))
    model = resolved_model(model)
    network = load_model(model, device=device, dtype=_PRECISIONS[settings.dtype])
    return LoadedModel(network=network, card=card_of(network, model))


def card_of(network: nn.Module, source: str | Path | None) -> ModelCard:
    """The card of a network: by its name, by what its file tells, or by its configuration."""
    if source is not None and str(source).lower() in MODELS and not Path(source).exists():
        return MODELS[str(source).lower()]
    name = getattr(getattr(network, "config", None), "name", type(network).__name__)
    path = None if source is None else Path(source)
    told = checkpoint_card(path) if path is not None and path.is_file() else {}
    known = MODELS.get(name) if path is None else named_card(path, name)
    return ModelCard(
        name=_text(told.get("name"), known.name if known and not told else name),
        config=name,
        repository=None,
        licence=_text(told.get("licence"), known.licence if known and not told else "unknown"),
        commercial=told.get("commercial") is True if told else known is not None and known.commercial,
        parameters=sum(p.numel() for p in network.parameters()),
        heads=_heads(network, known),
        resolution=_number(told.get("resolution"), known.resolution if known else 504, least=56),
        views=_number(told.get("views"), known.views if known else 8, least=1),
        trusted_cameras=told.get("trusted_cameras") is True if told else known is not None and known.trusted_cameras,
    )


def _heads(network: nn.Module, known: ModelCard | None) -> tuple[Head, ...]:
    """Those of the known model; the Gaussian head exactly where this network has one, since one is trained onto others
    of the same name."""
    heads: tuple[Head, ...] = known.heads if known else ("depth",)
    splats = any(getattr(module, "splat_head", None) is not None for module in network.modules())
    if splats == ("splats" in heads):
        return heads
    return (*heads, "splats") if splats else tuple(head for head in heads if head != "splats")


def _text(value: object, otherwise: str) -> str:
    return value[:80] if isinstance(value, str) and value else otherwise


def _number(value: object, otherwise: int, *, least: int) -> int:
    return value if isinstance(value, int) and least <= value <= 4096 else otherwise


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Torch and the rasteriser on so many threads inside the block."""
    if threads is None:
        yield
        return
    if not 1 <= threads <= 1024:
        raise InputError(f"--threads is a number from 1 to 1024, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
