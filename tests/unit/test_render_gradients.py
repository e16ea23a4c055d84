"""Gradients of the CPU renderer: against an oracle that is itself held against finite differences."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.gaussians import Gaussians
from da3gs.rendering import Rendering, contributions, render
from tests.unit import oracle

HEIGHT, WIDTH = 33, 45
NAMES = ("means", "scales", "quaternions", "opacities", "harmonics")


def _splats(number: int, *, seed: int, bands: int = 4) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=normal(number, 3) * torch.tensor([2.0, 1.5, 2.0]) + torch.tensor([0.0, 0.0, 4.0]),
        scales=torch.exp(normal(number, 3) - 3),
        quaternions=normal(number, 4),
        opacities=torch.rand(number, generator=generator),
        harmonics=normal(number, bands, 3) * 0.3,
    )


def _camera() -> Cameras:
    eye, target, up = torch.tensor([[0.2, -0.1, -0.3], [0.0, 0.0, 4.0], [0.0, -1.0, 0.0]])
    intrinsics = torch.tensor([[60.0, 2.0, 18.0], [0.0, 70.0, 20.0], [0.0, 0.0, 1.0]])
    return Cameras(world_to_cam=look_at(eye, target, up), intrinsics=intrinsics, height=HEIGHT, width=WIDTH)


def _loss(color: Tensor, depth: Tensor, alpha: Tensor, features: Tensor, sure: Tensor) -> Tensor:
    """A random weight for every number of every output; depth counts less where little is covered."""
    generator = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=color.dtype)
    for output in (color, 0.1 * depth * alpha.detach(), alpha, features):
        weight = torch.randn(output.shape, generator=generator).to(output.dtype)
        mask = sure.to(output.dtype).reshape(*sure.shape, *[1] * (output.ndim - 2))
        loss = loss + (output * weight * mask).sum()
    return loss


def _inputs(number: int, *, seed: int, bands: int) -> dict[str, Tensor]:
    gaussians, camera = _splats(number, seed=seed, bands=bands), _camera()
    generator = torch.Generator().manual_seed(11)
    return {
        **{name: getattr(gaussians, name) for name in NAMES},
        "features": torch.rand(number, 2, generator=generator),
        "world_to_cam": camera.world_to_cam,
        "intrinsics": camera.intrinsics,
        "background": torch.tensor([0.2, 0.5, 0.9]),
    }


@pytest.mark.parametrize(("bands", "antialias"), [(1, False), (4, False), (9, True), (16, False)])
def test_gradients_agree_with_the_oracle(bands: int, antialias: bool) -> None:
    """To 1e-4 of the largest gradient of each input: float32 sums of thousands of signed terms show up to 5e-5."""
    inputs = _inputs(150, seed=bands, bands=bands)
    exact = {name: value.double().requires_grad_() for name, value in inputs.items()}
    truth = oracle.draw(
        *(exact[name] for name in NAMES), exact["world_to_cam"], exact["intrinsics"], HEIGHT, WIDTH,
        background=exact["background"], features=exact["features"], antialias=antialias,
    )  # fmt: skip
    assert truth.features is not None
    sure = ~truth.doubtful
    _loss(truth.color, truth.depth, truth.alpha, truth.features, sure).backward()

    ours = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    camera = dataclasses.replace(_camera(), world_to_cam=ours["world_to_cam"], intrinsics=ours["intrinsics"])
    picture = render(
        Gaussians(**{name: ours[name] for name in NAMES}), camera,
        background=ours["background"], features=ours["features"], antialias=antialias,
    )  # fmt: skip
    assert picture.features is not None
    _loss(picture.color, picture.depth, picture.alpha, picture.features, sure).backward()

    for name in inputs:
        expected, got = exact[name].grad, ours[name].grad
        assert expected is not None
        assert got is not None
        if name == "intrinsics":  # the zeros and the one are not parameters of a camera
            expected = expected * torch.tensor([[1.0, 1, 1], [0, 1, 1], [0, 0, 0]])
        scale = expected.abs().max()
        assert scale > 0, name
        assert (got - expected).abs().max() < 1e-4 * scale, name


def test_the_oracle_agrees_with_finite_differences() -> None:
    """In float64, on splats far from every cut (1/255, 0.999, 1e-4), where the picture is smooth."""
    generator = torch.Generator().manual_seed(3)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    inputs = (
        uniform(2, 3) * 0.2 + torch.tensor([0.0, 0.0, 2.0]),
        uniform(2, 3) * 0.2 + 0.3,
        uniform(2, 4) + 0.2,
        uniform(2) * 0.3 + 0.3,
        uniform(2, 9, 3) * 0.1,
    )

    def picture(means: Tensor, scales: Tensor, quaternions: Tensor, opacities: Tensor, harmonics: Tensor) -> Tensor:
        k = torch.tensor([[6.0, 0, 1.5], [0, 6.0, 1.5], [0, 0, 1]])
        drawn = oracle.draw(means, scales, quaternions, opacities, harmonics, torch.eye(4), k, 3, 3)
        assert not drawn.doubtful.any()
        return torch.cat((drawn.color.flatten(), drawn.depth.flatten(), drawn.alpha.flatten()))

    assert torch.autograd.gradcheck(picture, [t.requires_grad_() for t in inputs], atol=1e-6, rtol=1e-5)


def _gradients(gaussians: Gaussians, cameras: Cameras, threads: int) -> list[Tensor]:
    leaves = gaussians.map(lambda t: t.clone().requires_grad_())
    poses = cameras.world_to_cam.clone().requires_grad_()
    picture = render(leaves, dataclasses.replace(cameras, world_to_cam=poses), threads=threads)
    ((picture.color - 0.3).square().sum() + picture.depth.sum()).backward()
    grads = [getattr(leaves, name).grad for name in NAMES] + [poses.grad]
    assert all(grad is not None for grad in grads)
    return grads


def test_threads_change_no_byte_of_the_gradients() -> None:
    gaussians, camera = _splats(3000, seed=1), _camera()
    one = _gradients(gaussians, camera, 1)
    for threads in (2, 5):
        assert all(torch.equal(a, b) for a, b in zip(one, _gradients(gaussians, camera, threads), strict=True))


def test_cameras_add_up() -> None:
    gaussians, camera = _splats(200, seed=2), _camera()
    poses = torch.stack((camera.world_to_cam, torch.eye(4), camera.world_to_cam))
    cameras = dataclasses.replace(camera, world_to_cam=poses, intrinsics=camera.intrinsics.repeat(3, 1, 1))
    together = _gradients(gaussians, cameras, 2)
    alone = [_gradients(gaussians, cameras[i], 2) for i in range(3)]
    for index in range(5):
        expected = alone[0][index] + alone[1][index] + alone[2][index]
        assert torch.allclose(together[index], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(together[5], torch.stack([a[5] for a in alone]))


def test_a_batch_of_scenes_has_gradients_of_its_own() -> None:
    first, second, camera = _splats(60, seed=3), _splats(60, seed=4), _camera()
    both = Gaussians(**{n: torch.stack((getattr(first, n), getattr(second, n))) for n in NAMES})
    cameras = dataclasses.replace(
        camera, world_to_cam=camera.world_to_cam.repeat(2, 1, 1, 1), intrinsics=camera.intrinsics.repeat(2, 1, 1, 1)
    )
    together = _gradients(both, cameras, 2)
    for index, scene in enumerate((first, second)):
        alone = _gradients(scene, camera, 2)
        assert all(torch.equal(a[index].reshape(b.shape), b) for a, b in zip(together, alone, strict=True))


def test_broken_and_unseen_splats_have_no_gradient() -> None:
    gaussians = _splats(90, seed=5)
    means = gaussians.means.clone()
    means[::3] = float("nan")
    means[1::3, 2] = -5.0
    grads = _gradients(dataclasses.replace(gaussians, means=means), _camera(), 2)
    for grad in grads[:5]:
        assert grad.isfinite().all()
        assert not grad[::3].any()
        assert not grad[1::3].any()
    assert grads[0][2::3].any()


def test_no_gradient_where_none_is_asked_for() -> None:
    gaussians, camera = _splats(20, seed=6), _camera()
    assert not render(gaussians, camera).color.requires_grad
    with torch.no_grad():
        assert not render(gaussians.map(lambda t: t.requires_grad_()), camera).color.requires_grad


def test_differentiating_twice_is_refused() -> None:
    gaussians = _splats(20, seed=7).map(lambda t: t.requires_grad_())
    loss = render(gaussians, _camera()).color.sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="render again"):
        loss.backward()


def test_four_threads_render_different_scenes_at_once() -> None:
    scenes, camera = [_splats(800, seed=20 + i) for i in range(4)], _camera()
    expected = [_gradients(scene, camera, 1) for scene in scenes]
    pictures = [render(scene, camera, threads=1) for scene in scenes]

    def work(index: int) -> tuple[list[Tensor], Rendering]:
        scene = scenes[index % 4]
        return _gradients(scene, camera, 2), render(scene, camera, threads=2)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(16)))
    for index, (gradients, picture) in enumerate(results):
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected[index % 4], strict=True))
        assert torch.equal(picture.color, pictures[index % 4].color)


def test_steepest_descent_finds_a_splat() -> None:
    """A hundred steps of Adam bring a moved splat back under its picture."""
    truth = _splats(1, seed=0)
    truth = dataclasses.replace(
        truth, means=torch.tensor([[0.0, 0.0, 3.0]]), scales=torch.full((1, 3), 0.3), opacities=torch.tensor([0.8])
    )
    camera = dataclasses.replace(_camera(), world_to_cam=torch.eye(4))
    target = render(truth, camera).color
    means = (truth.means + torch.tensor([[0.1, -0.08, 0.0]])).requires_grad_()
    adam = torch.optim.Adam([means], lr=0.005)
    for _ in range(100):
        adam.zero_grad()
        (render(dataclasses.replace(truth, means=means), camera).color - target).square().mean().backward()
        adam.step()
    assert (means.detach() - truth.means)[:, :2].abs().max() < 0.01


def test_contributions_are_the_blending_weights() -> None:
    """The oracle's weights summed over pixels, within what pixels in doubt may add or take."""
    gaussians, camera = _splats(80, seed=8), _camera()
    cameras = dataclasses.replace(
        camera, world_to_cam=camera.world_to_cam.repeat(2, 1, 1), intrinsics=camera.intrinsics.repeat(2, 1, 1)
    )
    weights = torch.stack((torch.ones(HEIGHT, WIDTH), torch.linspace(0, 1, WIDTH).expand(HEIGHT, WIDTH)))
    truth = oracle.draw(*(getattr(gaussians, n) for n in NAMES), camera.world_to_cam, camera.intrinsics, HEIGHT, WIDTH)
    plain = contributions(gaussians, cameras[:1])
    slack = 0.01 * (1 + int(truth.doubtful.sum()))
    assert (plain - truth.weights.sum((1, 2))).abs().max() < slack
    expected = (truth.weights * weights.sum(0)).sum((1, 2))
    assert (contributions(gaussians, cameras, pixel_weights=weights) - expected).abs().max() < 2 * slack
    behind = dataclasses.replace(gaussians, means=-gaussians.means.abs())
    assert not contributions(behind, dataclasses.replace(cameras, world_to_cam=torch.eye(4).repeat(2, 1, 1))).any()


@pytest.mark.parametrize("antialias", [False, True])
def test_contributions_are_the_gradients_by_a_channel_of_ones(antialias: bool) -> None:
    """Two ways to one number; sums of float32 weights in another order, under 1e-4 of them."""
    from da3gs.rendering.contribution import _from_gradients

    gaussians, camera = _splats(400, seed=9), _camera()
    weights = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        cameras = camera.map(lambda t: t[None].clone())
        shares = contributions(gaussians, cameras, pixel_weights=weights[None], antialias=antialias)
        expected = _from_gradients(gaussians, camera, weights, "cpu", antialias)
    assert expected.max() > 1
    torch.testing.assert_close(shares, expected, rtol=1e-4, atol=1e-4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)
        assert torch.equal(contributions(gaussians, cameras, pixel_weights=weights[None], antialias=antialias), shares)
    finally:
        torch.set_num_threads(before)
