"""Official post-processing of a network's outputs with given cameras.

Kept to compare with it; da3gs itself honours given cameras everywhere instead.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.similarity import Similarity, umeyama
from da3gs.network.config import BackboneConfig
from da3gs.network.reference_view import reordered
from da3gs.prediction import Prediction

ROBUST_FROM = 10
"""From this many cameras on, the alignment leaves outliers out."""
_ROUNDS = 10
_SEED = 42


def robust_similarity(source: Float[Tensor, "N 3"], target: Float[Tensor, "N 3"]) -> Similarity:
    """The similarity from ``source`` to ``target`` that most points agree with (RANSAC, always the same draws).

    A point agrees when its error is at most the median distance, after a fit on all points, from a moved point to the
    nearest target. Each of 10 rounds fits half of the points; the best round's agreeing points are fitted once more.
    """
    source, target = source.double(), target.double()
    count = len(source)
    best = umeyama(source, target)
    threshold = torch.cdist(best.apply(source), target).amin(-1).quantile(0.5)
    generator = np.random.default_rng(_SEED)
    most, least_error, inliers = 0, float("inf"), torch.zeros(count, dtype=torch.bool)
    for _ in range(_ROUNDS):
        drawn = torch.from_numpy(generator.choice(np.arange(count), size=max(3, (count + 1) // 2), replace=False))
        try:
            model = umeyama(source[drawn], target[drawn])
        except InputError:
            continue
        error = (model.apply(source) - target).norm(dim=-1)
        agreeing = error <= threshold
        number = int(agreeing.sum())
        mean_error = float(error[agreeing].mean()) if number else float("inf")
        if number > most or (number == most and mean_error < least_error):
            best, most, least_error, inliers = model, number, mean_error, agreeing
    return umeyama(source[inliers], target[inliers]) if most >= 3 else best


def camera_similarity(given: Cameras, predicted: Cameras) -> Similarity:
    """The similarity that takes given camera centres to the predicted ones, robust from ten cameras on.

    Raises:
        InputError: one camera, or all on one spot.
    """
    source, target = given.centers.double(), predicted.centers.double()
    return robust_similarity(source, target) if len(source) >= ROBUST_FROM else umeyama(source, target)


def with_given_cameras(
    prediction: Prediction, given: Cameras, *, to_input: bool = True
) -> tuple[Prediction, Float[Tensor, "V 4 4"]]:
    """The prediction as the official program hands it out when cameras were given, and its world-to-camera transforms.

    Splats are left where they are, as there.

    Args:
        prediction: of one scene.
        given: (V), in the caller's own frame and scale; their intrinsics replace the predicted ones.
        to_input: divide the depth into the scale of the given cameras and return these; otherwise leave the depth, and
            return the given cameras moved into the predicted frame.
    """
    assert prediction.cameras is not None
    similarity = camera_similarity(given, prediction.cameras)
    if to_input:
        depth, world_to_cam = prediction.depth / similarity.scale.float(), given.world_to_cam
    else:
        moved = similarity.apply_to_cameras(given.cam_to_world.double())
        depth, world_to_cam = prediction.depth, rigid_inverse(moved).to(given.world_to_cam.dtype)
    cameras = dataclasses.replace(given, world_to_cam=world_to_cam)
    return dataclasses.replace(prediction, depth=depth, cameras=cameras), world_to_cam


def upstream_feature_order(
    feature: Float[Tensor, "B V *rest"], block: int, reference: Tensor | None, config: BackboneConfig
) -> Float[Tensor, "B V *rest"]:
    """An exported feature in the official order of views: the reference first, from the block where it is chosen."""
    if reference is None or config.global_from is None or block < config.global_from - 1:
        return feature
    return reordered(feature, reference)


def uint8_images(images: Float[Tensor, "V 3 H W"]) -> Tensor:
    """Network inputs in [0, 1] as the official prediction returns them, (V, H, W, 3) uint8: truncated, so that many
    values come back one lower."""
    mean = np.array([0.485, 0.456, 0.406])
    std = np.array([0.229, 0.224, 0.225])
    normalized = (images.permute(0, 2, 3, 1).numpy() - mean.astype(np.float32)) / std.astype(np.float32)
    return torch.from_numpy((np.clip(normalized * std + mean, 0, 1) * 255).astype(np.uint8))
