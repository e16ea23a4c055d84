"""DINOv2 whose later blocks look in turn at each view alone and at all views together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from da3gs.network.attention import Block, Rotation, rope_rotation
from da3gs.network.config import BackboneConfig, ReferenceStrategy
from da3gs.network.reference_view import choose_reference


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class BackboneOutputs:
    """Features for the heads; lists have one entry a group of equally large views."""

    features: list[list[Float[Tensor, "B _ _ F"]]]
    """``features[level][group]``: patch features of the four out layers."""
    camera_tokens: Float[Tensor, "B V F"]
    """The first token of the last out layer, not normalised, in input order."""
    reference: Int[Tensor, "B"] | None
    """The view chosen as reference; None where none was chosen and the first view is it."""
    exported: dict[int, list[Float[Tensor, "B _ _ C"]]]
    """Normalised patch tokens of the layers asked for, in input order."""


class Backbone(nn.Module):
    """The transformer: images to features of four depths.

    The official code moves the reference view to the front. Here views stay where they are and only the tokens that
    mark the reference are written elsewhere: attention does not ask for order.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.global_from is not None:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, config.width))
        self.position_table = nn.Parameter(torch.zeros(1, 1 + config.table**2, config.width))
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.feed_forward_width,
                feed_forward=config.feed_forward,
                qk_norm=config.has_qk_norm(i),
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-5)

    def forward(
        self,
        groups: Sequence[Tensor],
        slots: Sequence[Tensor],
        *,
        camera_tokens: Float[Tensor, "B V C"] | None = None,
        reference: ReferenceStrategy = "saddle_balanced",
        exported: Sequence[int] = (),
    ) -> BackboneOutputs:
        """Run all blocks over views of one or several sizes.

        Args:
            groups: normalised images (B, S, 3, H, W), one tensor for every size, sides multiples of the patch.
            slots: for every group, where its views stand among all views.
            camera_tokens: encodings of known cameras, in input order; the first view is then the reference.
            reference: how the reference is chosen among three or more views without cameras.
            exported: blocks whose normalised outputs are wanted.
        """
        config = self.config
        views = sum(len(s) for s in slots)
        states = [self.embed(images) for images in groups]
        local_rotations = [self._local_rotation(g) for g in groups]
        global_rotation = self._global_rotation(states)
        local = states
        chosen: Tensor | None = None
        features: list[list[Tensor]] = []
        exports: dict[int, list[Tensor]] = {}
        tokens = states[0]  # replaced below; every model has out layers
        for i, block in enumerate(self.blocks):
            if config.global_from is not None:
                if i == config.global_from - 1 and views >= 3 and camera_tokens is None:
                    chosen = choose_reference(self._gather([x[:, :, 0] for x in states], slots), reference)
                if i == config.global_from:
                    written = self._camera_tokens(states[0], views, chosen) if camera_tokens is None else camera_tokens
                    states = self._with_first_tokens(states, slots, written)
            if config.is_global(i):
                states = self._global_block(block, states, global_rotation if config.has_rope(i) else None)
            else:
                states = [
                    block(x.flatten(0, 1), rotation if config.has_rope(i) else None).unflatten(0, x.shape[:2])
                    for x, rotation in zip(states, local_rotations, strict=True)
                ]
                local = states
            if i in config.out_layers:
                features.append([self._feature(a, x) for a, x in zip(local, states, strict=True)])
                tokens = self._gather(
                    [self._joined(a[:, :, 0], x[:, :, 0]) for a, x in zip(local, states, strict=True)], slots
                )
            if i in exported:
                exports[i] = [self.norm(x)[:, :, 1:] for x in states]
        return BackboneOutputs(features=features, camera_tokens=tokens, reference=chosen, exported=exports)

    def embed(self, images: Float[Tensor, "B S 3 H W"]) -> Float[Tensor, "B S T C"]:
        """Class token and patch tokens of every view with their position embeddings, in the dtype of the tables."""
        batch = images.shape[:2]
        patches = self.patch_embed(images.flatten(0, 1))
        table = self.positions(patches.shape[-2], patches.shape[-1])
        tokens = patches.flatten(2).mT.to(table.dtype) + table[:, 1:]
        first = (self.class_token + table[:, :1]).expand(len(tokens), -1, -1)
        return torch.cat((first, tokens), 1).unflatten(0, batch)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 T C"]:
        """The position table at this patch grid.

        Resampled (bicubic) by the factors ``(rows + 0.1) / 37`` and not to a size: the coordinate map uses these
        factors, and the learned features expect it. Only the native square grid takes the table as it is.
        """
        side = self.config.table
        table = self.position_table.float()
        if (rows, columns) == (side, side):
            return table
        grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", antialias=False, recompute_scale_factor=False)
        return torch.cat((table[:, :1], grid.flatten(2).mT), 1)

    def _local_rotation(self, images: Tensor) -> Rotation:
        rows, columns = (side // self.config.patch for side in images.shape[-2:])
        row = torch.arange(rows, device=images.device) + 1
        column = torch.arange(columns, device=images.device) + 1
        patches = torch.stack(torch.meshgrid(row, column, indexing="ij"), -1).flatten(0, 1)
        return rope_rotation(F.pad(patches, (0, 0, 1, 0)), self.config.head_width)

    def _global_rotation(self, states: list[Tensor]) -> Rotation:
        """Rotary codes of the tokens of all views: they tell only first tokens from patches."""
        marks = [torch.ones(*x.shape[1:3], 2, dtype=torch.int64, device=x.device) for x in states]
        for mark in marks:
            mark[:, 0] = 0
        return rope_rotation(torch.cat([mark.flatten(0, 1) for mark in marks]), self.config.head_width)

    @staticmethod
    def _global_block(block: nn.Module, states: list[Tensor], rotation: Rotation | None) -> list[Tensor]:
        """Attention over the tokens of all views."""
        batch, width = states[0].shape[0], states[0].shape[-1]
        lengths = [x.shape[1] * x.shape[2] for x in states]
        flat = [x.reshape(batch, -1, width) for x in states]
        mixed = block(flat[0] if len(flat) == 1 else torch.cat(flat, 1), rotation)
        parts = [mixed] if len(flat) == 1 else mixed.split(lengths, 1)
        return [part.reshape(x.shape) for part, x in zip(parts, states, strict=True)]

    def _camera_tokens(self, like: Tensor, views: int, chosen: Tensor | None) -> Float[Tensor, "B V C"]:
        """The learned token of the reference at its place and that of all others elsewhere."""
        batch = like.shape[0]
        places = torch.zeros(batch, dtype=torch.int64, device=like.device) if chosen is None else chosen
        is_reference = torch.arange(views, device=like.device) == places[:, None]
        return torch.where(is_reference[..., None], self.camera_token[:, :1], self.camera_token[:, 1:])

    @staticmethod
    def _with_first_tokens(states: list[Tensor], slots: Sequence[Tensor], tokens: Tensor) -> list[Tensor]:
        return [torch.cat((tokens[:, s, None].to(x.dtype), x[:, :, 1:]), 2) for x, s in zip(states, slots, strict=True)]

    @staticmethod
    def _gather(parts: list[Tensor], slots: Sequence[Tensor]) -> Tensor:
        """Per-view values of all groups, in input order."""
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, 1)[:, torch.argsort(torch.cat(list(slots)))]

    def _joined(self, local: Tensor, current: Tensor) -> Tensor:
        return torch.cat((local, current), -1) if self.config.concatenate else current

    def _feature(self, local: Float[Tensor, "B S T C"], current: Float[Tensor, "B S T C"]) -> Float[Tensor, "B S P F"]:
        """Patch tokens for the heads: the current state normalised, the local one as it is."""
        return self._joined(local[:, :, 1:], self.norm(current[:, :, 1:]))
