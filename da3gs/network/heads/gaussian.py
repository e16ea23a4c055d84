"""The Gaussian head: raw splat channels for every pixel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.geometry.harmonics import C0
from da3gs.network.config import IMAGE_MEAN, IMAGE_STD, SplatConfig
from da3gs.network.heads.dpt import FusionChain, Pyramid, add_position_code_, output_stack, resized


class ImageFeatures(nn.Module):
    """Three convolutions that bring the image's own detail back at full size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, channels // 4, channels // 2, channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C H W"]:
        """Features of normalised images."""
        x = images
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        return x


class GaussianHead(nn.Module):
    """A DPT chain with the image's own features added before the last layers; channels are left raw."""

    def __init__(self, width: int, config: SplatConfig) -> None:
        super().__init__()
        self.config = config
        features = config.pyramid.features
        self.pyramid = Pyramid(width, config.pyramid, coded=True)
        self.fusion = FusionChain(features)
        self.neck = nn.Conv2d(features, features // 2, 3, padding=1)
        self.image_features = ImageFeatures(features // 2)
        self.output = output_stack(features // 2, config.channels)

    def forward(
        self, features: Sequence[Tensor], grid: tuple[int, int], images: Float[Tensor, "N 3 H W"]
    ) -> Float[Tensor, "N H W C"]:
        """Raw channels; ``features`` are four tensors (N, patches, channels), ``images`` are normalised."""
        height, width = images.shape[-2:]
        fused = resized(self.neck(self.fusion(self.pyramid(features, grid))), height, width)
        fused = add_position_code_(fused + self.image_features(images), width / height)
        channels = self.output(fused).float().permute(0, 2, 3, 1)
        return channels + self._pixel_colors(images) if self.config.photo_color else channels

    def _pixel_colors(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N H W C"]:
        """Zero but for the constant harmonics, which show the pixels' own colours."""
        mean, std = images.new_tensor(IMAGE_MEAN), images.new_tensor(IMAGE_STD)
        colors = (images.float().movedim(1, -1) * std + mean - 0.5) / C0
        found = colors.new_zeros(*colors.shape[:-1], self.config.channels)
        first = 2 + 3 + 4  # after offset, scales and quaternion
        found[..., first : first + 3 * self.config.coefficients : self.config.coefficients] = colors
        return found
