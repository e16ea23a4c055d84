"""Camera path under editing: keyframes, and the path through them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray

from da3gs.errors import InputError
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.keyframes import CameraPath, keyframed

MOST_KEYS = 500
SECONDS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Key:
    """One keyframe."""

    position: ndarray
    """Camera centre."""
    wxyz: ndarray
    """Camera-to-world rotation, OpenCV axes."""
    fov: float
    """Vertical, radians."""
    seconds: float = SECONDS
    """From here to the next one (in a loop, of the last one to the first)."""

    @property
    def pose(self) -> torch.Tensor:
        """Camera to world, float64."""
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = quaternion_to_matrix(torch.as_tensor(self.wxyz, dtype=torch.float64))
        pose[:3, 3] = torch.as_tensor(self.position, dtype=torch.float64)
        return pose

    def moved(self, similarity: Similarity) -> Key:
        """After the world went through a similarity."""
        pose = similarity.to(dtype=torch.float64).apply_to_cameras(self.pose[None])[0]
        return dataclasses.replace(self, position=pose[:3, 3].numpy(), wxyz=matrix_to_quaternion(pose[:3, :3]).numpy())


class Flight:
    """The keyframes. May be changed from any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._keys: tuple[Key, ...] = ()
        self._lock = threading.Lock()
        self._loaded: CameraPath | None = None
        self.loop, self.smoothness = False, 1.0

    @property
    def keys(self) -> tuple[Key, ...]:
        """In order."""
        return self._keys

    def __len__(self) -> int:
        """How many."""
        return len(self._keys)

    def _set(self, keys: Sequence[Key]) -> None:
        self._keys, self._loaded = tuple(keys), None

    def add(self, key: Key, after: int | None = None) -> int:
        """One more keyframe, after another or at the end; returns its place.

        Raises:
            InputError: there are too many.
        """
        with self._lock:
            if len(self._keys) >= MOST_KEYS:
                raise InputError(f"a camera path has at most {MOST_KEYS} keyframes here")
            place = len(self._keys) if after is None else min(after + 1, len(self._keys))
            self._set((*self._keys[:place], key, *self._keys[place:]))
            return place

    def replace(self, place: int, **changes: object) -> None:
        """Change some of a keyframe."""
        with self._lock:
            if 0 <= place < len(self._keys):
                keys = list(self._keys)
                keys[place] = dataclasses.replace(keys[place], **changes)  # type: ignore[arg-type]
                self._set(keys)

    def move(self, place: int, step: int) -> int:
        """Bring a keyframe earlier or later; returns its new place."""
        with self._lock:
            other = place + step
            if not (0 <= place < len(self._keys) and 0 <= other < len(self._keys)):
                return place
            keys = list(self._keys)
            keys[place], keys[other] = keys[other], keys[place]
            self._set(keys)
            return other

    def remove(self, place: int) -> None:
        """Without this keyframe."""
        with self._lock:
            if 0 <= place < len(self._keys):
                self._set((*self._keys[:place], *self._keys[place + 1 :]))

    def clear(self) -> None:
        """Without any."""
        with self._lock:
            self._set(())

    def change(self, *, loop: bool, smoothness: float) -> None:
        """Change of how it goes from key to key."""
        with self._lock:
            if (loop, smoothness) != (self.loop, self.smoothness):
                self.loop, self.smoothness, self._loaded = loop, smoothness, None

    def moved(self, similarity: Similarity) -> None:
        """After the world went through a similarity."""
        with self._lock:
            self._set([key.moved(similarity) for key in self._keys])

    def path(self, *, height: int, width: int, fps: float) -> CameraPath:
        """The path through the keyframes; frames that a file stated come out as they stood until something is edited.

        Raises:
            InputError: there is no keyframe, or a number means nothing.
        """
        with self._lock:
            keys, loaded, loop, smoothness = self._keys, self._loaded, self.loop, self.smoothness
        if not keys:
            raise InputError("there is no keyframe yet; add some where you stand")
        if loaded is not None and (loaded.height, loaded.width) == (height, width):
            return dataclasses.replace(loaded, fps=fps) if loaded.frames is None else loaded
        times = np.concatenate(([0.0], np.cumsum([max(key.seconds, 1e-3) for key in keys])))
        return keyframed(
            torch.stack([key.pose for key in keys]),
            torch.tensor([key.fov for key in keys], dtype=torch.float64),
            height=height,
            width=width,
            seconds=times[:-1].tolist(),
            duration=float(times[-1] if loop and len(keys) > 1 else times[-2]),
            loop=loop,
            fps=fps,
            smoothness=smoothness,
        )

    def load(self, path: CameraPath) -> None:
        """The keyframes of a file in place of these.

        Raises:
            InputError: there are too many.
        """
        if len(path) > MOST_KEYS and path.frames is None:
            raise InputError(f"the file has {len(path)} keyframes; at most {MOST_KEYS} can be edited here")
        step = -(-len(path) // MOST_KEYS)
        rotations = matrix_to_quaternion(path.cam_to_world[::step, :3, :3])
        times = [*path.seconds[::step].tolist(), path.duration]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        keys = [
            Key(
                position=pose[:3, 3].numpy(),
                wxyz=wxyz.numpy(),
                fov=float(fov),
                seconds=gap if gap > 0 else SECONDS,
            )
            for pose, wxyz, fov, gap in zip(path.cam_to_world[::step], rotations, path.fov[::step], gaps, strict=True)
        ]
        with self._lock:
            self._keys, self._loaded = tuple(keys), path
            self.loop, self.smoothness = path.loop, path.smoothness


def degrees(fov: float) -> float:
    """Radians as people read them, to a tenth."""
    return round(math.degrees(fov), 1)
