"""Splats of a head or from depth: the photos decide."""

import dataclasses

import torch

from da3gs.checkpoints import MODELS
from da3gs.network.depth_splats import splats_from_depth
from da3gs.pipeline.choose import better_splats
from da3gs.pipeline.predict import Placed
from da3gs.training import procedural_scene

VIEWS, TRUTH = procedural_scene(0, 4, 56, 84)
assert VIEWS.cameras is not None
CAMERAS = VIEWS.cameras


def placed(depth, head_depth) -> Placed:
    """A prediction whose head's splats lie at another depth."""
    head = splats_from_depth(VIEWS.images, head_depth, CAMERAS)
    return Placed(depth=depth, cameras=CAMERAS, confidence=torch.ones_like(depth), gaussians=head, poses="given")


def test_splats_that_show_the_other_photos_better_win():
    wrong = TRUTH * torch.tensor([0.7, 1.4, 0.8, 1.3])[:, None, None]
    assert better_splats(placed(wrong, TRUTH), VIEWS).gaussians is not None
    assert better_splats(placed(TRUTH, wrong), VIEWS).gaussians is None


def test_a_photo_that_shows_itself_proves_nothing():
    """Each view's own splats are perfect there; with depths that differ the other views tell."""
    start = placed(TRUTH, TRUTH)
    assert start.gaussians is not None
    faint = dataclasses.replace(start.gaussians, opacities=0.3 * start.gaussians.opacities)
    assert better_splats(dataclasses.replace(start, gaussians=faint), VIEWS).gaussians is None


def test_a_single_photo_gets_the_sharp_ones():
    start = placed(TRUTH, TRUTH)
    assert start.gaussians is not None
    one = Placed(depth=TRUTH[:1], cameras=CAMERAS[[0]], gaussians=start.gaussians.map(lambda t: t[: TRUTH[0].numel()]))
    assert better_splats(one, VIEWS[[0]]).gaussians is None


def test_photos_decide_for_small_heads_of_our_own_only():
    assert not any(card.by_photos for card in MODELS.values() if not card.bundled)
    bundled = dataclasses.replace(MODELS["da3gs-nano"], heads=("depth", "rays", "cameras", "splats"))
    assert bundled.by_photos
    assert not dataclasses.replace(bundled, heads=("depth", "rays", "cameras")).by_photos
