"""PatchMatch stereo finds the surface that photos show, from an expected depth that is off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from da3gs.depth.patch_match import StereoDepth, stereo_depth
from da3gs.depth.triangulation import Sharp
from tests.unit.plane_scene import plane_scene

SIDES = (35, 70, 140)


def found(threads: int, seed: int = 0) -> tuple[StereoDepth, np.ndarray]:
    """Three photos of a textured plane, expected 10 % too far and wavy; and the true depth."""
    views, depth = plane_scene(3, 112, 140)
    assert views.cameras is not None
    wave = 1.1 + 0.05 * torch.sin(torch.arange(140) / 9)
    photos = [
        Sharp(image=(image.movedim(0, -1) * 255).round().to(torch.uint8).numpy(), height=112, width=140)
        for image in views.images
    ]
    bare = dataclasses.replace(views, cameras=None)
    made = stereo_depth(photos, bare, views.cameras, depth * wave, sides=SIDES, seed=seed, threads=threads)
    return made, depth.numpy()


@pytest.mark.slow
def test_a_plane_is_found_where_the_expected_depth_is_off() -> None:
    """Most pixels are borne out by another view, half of those to a quarter of a pixel, nearly all to one.

    A pixel of disparity between neighbours is ``z / (f b)`` of the depth: 4 / (100 · 0.6).
    """
    made, truth = found(threads=2)
    depth, voted = 1 / made.planes[..., 0], made.votes > 0
    assert voted.mean() > 0.8
    pixels = np.abs(depth / truth - 1)[voted] / (4 / (100 * 0.6))
    assert np.median(pixels) < 0.25
    assert (pixels < 1).mean() > 0.95
    again, _ = found(threads=1)
    assert np.array_equal(again.planes, made.planes)
    assert np.array_equal(again.votes, made.votes)
