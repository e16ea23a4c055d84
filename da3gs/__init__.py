"""Photos in, Gaussian splat out.

Public names are resolved when they are first used, so that ``import da3gs`` and ``da3gs --help`` never import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from da3gs.cameras import Cameras as Cameras
    from da3gs.gaussians import Gaussians as Gaussians
    from da3gs.prediction import Prediction as Prediction
    from da3gs.views import Views as Views

__version__ = "0.1.0"

_HOMES = {
    "Cameras": "da3gs.cameras",
    "Gaussians": "da3gs.gaussians",
    "Prediction": "da3gs.prediction",
    "Views": "da3gs.views",
    "CameraPath": "da3gs.keyframes",
    "Rendering": "da3gs.rendering",
    "Scene": "da3gs.scene",
    "Da3gsError": "da3gs.errors",
    "render": "da3gs.rendering",
    "load_views": "da3gs.photos",
    "load_model": "da3gs.checkpoints",
    "load_gaussians": "da3gs.formats",
    "save_gaussians": "da3gs.formats",
    "load_camera_path": "da3gs.formats.cameras.camera_paths",
    "save_camera_path": "da3gs.formats.cameras.camera_paths",
    "load_scene": "da3gs.scene",
    "reconstruct": "da3gs.pipeline.reconstruct",
    "refine": "da3gs.pipeline.refine",
    "render_path": "da3gs.pipeline.render_path",
    "check": "da3gs.pipeline.check",
    "evaluate": "da3gs.evaluation.evaluate",
    "compare": "da3gs.evaluation.reports.compare",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'da3gs' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
