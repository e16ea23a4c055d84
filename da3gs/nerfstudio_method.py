"""Splatfacto from our splats in nerfstudio: ``ns-train da3gs --data SCENE``.

The entry point ``nerfstudio.method_configs`` names ``SPECIFICATION`` here. The data parser has a module of its own,
since it is discovered while nerfstudio's trainer, which this one imports, is half imported. Splats of a scene folder
are already where surfaces are: they take the place of the points that splatfacto grows splats from, photos are taken at
their full size at once, and every band of the harmonics counts from the first steps on.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs import nerfstudio_plugin
from da3gs._optional import require
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0

NAME = "da3gs"
_EDGE = 1e-6
"""Opacities are held so far from 0 and 1, whose logits are infinite."""


def splatfacto_parameters(splats: Gaussians, sh_degree: int) -> dict[str, Float[Tensor, "N ..."]]:
    """What splatfacto optimises, by its own names: logarithms of scales, logits of opacities, harmonics in two parts.

    Args:
        splats: in the world that is trained in.
        sh_degree: bands above it are left out, bands that are missing are 0. With 0 it optimises logits of colours.
    """
    harmonics = splats.harmonics.new_zeros(len(splats), (sh_degree + 1) ** 2, 3)
    kept = min(harmonics.shape[1], splats.harmonics.shape[1])
    harmonics[:, :kept] = splats.harmonics[:, :kept]
    colors = (harmonics[:, 0] * C0 + 0.5 if sh_degree == 0 else harmonics[:, 0]).float()
    return {
        "means": splats.means.float(),
        "scales": splats.scales.clamp_min(1e-12).log().float(),
        "quats": splats.quaternions.float(),
        "features_dc": torch.logit(colors, eps=_EDGE) if sh_degree == 0 else colors,
        "features_rest": harmonics[:, 1:].float(),
        "opacities": torch.logit(splats.opacities, eps=_EDGE)[:, None].float(),
    }


@functools.cache
def _plugin() -> dict[str, Any]:
    """The classes and the specification that nerfstudio looks for."""
    splatfacto = require("nerfstudio.models.splatfacto", why="the method")
    methods = require("nerfstudio.configs.method_configs", why="the method")
    types = require("nerfstudio.plugins.types", why="the method")

    class SceneSplatfacto(splatfacto.SplatfactoModel):  # type: ignore[name-defined]
        """Splatfacto that begins with the splats of a scene folder."""

        def populate_modules(self) -> None:
            """Everything of splatfacto's, with other splats; its own start is made of a handful, to be thrown away."""
            splats = self.kwargs["metadata"].get(nerfstudio_plugin.SPLATS)
            if splats is None:
                super().populate_modules()
                return
            number, random = self.config.num_random, self.config.random_init
            self.config.num_random, self.config.random_init = 8, True
            super().populate_modules()
            self.config.num_random, self.config.random_init = number, random
            if splats.antialiased:
                self.config.rasterize_mode = "antialiased"
            start = splatfacto_parameters(splats, self.config.sh_degree)
            self.gauss_params = torch.nn.ParameterDict({n: torch.nn.Parameter(v) for n, v in start.items()})

    @dataclasses.dataclass
    class SceneSplatfactoConfig(splatfacto.SplatfactoModelConfig):  # type: ignore[name-defined]
        """Splatfacto from the splats of a scene folder."""

        _target: type = dataclasses.field(default_factory=lambda: SceneSplatfacto)
        num_downscales: int = 0
        """Photos at their full size from the start: the splats have their detail already."""
        sh_degree_interval: int = 1
        """All bands of the harmonics count from the start."""

    for made in (SceneSplatfacto, SceneSplatfactoConfig):
        made.__module__, made.__qualname__ = __name__, made.__name__  # so that saved configurations can be read back
    config = copy.deepcopy(methods.method_configs["splatfacto"])
    config.method_name = NAME
    config.pipeline.model = SceneSplatfactoConfig()
    config.pipeline.datamanager.dataparser = nerfstudio_plugin.SceneDataParserConfig(splats=True)
    return {
        "SceneSplatfacto": SceneSplatfacto,
        "SceneSplatfactoConfig": SceneSplatfactoConfig,
        "SPECIFICATION": types.MethodSpecification(config=config, description="splatfacto from a da3gs scene's splats"),
    }


def __getattr__(name: str) -> Any:
    """The names that nerfstudio asks for, made on demand."""
    if name in ("SceneSplatfacto", "SceneSplatfactoConfig", "SPECIFICATION"):
        return _plugin()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
