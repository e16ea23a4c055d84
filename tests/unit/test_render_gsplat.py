"""The CUDA backend: how gsplat is called (anywhere), and that it draws as the CPU backend does (on a CUDA device)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from da3gs.cameras import Cameras
from da3gs.errors import BackendError
from da3gs.gaussians import Gaussians
from da3gs.rendering import render
from da3gs.rendering._gsplat import render_gsplat
from tests.gsplat_twin import Twin, twin
from tests.unit import oracle

__all__ = ["twin"]

NAMES = ("means", "scales", "quaternions", "opacities", "harmonics")


def _splats(*shape: int) -> Gaussians:
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(*shape, 3, generator=generator) + torch.tensor([0.0, 0.0, 4.0])
    means[..., ::7, 0] = torch.nan
    return Gaussians(
        means=means,
        scales=torch.exp(torch.randn(*shape, 3, generator=generator) - 2),
        quaternions=torch.randn(*shape, 4, generator=generator),
        opacities=torch.rand(*shape, generator=generator),
        harmonics=torch.randn(*shape, 4, 3, generator=generator) * 0.3,
    )


def _cameras(*shape: int) -> Cameras:
    k = torch.tensor([[50.0, 0, 22], [0, 55.0, 14], [0, 0, 1]])
    poses = torch.eye(4).repeat(*shape, 1, 1) if shape else torch.eye(4)
    if shape:
        poses[..., 0, 3] = torch.linspace(-0.2, 0.2, poses[..., 0, 3].numel()).reshape(shape)
    return Cameras(world_to_cam=poses, intrinsics=k.expand(*shape, 3, 3).clone(), height=30, width=40)


@pytest.mark.parametrize(("scenes", "views"), [((), ()), ((), (3,)), ((), (2, 3)), ((2,), (2,)), ((2,), (2, 3))])
@pytest.mark.parametrize("antialias", [False, True])
def test_how_gsplat_is_called(twin: Twin, scenes: tuple[int, ...], views: tuple[int, ...], antialias: bool) -> None:
    gaussians, cameras = _splats(*scenes, 60), _cameras(*views)
    features = torch.rand(*scenes, 60, 2)
    background = torch.rand(*views, 3)
    expected = render(gaussians, cameras, background=background, features=features, antialias=antialias)
    got = render_gsplat(gaussians, cameras, background, features, antialias=antialias)
    for name, picture in zip(("color", "depth", "alpha", "features"), got, strict=True):
        assert torch.equal(picture, getattr(expected, name)), name


def test_skew_is_refused(twin: Twin) -> None:
    cameras = _cameras()
    cameras.intrinsics[0, 1] = 1.0
    with pytest.raises(BackendError, match="skew"):
        render_gsplat(_splats(5), cameras, torch.zeros(3), None, antialias=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("antialias", [False, True])
def test_both_backends_draw_the_same(antialias: bool) -> None:
    """Values to 1e-4 for all but one pixel in a hundred: there a splat at the 1/255 cut is in one, out of the other."""
    gaussians, cameras = _splats(500), _cameras(3)
    pictures = []
    for device, backend in (("cpu", "cpu"), ("cuda", "gsplat")):
        leaves = gaussians.to(device).map(lambda t: t.clone().requires_grad_())
        poses = cameras.world_to_cam.to(device).requires_grad_()
        moved = dataclasses.replace(cameras.to(device), world_to_cam=poses)
        picture = render(leaves, moved, backend=backend, antialias=antialias, background=(0.1, 0.2, 0.3))
        (picture.color.square().sum() + picture.depth.sum() + picture.alpha.sum()).backward()
        pictures.append((picture.detach().to("cpu"), [getattr(leaves, n).grad.cpu() for n in NAMES], poses.grad.cpu()))
    (ours, our_grads, our_pose), (theirs, their_grads, their_pose) = pictures
    for name in ("color", "depth", "alpha"):
        apart = (getattr(ours, name) - getattr(theirs, name)).abs()
        assert apart.quantile(0.99) < 1e-4, name
    good = gaussians.means.isfinite().all(-1)
    for name, a, b in zip(NAMES, our_grads, their_grads, strict=True):
        assert (a[good] - b[good]).norm() < 1e-2 * a[good].norm(), name
    assert (our_pose - their_pose).norm() < 1e-2 * our_pose.norm()


@pytest.mark.filterwarnings("ignore")
def test_the_oracle_projects_as_gsplat_does() -> None:
    """Centres, conics, depths, antialiasing factors and harmonics, against gsplat's own PyTorch code in float64."""
    peer = pytest.importorskip("gsplat.cuda._torch_impl")
    gaussians, camera = _splats(200).masked(torch.arange(200) % 7 != 0), _cameras()
    means, scales, quaternions, _, harmonics = (getattr(gaussians, n).double() for n in NAMES)
    pose, intrinsics = camera.world_to_cam.double(), camera.intrinsics.double()
    covariances, _ = peer._quat_scale_to_covar_preci(quaternions, scales, compute_preci=False)
    _, centers, depths, conics, factors = peer._fully_fused_projection(
        means, covariances, pose[None], intrinsics[None], camera.width, camera.height, calc_compensations=True
    )
    ours, covariance, z = oracle.screen(means, scales, quaternions, pose, intrinsics, camera.height, camera.width)
    seen = z > 0.01
    assert seen.float().mean() > 0.9
    blurred = covariance + 0.3 * torch.eye(2, dtype=torch.float64)
    inverse = torch.linalg.inv(blurred)
    factor = torch.sqrt(torch.linalg.det(covariance) / torch.linalg.det(blurred))
    conic = torch.stack((inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]), -1)
    for a, b in ((ours, centers[0]), (z, depths[0]), (conic, conics[0]), (factor, factors[0])):
        assert torch.allclose(a[seen], b[seen], rtol=1e-6, atol=1e-9)
    directions = torch.nn.functional.normalize(means, dim=-1)
    colors = (oracle.harmonic_basis(directions, 4)[..., None] * harmonics).sum(1)
    assert torch.allclose(colors, peer._spherical_harmonics(1, directions, harmonics), rtol=1e-6, atol=1e-9)
