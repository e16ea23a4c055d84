"""Sharp splats where the photos agree on the depth, a head's soft ones elsewhere."""

import dataclasses

import pytest
import torch

from da3gs.checkpoints import MODELS
from da3gs.depth.photo_consistency import with_sharp_splats
from da3gs.gaussians import Gaussians
from da3gs.prediction import Placed
from da3gs.splats.from_prediction import assemble
from da3gs.training import procedural_scene

VIEWS, TRUTH = procedural_scene(0, 4, 112, 154)
HALF = TRUTH.shape[2] // 2


@pytest.fixture(scope="module")
def half_wrong() -> Placed:
    """Depth that is right on the left of every view, and a head that makes large grey splats."""
    assert VIEWS.cameras is not None
    depth = TRUTH.clone()
    depth[:, :, HALF:] *= 1.7
    count = depth.numel()
    soft = Gaussians(
        means=torch.rand(count, 3),
        quaternions=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        scales=torch.full((count, 3), 0.05),
        opacities=torch.full((count,), 0.5),
        harmonics=torch.zeros(count, 4, 3),
    )
    return Placed(depth=depth, cameras=VIEWS.cameras, gaussians=soft)


def test_where_the_photos_agree_splats_are_sharp(half_wrong):
    sharp = with_sharp_splats(half_wrong, VIEWS).sharp
    assert sharp is not None
    assert sharp[:, :, : HALF - 6].float().mean() > 0.6
    assert sharp[:, :, HALF + 6 :].float().mean() < 0.2


def test_a_pixel_has_one_splat_of_either_kind(half_wrong):
    mixed = with_sharp_splats(half_wrong, VIEWS)
    assert mixed.sharp is not None
    both = assemble(mixed, VIEWS).gaussians
    head = assemble(half_wrong, VIEWS).gaussians
    depth = assemble(dataclasses.replace(half_wrong, gaussians=None), VIEWS).gaussians
    sharp = mixed.sharp.flatten()
    assert len(both) == TRUTH.numel()
    for name in ("means", "scales", "opacities", "quaternions"):
        expected = torch.where(
            sharp.view(-1, *[1] * (getattr(head, name).ndim - 1)), getattr(depth, name), getattr(head, name)
        )
        torch.testing.assert_close(getattr(both, name), expected)
    torch.testing.assert_close(both.harmonics[sharp][:, :1], depth.harmonics[sharp])
    assert not both.harmonics[sharp][:, 1:].any()


def test_a_single_photo_or_no_head_means_splats_from_depth(half_wrong):
    assert VIEWS.cameras is not None
    single = dataclasses.replace(half_wrong, depth=TRUTH[:1], cameras=VIEWS.cameras[[0]])
    assert with_sharp_splats(single, VIEWS[[0]]).gaussians is None
    bare = with_sharp_splats(dataclasses.replace(half_wrong, gaussians=None), VIEWS)
    assert bare.gaussians is None
    assert bare.sharp is None


def test_only_small_heads_of_our_own_share_with_depth():
    assert not any(card.by_photos for card in MODELS.values() if not card.bundled)
    bundled = dataclasses.replace(MODELS["da3gs-nano"], heads=("depth", "rays", "cameras", "splats"))
    assert bundled.by_photos
    assert not dataclasses.replace(bundled, heads=("depth", "rays", "cameras")).by_photos
