"""Made matches of cameras round a heap of points, with noise, wrong matches and depth that is off."""

from __future__ import annotations

import dataclasses

import numpy as np

from da3gs.poses.relative_pose.two_view_geometry import Matches, rotation_matrices

WIDTH, HEIGHT = 1000, 750


@dataclasses.dataclass(frozen=True, kw_only=True)
class MadePair:
    """Matches of two photos and the truth about them."""

    matches: Matches
    wrong: np.ndarray
    depths: tuple[np.ndarray, np.ndarray]
    rotation: np.ndarray
    translation: np.ndarray
    intrinsics: np.ndarray

    def errors(self, rotation: np.ndarray, translation: np.ndarray) -> tuple[float, float]:
        """Degrees by which a pose is turned and its direction of translation is off."""
        cosine = (np.trace(rotation @ self.rotation.T) - 1) / 2
        lengths = np.linalg.norm(translation) * np.linalg.norm(self.translation)
        along = translation @ self.translation / lengths
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), float(np.degrees(np.arccos(np.clip(along, -1, 1))))


def intrinsics_of(focal: float) -> np.ndarray:
    return np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]])


def orbit_pose(degrees: float, *, distance: float = 5.0, tilt: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """World to camera of a camera that looks at the origin from somewhere on a circle."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrices(np.array([tilt, 0.0, roll])) @ rotation_matrices(
        np.array([0.0, np.radians(degrees), 0.0])
    )
    pose[:3, 3] = [0, 0, distance]
    return pose


def heap(count: int, generator: np.random.Generator, *, flat: bool = False) -> np.ndarray:
    """Points round the origin, or on a slanted plane through it."""
    points = generator.uniform(-1, 1, (count, 3)) * [2, 1.5, 1.5]
    if flat:
        points[:, 2] = 0.3 * points[:, 0]
    return points


def seen(points: np.ndarray, pose: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, depth, and whether the photo shows the point."""
    local = points @ pose[:3, :3].T + pose[:3, 3]
    projected = local @ intrinsics.T
    pixels = projected[:, :2] / projected[:, 2:]
    inside = (local[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < [WIDTH, HEIGHT]).all(1)
    return pixels, local[:, 2], inside


def made_pair(
    first: np.ndarray,
    second: np.ndarray,
    *,
    count: int = 60,
    wrong: float = 0.5,
    noise: float = 0.7,
    depth_noise: float = 0.1,
    focal: float = 900.0,
    flat: bool = False,
    seed: int = 0,
) -> MadePair:
    """Matches between two poses; depth has a scale, a shift and noise of its own in each photo."""
    generator = np.random.default_rng(seed)
    intrinsics = intrinsics_of(focal)
    points = heap(6 * count, generator, flat=flat)
    (one, near, a), (two, far, b) = (seen(points, pose, intrinsics) for pose in (first, second))
    index = np.flatnonzero(a & b)[:count]
    assert len(index) == count
    one = one[index] + noise * generator.normal(size=(count, 2))
    two = two[index] + noise * generator.normal(size=(count, 2))
    bad = generator.random(count) < wrong
    two[bad] = generator.uniform(0, 1, (int(bad.sum()), 2)) * [WIDTH, HEIGHT]
    near = 0.7 * near[index] * np.exp(depth_noise * generator.normal(size=count)) + 1.0
    far = 0.3 * far[index] * np.exp(depth_noise * generator.normal(size=count)) + 0.2
    relative = second @ np.linalg.inv(first)
    return MadePair(
        matches=Matches(first=one, second=two), wrong=bad, depths=(near, far), rotation=relative[:3, :3],
        translation=relative[:3, 3], intrinsics=intrinsics,
    )  # fmt: skip
