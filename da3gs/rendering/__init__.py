"""Pictures of splats: one function, and a CPU and a CUDA backend behind it."""

from da3gs.rendering.rasterise import Backend as Backend
from da3gs.rendering.rasterise import Rendering as Rendering
from da3gs.rendering.rasterise import render as render
from da3gs.rendering.rasterise import warmup as warmup

__all__ = ["Backend", "Rendering", "render", "warmup"]
