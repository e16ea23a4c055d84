"""Metadata of an exported page: its note, and the places to stand at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs import __version__
from da3gs.formats.splats.html import PageView
from da3gs.scene import Scene, SceneRecord

_SAMPLES = 200_000


def page_views(scene: Scene) -> list[PageView]:
    """The cameras of a scene's photos, each with the picture that the photo itself fills of the padded canvas."""
    means = scene.gaussians.means[:: 1 + len(scene.gaussians) // _SAMPLES].detach().cpu().double()
    world_to_cam = scene.cameras.world_to_cam.double().cpu()
    poses = scene.cameras.to(dtype=torch.float64).cam_to_world.cpu()
    views = []
    for index, (height, width) in enumerate(scene.views.sizes):
        views.append(
            PageView(
                name=scene.views.names[index],
                height=height or scene.views.height,
                width=width or scene.views.width,
                intrinsics=scene.cameras.intrinsics[index].double().cpu().numpy(),
                cam_to_world=poses[index].numpy(),
                distance=middle_distance(means, world_to_cam[index]),
            )
        )
    return views


def middle_distance(means: Float[Tensor, "N 3"], world_to_cam: Float[Tensor, "4 4"]) -> float:
    """Distance to the middle of what a camera sees: the median depth near its axis."""
    local = means @ world_to_cam[:3, :3].T + world_to_cam[:3, 3]
    ahead = (local[:, 2] > 1e-6) & local.isfinite().all(-1)
    middle = ahead & (local[:, :2].norm(dim=-1) < 0.3 * local[:, 2])
    seen = local[middle if bool(middle.any()) else ahead, 2]
    return max(float(seen.median()), 1e-6) if len(seen) else 1.0


def page_note(record: SceneRecord) -> str:
    """One line on where the scene comes from."""
    model = record.get("model")
    words = [f"Made with da3gs {__version__}"]
    if isinstance(model, dict) and model.get("name"):
        words.append(f"model {model['name']}")
        if model.get("licence"):
            words.append(f"licence of the model: {model['licence']}")
    return ", ".join(str(word) for word in words) + "."
