"""LPIPS (Zhang et al. 2018), version 0.1, with the VGG-16 trunk that papers print, or AlexNet's.

The trunk's ImageNet weights and the linear heads are files that somebody else made: this module computes, reading them
is its caller's business. Values with other weights mean nothing and must not be reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

TrunkName = Literal["vgg16", "alexnet"]
"""The networks whose features are compared, in torchvision's words."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


@dataclasses.dataclass(frozen=True, slots=True)
class _Convolution:
    """One convolution of a trunk, a rectifier after it."""

    place: int
    channels: int
    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Trunk:
    """Convolutions in five stages, after each of which pictures are compared."""

    pool: int
    """Side of the maximum over a window, of stride 2, before the stages that are named next."""
    pooled: tuple[int, ...]
    stages: tuple[tuple[_Convolution, ...], ...]


def _vgg_stage(place: int, channels: int, width: int, count: int) -> tuple[_Convolution, ...]:
    return tuple(_Convolution(place + 2 * i, channels if i == 0 else width, width) for i in range(count))


_TRUNKS: dict[TrunkName, _Trunk] = {
    "vgg16": _Trunk(
        pool=2,
        pooled=(1, 2, 3, 4),
        stages=(
            _vgg_stage(0, 3, 64, 2),
            _vgg_stage(5, 64, 128, 2),
            _vgg_stage(10, 128, 256, 3),
            _vgg_stage(17, 256, 512, 3),
            _vgg_stage(24, 512, 512, 3),
        ),
    ),
    "alexnet": _Trunk(
        pool=3,
        pooled=(1, 2),
        stages=(
            (_Convolution(0, 3, 64, 11, 4, 2),),
            (_Convolution(3, 64, 192, 5, 1, 2),),
            (_Convolution(6, 192, 384),),
            (_Convolution(8, 384, 256),),
            (_Convolution(10, 256, 256),),
        ),
    ),
}


def trunk_of(shapes: Mapping[str, tuple[int, ...]]) -> TrunkName | None:
    """Name of the trunk that tensors of these names and shapes are; None: neither. Others among them do not matter."""
    for name in _TRUNKS:
        if all(shapes.get(key) == shape for key, shape in trunk_shapes(name).items()):
            return name
    return None


def trunk_shapes(name: TrunkName) -> dict[str, tuple[int, ...]]:
    """Names (torchvision's) and shapes of a trunk's weights, in order."""
    found: dict[str, tuple[int, ...]] = {}
    for c in (c for stage in _TRUNKS[name].stages for c in stage):
        found[f"features.{c.place}.weight"] = (c.width, c.channels, c.kernel, c.kernel)
        found[f"features.{c.place}.bias"] = (c.width,)
    return found


class Lpips(nn.Module):
    """Distance of two pictures in [0, 1] (``normalize=True`` in the reference's words); channels come last.

    Features of five stages, each scaled to unit length over its channels; squared differences weighed by the heads,
    averaged over the picture and added up.
    """

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor], *, name: TrunkName = "vgg16") -> None:
        """Take the weights.

        Args:
            trunk: torchvision's state dict (``features.0.weight`` ...) of the network of this name.
            heads: the reference's ``lin0.model.1.weight`` ... ``lin4`` for it.
            name: of the trunk.

        Raises:
            KeyError: a weight is missing.
            ValueError: a weight has another shape.
        """
        super().__init__()
        for key, shape in trunk_shapes(name).items():
            if tuple(trunk[key].shape) != shape:
                raise ValueError(f"{key} has the shape {tuple(trunk[key].shape)}")
        plan = _TRUNKS[name]
        self.stages = nn.ModuleList()
        for index, stage in enumerate(plan.stages):
            layers: list[nn.Module] = [nn.MaxPool2d(plan.pool, 2)] if index in plan.pooled else []
            for c in stage:
                conv = nn.Conv2d(c.channels, c.width, c.kernel, c.stride, c.padding)
                conv.weight.data = trunk[f"features.{c.place}.weight"].float().clone()
                conv.bias.data = trunk[f"features.{c.place}.bias"].float().clone()
                layers += [conv, nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
            weight, width = heads[f"lin{index}.model.1.weight"], stage[-1].width
            if weight.numel() != width:
                raise ValueError(f"lin{index} has {weight.numel()} weights, not {width}")
            self.register_buffer(f"head{index}", weight.float().reshape(width, 1, 1).clone())
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.requires_grad_(False).eval()

    def forward(self, image: Float[Tensor, "H W 3"], reference: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
        """The distance; 0 for equal pictures."""
        x = torch.stack((image, reference)).movedim(-1, 1).float()
        x = (2 * x - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        total = x.new_zeros(())
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            apart = (unit[0] - unit[1]).square() * self.get_buffer(f"head{stage}")
            total = total + apart.sum(0).mean()
        return total
