"""Records of tensors, and the devices that they lie on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar, assert_never

import torch
from torch import Tensor

from da3gs.errors import BackendError

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where to compute; ``auto`` takes CUDA where there is any."""

Record = TypeVar("Record", bound="TensorRecord")


class TensorRecord:
    """Base of the frozen dataclasses that hold tensors; subclasses decide their own fields.

    ``map`` reaches every tensor, also those in nested records; anything else (sizes, names, ``None``) stays.
    """

    __slots__ = ()

    def map(self: Record, function: Callable[[Tensor], Tensor]) -> Record:
        """The same record with ``function`` applied to each of its tensors."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, TensorRecord):
                changes[field.name] = value.map(function)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to(self: Record, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Record:
        """The record on another device, and its floating-point tensors in another dtype."""
        return self.map(lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None))

    def detach(self: Record) -> Record:
        """The record cut off from autograd."""
        return self.map(Tensor.detach)

    @property
    def device(self) -> torch.device:
        """The device of the first tensor."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor | TensorRecord):
                return value.device
        raise AttributeError(f"{type(self).__name__} holds no tensor")


def chosen_device(device: Device) -> torch.device:
    """The device to run on; ``auto`` takes CUDA where there is any.

    Raises:
        BackendError: the machine has no such device.
    """
    match device:
        case "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        case "cpu":
            return torch.device("cpu")
        case "cuda":
            if not torch.cuda.is_available():
                raise BackendError("--device cuda, but torch sees no CUDA device; use --device cpu")
            return torch.device("cuda")
        case "mps":
            if not torch.backends.mps.is_available():
                raise BackendError("--device mps, but this machine has none; use --device cpu")
            return torch.device("mps")
        case _:
            assert_never(device)


def drawing_device(device: Device) -> torch.device:
    """The device that splats lie on: CUDA, else the CPU, which has double precision and a rasteriser of ours.

    Raises:
        BackendError: the machine has no such device.
    """
    chosen = chosen_device(device)
    return chosen if chosen.type == "cuda" else torch.device("cpu")
