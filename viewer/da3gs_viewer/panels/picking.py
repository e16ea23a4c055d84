"""Points of the scene that people click, for the panel that asked last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs_viewer.panels.clean_panel import notify
from da3gs_viewer.pictures import Artist, Look
from da3gs_viewer.stage import Stage

_UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
_PATCH = 9
_FOCAL = 600.0


def hit(artist: Artist, origin: ndarray, direction: ndarray) -> Float[Tensor, "3"] | None:
    """Point where a ray meets what is on show; None where it meets nothing."""
    eye = torch.as_tensor(np.array(origin), dtype=torch.float64)
    ahead = torch.nn.functional.normalize(torch.as_tensor(np.array(direction), dtype=torch.float64), dim=0)
    middle = _PATCH / 2
    camera = Cameras(
        world_to_cam=look_at(eye, eye + ahead, _UP).float(),
        intrinsics=torch.tensor([[_FOCAL, 0, middle], [0, _FOCAL, middle], [0, 0, 1]]),
        height=_PATCH,
        width=_PATCH,
    )
    with torch.inference_mode():
        picture = artist.render(camera, Look())
    place = _PATCH // 2
    if float(picture.alpha[place, place]) < 0.5:
        return None
    return eye + ahead * float(picture.depth[place, place])


class Picker:
    """Clicks in one browser's picture go to one panel at a time."""

    def __init__(self, stage: Stage) -> None:
        """Nobody has asked yet."""
        self._stage = stage
        self._now: tuple[Any, Any, Callable[[], None]] | None = None

    def ask(self, client: Any, taken: Callable[[Any, Tensor], None], ended: Callable[[], None]) -> None:
        """From now on clicks of this browser go to ``taken``, with the browser and the point; whoever asked before is
        told that this has ended."""
        self.stop()

        def clicked(event: Any) -> None:
            """Where the scene is under the pointer."""
            point = hit(self._stage.artist, np.array(event.ray_origin), np.array(event.ray_direction))
            if point is None:
                notify(client, "Nothing there", "Click on something solid.", "yellow")
            elif self._now is not None and self._now[1] is clicked:
                taken(client, point)

        self._now = (client, clicked, ended)
        client.scene.on_click()(clicked)

    def stop(self) -> None:
        """No more clicks."""
        if self._now is None:
            return
        client, clicked, ended = self._now
        self._now = None
        with contextlib.suppress(Warning, ValueError, KeyError):
            client.scene.remove_click_callback(clicked)
        ended()


def mark(scene: Any, name: str, point: Tensor, stage: Stage, color: tuple[int, int, int]) -> Any:
    """A small ball at a point, in the scene of one browser or of all."""
    return scene.add_icosphere(name, radius=stage.home.distance / 100, color=color, position=point.numpy())
