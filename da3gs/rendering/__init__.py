"""Pictures of splats: one function, and a CPU and a CUDA backend behind it; camera paths."""

from da3gs.rendering._cpu import drop_workspaces as drop_workspaces
from da3gs.rendering._warmup import warmup as warmup
from da3gs.rendering.contribution import contributions as contributions
from da3gs.rendering.paths.trajectories import PATH_NAMES as PATH_NAMES
from da3gs.rendering.paths.trajectories import PathName as PathName
from da3gs.rendering.paths.trajectories import camera_path as camera_path
from da3gs.rendering.rasterise import Backend as Backend
from da3gs.rendering.rasterise import Rendering as Rendering
from da3gs.rendering.rasterise import render as render

__all__ = [
    "PATH_NAMES",
    "Backend",
    "PathName",
    "Rendering",
    "camera_path",
    "contributions",
    "drop_workspaces",
    "render",
    "warmup",
]
