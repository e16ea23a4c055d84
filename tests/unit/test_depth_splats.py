"""Splats from depth, cleaning, the scene's frame and given cameras."""

import dataclasses
import math

import pytest
import torch

from da3gs import Cameras, Gaussians, Prediction
from da3gs.cameras import look_at
from da3gs.errors import InputError
from da3gs.geometry.projection import camera_directions, pixel_centers, project
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.network.depth_splats import FOOTPRINT, depth_edges, depth_flyers, depth_normals, splats_from_depth
from da3gs.pipeline.settings import Settings, split_holdout
from da3gs.poses.pose_alignment import placed, pose_residual, similarity_between
from da3gs.poses.world_frame import estimated_down, upright_frame
from da3gs.splats.pruning import Limits, kept_splats
from tests.unit.test_geometry import random_cameras, random_rotations


def slanted(cameras: Cameras) -> torch.Tensor:
    row = torch.arange(cameras.height)[:, None]
    column = torch.arange(cameras.width)
    return (2 + 0.01 * column + 0.02 * row).expand(len(cameras), -1, -1)


def projected_covariances(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """EWA: J R_cw Σ R_cwᵀ Jᵀ of one view's splats."""
    rotation, k = cameras.world_to_cam[0, :3, :3], cameras.intrinsics[0]
    x, y, z = (gaussians.means @ rotation.T + cameras.world_to_cam[0, :3, 3]).unbind(-1)
    zero = torch.zeros_like(z)
    jacobian = torch.stack((torch.stack((k[0, 0] / z, zero, -k[0, 0] * x / z**2), -1),
                            torch.stack((zero, k[1, 1] / z, -k[1, 1] * y / z**2), -1)), -2)  # fmt: skip
    axes = jacobian @ rotation @ quaternion_to_matrix(gaussians.quaternions) @ torch.diag_embed(gaussians.scales)
    return axes @ axes.mT


def test_a_splat_covers_its_own_pixel_and_lies_on_its_ray():
    """The ellipse in the tangent plane projects to a circle of FOOTPRINT pixels, also with fx ≠ fy and off the axis.

    Tolerance: the thickness along the normal (a tenth of the footprint) adds 1 % to the variance, more on a slant.
    """
    cameras = random_cameras(1)
    flat = Cameras(
        world_to_cam=cameras.world_to_cam,
        intrinsics=cameras.intrinsics * torch.tensor([[1.0, 0, 1], [1, 1, 1], [1, 1, 1]]),  # no skew
        height=30,
        width=40,
    )
    depth = slanted(flat)
    gaussians = splats_from_depth(torch.rand(1, 3, 30, 40), depth, flat)
    covariances = projected_covariances(gaussians, flat)
    expected = FOOTPRINT**2 * torch.eye(2).expand_as(covariances)
    torch.testing.assert_close(covariances, expected, atol=0.03 * FOOTPRINT**2, rtol=0)
    pixels, z = project(gaussians.means[None], flat.intrinsics, flat.world_to_cam)
    torch.testing.assert_close(z[0], depth.reshape(-1), atol=1e-4, rtol=0)
    assert pixels[0, 0].tolist() == pytest.approx([0.5, 0.5], abs=1e-2)
    assert pixels[0, 41].tolist() == pytest.approx([1.5, 1.5], abs=1e-2)


def test_a_grazing_surface_does_not_stretch_without_bound():
    cameras = random_cameras(1)
    depth = (0.2 + 3 * torch.arange(30.0)[:, None].expand(30, 40))[None]
    gaussians = splats_from_depth(torch.rand(1, 3, 30, 40), depth, cameras)
    ratio = gaussians.scales[:, 0] / gaussians.scales[:, 1]
    assert torch.isfinite(gaussians.scales).all()
    assert ratio.max() <= 8.01


def test_normals_of_a_plane_are_its_normal_and_face_the_camera():
    cameras = random_cameras(1)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    rays = camera_directions(cameras.intrinsics, pixel_centers(30, 40))
    points = rays * (-2.0 / (rays @ normal))[..., None]
    torch.testing.assert_close(depth_normals(points), normal.expand(1, 30, 40, 3), atol=1e-3, rtol=0)


def test_edges_are_where_depth_jumps():
    depth = torch.ones(4, 6)
    depth[:, 3:] = 2
    edges = depth_edges(depth)
    assert edges[:, 2].tolist() == pytest.approx([math.log(2)] * 4)
    assert edges[:, 3].tolist() == pytest.approx([math.log(2)] * 4)
    assert edges[:, :2].max() == 0
    assert edges[:, 4:].max() == 0


def test_flyers_hang_between_two_surfaces_and_rims_do_not():
    depth = torch.ones(3, 8)
    depth[:, 3] = 1.5
    depth[:, 4:] = 2.25
    flyers = depth_flyers(depth)
    assert flyers[:, 3].tolist() == pytest.approx([math.log(1.5)] * 3)
    assert flyers[:, [0, 1, 2, 4, 5, 6, 7]].max() == 0
    torch.testing.assert_close(depth_flyers(7 * depth.T), flyers.T)
    spike = torch.ones(5, 5)
    spike[2, 2] = 9.0  # alone, but between nothing
    assert depth_flyers(spike).max() == 0
    assert depth_flyers(torch.ones(1, 2)).tolist() == [[0.0, 0.0]]


def test_unsure_pixels_and_edges_are_fainter():
    cameras = random_cameras(1)
    confidence = torch.full((1, 30, 40), 3.0)
    confidence[0, 0, 0] = 1.0
    depth = torch.ones(1, 30, 40)
    depth[0, 20:] = 3.0
    opacities = splats_from_depth(torch.rand(1, 3, 30, 40), depth, cameras, confidence=confidence).opacities.view(
        30, 40
    )
    assert opacities[0, 0] < 0.95 * opacities[5, 5]
    assert opacities[19, 5] < 0.92 * opacities[5, 5]
    assert opacities.min() > 0.8  # layers that let others through blur them: 0.7 dB on real photos
    assert opacities[5, 5] > 0.9


def test_each_splat_is_counted_once_under_its_first_reason():
    gaussians = Gaussians(
        means=torch.zeros(6, 3), scales=torch.ones(6, 3), quaternions=torch.ones(6, 4),
        opacities=torch.tensor([1.0, float("nan"), 0.5, 0.01, 1.0, 1.0]), harmonics=torch.zeros(6, 1, 3),
    )  # fmt: skip
    gaussians.scales[4, 1] = -1
    keep, counts = kept_splats(
        gaussians,
        wanted=torch.tensor([False, True, True, True, True, True]),
        edge=torch.tensor([0.0, 0, 0.5, 0, 0.5, 0]),
        limits=Limits(min_opacity=0.05, edge=0.1),
    )
    assert keep.tolist() == [False, False, False, False, False, True]
    assert counts == {"masked": 1, "non_finite": 1, "non_positive": 1, "edge": 1, "opacity": 1}
    keep, counts = kept_splats(gaussians, limits=None)
    assert counts == {"non_finite": 1}
    assert int(keep.sum()) == 5


def level_cameras(down: torch.Tensor) -> Cameras:
    """Cameras on a circle, pitched this way and that, none of them rolled."""
    angles = torch.linspace(0, 2.0, 7)
    eye = torch.stack((angles.cos(), torch.zeros(7), angles.sin()), -1)
    target = torch.stack((torch.zeros(7), 0.4 * torch.sin(5 * angles) - 0.3, torch.zeros(7)), -1)
    turn = torch.linalg.svd(torch.outer(down, torch.tensor([0.0, 1, 0])) + 1e-3 * torch.eye(3))
    rotation = turn.U @ torch.diag(torch.tensor([1.0, 1, torch.det(turn.U @ turn.Vh).item()])) @ turn.Vh
    pose = look_at(eye @ rotation.T, target @ rotation.T, -down[None])
    return Cameras(world_to_cam=pose, intrinsics=torch.eye(3).expand(7, 3, 3), height=10, width=10)


def test_gravity_is_found_though_all_cameras_are_pitched():
    down = torch.nn.functional.normalize(torch.tensor([0.5, -0.7, 0.3]), dim=0)
    found = estimated_down(level_cameras(down))
    assert (
        math.degrees(math.acos(min(1.0, float(found @ down)))) < 2.0
    )  # the ridge that serves narrow baselines costs this


def test_the_upright_frame_starts_at_the_first_camera_at_median_depth_one():
    down = torch.nn.functional.normalize(torch.tensor([0.5, -0.7, 0.3]), dim=0)
    cameras = level_cameras(down)
    frame = upright_frame(cameras, torch.full((7, 10, 10), 4.0))
    moved = cameras.transformed(frame)
    assert frame.scale.item() == pytest.approx(0.25)
    torch.testing.assert_close(moved.centers[0], torch.zeros(3), atol=1e-6, rtol=0)
    assert moved.forward[0, 0].item() == pytest.approx(0, abs=1e-6)  # heading along +z
    assert moved.forward[0, 2] > 0.5
    assert moved.world_to_cam[:, 0, 1].abs().max() < 0.05  # every x axis is level
    same = upright_frame(cameras, torch.full((7, 10, 10), 4.0), up="camera", keep_scale=True)
    torch.testing.assert_close(cameras.transformed(same).world_to_cam[0], torch.eye(4), atol=1e-5, rtol=0)


def test_similarity_between_cameras_needs_only_two_or_one():
    cameras = random_cameras(5)
    truth = Similarity(
        scale=torch.tensor(2.0, dtype=torch.float64), rotation=random_rotations(1, 9)[0],
        translation=torch.tensor([1.0, 2, 3], dtype=torch.float64),
    )  # fmt: skip
    for count in (1, 2, 5):
        few = cameras[:count]
        found = similarity_between(few, few.transformed(truth))
        torch.testing.assert_close(found.rotation, truth.rotation, atol=1e-5, rtol=0)
        assert found.scale.item() == pytest.approx(2.0 if count > 1 else 1.0, rel=1e-4)
        assert pose_residual(few, few.transformed(truth)).rotation_degrees < 0.01


def test_given_cameras_keep_every_splat_on_its_pixel():
    """After placing, each view's splats project to the same pixels of the given camera, and depth scales."""
    predicted, given = random_cameras(2, 0), random_cameras(2, 3)
    given = dataclasses.replace(given, intrinsics=given.intrinsics * torch.tensor([[1.3], [1.2], [1.0]]))
    depth = slanted(predicted)
    gaussians = splats_from_depth(torch.rand(2, 3, 30, 40), depth, predicted)
    result = placed(Prediction(depth=depth, cameras=predicted, gaussians=gaussians), given, 2.0)
    assert result.gaussians is not None
    assert result.cameras is given
    means = result.gaussians.means.view(2, -1, 3)
    pixels, z = project(means, given.intrinsics, given.world_to_cam)
    before, _ = project(gaussians.means.view(2, -1, 3), predicted.intrinsics, predicted.world_to_cam)
    torch.testing.assert_close(pixels, before, atol=2e-2, rtol=0)
    torch.testing.assert_close(z, result.depth.flatten(1), rtol=1e-4, atol=1e-4)
    focal = (given.intrinsics[0, 0, 0] + given.intrinsics[0, 1, 1]) / (35 + 38)
    torch.testing.assert_close(result.depth, depth * 2 * focal, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"views": 0}, "--views"),
        ({"resolution": 20}, "--resolution"),
        ({"seed": -1}, "--seed"),
        ({"fps": 0.0}, "--fps"),
        ({"holdout": "every:1"}, "every:K"),
        ({"holdout": "every:x"}, "every:K"),
        ({"min_opacity": 1.5}, "--min-opacity"),
        ({"edge": 0.0}, "--edge"),
    ],
)
def test_flags_that_mean_nothing_are_refused(flags, words):
    with pytest.raises(InputError, match=words):
        Settings(**flags)


def test_holdout_positions():
    names = tuple("abcde")
    assert split_holdout("every:2", names) == ([1, 3], [0, 2, 4])
    assert split_holdout("b,e.jpg", names) == ([0, 2, 3], [1, 4])
    assert split_holdout(None, names) == ([0, 1, 2, 3, 4], [])
    with pytest.raises(InputError, match="zebra"):
        split_holdout("zebra", names)
    with pytest.raises(InputError, match="leaves none"):
        split_holdout("a,b,c,d,e", names)
