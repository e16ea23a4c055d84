"""From raw channels, rays and metric depth to splats, cameras and metres."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import evaluate_harmonics
from da3gs.geometry.projection import camera_directions, pixel_centers, project, unproject
from da3gs.geometry.rotations import orthonormalized, quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.network.config import PyramidConfig, SplatConfig
from da3gs.network.metric import far_sky, filled_sky, is_sky, metric_depth, metric_scale, quantile
from da3gs.network.ray_pose import cameras_from_rays, draw_sets, ql_decomposition
from da3gs.network.splats import moved_to_cameras, scale_onto, splats_from_channels
from da3gs.network.upstream_api import camera_similarity, robust_similarity, uint8_images, with_given_cameras
from da3gs.prediction import Prediction

CONFIG = SplatConfig(pyramid=PyramidConfig(features=16, channels=(8, 8, 8, 8)))
HEIGHT, WIDTH = 5, 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cameras(views: int, *, offset: float = 0.7) -> Cameras:
    eye = torch.randn(views, 3, generator=generator(1))
    target = eye + torch.randn(views, 3, generator=generator(2)) * 0.4 + torch.tensor([0.0, 0, 3])
    intrinsics = torch.tensor([[9.0, 0.2, WIDTH / 2 + offset], [0, 8.0, HEIGHT / 2 - offset], [0, 0, 1]])
    return Cameras(
        world_to_cam=look_at(eye, target, torch.tensor([0.0, -1, 0])),
        intrinsics=intrinsics.expand(views, 3, 3),
        height=HEIGHT,
        width=WIDTH,
    )


def rotation(seed: int = 3) -> Tensor:
    return orthonormalized(torch.randn(3, 3, generator=generator(seed)))


def turned(cams: Cameras, turn: Tensor) -> Cameras:
    return cams.transformed(Similarity(scale=torch.tensor(1.0), rotation=turn, translation=torch.tensor([1.0, 2, 3])))


def built(cams: Cameras, *, proper: bool, seed: int = 0) -> Gaussians:
    channels = torch.randn(1, len(cams), HEIGHT, WIDTH, CONFIG.channels, generator=generator(seed)) * 0.3
    depth = 2 + torch.rand(1, len(cams), HEIGHT, WIDTH, generator=generator(seed + 1))
    splats = splats_from_channels(
        channels,
        depth,
        cams.map(lambda t: t[None]),
        CONFIG,
        quaternions="proper" if proper else "upstream",
        depth_along="z" if proper else "ray",
    )
    return splats.map(lambda t: t[0])


def covariances(splats: Gaussians) -> Tensor:
    half = quaternion_to_matrix(splats.quaternions) * splats.scales[:, None]
    return half @ half.mT


def assert_same_splats(a: Gaussians, b: Gaussians) -> None:
    torch.testing.assert_close(a.means, b.means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(covariances(a), covariances(b), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a.opacities, b.opacities)
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0).expand(len(a), 3)
    colors = (evaluate_harmonics(s.harmonics, direction) for s in (a, b))
    torch.testing.assert_close(*colors, rtol=1e-4, atol=1e-4)


def test_channels_without_a_say_put_splats_on_their_pixels() -> None:
    cams = cameras(2)
    depth = 1 + torch.rand(1, 2, HEIGHT, WIDTH, generator=generator())
    batched = cams.map(lambda t: t[None])
    zero = torch.zeros(1, 2, HEIGHT, WIDTH, CONFIG.channels)
    zero[..., 8] = 1  # w of the quaternion
    along_z = splats_from_channels(zero, depth, batched, CONFIG, quaternions="proper", depth_along="z")
    expected = unproject(depth, batched.intrinsics, batched.cam_to_world).flatten(1, 3)
    torch.testing.assert_close(along_z.means, expected, rtol=1e-5, atol=1e-5)
    along_ray = splats_from_channels(zero, depth, batched, CONFIG, quaternions="proper", depth_along="ray")
    centers = batched.centers.repeat_interleave(HEIGHT * WIDTH, 1)
    torch.testing.assert_close((along_ray.means - centers).norm(dim=-1), depth.flatten(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(along_z.opacities, torch.full((1, 70), 0.5))


def test_offsets_are_pixels() -> None:
    cams = cameras(1)
    channels = torch.zeros(1, 1, HEIGHT, WIDTH, CONFIG.channels)
    channels[..., 0], channels[..., 1], channels[..., 8] = 0.75, -0.25, 1
    depth = torch.full((1, 1, HEIGHT, WIDTH), 3.0)
    splats = splats_from_channels(
        channels, depth, cams.map(lambda t: t[None]), CONFIG, quaternions="proper", depth_along="z"
    )
    pixels, z = project(splats.means, cams.intrinsics, cams.world_to_cam)
    expected = pixel_centers(HEIGHT, WIDTH) + torch.tensor([0.75, -0.25])
    torch.testing.assert_close(pixels[0], expected.flatten(0, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z, torch.full_like(z, 3.0))


def test_proper_splats_turn_with_the_world() -> None:
    cams, turn = cameras(3), rotation()
    moved = built(turned(cams, turn), proper=True)
    similarity = Similarity(scale=torch.tensor(1.0), rotation=turn, translation=torch.tensor([1.0, 2, 3]))
    assert_same_splats(moved, built(cams, proper=True).transformed(similarity))


def test_upstream_splats_agree_with_proper_ones_for_a_camera_that_is_not_turned() -> None:
    cams = dataclasses.replace(cameras(1), world_to_cam=torch.eye(4)[None])
    channels = torch.randn(1, 1, HEIGHT, WIDTH, CONFIG.channels, generator=generator())
    depth = torch.ones(1, 1, HEIGHT, WIDTH)
    batched = cams.map(lambda t: t[None])
    a, b = (
        splats_from_channels(channels, depth, batched, CONFIG, quaternions=kind, depth_along="z").map(lambda t: t[0])
        for kind in ("proper", "upstream")
    )
    channels = channels.flatten(0, 3)
    head = quaternion_to_matrix(channels[:, 5:9].roll(1, -1))  # the head speaks (x, y, z, w)
    torch.testing.assert_close(quaternion_to_matrix(a.quaternions), head, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quaternion_to_matrix(b.quaternions), head, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("proper", [False, True])
def test_moving_to_turned_cameras_turns_the_splats(proper: bool) -> None:
    """Whatever the composition, the same views look the same from cameras moved together."""
    cams, turn = cameras(3), rotation(7)
    splats = built(cams, proper=proper)
    similarity = Similarity(scale=torch.tensor(1.0), rotation=turn, translation=torch.tensor([1.0, 2, 3]))
    assert_same_splats(moved_to_cameras(splats, cams, turned(cams, turn)), splats.transformed(similarity))


def test_moved_splats_lie_on_the_rays_of_the_given_intrinsics() -> None:
    cams = cameras(2)
    other = dataclasses.replace(turned(cams, rotation(9)), intrinsics=cams.intrinsics * 1.2)
    other.intrinsics[..., 2, 2] = 1
    splats = built(cams, proper=True)
    moved = moved_to_cameras(splats, cams, other, scale=2.5)
    before, z = project(splats.means.unflatten(0, (2, -1)), cams.intrinsics, cams.world_to_cam)
    after, moved_z = project(moved.means.unflatten(0, (2, -1)), other.intrinsics, other.world_to_cam)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moved_z, 2.5 * z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.scales, 2.5 / 1.2 * splats.scales)  # as wide as their pixels, in a longer lens


def test_scale_onto_given_cameras() -> None:
    points = torch.randn(2, 5, 3, generator=generator())
    turn = rotation()
    given = 2.0 * points @ turn.T + 4
    torch.testing.assert_close(scale_onto(points, given), torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(scale_onto(points, 5 * given), torch.tensor([3.0, 3.0]))  # held within [1/3, 3]
    torch.testing.assert_close(scale_onto(points, 5 * given, clamp=False), torch.tensor([10.0, 10.0]))
    line = torch.arange(4.0)[None, :, None] * torch.tensor([1.0, 2, 2])
    torch.testing.assert_close(scale_onto(line, 1.5 * line), torch.tensor([1.5]))
    torch.testing.assert_close(scale_onto(points[:, :1], given[:, :1]), torch.ones(2))


def ray_maps(cams: Cameras, rows: int, columns: int) -> Tensor:
    pixels = pixel_centers(rows, columns) * torch.tensor([cams.width / columns, cams.height / rows])
    local = camera_directions(cams.intrinsics, pixels)
    directions = torch.einsum("vij,vhwj->vhwi", cams.cam_to_world[:, :3, :3], local)
    origins = cams.centers[:, None, None].expand_as(directions)
    return torch.cat((directions, origins), -1)[None]


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_cameras_come_back_from_their_rays(wrong: float) -> None:
    """Also where a third of the rays are wrong, as long as they say so by a low confidence."""
    cams = cameras(3, offset=0.0)
    world_to_cam = cams.world_to_cam.clone()
    world_to_cam[:, :3, :3] = orthonormalized(torch.eye(3) + 0.2 * torch.randn(3, 3, 3, generator=generator(8)))
    intrinsics = cams.intrinsics.clone()
    intrinsics[:, 0, 1] = 0
    cams = dataclasses.replace(cams, world_to_cam=world_to_cam, intrinsics=intrinsics)
    rays = ray_maps(cams, 20, 28)
    broken = torch.rand(rays.shape[:-1], generator=generator(4)) < wrong
    rays[broken] = torch.randn(int(broken.sum()), 6, generator=generator(5))
    confidence = torch.where(broken, 1e-3, 2.0)
    found = cameras_from_rays(rays, confidence, generator=generator()).cameras(HEIGHT, WIDTH)
    tolerance = 1e-4 if wrong == 0 else 0.02  # wrong rays within the inlier threshold pull a little
    torch.testing.assert_close(found.world_to_cam[0], cams.world_to_cam, rtol=0, atol=10 * tolerance)
    torch.testing.assert_close(found.intrinsics[0], cams.intrinsics, rtol=tolerance, atol=10 * tolerance)


def test_many_inliers_and_reproducible_draws() -> None:
    centred = torch.tensor([[9.0, 0, WIDTH / 2], [0, 8.0, HEIGHT / 2], [0, 0, 1]])[None]
    cams = dataclasses.replace(cameras(1), world_to_cam=torch.eye(4)[None], intrinsics=centred)
    rays = ray_maps(cams, 96, 96)  # 9216 inliers: more than one fit takes
    confidence = torch.rand(rays.shape[:-1], generator=generator())
    first, second = (cameras_from_rays(rays, confidence, generator=generator(7)) for _ in range(2))
    assert torch.equal(first.rotation, second.rotation)
    torch.testing.assert_close(first.rotation[0, 0], torch.eye(3), rtol=0, atol=1e-4)
    sets = draw_sets(100, generator())
    assert sets.shape == (100, 8)
    assert int(sets.max()) < 30
    assert all(len(set(row.tolist())) == 8 for row in sets)


def test_ql() -> None:
    matrices = torch.randn(5, 3, 3, generator=generator()).double()
    q, lower = ql_decomposition(matrices)
    torch.testing.assert_close(q @ lower, matrices)
    torch.testing.assert_close(q @ q.mT, torch.eye(3).double().expand(5, 3, 3))
    assert lower.triu(1).abs().max() < 1e-12
    assert (lower.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 10, 1001])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_quantile(count: int, share: float) -> None:
    values = torch.randn(count, generator=generator(count))
    torch.testing.assert_close(quantile(values, share), torch.quantile(values, share))


def test_metres() -> None:
    depth = 1 + torch.rand(1, 2, 30, 30, generator=generator())
    intrinsics = torch.tensor([[450.0, 0, 15], [0, 150.0, 15], [0, 0, 1]]).expand(1, 2, 3, 3)
    torch.testing.assert_close(metric_depth(depth, intrinsics), depth)  # mean focal length 300
    confidence = torch.rand(depth.shape, generator=generator(1))
    sky = torch.zeros_like(depth, dtype=torch.bool)
    sky[..., :6, :] = True
    metres = torch.where(sky | (confidence < 0.4), 99.0, 3 * depth)  # sky and unsure pixels would spoil it
    scale = metric_scale(depth, confidence, metres, sky)
    torch.testing.assert_close(scale, torch.tensor(3.0))
    with pytest.raises(InputError, match="nothing but sky"):
        metric_scale(depth, confidence, metres, torch.ones_like(sky))
    filled, sure = far_sky(depth * 150, confidence, sky)
    assert (filled[sky] == 200).all()
    assert (sure[sky] == 1).all()
    assert torch.equal(filled[~sky], (depth * 150)[~sky])
    assert torch.equal(filled_sky(depth, torch.zeros_like(sky)), depth)
    assert is_sky(torch.tensor([0.29, 0.3, 5.0])).tolist() == [False, True, True]


def test_large_maps_are_sampled_only_on_request() -> None:
    depth = torch.rand(1, 1, 400, 400, generator=generator())
    sky = torch.zeros_like(depth, dtype=torch.bool)
    sky[..., :20, :] = True
    exact = filled_sky(depth, sky)
    torch.testing.assert_close(exact[sky][0], quantile(depth[~sky], 0.99))
    drawn, again = (filled_sky(depth, sky, generator=generator(3)) for _ in range(2))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, exact)
    torch.testing.assert_close(drawn, exact, rtol=0, atol=3e-3)  # of 100 000 samples


def test_robust_similarity_leaves_outliers_out() -> None:
    source = torch.randn(14, 3, generator=generator())
    target = 2 * source @ rotation().T + 1
    target[[2, 9]] += 5
    robust = robust_similarity(source, target)
    torch.testing.assert_close(robust.scale, torch.tensor(2.0).double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(robust.rotation, rotation().double(), rtol=1e-4, atol=1e-5)


def test_given_cameras_as_the_official_program_has_them() -> None:
    predicted, given = cameras(4), turned(cameras(4), rotation()).scaled(2.0)
    prediction = Prediction(depth=torch.ones(4, HEIGHT, WIDTH), cameras=predicted)
    aligned, world_to_cam = with_given_cameras(prediction, given)
    torch.testing.assert_close(aligned.depth, torch.full((4, HEIGHT, WIDTH), 2.0), rtol=1e-4, atol=1e-4)
    assert torch.equal(world_to_cam, given.world_to_cam)
    moved, _ = with_given_cameras(prediction, given, to_input=False)
    assert moved.cameras is not None
    torch.testing.assert_close(moved.cameras.world_to_cam, predicted.world_to_cam, rtol=1e-3, atol=1e-3)
    assert torch.equal(moved.depth, prediction.depth)
    with pytest.raises(InputError, match="similarity"):
        camera_similarity(given[:1], predicted[:1])


def test_returned_images_are_truncated() -> None:
    levels = torch.arange(256, dtype=torch.float32) / 255
    back = uint8_images(levels[None, None, :, None].expand(1, 3, -1, 1))
    lower = (back[0, :, 0].int() != torch.arange(256)[:, None]).sum(0)
    assert lower.tolist() == [174, 53, 23]
