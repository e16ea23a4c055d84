"""What every record of tensors shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

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
