"""The photos in the scene: a frustum each, that one can click to stand there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from da3gs_viewer.viewpoint import Viewpoint

if TYPE_CHECKING:
    import viser

COLOR = (255, 140, 40)
COLORS = {"sfm": COLOR, "given": (70, 160, 255), "depth_prior": (190, 110, 255), "predicted": (150, 150, 150)}
"""Of a frustum by how its photo was placed: the input's cameras blue, structure-from-motion orange, with depth as a
prior violet, a network's own guess grey."""
SHARE = 0.05
"""How far the picture of a frustum stands from its tip, at most, as a share of the distance to what the photo shows."""
SPACING = 0.25
"""The same as a share of the distance to the next photo's camera."""
TOO_NEAR = 2.0
"""Times its size from a camera a frustum is hidden there: it would only stand in the way."""


class Frustums:
    """The frustums of all photos in every browser. Each browser hides those that its camera stands in."""

    def __init__(
        self,
        viewpoints: Sequence[Viewpoint],
        thumbnails: Sequence[ndarray],
        clicked: Callable[[viser.ClientHandle, int], None],
        placed: Sequence[str] = (),
    ) -> None:
        """Prepare; ``add`` puts them into a browser's scene.

        Args:
            clicked: called with the browser and the photo's position.
            placed: how each photo came by its camera, where the scene says so.
        """
        self._viewpoints, self._thumbnails, self._clicked = viewpoints, thumbnails, clicked
        self._centers = np.array([view.position for view in viewpoints]).reshape(-1, 3)
        self.size = self._fitting_size()
        self._handles: dict[int, list[Any]] = {}
        self._lock = threading.Lock()
        self._visible = True
        self.colors = [COLORS.get(way, COLOR) for way in placed] or [COLOR] * len(viewpoints)

    def _fitting_size(self) -> float:
        """So large that one sees the pictures, so small that neighbours do not hide each other."""
        if not self._viewpoints:
            return 0.0
        size = SHARE * float(np.median([view.distance for view in self._viewpoints]))
        if len(self._centers) == 1:
            return size
        few = self._centers[:: 1 + len(self._centers) // 256]
        apart = np.linalg.norm(few[:, None] - self._centers[None], axis=-1)
        spacing = float(np.median(np.partition(apart, 1, axis=1)[:, 1]))  # the nearest of all is the camera itself
        return max(min(size, SPACING * spacing), size / 8)

    def add(self, client: viser.ClientHandle) -> None:
        """Show them in a browser that has connected."""
        self._put(client)
        client.camera.on_update(lambda camera: self._update(client.client_id, camera.position))

    def replace(self, viewpoints: Sequence[Viewpoint], clients: Sequence[viser.ClientHandle]) -> None:
        """Show them elsewhere, after the world has moved."""
        self._viewpoints = viewpoints
        self._centers = np.array([view.position for view in viewpoints]).reshape(-1, 3)
        self.size = self._fitting_size()
        for client in clients:
            self._put(client)

    def _put(self, client: viser.ClientHandle) -> None:
        hidden = self._stood_in(client.camera.position)
        handles = []
        for index, (view, thumbnail) in enumerate(zip(self._viewpoints, self._thumbnails, strict=True)):
            handle = client.scene.add_camera_frustum(
                f"/photos/{index}",
                fov=view.fov,
                aspect=view.aspect,
                scale=self.size,
                thickness=1.5,
                thickness_units="screen",
                color=self.colors[index],
                image=thumbnail,
                wxyz=view.wxyz,
                position=view.position,
                visible=self._visible and not hidden[index],
            )
            handle.on_click(lambda _, index=index: self._clicked(client, index))
            handles.append(handle)
        with self._lock:
            self._handles[client.client_id] = handles

    def remove(self, client: viser.ClientHandle) -> None:
        """Forget a browser that has gone."""
        with self._lock:
            self._handles.pop(client.client_id, None)

    def show(self, clients: dict[int, viser.ClientHandle], visible: bool) -> None:
        """Show or hide all of them, in every browser."""
        self._visible = visible
        for number, client in clients.items():
            self._update(number, client.camera.position)

    def _update(self, client: int, position: ndarray) -> None:
        hidden = self._stood_in(position)
        with self._lock:
            for handle, stood_in in zip(self._handles.get(client, []), hidden, strict=False):
                visible = self._visible and not stood_in
                if handle.visible != visible:
                    handle.visible = visible

    def _stood_in(self, position: ndarray) -> list[bool]:
        return [bool(near) for near in np.linalg.norm(self._centers - position, axis=-1) < TOO_NEAR * self.size]
