"""A twin of gsplat's ``rasterization`` for machines without CUDA: its signature and conventions, our CPU rasteriser."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.rendering import _gsplat, render


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """The shapes and modes of one call."""

    splats: int
    cameras: tuple[int, ...]
    size: tuple[int, int]
    antialiased: bool
    channels: int


class Twin:
    """Draws as gsplat 1.5 and 1.6 would, and remembers how it was called."""

    def __init__(self) -> None:
        """Not called yet."""
        self.calls: list[Call] = []

    def rasterization(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        *,
        sh_degree: int | None = None,
        packed: bool = True,
        backgrounds: Tensor | None = None,
        render_mode: str = "RGB",
        rasterize_mode: str = "classic",
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Pictures (..., C, H, W, channels), alpha (..., C, H, W, 1) and nothing else."""
        assert viewmats.shape[:-3] == means.shape[:-2] == Ks.shape[:-3]
        assert viewmats.shape[-3:] == (Ks.shape[-3], 4, 4)
        assert opacities.isfinite().all()
        assert packed in (True, False)
        self.calls.append(
            Call(
                splats=means.shape[-2], cameras=tuple(viewmats.shape[:-2]), size=(height, width),
                antialiased=rasterize_mode == "antialiased", channels=colors.shape[-1],
            )
        )  # fmt: skip
        sh = sh_degree is not None
        picture = render(
            Gaussians(
                means=means, scales=scales, quaternions=quats, opacities=opacities,
                harmonics=colors if sh else means.new_zeros(*means.shape[:-1], 1, 3),
            ),
            Cameras(world_to_cam=viewmats, intrinsics=Ks, height=height, width=width),
            background=backgrounds, features=None if sh else colors, backend="cpu",
            antialias=rasterize_mode == "antialiased",
        )  # fmt: skip
        if not sh:
            assert render_mode == "RGB"
            assert picture.features is not None
            return picture.features, picture.alpha[..., None], {}
        assert render_mode == "RGB+ED"
        return torch.cat((picture.color, picture.depth[..., None]), -1), picture.alpha[..., None], {}


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Twin:
    """The twin in gsplat's place, allowed on the CPU."""
    made, module = Twin(), ModuleType("gsplat")
    module.rasterization = made.rasterization  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    monkeypatch.setattr(_gsplat, "DEVICES", frozenset({"cpu", "cuda"}))
    monkeypatch.setattr(_gsplat, "is_available", lambda: True)
    return made
