"""Sparse points from photos with exact cameras: features matched along epipolar lines and triangulated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from da3gs._tensors import TensorRecord
from da3gs.cameras import Cameras
from da3gs.geometry.projection import rigid_inverse
from da3gs.photos.records import Photo

_FEATURES, _FEWEST = 2000, 800  # a view; fewer where many pairs are to be compared
_PAIRS = 15  # pairs of views for which the most features are taken
_CONTRAST = 0.01  # of SIFT: low, since small pictures have few features and the epipolar line forgives many
_EPIPOLAR = 0.004  # of the long side: how far from the line a match may lie
_RATIO = 0.8  # of the distances of descriptors: the best on the line against the next that lies elsewhere
_ANGLE = 1.0  # degrees between the rays: less tells no depth
LONG_SIDE = 1008
"""Of photos that features are looked for in, pixels."""
_NEAREST = 12  # views that each view is matched with


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MatchedPoints(TensorRecord):
    """Points, each seen by two views."""

    positions: Float[Tensor, "N 3"]
    """World coordinates, float64."""
    visible: Bool[Tensor, "V N"]
    """Which views see which."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Sharp:
    """A view's photo at a larger size, upright and free of distortion."""

    image: UInt8[np.ndarray, "h w 3"]
    """sRGB."""
    height: int
    """Its height in the view, from the top-left corner of the canvas."""
    width: int
    """Its width in the view."""


def sharp_photos(photos: Sequence[Photo], index: Sequence[int], long_side: int = LONG_SIDE) -> list[Sharp]:
    """The photos at these positions, read again, at a long side of at most so many pixels."""
    whole = (photos[i] for i in index)
    return [
        smaller_photo(Sharp(image=photo.read().image, height=photo.height, width=photo.width), long_side)
        for photo in whole
    ]


def smaller_photo(photo: Sharp, long_side: int) -> Sharp:
    """A photo at a long side of at most so many pixels."""
    import cv2

    factor = min(1.0, long_side / max(photo.image.shape[:2]))
    if factor == 1:
        return photo
    size = (max(2, round(photo.image.shape[1] * factor)), max(2, round(photo.image.shape[0] * factor)))
    return dataclasses.replace(photo, image=cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA))


def matched_points(
    images: Float[Tensor, "V 3 H W"],
    cameras: Cameras,
    masks: Bool[Tensor, "V H W"] | None = None,
    *,
    sharp: Sequence[Sharp] | None = None,
) -> MatchedPoints:
    """What SIFT features that match along epipolar lines say of the scene; a part of them is wrong, so fit robustly.

    Args:
        images: sRGB in [0, 1].
        cameras: exact, of the images.
        masks: False where a pixel says nothing.
        sharp: the same photos at a larger size, which show more features.
    """
    world_to_cam, intrinsics = cameras.world_to_cam.cpu().double(), cameras.intrinsics.cpu().double()
    centers = rigid_inverse(world_to_cam)[:, :3, 3]
    pairs = []
    for first in range(len(images)):
        order = (centers - centers[first]).norm(dim=-1).argsort().tolist()[: _NEAREST + 1]
        pairs += [(first, second) for second in sorted(j for j in order if j > first)]
    most = max(_FEWEST, round(_FEATURES * min(1.0, math.sqrt(_PAIRS / max(len(pairs), 1)))))
    if sharp is None:
        height, width = images.shape[2:]
        sharp = [Sharp(image=_bytes(image), height=height, width=width) for image in images]
    features = [_features(sharp[v], None if masks is None else masks[v], most) for v in range(len(images))]
    tolerance = _EPIPOLAR * max(images.shape[2:])
    positions, visible = [], []
    for pair in pairs:
        views = list(pair)
        found = _pair_points(
            [features[v] for v in views], world_to_cam[views].numpy(), intrinsics[views].numpy(), tolerance
        )
        positions.append(torch.from_numpy(found))
        seen = torch.zeros(len(images), len(found), dtype=torch.bool)
        seen[views] = True
        visible.append(seen)
    if not positions:
        return MatchedPoints(
            positions=torch.zeros(0, 3, dtype=torch.float64), visible=torch.zeros(len(images), 0, dtype=torch.bool)
        )
    return MatchedPoints(positions=torch.cat(positions), visible=torch.cat(visible, 1))


def _bytes(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.asarray((image.movedim(0, -1).cpu().numpy() * 255).round().astype(np.uint8))


def _features(
    photo: Sharp, mask: Tensor | None, most: int
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 128"]]:
    """Pixel positions in the view and unit descriptors (square roots of SIFT's shares)."""
    import cv2

    grey = cv2.cvtColor(photo.image, cv2.COLOR_RGB2GRAY)
    rows, columns = grey.shape
    allowed = None
    if mask is not None:
        own = mask[: photo.height, : photo.width].cpu().numpy().astype(np.uint8) * 255
        allowed = cv2.resize(own, (columns, rows), interpolation=cv2.INTER_NEAREST)
    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST, edgeThreshold=12)
    keypoints, descriptors = sift.detectAndCompute(grey, allowed)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    shares = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    factor = np.array([photo.width / columns, photo.height / rows])
    return (np.array([k.pt for k in keypoints]) + 0.5) * factor, shares


def _pair_points(
    features: list[tuple[np.ndarray, np.ndarray]],
    world_to_cam: Float[np.ndarray, "2 4 4"],
    intrinsics: Float[np.ndarray, "2 3 3"],
    tolerance: float,
) -> Float[np.ndarray, "n 3"]:
    (one, words), (two, other_words) = features
    relative = world_to_cam[1] @ np.linalg.inv(world_to_cam[0])
    rotation, shift = relative[:3, :3], relative[:3, 3]
    if not len(one) or not len(two) or np.linalg.norm(shift) < 1e-12:
        return np.zeros((0, 3))
    inverse = np.linalg.inv(intrinsics)
    rays, other_rays = _lifted(one) @ inverse[0].T, _lifted(two) @ inverse[1].T
    essential = np.cross(np.eye(3), shift) @ rotation
    fundamental = inverse[1].T @ essential @ inverse[0]
    likeness = torch.from_numpy(words).float() @ torch.from_numpy(other_words).float().T
    likeness.masked_fill_(_line_distances(fundamental, one, two) > tolerance, -1.0)
    likeness.masked_fill_((_line_distances(fundamental.T, two, one) > tolerance).T, -1.0)
    first, second = _mutual(likeness, one, two, 2 * tolerance)
    # the two rays meet where z d + t = z' d', in the least squares' sense
    a, b = rays[first] @ rotation.T, other_rays[second]
    system = np.stack((a, -b), -1)
    normal = system.transpose(0, 2, 1) @ system
    good = np.linalg.det(normal) > 1e-12
    depths = np.zeros((len(first), 2))
    depths[good] = np.linalg.solve(normal[good], -(system.transpose(0, 2, 1) @ shift)[good][..., None])[..., 0]
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    good &= (depths > 0).all(-1) & (np.degrees(np.arccos(np.clip(cosine, -1, 1))) > _ANGLE)
    local = rays[first][good] * depths[good, :1]
    return (local - world_to_cam[0, :3, 3]) @ world_to_cam[0, :3, :3]


def _lifted(pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    return np.concatenate((pixels, np.ones_like(pixels[:, :1])), 1)


def _line_distances(
    fundamental: Float[np.ndarray, "3 3"], one: Float[np.ndarray, "n 2"], two: Float[np.ndarray, "m 2"]
) -> Float[Tensor, "n m"]:
    """How far every pixel of the second picture is from the line of every pixel of the first."""
    lines = _lifted(one) @ fundamental.T
    lines = lines / np.maximum(np.linalg.norm(lines[:, :2], axis=1, keepdims=True), 1e-12)
    return (torch.from_numpy(lines).float() @ torch.from_numpy(_lifted(two)).float().T).abs_()


def _mutual(
    likeness: Float[Tensor, "n m"],
    one: Float[np.ndarray, "n 2"],
    two: Float[np.ndarray, "m 2"],
    apart: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are each other's best on the line, and clearly better than the next one that lies elsewhere."""

    def clear(table: Tensor, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best place for each row, and whether it stands out."""
        top, candidates = (part.numpy() for part in table.topk(min(6, table.shape[1]), dim=1))
        best = candidates[:, 0]
        elsewhere = np.linalg.norm(places[candidates] - places[best][:, None], axis=-1) > apart
        next_best = np.where(elsewhere, top, -1.0).max(1)
        unlike, unlike_next = np.sqrt(np.maximum(2 - 2 * top[:, 0], 0)), np.sqrt(np.maximum(2 - 2 * next_best, 0))
        return best, (top[:, 0] > 0.6) & (unlike < _RATIO * unlike_next)

    best, fine = clear(likeness, two)
    best_back, fine_back = clear(likeness.T.contiguous(), one)
    first = np.arange(len(one))
    keep = fine & fine_back[best] & (best_back[best] == first)
    return first[keep], best[keep]
