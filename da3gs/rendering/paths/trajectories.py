"""Camera paths through a scene: they start where a photo was taken, look at what the photos saw, and stay near them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from da3gs.rendering.paths.upstream_trajectories import UpstreamMode, upstream_path

PathName = Literal[
    "wander", "orbit", "interpolate", "inputs", "spiral", "ellipse", "smooth", "interpolate_smooth", "extend",
    "dolly_zoom", "wobble_inter",
]  # fmt: skip
"""The last five, official modes, have a length of their own."""

PATH_NAMES: tuple[str, ...] = PathName.__args__  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True, slots=True)
class _Setting:
    """What every path is planned from, in float64."""

    poses: Tensor
    """Camera to world (V, 4, 4)."""
    focus: Tensor
    """The point that the photos look at."""
    up: Tensor
    """Unit vector."""
    home: int
    """The most central photo."""
    distance: float
    """From the home camera to the focus."""
    reach: float
    """How far a path may go from the home camera: as far as most photos, within reason for the distance."""


def camera_path(
    name: PathName,
    cameras: Cameras,
    *,
    frames: int,
    focus: Float[Tensor, "3"] | None = None,
    up: Float[Tensor, "3"] | None = None,
    reach: float = 1.0,
) -> Cameras:
    """The cameras of a video through the scene that ``cameras`` photographed.

    ``wander``: a small loop round the most central photo. ``orbit``: round the focus, over the arc that the photos
    cover (all the way round where they do). ``spiral``, ``ellipse``: closed curves as wide as the photos lie apart.
    ``interpolate``: smoothly through all photos, in their order or, where that jumps about, in a shorter one.
    ``inputs``: the photos' own cameras, each held for its share of the frames. Loops leave out the last frame, which
    would repeat the first.

    Args:
        frames: how many; the official modes (``da3gs.rendering.paths.upstream_trajectories``) ignore it.
        focus: what to look at; where the photos' viewing lines come closest, when absent.
        up: which way is up in the world; the mean of the photos' up sides, when absent.
        reach: how wide the closed paths are, 1 as planned; less where they would see what no photo saw.

    Raises:
        InputError: no camera, an unknown name, or no frame.
    """
    if name not in PATH_NAMES:
        raise InputError(f"unknown camera path {name!r}; expected one of {', '.join(PATH_NAMES)}")
    if frames < 1:
        raise InputError(f"a path of {frames} frames; expected at least 1")
    if cameras.world_to_cam.ndim == 2:
        cameras = cameras.map(lambda tensor: tensor[None])
    if len(cameras) == 0:
        raise InputError("a camera path needs at least one camera to start from; this scene has none")
    match name:
        case "inputs":
            return cameras[torch.div(torch.arange(frames) * len(cameras), frames, rounding_mode="floor")]
        case "interpolate":
            return _through_all(cameras, frames)
        case "smooth" | "interpolate_smooth" | "extend" | "dolly_zoom" | "wobble_inter":
            mode: UpstreamMode = name
            return upstream_path(mode, cameras)
        case "wander" | "orbit" | "spiral" | "ellipse":
            setting = _setting(cameras, focus, up, reach)
        case other:
            assert_never(other)
    turn = torch.arange(frames, dtype=torch.float64) / frames * 2 * math.pi
    match name:
        case "wander":
            path = _around_home(setting, torch.stack((turn.sin(), (2 * turn).sin() / 4, (turn.cos() - 1) / 8), -1))
        case "spiral":
            radius = (turn / 2).sin() * 0.9 + 0.1 * turn.sin()
            curve = (radius * (3 * turn).sin(), radius * (3 * turn).cos() / 2, (turn.cos() - 1) / 8)
            path = _around_home(setting, torch.stack(curve, -1))
        case "orbit":
            path = _orbit(setting, frames, reach)
        case "ellipse":
            path = _ellipse(setting, turn, reach)
        case other:
            assert_never(other)
    return _with_poses(cameras, path, cameras.intrinsics[setting.home].expand(frames, 3, 3))


def focus_of(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point nearest to all viewing lines, in front of most cameras; float64.

    For one camera, or parallel ones, a point straight ahead: at the spread of the cameras times four, or at distance 1.
    """
    poses = rigid_inverse(cameras.world_to_cam.double().reshape(-1, 4, 4))
    centers, looks = poses[:, :3, 3], poses[:, :3, 2]
    across = torch.eye(3, dtype=torch.float64) - looks[:, :, None] * looks[:, None, :]
    weak = torch.linalg.eigvalsh(across.sum(0))[0] < 1e-3 * len(poses)
    spread = float((centers - centers.mean(0)).norm(dim=-1).max())
    ahead = torch.nn.functional.normalize(looks.mean(0), dim=0)
    if not weak:
        point = torch.linalg.solve(across.sum(0), (across @ centers[..., None]).sum(0)).squeeze(-1)
        if (((point - centers) * looks).sum(-1) > 0).double().mean() > 0.5:
            return point
    return centers.mean(0) + ahead * (4 * spread if spread > 1e-9 else 1.0)


def home_of(cameras: Cameras) -> int:
    """The most central camera: wander and spiral start there."""
    centers = cameras.centers.detach().double()
    return int((centers - centers.mean(0)).norm(dim=-1).argmin())


def _setting(cameras: Cameras, focus: Tensor | None, up: Tensor | None, width: float) -> _Setting:
    poses = rigid_inverse(cameras.world_to_cam.detach().cpu().double())
    centers = poses[:, :3, 3]
    target = focus_of(cameras.to("cpu")) if focus is None else focus.detach().cpu().double()
    upward = -poses[:, :3, 1].mean(0) if up is None else up.detach().cpu().double()
    if float(upward.norm()) < 1e-6:
        upward = -poses[0, :3, 1]
    home = home_of(cameras)
    distance = max(float((target - centers[home]).norm()), 1e-6)
    apart = (centers - centers[home]).norm(dim=-1)
    reach = float(apart.quantile(0.75)) * 0.7 if len(centers) > 1 else 0.0
    return _Setting(
        poses=poses,
        focus=target,
        up=torch.nn.functional.normalize(upward, dim=0),
        home=home,
        distance=distance,
        reach=width * min(max(reach, 0.05 * distance), 0.2 * distance),
    )


def _looking(setting: _Setting, eyes: Tensor) -> Tensor:
    """Camera-to-world poses at ``eyes`` that look at the focus, upright."""
    return rigid_inverse(look_at(eyes, setting.focus.expand_as(eyes), setting.up.expand_as(eyes)))


def _around_home(setting: _Setting, curve: Tensor) -> Tensor:
    """Poses along a curve (units: the reach) in the home camera's axes, turned so that the focus stays where it was.

    The first frame is the home photo itself if the curve starts at 0.
    """
    home = setting.poses[setting.home]
    eyes = home[:3, 3] + setting.reach * curve @ home[:3, :3].T
    looking = _looking(setting, eyes)
    start = _looking(setting, home[None, :3, 3])[0]
    rotation = looking[:, :3, :3] @ start[:3, :3].T @ home[:3, :3]
    return torch.cat((torch.cat((rotation, eyes[..., None]), -1), looking[:, 3:]), -2)


def _orbit(setting: _Setting, frames: int, reach: float) -> Tensor:
    """Round the focus about the up axis, at the distance and height of the photos nearest in angle."""
    offsets = setting.poses[:, :3, 3] - setting.focus
    height = offsets @ setting.up
    flat = offsets - height[:, None] * setting.up
    right = torch.nn.functional.normalize(flat[setting.home], dim=0)
    if float(flat[setting.home].norm()) < 1e-6 * setting.distance:
        right = setting.poses[setting.home, :3, 1]
    left = torch.linalg.cross(setting.up, right)
    angle = torch.atan2(flat @ left, flat @ right)
    ordered = angle.sort().values
    gaps = torch.cat((ordered[1:] - ordered[:-1], ordered[:1] + 2 * math.pi - ordered[-1:]))
    step = torch.arange(frames, dtype=torch.float64) / frames
    if len(angle) >= 4 and float(gaps.max()) < math.radians(100) and reach == 1:
        way, width = 2 * math.pi * step, math.radians(30)
    else:
        least = math.radians(8)
        low, high = reach * min(float(angle.min()), -least), reach * max(float(angle.max()), least)
        middle, half = (high + low) / 2, (high - low) / 2
        way = middle + half * torch.sin(2 * math.pi * step - math.asin(middle / half))  # starts at the home photo
        width = max(math.radians(10), (high - low) / 6)
    apart = torch.remainder(way[:, None] - angle + math.pi, 2 * math.pi) - math.pi
    weight = torch.softmax(-0.5 * (apart / width) ** 2, -1)
    radius, rise = weight @ flat.norm(dim=-1), weight @ height
    around = way.cos()[:, None] * right + way.sin()[:, None] * left
    return _looking(setting, setting.focus + radius[:, None] * around + rise[:, None] * setting.up)


def _ellipse(setting: _Setting, turn: Tensor, reach: float) -> Tensor:
    """The ellipse that fits the photos' centres, in the plane across the mean view; a narrow one lies at home.

    Photos all round the focus have no such plane: then it is an orbit.
    """
    centers = setting.poses[:, :3, 3]
    middle = centers.mean(0)
    if float((setting.focus - middle).norm()) < 0.5 * setting.distance:
        return _orbit(setting, len(turn), reach)
    middle = torch.lerp(centers[setting.home], middle, reach)
    ahead = torch.nn.functional.normalize(setting.focus - middle, dim=0)
    right = torch.linalg.cross(ahead, setting.up)
    right = torch.nn.functional.normalize(right, dim=0) if float(right.norm()) > 1e-6 else setting.poses[0, :3, 0]
    down = torch.linalg.cross(ahead, right)
    moved = centers - middle
    wide, high = (float((moved @ axis).square().mean().sqrt()) * math.sqrt(2) for axis in (right, down))
    least, most = 0.03 * setting.distance, setting.distance
    wide, high = reach * min(max(wide, least), most), reach * min(max(high, least / 2), most)
    return _looking(setting, middle + wide * turn.sin()[:, None] * right - high * turn.cos()[:, None] * down)


def short_order(centers: Float[Tensor, "V 3"]) -> list[int]:
    """The photos in their own order, or by nearest neighbours from the first if that way is much shorter."""
    apart = torch.cdist(centers, centers)
    order, left = [0], set(range(1, len(centers)))
    while left:
        nearest = min(left, key=lambda i: (float(apart[order[-1], i]), i))
        order.append(nearest)
        left.remove(nearest)
    plain = list(range(len(centers)))
    lengths = [sum(float(apart[a, b]) for a, b in itertools.pairwise(o)) for o in (order, plain)]
    return order if lengths[0] < 0.6 * lengths[1] else plain


def _spline(values: Tensor, knots: Tensor, at: Tensor) -> Tensor:
    """The natural cubic spline through ``values`` at increasing ``knots``: twice continuously differentiable."""
    count = len(knots)
    if count == 2:
        return torch.lerp(values[0], values[1], ((at - knots[0]) / (knots[1] - knots[0]))[:, None])
    h = knots[1:] - knots[:-1]
    system = torch.eye(count, dtype=values.dtype)
    right = torch.zeros_like(values)
    for i in range(1, count - 1):
        system[i, i - 1 : i + 2] = torch.stack((h[i - 1], 2 * (h[i - 1] + h[i]), h[i]))
        right[i] = 6 * ((values[i + 1] - values[i]) / h[i] - (values[i] - values[i - 1]) / h[i - 1])
    bend = torch.linalg.solve(system, right)
    i = torch.searchsorted(knots, at, right=True).sub(1).clamp(0, count - 2)
    a, b, width = (knots[i + 1] - at)[:, None], (at - knots[i])[:, None], h[i][:, None]
    lines = (values[i] / width - bend[i] * width / 6) * a + (values[i + 1] / width - bend[i + 1] * width / 6) * b
    return (bend[i] * a**3 + bend[i + 1] * b**3) / (6 * width) + lines


def _through_all(cameras: Cameras, frames: int) -> Cameras:
    """A smooth flight through every photo, slow at both ends."""
    poses = rigid_inverse(cameras.world_to_cam.detach().cpu().double())
    intrinsics = cameras.intrinsics.detach().cpu().double()
    if len(poses) == 1:
        return _with_poses(cameras, poses.expand(frames, 4, 4), intrinsics.expand(frames, 3, 3))
    order = short_order(poses[:, :3, 3])
    poses, intrinsics = poses[order], intrinsics[order]
    quaternions = matrix_to_quaternion(poses[:, :3, :3])
    for i in range(1, len(order)):
        if quaternions[i] @ quaternions[i - 1] < 0:
            quaternions[i] = -quaternions[i]
    steps = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=-1)
    steps = steps + 0.25 * steps.mean() + 1e-9  # turning on the spot takes time too
    knots = torch.cat((steps.new_zeros(1), steps.cumsum(0)))
    t = torch.linspace(0, 1, frames, dtype=torch.float64) if frames > 1 else torch.zeros(1, dtype=torch.float64)
    at = _ease(t) * knots[-1]
    values = torch.cat((poses[:, :3, 3], quaternions, intrinsics.flatten(1)), -1)
    curve = _spline(values, knots, at)
    rotation = quaternion_to_matrix(curve[:, 3:7])
    bottom = poses[:1, 3:].expand(frames, 1, 4)
    path = torch.cat((torch.cat((rotation, curve[:, :3, None]), -1), bottom), -2)
    return _with_poses(cameras, path, curve[:, 7:].unflatten(-1, (3, 3)))


def _ease(t: Tensor) -> Tensor:
    """Constant speed but for a soft start and stop over a tenth of the time each."""
    soft = 0.1
    speed = torch.clamp(torch.minimum(t, 1 - t) / soft, max=1)
    way = torch.where(t < soft, t * speed / 2, t - soft / 2)
    way = torch.where(t > 1 - soft, 1 - soft - (1 - t) * speed / 2, way)
    return way / (1 - soft)


def _with_poses(cameras: Cameras, cam_to_world: Tensor, intrinsics: Tensor) -> Cameras:
    reference = cameras.world_to_cam
    return dataclasses.replace(
        cameras, world_to_cam=rigid_inverse(cam_to_world).to(reference), intrinsics=intrinsics.to(cameras.intrinsics)
    )
