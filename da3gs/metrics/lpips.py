"""LPIPS (Zhang et al. 2018) with the VGG-16 trunk, version 0.1: the distance that papers print.

The trunk's ImageNet weights and the linear heads are files that somebody else made: this module computes, reading them
is its caller's business. Values with other weights mean nothing and must not be reported.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_STAGES = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))


class Lpips(nn.Module):
    """Distance of two pictures in [0, 1] (``normalize=True`` in the reference's words); channels come last.

    Features of five VGG stages, each scaled to unit length over its channels; squared differences weighed by the
    heads, averaged over the picture and added up.
    """

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Take the weights.

        Args:
            trunk: torchvision's ``vgg16`` state dict (``features.0.weight`` ...).
            heads: the reference's ``lin0.model.1.weight`` ... ``lin4``.

        Raises:
            KeyError: a weight is missing.
            ValueError: a weight has another shape.
        """
        super().__init__()
        position = 0
        self.stages = nn.ModuleList()
        for stage, (channels, width, convolutions) in enumerate(_STAGES):
            layers: list[nn.Module] = [] if stage == 0 else [nn.MaxPool2d(2, 2)]
            position += 0 if stage == 0 else 1
            for i in range(convolutions):
                conv = nn.Conv2d(channels if i == 0 else width, width, 3, padding=1)
                for name in ("weight", "bias"):
                    value = trunk[f"features.{position}.{name}"]
                    if value.shape != getattr(conv, name).shape:
                        raise ValueError(f"features.{position}.{name} has the shape {tuple(value.shape)}")
                    getattr(conv, name).data = value.float().clone()
                layers += [conv, nn.ReLU()]
                position += 2
            self.stages.append(nn.Sequential(*layers))
        for stage, (_, width, _) in enumerate(_STAGES):
            weight = heads[f"lin{stage}.model.1.weight"]
            if weight.numel() != width:
                raise ValueError(f"lin{stage} has {weight.numel()} weights, not {width}")
            self.register_buffer(f"head{stage}", weight.float().reshape(width, 1, 1).clone())
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
