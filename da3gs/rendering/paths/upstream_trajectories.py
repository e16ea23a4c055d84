"""The camera paths of the official Depth Anything 3 renderer, to the letter.

They are reproduced for comparison and for those who want the videos of the official program;
``da3gs.rendering.paths.trajectories`` has the paths that stay upright and near the photos. Everything is computed in
float64.
"""

from __future__ import annotations

import math
from typing import Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse

UpstreamMode = Literal[
    "original", "smooth", "interpolate", "interpolate_smooth", "extend", "wander", "dolly_zoom", "wobble_inter"
]

_SMOOTHING_WINDOW = 50


def upstream_path(mode: UpstreamMode, cameras: Cameras) -> Cameras:
    """The cameras of the official video mode ``mode`` over ``cameras``, in input order.

    The rotations of the smoothed modes are only nearly orthogonal, as the official ones are.
    """
    poses, intrinsics = rigid_inverse(cameras.world_to_cam.double()), cameras.intrinsics.double()
    match mode:
        case "original":
            path = poses, intrinsics
        case "smooth":
            path = stabilised(poses, _SMOOTHING_WINDOW), intrinsics
        case "interpolate":
            path = _interpolated(poses, intrinsics)
        case "interpolate_smooth":
            path = _interpolated_smooth(poses, intrinsics)
        case "extend":
            path = _extended(*_interpolated_smooth(poses, intrinsics))
        case "wander":
            path = _wander(poses[0], intrinsics[0], frames=120, reach=24.0)
        case "dolly_zoom":
            path = _dolly_zoom(poses[0], intrinsics[0], frames=120, reach=2.0, focus=30.0)
        case "wobble_inter":
            path = _wobble(poses, intrinsics)
        case other:
            assert_never(other)
    world_to_cam, dtype = rigid_inverse(path[0]), cameras.world_to_cam.dtype
    return Cameras(
        world_to_cam=world_to_cam.to(dtype), intrinsics=path[1].to(dtype), height=cameras.height, width=cameras.width
    )


def _gaussian_kernel(size: int) -> Tensor:
    """OpenCV's ``getGaussianKernel`` with its default width: fixed tables up to 9 taps, a formula above."""
    tables = {
        1: [1.0],
        3: [1.0, 2.0, 1.0],
        5: [1.0, 4.0, 6.0, 4.0, 1.0],
        7: [8.0, 28.0, 56.0, 72.0, 56.0, 28.0, 8.0],
        9: [4.0, 13.0, 30.0, 51.0, 60.0, 51.0, 30.0, 13.0, 4.0],
    }
    if size in tables:
        taps = torch.tensor(tables[size], dtype=torch.float64)
    else:
        sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
        taps = torch.exp(-((torch.arange(size, dtype=torch.float64) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def stabilised(cam_to_world: Float[Tensor, "V 4 4"], window: int) -> Float[Tensor, "V 4 4"]:
    """A path whose right axes, down axes and centres are averaged over ``window`` poses.

    The window is made odd and cut to the path's length. Right and down are normalised one by one; forward is their
    cross product.
    """
    count = len(cam_to_world)
    size = min(window + 1 - window % 2, count if count % 2 else count - 1)
    if count >= 3:
        size = max(size, 3)
    if size < 3:
        return cam_to_world
    taps = _gaussian_kernel(size).to(cam_to_world)
    columns = cam_to_world[:, :3][..., [0, 1, 3]].flatten(1)
    padded = torch.nn.functional.pad(columns.T[None], (size // 2, size // 2), mode="reflect")[0]
    right, down, center = (padded.unfold(-1, size, 1) @ taps).T.unflatten(1, (3, 3)).unbind(-1)
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.nn.functional.normalize(down, dim=-1)
    return _poses(torch.stack((right, down, torch.linalg.cross(right, down)), -1), center)


def _poses(rotation: Tensor, center: Tensor) -> Tensor:
    bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat((torch.cat((rotation, center[..., None]), -1), bottom), -2)


def _frame(y: Tensor, look: Tensor) -> Tensor:
    """The matrix with columns y x look, y, look."""
    return torch.stack((torch.linalg.cross(y.expand_as(look), look), y.expand_as(look), look), -1)


def _normal(first: Tensor, second: Tensor) -> Tensor:
    """The unit normal of two look axes; of the first and a fixed axis when they are parallel."""
    for other in (second, first.new_tensor([0.0, 0.0, 1.0]), first.new_tensor([0.0, 1.0, 0.0])):
        if abs(abs(float(first @ other)) - 1) >= 1e-4:
            return torch.nn.functional.normalize(torch.linalg.cross(first, other), dim=-1)
    raise AssertionError("two different axes cannot both be parallel to the same direction")


def _pivot(first: Tensor, second: Tensor) -> Tensor:
    """The point that two cameras look at: nearest to both look lines, or halfway between parallel cameras."""
    a, b = first[:3, 2], second[:3, 2]
    if abs(abs(float(a @ b)) - 1) < 1e-4:
        return (first[:3, 3] + second[:3, 3]) / 2
    eye = torch.eye(3, dtype=first.dtype, device=first.device)
    across = [eye - torch.outer(axis, axis) for axis in (a, b)]
    return torch.linalg.solve(across[0] + across[1], across[0] @ first[:3, 3] + across[1] @ second[:3, 3])


def interpolated_poses(
    first: Float[Tensor, "4 4"], second: Float[Tensor, "4 4"], t: Float[Tensor, "F"]
) -> Float[Tensor, "F 4 4"]:
    """Poses (camera to world) between two: they turn about the point that both look at.

    In the frame of the two look axes each rotation is split into Y-X-Z Euler angles, of which X is dropped; the Y and Z
    angles and the offset from the pivot are interpolated.
    """
    pivot = _pivot(first, second)
    y = _normal(first[:3, 2], second[:3, 2])
    frame = _frame(y, first[:3, 2])
    offsets, angles = [], []
    for pose in (first, second):
        offsets.append(_frame(y, pose[:3, 2]).T @ (pivot - pose[:3, 3]))
        local = torch.linalg.inv(frame) @ pose[:3, :3]
        angles.append(torch.stack((torch.atan2(local[0, 2], local[2, 2]), torch.atan2(local[1, 0], local[1, 1]))))
    step = torch.remainder(angles[1] - angles[0] + math.pi, 2 * math.pi) - math.pi
    turn, roll = (angles[0] + t[:, None] * step).unbind(-1)
    rotation = frame @ _turn_y(turn) @ _turn_z(roll)
    offset = offsets[0] + t[:, None] * (offsets[1] - offsets[0])
    center = pivot - (_frame(y, rotation[..., 2]) @ offset[..., None]).squeeze(-1)
    return _poses(rotation, center)


def _turn_y(angle: Tensor) -> Tensor:
    c, s, o, i = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((c, o, s, o, i, o, -s, o, c), -1).unflatten(-1, (3, 3))


def _turn_z(angle: Tensor) -> Tensor:
    c, s, o, i = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((c, -s, o, s, c, o, o, o, i), -1).unflatten(-1, (3, 3))


def _segments(poses: Tensor, intrinsics: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Every pair of neighbours interpolated at ``t``, the frame that two segments share once."""
    path, lenses = [], []
    for index in range(len(poses) - 1):
        start = 0 if index == 0 else 1
        path.append(interpolated_poses(poses[index], poses[index + 1], t)[start:])
        lenses.append(torch.lerp(intrinsics[index], intrinsics[index + 1], t[:, None, None])[start:])
    return torch.cat(path), torch.cat(lenses)


def _interpolated(poses: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    count = len(poses) - 1
    if count < 1:
        return poses, intrinsics
    length = 8
    if length * count > 432:
        length = max(1, 240 // count)
    elif length * count < 48:
        length = max(1, 48 // count)
    if length <= 2:
        return poses, intrinsics
    t = (1 - torch.cos(math.pi * torch.linspace(0, 1, length, dtype=torch.float64, device=poses.device))) / 2
    return _segments(poses, intrinsics, t)


def _interpolated_smooth(poses: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    poses, intrinsics = _interpolated(poses, intrinsics)
    return stabilised(poses, _SMOOTHING_WINDOW), intrinsics


def _shifts(translation: Tensor) -> Tensor:
    return _poses(
        torch.eye(3, dtype=translation.dtype, device=translation.device).expand(len(translation), 3, 3), translation
    )


def _wander(pose: Tensor, intrinsics: Tensor, *, frames: int, reach: float) -> tuple[Tensor, Tensor]:
    """A loop round ``pose``, which is also the first and the last frame; ``reach`` is in pixels at depth 1."""
    radius = reach / intrinsics[0, 0]
    angle = torch.linspace(0, 2 * math.pi, frames, dtype=torch.float64, device=pose.device)
    translation = -radius * torch.stack((angle.sin(), angle.cos() / 3, angle.cos() / 3), -1)
    loop = pose @ _shifts(translation)
    return torch.cat((pose[None], loop, pose[None])), intrinsics.expand(frames + 2, 3, 3)


def _dolly_zoom(pose: Tensor, intrinsics: Tensor, *, frames: int, reach: float, focus: float) -> tuple[Tensor, Tensor]:
    """Back and forth along the view, the zoom making up for it at the distance ``focus``."""
    t = torch.linspace(0, 2, frames, dtype=torch.float64, device=pose.device)
    z = (1 - torch.cos(math.pi * t)) / 2 * reach
    translation = torch.stack((torch.zeros_like(z), torch.zeros_like(z), -z), -1)
    lenses = intrinsics.repeat(frames, 1, 1)
    lenses[:, (0, 1), (0, 1)] *= (focus / (focus + z))[:, None]
    return pose @ _shifts(translation), lenses


def _extended(poses: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    middle = len(poses) // 2
    frames = max(36, min(60, middle // 2))
    around = _wander(poses[middle], intrinsics[middle], frames=frames, reach=24.0)
    along = _dolly_zoom(poses[middle], intrinsics[middle], frames=frames, reach=0.1, focus=10.0)
    parts = ((p[:middle], a, b, p[middle:]) for p, a, b in zip((poses, intrinsics), around, along, strict=True))
    path, lenses = (torch.cat(part) for part in parts)
    return path, lenses


def _wobble(poses: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    poses, intrinsics = poses[::3], intrinsics[::3]
    if len(poses) < 2:
        return poses, intrinsics
    t = torch.linspace(0, 1, 30, dtype=torch.float64, device=poses.device)
    circle = torch.stack((torch.sin(2 * math.pi * t), -torch.cos(2 * math.pi * t), torch.zeros_like(t)), -1)
    steps = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=-1)
    path, lenses = [], []
    for index in range(len(poses) - 1):
        start = 0 if index == 0 else 1
        pair = slice(index, index + 2)
        segment, lens = _segments(poses[pair], intrinsics[pair], t)
        radius = steps[: index + 1].mean() / 2
        path.append((segment @ _shifts(circle * radius))[start:])
        lenses.append(lens[start:])
    return torch.cat(path), torch.cat(lenses)
