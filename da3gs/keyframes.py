"""A camera's flight: keyframes in time, and the pictures of a video between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.geometry.splines import hermite, hermite_rotations

MAX_FRAMES = 100_000
"""A video may not be longer."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CameraPath(TensorRecord):
    """Keyframes of one picture size; OpenCV axes, float64.

    ``cameras()`` gives the video's frames. Where a file states its own frames they are in ``frames`` and come out as
    they stand; ``dataclasses.replace(path, ..., frames=None)`` after an edit.
    """

    cam_to_world: Float[Tensor, "K 4 4"]
    """Rigid poses, at least one."""
    intrinsics: Float[Tensor, "K 3 3"]
    """In pixels of ``height`` and ``width``."""
    seconds: Float[Tensor, " K"]
    """When each keyframe is reached, increasing from 0."""
    duration: float
    """Length in seconds: to the last keyframe, or in a loop until the first is reached again."""
    height: int
    """Picture height in pixels."""
    width: int
    """Picture width in pixels."""
    fps: float = 24.0
    """Frames a second."""
    loop: bool = False
    """Whether the way goes back to the first keyframe."""
    smoothness: float = 1.0
    """1: a Catmull-Rom spline; 0: straight from keyframe to keyframe, resting at each."""
    frames: Cameras | None = None
    """The very frames that a file states for ``fps``."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            InputError: no keyframe, numbers that are not finite, times that do not increase, sizes or lengths below 1.
        """
        count = len(self.seconds)
        if count == 0:
            raise InputError("a camera path without keyframes; at least one is needed")
        for tensor in (self.cam_to_world, self.intrinsics, self.seconds):
            if not torch.isfinite(tensor).all():
                raise InputError("a camera path holds a number that is not finite")
        if self.height < 1 or self.width < 1:
            raise InputError(f"a camera path for pictures of {self.width}x{self.height}; both sides must be at least 1")
        if (self.intrinsics[:, (0, 1), (0, 1)] <= 0).any():
            raise InputError("a camera path has a focal length that is not above 0")
        if float(self.seconds[0]) != 0 or (self.seconds[1:] <= self.seconds[:-1]).any():
            raise InputError("a camera path's keyframes are not in order of time; the first is at 0, each later")
        least, strictly = float(self.seconds[-1]), self.loop and count > 1
        if not math.isfinite(self.duration) or self.duration < least or (strictly and self.duration == least):
            raise InputError(f"a camera path of {self.duration:g} seconds whose last keyframe is at {least:g}")
        if not (math.isfinite(self.fps) and 0.1 <= self.fps <= 240):
            raise InputError(f"a camera path of {self.fps:g} frames a second; expected 0.1 to 240")
        if not 0 <= self.smoothness <= 1:
            raise InputError(f"a camera path of smoothness {self.smoothness:g}; expected 0 to 1")

    def __len__(self) -> int:
        """How many keyframes."""
        return len(self.seconds)

    @property
    def fov(self) -> Float[Tensor, " K"]:
        """Vertical field of view of each keyframe, radians."""
        return 2 * torch.atan(self.height / (2 * self.intrinsics[:, 1, 1]))

    def frame_count(self, *, fps: float | None = None, seconds: float | None = None) -> int:
        """Number of frames that ``cameras`` gives."""
        if self.frames is not None and fps in (None, self.fps) and seconds is None:
            return len(self.frames)
        length = (self.duration or 1.0) if seconds is None else seconds
        return max(1, round(length * (self.fps if fps is None else fps)))

    def cameras(self, *, fps: float | None = None, seconds: float | None = None) -> Cameras:
        """The frames of the video, float64.

        The first frame is the first keyframe and the last frame the last one; a loop leaves out the last, which would
        repeat the first.

        Args:
            fps: frames a second; the path's own when absent.
            seconds: length of the whole flight, which goes faster or slower; the path's own when absent.

        Raises:
            InputError: more than ``MAX_FRAMES``.
        """
        count = self.frame_count(fps=fps, seconds=seconds)
        if count > MAX_FRAMES:
            raise InputError(f"{count} frames are too many; at most {MAX_FRAMES}, so lower the seconds or fps")
        if self.frames is not None and count == len(self.frames):
            return self.frames
        step = torch.arange(count, dtype=torch.float64)
        share = step / count if self.loop else step / max(count - 1, 1)
        if self.frames is not None:
            dense = self._dense(self.frames)
            return dense.at(share * dense.duration)
        return self.at(share * self.duration)

    def at(self, moments: Float[Tensor, " T"]) -> Cameras:
        """The cameras at these seconds; after the end the last keyframe, or in a loop the next round."""
        period = self.duration if self.loop and len(self) > 1 else None
        moments = moments.double().cpu()
        times, smoothness = self.seconds.double().cpu(), self.smoothness
        poses, lenses = self.cam_to_world.double().cpu(), self.intrinsics.double().cpu()
        values = torch.cat((poses[:, :3, 3], _angles(lenses, self.height)), -1)
        curve = hermite(values, times, moments, smoothness=smoothness, period=period)
        turned = matrix_to_quaternion(poses[:, :3, :3])
        rotation = quaternion_to_matrix(hermite_rotations(turned, times, moments, smoothness=smoothness, period=period))
        bottom = poses[:1, 3:].expand(len(moments), 1, 4)
        cam_to_world = torch.cat((torch.cat((rotation, curve[:, :3, None]), -1), bottom), -2)
        return Cameras(
            world_to_cam=rigid_inverse(cam_to_world),
            intrinsics=_lenses(curve[:, 3:], self.height),
            height=self.height,
            width=self.width,
        )

    def _dense(self, frames: Cameras) -> CameraPath:
        """The stated frames as keyframes."""
        count = len(frames)
        seconds = torch.arange(count, dtype=torch.float64) / self.fps
        return dataclasses.replace(
            self,
            cam_to_world=rigid_inverse(frames.world_to_cam.double()),
            intrinsics=frames.intrinsics.double(),
            seconds=seconds,
            duration=count / self.fps if self.loop else float(seconds[-1]),
            smoothness=1.0,
            frames=None,
        )


def _angles(intrinsics: Tensor, height: int) -> Tensor:
    """What is interpolated in place of intrinsics: half the vertical angle, the pixels' shape, centre and skew."""
    fx, fy = intrinsics[:, 0, 0], intrinsics[:, 1, 1]
    columns = (torch.atan(height / (2 * fy)), fx / fy, intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 0, 1])
    return torch.stack(columns, -1)


def _lenses(angles: Tensor, height: int) -> Tensor:
    half, shape, cx, cy, skew = angles.unbind(-1)
    fy = height / (2 * half.clamp(1e-6, math.pi / 2 - 1e-6).tan())
    zero, one = torch.zeros_like(fy), torch.ones_like(fy)
    rows = (fy * shape.clamp(min=1e-6), skew, cx, zero, fy, cy, zero, zero, one)
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def keyframed(
    cam_to_world: Float[Tensor, "K 4 4"],
    fov: Float[Tensor, " K"],
    *,
    height: int,
    width: int,
    seconds: Sequence[float] | None = None,
    between: float = 2.0,
    loop: bool = False,
    duration: float | None = None,
    fps: float = 24.0,
    smoothness: float = 1.0,
) -> CameraPath:
    """A path of cameras with square pixels and a centred principal point.

    Args:
        cam_to_world: OpenCV axes.
        fov: vertical, radians.
        seconds: when each keyframe is reached, increasing from 0; ``between`` apart when absent.
        between: seconds from one keyframe to the next, and in a loop back to the first.
        duration: length; until the last keyframe, or ``between`` later in a loop, when absent.

    Raises:
        InputError: see ``CameraPath``, or a field of view not between 0 and 180 degrees.
    """
    if not ((fov > 0) & (fov < math.pi)).all():
        raise InputError("a camera path has a field of view that is not between 0 and 180 degrees")
    count = len(cam_to_world)
    times = [between * i for i in range(count)] if seconds is None else list(seconds)
    last = times[-1] if times else 0.0
    focal = height / (2 * (fov.double() / 2).tan())
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    rows = (focal, zero, one * width / 2, zero, focal, one * height / 2, zero, zero, one)
    return CameraPath(
        cam_to_world=cam_to_world.double(),
        intrinsics=torch.stack(rows, -1).unflatten(-1, (3, 3)),
        seconds=torch.tensor(times, dtype=torch.float64),
        duration=(last + between if loop else last) if duration is None else duration,
        height=height,
        width=width,
        fps=fps,
        loop=loop,
        smoothness=smoothness,
    )


def stated_frames(cameras: Cameras, *, fps: float = 24.0, loop: bool = False) -> CameraPath:
    """A path that is these frames, one after the other; they are its keyframes too."""
    if cameras.world_to_cam.ndim == 2:
        cameras = cameras.map(lambda tensor: tensor[None])
    cameras = cameras.detach().to("cpu", torch.float64)
    seconds = torch.arange(len(cameras), dtype=torch.float64) / fps
    return CameraPath(
        cam_to_world=rigid_inverse(cameras.world_to_cam),
        intrinsics=cameras.intrinsics,
        seconds=seconds,
        duration=len(cameras) / fps if loop else float(seconds[-1]) if len(seconds) else 0.0,
        height=cameras.height,
        width=cameras.width,
        fps=fps,
        loop=loop,
        frames=cameras,
    )
