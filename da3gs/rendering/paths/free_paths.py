"""Camera paths that stay in free space and keep to what the photos saw.

A path is flown only where there is room and something to see. Room: the distance to the nearest splats, everywhere on
the way, against that at the nearest photo; so a camera never crosses a surface, in front of it or beside it. Something
to see: the covered part of small renders against that of the nearest photo. A path that fails shrinks towards the most
central photo; a flight through all photos takes another way round.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.keyframes import CameraPath
from da3gs.rendering import Backend, PathName, camera_path, render
from da3gs.rendering.paths.trajectories import focus_of, home_of, short_order

PREVIEW_SIDE = 160
_MOST_UNSEEN = 0.02
"""How much less of the picture may be covered than at the nearest photo."""
_ROOM = 0.4
"""How near the path may come to things, in units of how near the nearest photo is to them."""
_REACHES = (1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05)
_MOST_POINTS = 60_000
_NEIGHBOURS = 6


def named_flight(gaussians: Gaussians, photos: Cameras, name: str, *, frames: int, backend: Backend) -> Cameras:
    """The cameras of a path by its name.

    ``wander``, ``spiral``, ``orbit`` and ``ellipse`` turn about what the photos show and shrink until the way is free
    and covered; ``interpolate`` flies from photo to photo only where the way is free. The others are as
    ``camera_path`` has them.

    Args:
        photos: the cameras of the photos.
        frames: how many; the official modes ignore it.

    Raises:
        InputError: an unknown name, no camera, or no frame.
    """
    plan = functools.partial(camera_path, cast(PathName, name), photos, frames=frames)
    if name not in ("wander", "spiral", "orbit", "ellipse", "interpolate") or not len(photos):
        return plan()
    guard = Guard(gaussians, photos, backend)
    if name == "interpolate":
        path = plan()
        return path if guard.free(path.centers) else _way_round(guard, photos, frames) or path
    focus = _common_point(photos) if name in ("orbit", "ellipse") else None
    if focus is None:
        looks = photos.forward.detach().double()
        outward = float((looks @ looks.T).min()) < 0  # like the views of a panorama: what all see has no middle
        alone = name in ("wander", "spiral") or outward
        focus = _seen_point(gaussians, photos[[home_of(photos)]] if alone else photos, backend)
    for reach in _REACHES:
        path = plan(focus=focus, reach=reach)
        if guard.free(path.centers) and guard.covered(path):
            break
    return path


class Guard:
    """Guard of a path: it keeps its distance from things and looks at what was seen."""

    def __init__(self, gaussians: Gaussians, photos: Cameras, backend: Backend = "auto") -> None:
        """Remember the scene; ``photos`` stand where there is room."""
        self._gaussians, self._photos, self._backend = gaussians, photos, backend
        solid = gaussians.means.detach()[gaussians.opacities.detach() > 0.3].cpu()
        solid = solid[solid.isfinite().all(-1)]
        self._points = solid[:: -(-len(solid) // _MOST_POINTS) or 1].float()
        self._rank = min(max(len(self._points) // 5000, 4), 64)
        self._places = photos.centers.detach().cpu().double()
        self._photo_room = self.room(self._places)
        self._photo_cover: dict[int, float] = {}

    def room(self, positions: Float[Tensor, "T 3"]) -> Float[Tensor, " T"]:
        """Distances to the nearest splats but a few, which may hang in the air; infinite where there are none."""
        if len(self._points) < self._rank:
            return torch.full((len(positions),), torch.inf, dtype=torch.float64)
        spots = positions.detach().cpu().float().split(32)
        rooms = [_apart(some, self._points).kthvalue(self._rank).values.double() for some in spots]
        return torch.cat(rooms)

    def free(self, positions: Float[Tensor, "T 3"]) -> bool:
        """Whether there is room everywhere on the way along these positions, in their order."""
        positions = positions.detach().cpu().double()
        positions = positions[:: max(1, len(positions) // 120)]
        nearest = torch.cdist(positions, self._places).argmin(1)
        room = self.room(positions)
        steps = (positions[1:] - positions[:-1]).norm(dim=-1)
        enough = (room >= _ROOM * self._photo_room[nearest]).all()
        # no surface between two positions whose room together is more than the way between them
        return bool(enough) and bool((room[1:] + room[:-1] >= 1.25 * steps).all())

    def covered(self, path: Cameras) -> bool:
        """Whether frames all along the path see hardly more of what no photo saw than the nearest photo does."""
        scale = max(float(torch.pdist(self._places).median()), 1e-9) if len(self._places) > 1 else 1.0
        for index in range(0, len(path), -(-len(path) // 12)):
            frame = path[index]
            apart = (self._places - frame.centers.detach().cpu()).norm(dim=-1) / scale
            turned = 1 - self._photos.forward.detach().cpu().double() @ frame.forward.detach().cpu().double()
            nearest = int((apart + 3 * turned).argmin())
            if nearest not in self._photo_cover:
                self._photo_cover[nearest] = self._cover(self._photos[nearest])
            if self._cover(frame) < self._photo_cover[nearest] - _MOST_UNSEEN:
                return False
        return True

    def _cover(self, camera: Cameras) -> float:
        return float(render(self._gaussians, preview(camera), backend=self._backend).alpha.mean())


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Distances, exact far from the origin too."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def preview(camera: Cameras) -> Cameras:
    """The camera of a small picture."""
    shrink = min(1.0, PREVIEW_SIDE / max(camera.height, camera.width))
    return camera.resized(max(1, round(camera.height * shrink)), max(1, round(camera.width * shrink)))


def _common_point(photos: Cameras) -> Float[Tensor, "3"] | None:
    """The point that photos from different sides have in their middle; None where there is no such point."""
    looks = photos.forward.detach().cpu().double()
    if float((looks @ looks.T).min()) > math.cos(math.radians(20)):
        return None
    point = focus_of(photos.to("cpu"))
    offsets = point - photos.centers.detach().cpu().double()
    if float(offsets.norm(dim=-1).min()) < 0.05 * float(torch.cdist(offsets, offsets).max()) + 1e-9:
        return None  # where the photos were taken, not what they show
    aims = torch.nn.functional.normalize(offsets, dim=-1)
    return point if float((aims * looks).sum(-1).median()) > math.cos(math.radians(8)) else None


def _seen_point(gaussians: Gaussians, photos: Cameras, backend: Backend) -> Float[Tensor, "3"] | None:
    """The middle of what up to 8 photos see: each one's median depth along its axis; None where nothing is seen."""
    step = -(-len(photos) // 8)
    points = []
    for index in range(0, len(photos), step):
        picture = render(gaussians, preview(photos[index]), backend=backend)
        seen = picture.depth[picture.alpha > 0.5]
        if seen.numel():
            pose = rigid_inverse(photos.world_to_cam[index].double().cpu())
            points.append(pose[:3, 3] + pose[:3, 2] * float(seen.median()))
    return torch.stack(points).median(0).values if points else None


def _way_round(guard: Guard, photos: Cameras, frames: int) -> Cameras | None:
    """A flight through the photos along free straight ways between neighbours; None where there is none.

    Photos that no free way leads to are left out.
    """
    centers = photos.centers.detach().cpu().double()
    links = _free_links(guard, centers)
    order = short_order(centers)
    home = max(order, key=lambda photo: len(_shortest(links, photo)[1]))
    reached = _shortest(links, home)[1]
    stops = [photo for photo in order if photo in reached]
    route = stops[:1]
    for stop in stops[1:]:
        if stop not in route:
            route += _way(links, route[-1], stop)
    if len(route) < 2:
        return None
    lengths = [float((centers[a] - centers[b]).norm()) for a, b in itertools.pairwise(route)]
    spare = 0.25 * sum(lengths) / len(lengths) + 1e-9  # turning on the spot takes time too
    times = [0.0, *itertools.accumulate(length + spare for length in lengths)]
    given, photos = photos, photos.detach().to("cpu", torch.float64)
    for smoothness in (1.0, 0.6, 0.3, 0.0):
        path = CameraPath(
            cam_to_world=rigid_inverse(photos.world_to_cam[route]),
            intrinsics=photos.intrinsics[route],
            seconds=torch.tensor(times, dtype=torch.float64),
            duration=times[-1],
            height=photos.height,
            width=photos.width,
            smoothness=smoothness,
        )
        share = torch.linspace(0, 1, frames, dtype=torch.float64) if frames > 1 else torch.zeros(1).double()
        flight = path.at(share * path.duration)
        if guard.free(flight.centers):
            break
    return flight.to(given.device, given.world_to_cam.dtype)


def _free_links(guard: Guard, centers: Tensor) -> dict[int, dict[int, float]]:
    """Lengths of the free straight ways from each photo to some of its neighbours."""
    apart = torch.cdist(centers, centers)
    links: dict[int, dict[int, float]] = {i: {} for i in range(len(centers))}
    for i in range(len(centers)):
        for j in apart[i].argsort()[1 : _NEIGHBOURS + 1].tolist():
            if j not in links[i]:
                share = torch.linspace(0, 1, 24, dtype=torch.float64)[:, None]
                if guard.free(torch.lerp(centers[i], centers[j], share)):
                    links[i][j] = links[j][i] = float(apart[i, j])
    return links


def _shortest(links: dict[int, dict[int, float]], start: int) -> tuple[dict[int, int], dict[int, float]]:
    """From a photo to all that can be reached: the stop before each, and how far it is."""
    before: dict[int, int] = {}
    far = {start: 0.0}
    queue = [(0.0, start)]
    while queue:
        distance, at = heapq.heappop(queue)
        if distance > far[at]:
            continue
        for stop, length in links[at].items():
            if distance + length < far.get(stop, torch.inf):
                far[stop], before[stop] = distance + length, at
                heapq.heappush(queue, (far[stop], stop))
    return before, far


def _way(links: dict[int, dict[int, float]], start: int, end: int) -> list[int]:
    """The stops after ``start`` on the shortest way to ``end``."""
    before = _shortest(links, start)[0]
    way = [end]
    while before[way[-1]] != start:
        way.append(before[way[-1]])
    return way[::-1]
