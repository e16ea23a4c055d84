"""Deliberate mistakes after the network: cameras from rays, splats, metres, files and the program around."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from da3gs.cameras import Cameras
from da3gs.geometry.rotations import matrix_to_quaternion
from da3gs.network import camera, metric, nested, ray_pose, splats, upstream_api
from da3gs.network.config import SplatConfig
from da3gs.photos.resampling import sizing
from tests.parity import functions
from tests.parity.mutants import ADAPTER, GIANT, Patch, everywhere, mutant

# Cameras from rays


@mutant("ray pose: QR instead of QL decomposition", "fn_ray_pose_clean")
def _(patch: Patch) -> None:
    everywhere(patch, ray_pose, "ql_decomposition", torch.linalg.qr)


@mutant("ray pose: confidence not used as weight", "fn_ray_pose")
def _(patch: Patch) -> None:
    original = ray_pose.fit_homography
    patch.setattr(ray_pose, "fit_homography", lambda s, t, w: original(s, t, torch.ones_like(w)))


@mutant("ray pose: pixel corners instead of pixel centres", "fn_ray_pose_clean")
def _(patch: Patch) -> None:
    original = ray_pose._image_plane
    patch.setattr(
        ray_pose, "_image_plane", lambda r, c, d: original(r, c, d) - torch.tensor([1 / c, 1 / r], dtype=torch.float64)
    )


# Splats


def splats_changed(patch: Patch, channels: Callable[[Tensor], Tensor] = lambda c: c, **fixed: object) -> None:
    original = splats.splats_from_channels

    def wrong(raw: Tensor, depth: Tensor, cams: Cameras, config: SplatConfig, **options: object) -> object:
        return original(channels(raw.clone()), depth, cams, config, **{**options, **fixed})

    everywhere(patch, splats, "splats_from_channels", wrong)


def with_channels(start: int, stop: int, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def changed(raw: Tensor) -> Tensor:
        raw[..., start:stop] = change(raw[..., start:stop].clone())
        return raw

    return changed


@mutant("GS: depth offset dropped", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, with_channels(36, 37, torch.zeros_like))


@mutant("GS: sign of the xy offset", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, with_channels(0, 2, torch.neg))


@mutant("GS: xy offset read as yx", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, with_channels(0, 2, lambda c: c.flip(-1)))


@mutant("GS: quaternion returned wxyz instead of the official order", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats._upstream_composition
    patch.setattr(splats, "_upstream_composition", lambda r, q: original(r, q).roll(1, -1))


@mutant("GS: raw quaternion taken as wxyz", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, with_channels(5, 9, lambda q: q.roll(-1, -1)))


@mutant("GS: quaternion left in camera space", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats._upstream_composition
    patch.setattr(splats, "_upstream_composition", lambda r, q: original(torch.eye(3).expand_as(r), q))


@mutant("GS: quaternions composed as geometry says", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, quaternions="proper")


@mutant("GS: SH channels as (d_sh, rgb) instead of (rgb, d_sh)", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, with_channels(9, 36, lambda c: c.unflatten(-1, (9, 3)).mT.flatten(-2)))


@mutant("GS: SH rotation transposed", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats.rotate_harmonics
    everywhere(patch, splats, "rotate_harmonics", lambda harmonics, rotation: original(harmonics, rotation.mT))


@mutant("GS: SH rotation without the axis permutation", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original, order = splats.rotate_harmonics, torch.tensor([2, 0, 1])
    everywhere(patch, splats, "rotate_harmonics", lambda h, r: original(h, r[..., order, :][..., order]))


@mutant("GS: SH mask left out", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    patch.setattr(splats, "_BAND_WEIGHTS", (1.0, 1.0, 1.0, 1.0))


@mutant("GS: largest scale 15 instead of 30", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats.splats_from_channels

    def wrong(raw: Tensor, depth: Tensor, cams: Cameras, config: SplatConfig, **options: object) -> object:
        return original(raw, depth, cams, dataclasses.replace(config, scale_max=15.0), **options)

    everywhere(patch, splats, "splats_from_channels", wrong)


@mutant("GS: depth along the axis instead of along the unit ray", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    splats_changed(patch, depth_along="z")


@mutant("GS: pixel corners instead of pixel centres", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats.pixel_centers
    patch.setattr(splats, "pixel_centers", lambda *a, **k: original(*a, **k) - 0.5)


@mutant("GS: scale of the given poses ignored", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    everywhere(patch, splats, "scale_onto", lambda predicted, given: torch.ones(len(predicted)))


@mutant("GS: scale of the given poses inverted", ADAPTER, GIANT)
def _(patch: Patch) -> None:
    original = splats.scale_onto
    everywhere(patch, splats, "scale_onto", lambda predicted, given: 1 / original(predicted, given))


# Metres and sky


@mutant("nested: scale not applied to the camera positions", "mininested_v3_posed")
def _(patch: Patch) -> None:
    patch.setattr(Cameras, "scaled", lambda self, scale: self)


@mutant("nested: scale factor inverted in the least squares", "fn_nested", "mininested_v3_posed")
def _(patch: Patch) -> None:
    original = metric.metric_scale
    everywhere(
        patch, metric, "metric_scale", lambda depth, conf, metres, sky, **k: 1 / original(metres, conf, depth, sky)
    )


@mutant("nested: focal length of x only", "fn_nested", "mininested_v3_posed")
def _(patch: Patch) -> None:
    everywhere(patch, metric, "metric_depth", lambda depth, k: depth * (k[..., 0, 0] / 300)[..., None, None])


@mutant("nested: Gaussians scaled together with the depth", "mininested_v3")
def _(patch: Patch) -> None:
    original = nested.NestedDepthAnything3.finished

    def wrong(self: nn.Module, raw: object, **options: object) -> tuple:
        prediction, scale = original(self, raw, **options)
        assert prediction.gaussians is not None
        return dataclasses.replace(prediction, gaussians=prediction.gaussians.scaled(scale)), scale

    patch.setattr(nested.NestedDepthAnything3, "finished", wrong)


@mutant("sky threshold 0.5 instead of 0.3", "fn_nested", "minimetric_v2", "mininested_v3_posed")
def _(patch: Patch) -> None:
    patch.setattr(metric, "SKY_THRESHOLD", 0.5)


@mutant("sky depth: maximum instead of the 0.99 quantile", "fn_nested", "minimetric_v2")
def _(patch: Patch) -> None:
    patch.setattr(metric, "_SKY_QUANTILE", 1.0)


# The program around the network


@mutant("API: input poses normalised by the mean instead of the lower median", "fn_geometry", "api_mininested_v3_posed")
def _(patch: Patch) -> None:
    original = camera.normalized_cameras
    everywhere(patch, camera, "normalized_cameras", lambda cams, unit="median": original(cams, "mean"))


@mutant("API: depth multiplied by the alignment scale instead of divided", "api_mininested_v3_posed")
def _(patch: Patch) -> None:
    original = upstream_api.camera_similarity

    def wrong(given: Cameras, predicted: Cameras) -> object:
        similarity = original(given, predicted)
        return dataclasses.replace(similarity, scale=1 / similarity.scale)

    patch.setattr(upstream_api, "camera_similarity", wrong)


@mutant("API: no RANSAC from ten posed views on", "api_small_v10_posed")
def _(patch: Patch) -> None:
    patch.setattr(upstream_api, "ROBUST_FROM", 99)


@mutant("API: images rounded instead of truncated", "api_minimono_v2")
def _(patch: Patch) -> None:
    rounded = lambda images: (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)  # noqa: E731
    everywhere(patch, upstream_api, "uint8_images", rounded)


@mutant("preprocessing: linear instead of area interpolation", "api_minimono_v2", "preprocess")
def _(patch: Patch) -> None:
    patch.setattr(sizing.cv2, "INTER_AREA", cv2.INTER_LINEAR)


@mutant("preprocessing: one resize straight to the final size", "preprocess")
def _(patch: Patch) -> None:
    original = sizing.sized_image
    patch.setattr(sizing, "sized_image", lambda image, steps: original(image, steps[-1:]))


@mutant("preprocessing: intrinsics not moved by the crop", "preprocess")
def _(patch: Patch) -> None:
    original = sizing.sized_intrinsics

    def unmoved(intrinsics: np.ndarray, height: int, width: int, steps: tuple) -> np.ndarray:
        moved = original(intrinsics, height, width, steps)
        if any(isinstance(s, sizing.Crop) for s in steps):
            moved[:2, 2] += 1
        return moved

    patch.setattr(sizing, "sized_intrinsics", unmoved)


@mutant("trajectory: first frame of each later segment kept", "fn_trajectory")
def _(patch: Patch) -> None:
    original = functions.upstream_path

    def longer(mode: str, cams: Cameras) -> Cameras:
        path = original(mode, cams)
        return path[[0, *range(len(path))]] if mode == "interpolate" else path

    patch.setattr(functions, "upstream_path", longer)


@mutant("PLY: opacity stored as it is instead of its logit", "fn_ply")
def _(patch: Patch) -> None:
    original = functions.upstream_rows
    patch.setattr(functions, "upstream_rows", lambda g, d, **o: original(g, d, **{**o, "logit": False}))


@mutant("quaternions without the sign rule", "fn_geometry")
def _(patch: Patch) -> None:
    everywhere(patch, functions, "matrix_to_quaternion", lambda m: -matrix_to_quaternion(m))
