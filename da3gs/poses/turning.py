"""Turning on the spot: photos from one place, whose matches a rotation explains and which tell no depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from da3gs.formats.cameras.lens import Lens, lens_of
from da3gs.photos import Placement
from da3gs.poses.camera_estimate import CameraEstimate
from da3gs.poses.features.database import Pair

_NEAR = 0.002  # of the long side, at least a pixel: matches that a rotation leaves no further apart show no parallax
_SHARE = 0.9  # of all matches that have to
_FEWEST = 30  # matches of a pair that is asked
_MOST_PAIRS, _MOST_MATCHES = 60, 200  # that are asked
_FOCALS = np.geomspace(0.6, 1.7, 27)  # times the focal length to begin at
_FINER = np.linspace(0.97, 1.03, 13)  # times the best of these
_ROUNDS = 12


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A photo's working copy and the focal length to begin at."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    focal: float
    """In pixels."""
    known: bool
    """Whether the input tells it."""

    @property
    def near(self) -> float:
        """Pixels within which places are the same."""
        return max(1.0, _NEAR * max(self.height, self.width))

    def rays(self, places: Float[np.ndarray, "m 2"], factor: float) -> Float[np.ndarray, "m 3"]:
        """Unit directions of pixels, the focal length times a factor."""
        local = (places - (self.width / 2, self.height / 2)) / (self.focal * factor)
        rays = np.concatenate((local, np.ones_like(local[:, :1])), axis=1)
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def turned_on_the_spot(
    matches: Mapping[Pair, Float[np.ndarray, "m 4"]], frames: Sequence[Frame]
) -> CameraEstimate | None:
    """The cameras of photos that were taken from one place, all at the origin; None where matches show parallax.

    With the rays a, b of matches, each pair's rotation is the R that minimises ``Σ ‖R a - b‖²`` (Kabsch) over the
    matches that it explains; the focal length, where it is unknown, is the one that explains most.

    Args:
        matches: verified by two views' geometry, in pixels.
        frames: one a photo.
    """
    told = {pair: rows for pair, rows in matches.items() if len(rows) >= _FEWEST}
    if not told:
        return None
    factor, asked = 1.0, _sampled(told)
    if not any(frame.known for frame in frames):
        for tried in (_FOCALS, _FINER):
            factor = max((factor * tried).tolist(), key=lambda f: _explained(asked, frames, f))
    if _explained(asked, frames, factor) < _SHARE * sum(map(len, asked.values())):
        return None
    return _estimate(told, frames, factor)


def _sampled(matches: Mapping[Pair, np.ndarray]) -> dict[Pair, np.ndarray]:
    """Pairs and matches enough to tell by, spread evenly over all."""
    pairs = sorted(matches)
    asked = [pairs[i] for i in _spread(len(pairs), _MOST_PAIRS)]
    return {pair: matches[pair][_spread(len(matches[pair]), _MOST_MATCHES)] for pair in asked}


def _spread(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Positions, evenly spread, of so many at most."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _explained(matches: Mapping[Pair, np.ndarray], frames: Sequence[Frame], factor: float) -> float:
    """How many matches rotations explain; nearer ones count for more, so that focal lengths can be told apart."""
    total = 0.0
    for (one, two), rows in matches.items():
        a, b = frames[one].rays(rows[:, :2], factor), frames[two].rays(rows[:, 2:], factor)
        frame = frames[one]
        away = _angles(a @ _rotation(a, b, frame.near / (frame.focal * factor)).T, b) * frame.focal * factor
        near = away <= frame.near
        total += float((1 - 0.1 * away[near] / frame.near).sum())
    return total / 0.95  # a mean distance of half the limit counts in full


def _rotation(a: Float[np.ndarray, "m 3"], b: Float[np.ndarray, "m 3"], near: float) -> Float[np.ndarray, "3 3"]:
    """The rotation from rays to rays, of those that agree with it ever more closely."""
    weights = np.ones(len(a))
    rotation = np.eye(3)
    for round_ in range(_ROUNDS):
        u, _, vt = np.linalg.svd((b * weights[:, None]).T @ a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        away = _angles(a @ rotation.T, b)
        limit = near * max(1.0, 2.0 ** (5 - round_))
        weights = 1 / (1 + (away / limit) ** 2) ** 2
    return rotation


def _angles(a: Float[np.ndarray, "m 3"], b: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " m"]:
    return np.linalg.norm(a - b, axis=1)


def _estimate(matches: Mapping[Pair, np.ndarray], frames: Sequence[Frame], factor: float) -> CameraEstimate:
    """Rotations from the best-tied photo outwards, then each in turn to agree with all its neighbours."""
    votes = np.zeros(len(frames))
    for pair, rows in matches.items():
        votes[list(pair)] += len(rows)
    rays = {
        pair: (frames[pair[0]].rays(rows[:, :2], factor), frames[pair[1]].rays(rows[:, 2:], factor))
        for pair, rows in matches.items()
    }
    near = {i: frame.near / (frame.focal * factor) for i, frame in enumerate(frames)}
    root = int(votes.argmax())
    world = {root: np.eye(3)}
    while True:  # the strongest tie to what is placed comes next
        open_ = [pair for pair in matches if (pair[0] in world) != (pair[1] in world)]
        if not open_:
            break
        one, two = max(open_, key=lambda pair: len(matches[pair]))
        turn = _rotation(*rays[one, two], near[one])
        if one in world:
            world[two] = turn @ world[one]
        else:
            world[one] = turn.T @ world[two]
    for _ in range(_ROUNDS):
        for i in world:
            if i != root:
                a, b = _facing(i, world, rays)
                world[i] = _rotation(a, b, near[i])
    positions = tuple(sorted(world))
    placements = []
    for i in positions:
        a, b = _facing(i, world, rays)
        away = _angles(a @ world[i].T, b) * frames[i].focal * factor
        fits = away <= frames[i].near
        error = round(float(away[fits].mean()), 3) if fits.any() else None
        placements.append(Placement(placed="sfm", inliers=int(fits.sum()), reprojection_error=error))
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = np.stack([world[i] for i in positions])
    return CameraEstimate(
        positions=positions, world_to_cam=poses, lenses=tuple(_lens(frames[i], factor) for i in positions),
        placements=tuple(placements), points=np.zeros((0, 3)), colors=np.zeros((0, 3), np.uint8),
        errors=np.zeros(0), seen=np.zeros((len(positions), 0), bool), model=None, one_spot=True,
    )  # fmt: skip


def _facing(
    photo: int, world: Mapping[int, np.ndarray], rays: Mapping[Pair, tuple[np.ndarray, np.ndarray]]
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
    """Where a photo's matches lie by its placed neighbours, as directions of the world, and its own rays to them."""
    away, own = [], []
    for (one, two), (a, b) in rays.items():
        if photo == two and one in world:
            away.append(a @ world[one])
            own.append(b)
        elif photo == one and two in world:
            away.append(b @ world[two])
            own.append(a)
    return np.concatenate(away), np.concatenate(own)


def _lens(frame: Frame, factor: float) -> Lens:
    focal = frame.focal * factor
    return lens_of(
        fx=focal, fy=focal, cx=frame.width / 2, cy=frame.height / 2, height=frame.height, width=frame.width
    )  # fmt: skip


def widest_turn(estimate: CameraEstimate) -> float:
    """The largest angle between the cameras of an estimate, in degrees."""
    rotations = estimate.world_to_cam[:, :3, :3]
    traces = np.einsum("aij,bij->ab", rotations, rotations)
    return float(np.degrees(np.arccos(np.clip((traces.min() - 1) / 2, -1, 1))))
