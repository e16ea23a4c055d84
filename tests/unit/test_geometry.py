"""Rotations, projection, similarities, harmonics: against definitions, not against themselves."""

import math

import pytest
import torch

from da3gs import Cameras, Gaussians
from da3gs.cameras import look_at
from da3gs.errors import InputError
from da3gs.geometry.harmonics import evaluate_harmonics, harmonic_basis, rotate_harmonics
from da3gs.geometry.projection import camera_directions, pixel_centers, project, rigid_inverse, unproject
from da3gs.geometry.rotations import (
    angle_between,
    matrix_to_quaternion,
    multiply_quaternions,
    orthonormalized,
    quaternion_to_matrix,
    slerp,
)
from da3gs.geometry.similarity import Similarity, umeyama


def random_rotations(count: int, seed: int = 0) -> torch.Tensor:
    return quaternion_to_matrix(
        torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )


def random_cameras(count: int = 4, seed: int = 0, height: int = 30, width: int = 40) -> Cameras:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = random_rotations(count, seed).float()
    pose[:, :3, 3] = torch.randn(count, 3, generator=generator)
    intrinsics = torch.tensor([[35.0, 0.5, 18.0], [0, 38.0, 16.0], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world_to_cam=pose, intrinsics=intrinsics, height=height, width=width)


def test_quarter_turn_about_z_takes_x_to_y():
    half = math.sqrt(0.5)
    matrix = quaternion_to_matrix(torch.tensor([half, 0, 0, half]))
    torch.testing.assert_close(matrix @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_quaternions_round_trip_also_for_half_turns():
    matrices = torch.cat(
        (random_rotations(200), torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()))
    )
    quaternions = matrix_to_quaternion(matrices)
    assert (quaternions[:, 0] >= 0).all()
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(203, dtype=torch.float64))
    torch.testing.assert_close(quaternion_to_matrix(quaternions), matrices, atol=1e-12, rtol=0)


def test_product_of_quaternions_is_product_of_matrices():
    a, b = matrix_to_quaternion(random_rotations(20, 1)), matrix_to_quaternion(random_rotations(20, 2))
    product = quaternion_to_matrix(multiply_quaternions(a, b))
    torch.testing.assert_close(product, quaternion_to_matrix(a) @ quaternion_to_matrix(b), atol=1e-12, rtol=0)


def test_slerp_moves_at_constant_speed_on_the_shorter_arc():
    start, end = matrix_to_quaternion(random_rotations(2, 3)).unbind(0)
    steps = slerp(start.expand(5, 4), -end.expand(5, 4), torch.linspace(0, 1, 5, dtype=torch.float64))
    matrices = quaternion_to_matrix(steps)
    angles = angle_between(matrices[:-1], matrices[1:])
    whole = angle_between(matrices[0], quaternion_to_matrix(end))
    torch.testing.assert_close(angles, (whole / 4).expand(4), atol=1e-9, rtol=0)


def test_angle_between_is_right_for_tiny_and_for_half_turns():
    for angle in (0.0, 1e-7, 0.5, math.pi):
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[1.0, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64)
        assert angle_between(torch.eye(3, dtype=torch.float64), turn).item() == pytest.approx(angle, abs=1e-12)


def test_orthonormalized_mends_small_errors_and_never_mirrors():
    rotations = random_rotations(10)
    mended = orthonormalized(rotations + 1e-4)
    torch.testing.assert_close(
        mended @ mended.mT, torch.eye(3, dtype=torch.float64).expand(10, 3, 3), atol=1e-12, rtol=0
    )
    assert (torch.det(mended) > 0).all()
    assert angle_between(mended, rotations).max() < 1e-3


def test_unproject_and_project_are_inverse_and_depth_is_along_z():
    cameras = random_cameras()
    depth = 1 + torch.rand(4, 30, 40)
    points = unproject(depth, cameras.intrinsics, cameras.cam_to_world)
    pixels, z = project(points.flatten(1, 2), cameras.intrinsics, cameras.world_to_cam)
    torch.testing.assert_close(z, depth.flatten(1), atol=1e-5, rtol=0)
    expected = pixel_centers(30, 40).reshape(1, -1, 2).expand(4, -1, -1)
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


def test_camera_directions_honour_skew():
    intrinsics = torch.tensor([[10.0, 2, 3], [0, 20, 4], [0, 0, 1]])
    pixels = torch.tensor([[7.0, 9.0], [0.5, 0.5]])
    expected = (torch.linalg.inv(intrinsics) @ torch.tensor([[7.0, 9, 1], [0.5, 0.5, 1]]).T).T
    torch.testing.assert_close(camera_directions(intrinsics, pixels), expected)


def test_rigid_inverse_is_the_inverse():
    pose = random_cameras().world_to_cam
    torch.testing.assert_close(rigid_inverse(pose) @ pose, torch.eye(4).expand(4, 4, 4), atol=1e-6, rtol=0)


def test_umeyama_finds_a_known_similarity_and_its_inverse_undoes_it():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    truth = Similarity(
        scale=torch.tensor(2.5, dtype=torch.float64),
        rotation=random_rotations(1)[0],
        translation=torch.tensor([1.0, -2, 3], dtype=torch.float64),
    )
    found = umeyama(points, truth.apply(points))
    for name in ("scale", "rotation", "translation"):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.inverse().apply(found.apply(points)), points, atol=1e-12, rtol=0)


def test_umeyama_never_mirrors():
    points = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = umeyama(points, points * torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    assert torch.det(found.rotation).item() == pytest.approx(1)


def test_umeyama_of_one_spot_is_an_error():
    with pytest.raises(InputError, match="degenerate"):
        umeyama(torch.ones(3, 3), torch.ones(3, 3))


def test_harmonics_are_orthonormal_on_the_sphere():
    """The mean of Y_i Y_j over the sphere is δ_ij / 4π: a wrong constant or sign in any band breaks it."""
    index = torch.arange(20000, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * index / 20000, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    basis = harmonic_basis(torch.stack((radius * angle.cos(), radius * angle.sin(), z), -1), 3)
    gram = basis.T @ basis / 20000 * 4 * math.pi
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=2e-4, rtol=0)


def test_first_harmonics_have_the_signs_of_the_original_code():
    basis = harmonic_basis(torch.eye(3, dtype=torch.float64), 2)
    torch.testing.assert_close(basis[:, 1:4].diagonal(offset=0), torch.tensor([0.0, 0, 0], dtype=torch.float64))
    assert basis[1, 1] == pytest.approx(-0.4886025119029199)
    assert basis[2, 2] == pytest.approx(0.4886025119029199)
    assert basis[0, 3] == pytest.approx(-0.4886025119029199)
    assert basis[2, 6] == pytest.approx(2 * 0.31539156525252005)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotated_harmonics_show_the_same_colour_from_the_rotated_side(degree):
    generator = torch.Generator().manual_seed(degree)
    harmonics = torch.randn(6, (degree + 1) ** 2, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator, dtype=torch.float64), dim=-1)
    rotation = random_rotations(1, 5)[0]
    before = (harmonic_basis(directions, degree)[..., None] * harmonics).sum(-2)
    turned = rotate_harmonics(harmonics, rotation)
    after = (harmonic_basis(directions @ rotation.T, degree)[..., None] * turned).sum(-2)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)
    torch.testing.assert_close(evaluate_harmonics(harmonics, directions), (before + 0.5).clamp(min=0))


def test_resized_and_cropped_cameras_see_the_same_points():
    cameras = random_cameras()
    points = torch.randn(4, 7, 3)
    pixels, _ = project(points, cameras.intrinsics, cameras.world_to_cam)
    half = cameras.resized(15, 20)
    torch.testing.assert_close(project(points, half.intrinsics, half.world_to_cam)[0], pixels / 2, rtol=1e-4, atol=1e-3)
    window = cameras.cropped(3, -5, 10, 60)
    moved = pixels - torch.tensor([-5.0, 3.0])
    torch.testing.assert_close(project(points, window.intrinsics, window.world_to_cam)[0], moved, rtol=1e-4, atol=1e-3)


def test_look_at_sees_the_target_in_the_middle_and_up_is_up():
    eye, target = torch.tensor([[1.0, 2, 3]]), torch.tensor([[4.0, -1, 2]])
    pose = look_at(eye, target, torch.tensor([[0.0, 0, 1]]))
    local = pose[0, :3, :3] @ target[0] + pose[0, :3, 3]
    torch.testing.assert_close(local, torch.tensor([0.0, 0, (target - eye).norm().item()]), atol=1e-6, rtol=0)
    assert (pose[0, :3, :3] @ torch.tensor([0.0, 0, 1]))[1] < 0  # up in the world is towards −y in the image
    straight_up = look_at(eye, eye + torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.0, 0, 1]]))
    torch.testing.assert_close(straight_up[0, :3, :3] @ straight_up[0, :3, :3].T, torch.eye(3), atol=1e-6, rtol=0)


def test_splats_and_cameras_go_through_a_similarity_together():
    """What a camera sees of a splat, in pixels, does not change when both are moved."""
    generator = torch.Generator().manual_seed(2)
    cameras = random_cameras()
    gaussians = Gaussians(
        means=torch.randn(8, 3, generator=generator),
        scales=torch.rand(8, 3, generator=generator),
        quaternions=torch.randn(8, 4, generator=generator),
        opacities=torch.rand(8, generator=generator),
        harmonics=torch.randn(8, 9, 3, generator=generator),
    )
    similarity = Similarity(
        scale=torch.tensor(3.0), rotation=random_rotations(1, 7)[0].float(), translation=torch.tensor([5.0, 6, 7])
    )
    moved, seen = gaussians.transformed(similarity), cameras.transformed(similarity)
    before, depth = project(gaussians.means.expand(4, 8, 3), cameras.intrinsics, cameras.world_to_cam)
    after, far = project(moved.means.expand(4, 8, 3), seen.intrinsics, seen.world_to_cam)
    torch.testing.assert_close(far, 3 * depth, rtol=1e-4, atol=1e-4)
    near = depth.abs() > 0.2
    torch.testing.assert_close(after[near], before[near], rtol=1e-3, atol=1e-2)

    def covariance(g: Gaussians, c: Cameras) -> torch.Tensor:
        axes = c.world_to_cam[0, :3, :3] @ quaternion_to_matrix(g.quaternions) @ torch.diag_embed(g.scales)
        return axes @ axes.mT

    torch.testing.assert_close(covariance(moved, seen), 9 * covariance(gaussians, cameras), rtol=1e-4, atol=1e-4)


def test_concatenated_splats_pad_missing_harmonics_with_zeros():
    def one(bands: int) -> Gaussians:
        return Gaussians(
            means=torch.zeros(1, 3), scales=torch.ones(1, 3), quaternions=torch.ones(1, 4), opacities=torch.ones(1),
            harmonics=torch.ones(1, bands, 3),
        )  # fmt: skip

    both = Gaussians.concatenated([one(1), one(4)])
    assert both.harmonics.sum((1, 2)).tolist() == [3.0, 12.0]
    assert both.degree == 1
    assert len(both) == 2
