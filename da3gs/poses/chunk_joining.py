"""Similarities that join the predictions of overlapping chunks of views into one world, and close the loop.

Neighbouring chunks share views, and each has its own frame and scale. The depth of a shared view, seen from both, gives
the scale; the rotations of its two cameras the rotation; their centres the translation. Each is a median or a robust
mean, so that a few wrong pixels or views do not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import project, unproject
from da3gs.geometry.rotations import angle_between, matrix_to_quaternion, orthonormalized, quaternion_to_matrix, slerp
from da3gs.geometry.similarity import Similarity
from da3gs.prediction import Placed

_SAME = 0.05  # relative difference of depth at which two views mean one surface
_SEEN = 0.25  # share of a view's pixels that the other end of a loop has to bear out
_STEP = 4  # pixels between those that are compared
_ROUNDS = 10  # of the robust mean of rotations


def joint(source: Placed, target: Placed) -> Similarity:
    """The similarity that lays ``source`` on ``target``, two predictions of the same views in two frames.

    Cameras that coincide leave no doubt about scale, since that comes from depth.
    """
    ratios = (target.depth.double() / source.depth.double()).log()
    scale = ratios[ratios.isfinite()].median().exp()
    a, b = source.cameras.cam_to_world.double(), target.cameras.cam_to_world.double()
    rotation = _mean_rotation(b[:, :3, :3] @ a[:, :3, :3].mT)
    translation = (b[:, :3, 3] - scale * (a[:, :3, 3] @ rotation.T)).median(0).values
    return Similarity(scale=scale, rotation=rotation, translation=translation)


def _mean_rotation(rotations: Float[Tensor, "V 3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation with the least sum of angles to all (Weiszfeld's weights on chordal means)."""
    weights = rotations.new_ones(len(rotations))
    mean = rotations[0]
    for _ in range(_ROUNDS):
        mean = orthonormalized((weights[:, None, None] * rotations).sum(0))
        weights = 1 / angle_between(rotations, mean.expand_as(rotations)).clamp(min=1e-4)
    return mean


def portion(whole: Similarity, share: float, pivot: Float[Tensor, "3"]) -> Similarity:
    """A part of a similarity: none of it at 0, all at 1; ``pivot`` goes straight to where it ends."""
    still = whole.rotation.new_tensor([1.0, 0.0, 0.0, 0.0])
    turned = slerp(still, matrix_to_quaternion(whole.rotation), still.new_tensor(share))
    rotation = quaternion_to_matrix(turned)
    scale = whole.scale**share
    end = whole.apply(pivot[None])[0]
    translation = pivot + share * (end - pivot) - scale * (rotation @ pivot)
    return Similarity(scale=scale, rotation=rotation, translation=translation)


def seen_again(first: Placed, last: Placed) -> float:
    """Share of ``last``'s pixels whose depth some view of ``first`` bears out, of the best pair of views; both in one
    frame."""
    best = 0.0
    height, width = first.depth.shape[-2:]
    grid = (slice(_STEP // 2, None, _STEP), slice(_STEP // 2, None, _STEP))
    for j in range(len(last.depth)):
        camera = last.cameras[j]
        world = unproject(last.depth[j], camera.intrinsics, camera.cam_to_world)[grid].reshape(-1, 3)
        for i in range(len(first.depth)):
            pixels, z = project(world, first.cameras[i].intrinsics, first.cameras[i].world_to_cam)
            column, row = pixels.nan_to_num(-1).clamp(-1, max(height, width)).floor().long().unbind(-1)
            inside = (z > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
            there = first.depth[i][row.clamp(0, height - 1), column.clamp(0, width - 1)]
            same = inside & ((z / there.clamp(min=1e-12) - 1).abs() < _SAME)
            best = max(best, float(same.float().mean()))
    return best


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """What a chunk of the first and the last views says of the way between."""

    closed: bool
    """Whether both ends see the same place."""
    seen: float
    """Share of pixels that the other end bears out."""
    correction: Similarity | None = None
    """What has to be done to the end of the chain; where it is closed."""


def loop_between(first: Placed, last: Placed, ends: Placed) -> Loop:
    """The loop that ``ends`` closes, a prediction of the views of ``first`` and then of ``last`` together."""
    count = len(first.depth)
    here, there = rows(ends, slice(0, count)), rows(ends, slice(count, None))
    seen = seen_again(here, there)
    if seen < _SEEN:
        return Loop(closed=False, seen=seen)
    onto = joint(here, first)
    correction = onto.after(joint(there, last).inverse())
    return Loop(closed=True, seen=seen, correction=correction)


def drift(correction: Similarity, cameras: Cameras, shared: int) -> dict[str, float]:
    """The last views of a chain against where the loop puts them: distance as a share of the way, angle, scale."""
    centers = cameras.centers.double()
    way = (centers[1:] - centers[:-1]).norm(dim=-1).sum().clamp(min=1e-12)
    ends = centers[-shared:]
    still = torch.eye(3, dtype=torch.float64, device=centers.device)
    return {
        "share_of_way": round(float((correction.apply(ends) - ends).norm(dim=-1).mean() / way), 5),
        "degrees": round(float(torch.rad2deg(angle_between(correction.rotation, still))), 3),
        "scale": round(float(correction.scale), 5),
    }


def spread(result: Placed, correction: Similarity) -> Placed:
    """The views with a loop's correction spread along the way: nothing of it at the first, all at the last."""
    centers = result.cameras.centers.double()
    way = torch.cat((centers.new_zeros(1), (centers[1:] - centers[:-1]).norm(dim=-1).cumsum(0)))
    shares = way / way[-1].clamp(min=1e-12)
    moved = [
        rows(result, slice(i, i + 1)).transformed(portion(correction, float(share), centers[-1]))
        for i, share in enumerate(shares)
    ]
    return concatenated(moved)


def rows(result: Placed, part: slice) -> Placed:
    """Some of the views, in their order."""
    gaussians = result.gaussians
    if gaussians is not None:
        pixels = result.depth.shape[-2] * result.depth.shape[-1]
        first, last, _ = part.indices(len(result.depth))
        gaussians = gaussians.map(lambda t: t[first * pixels : last * pixels])
    return dataclasses.replace(
        result,
        depth=result.depth[part],
        cameras=result.cameras[part],
        confidence=None if result.confidence is None else result.confidence[part],
        sky=None if result.sky is None else result.sky[part],
        gaussians=gaussians,
    )


def concatenated(parts: Sequence[Placed]) -> Placed:
    """The views of all parts, one after another; what is said of all views together is the first part's."""
    cameras = parts[0].cameras
    maps: dict[str, Any] = {
        name: None if getattr(parts[0], name) is None else torch.cat([getattr(part, name) for part in parts])
        for name in ("depth", "confidence", "sky")
    }
    splats = [part.gaussians for part in parts if part.gaussians is not None]
    return dataclasses.replace(
        parts[0],
        **maps,
        cameras=dataclasses.replace(
            cameras,
            world_to_cam=torch.cat([part.cameras.world_to_cam for part in parts]),
            intrinsics=torch.cat([part.cameras.intrinsics for part in parts]),
        ),
        gaussians=Gaussians.concatenated(splats) if splats else None,
    )
