"""The CPU renderer against the oracle on scenes and cameras that nobody would think of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from da3gs.cameras import Cameras
from da3gs.gaussians import Gaussians
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.rendering import render
from tests.unit import oracle

NAMES = ("means", "scales", "quaternions", "opacities", "harmonics")


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Gaussians, Cameras, bool]:
    """A cloud of any density, size and opacity, and a camera anywhere in or near it, turned at random."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    number, size = draw(st.integers(0, 60)), draw(st.sampled_from([1e-4, 0.01, 0.1, 1.0, 30.0]))
    needles = torch.exp(draw(st.sampled_from([0.0, 1.0, 3.0])) * normal(number, 3))
    opacity = draw(st.sampled_from([0.01, 0.2, 0.9, 1.0]))
    gaussians = Gaussians(
        means=normal(number, 3),
        scales=size * needles,
        quaternions=normal(number, 4) * 10.0 ** draw(st.integers(-3, 3)),
        opacities=opacity * torch.rand(number, generator=generator) ** 0.2,
        harmonics=normal(number, draw(st.sampled_from([1, 4, 9, 16])), 3) * draw(st.sampled_from([0.1, 3.0])),
    )
    pose = torch.eye(4)
    pose[:3, :3] = quaternion_to_matrix(normal(4))
    pose[:3, 3] = draw(st.sampled_from([0.0, 1.0, 4.0])) * normal(3)
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    focal = 10 ** draw(st.floats(0, 2.5))
    intrinsics = torch.tensor(
        [
            [focal, draw(st.sampled_from([0.0, 0.1 * focal])), draw(st.floats(-10, 50))],
            [0.0, focal * draw(st.floats(0.3, 3)), draw(st.floats(-10, 50))],
            [0.0, 0.0, 1.0],
        ]
    )
    camera = Cameras(world_to_cam=rigid_inverse(pose), intrinsics=intrinsics, height=height, width=width)
    return gaussians, camera, draw(st.booleans())


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(scenes())
def test_values_agree_with_the_oracle(case: tuple[Gaussians, Cameras, bool]) -> None:
    """As close as float32 can be here.

    A centre u is known to 1e-7 of itself and of what cancels in it, so an edge of a splat one pixel wide moves by that;
    with focal lengths of 300 and splats at a hundredth of the scene's size this is 1e-4 of the brightest colour.
    """
    gaussians, camera, antialias = case
    truth = oracle.draw(
        *(getattr(gaussians, n) for n in NAMES), camera.world_to_cam, camera.intrinsics, camera.height, camera.width,
        antialias=antialias,
    )  # fmt: skip
    ours = render(gaussians, camera, antialias=antialias)
    assert ours.color.isfinite().all()
    assert ours.depth.isfinite().all()
    sure = ~truth.doubtful
    if not sure.any():
        return
    brightest = max(1.0, float(truth.color.max()))
    wrong = (ours.color - truth.color)[sure].abs().amax(-1) > 2e-4 * brightest
    assert wrong.double().mean() <= 0.005, "a decision of the oracle may hang on the last digits without its knowing"
    wrong = (ours.alpha - truth.alpha)[sure].abs() > 2e-4
    assert wrong.double().mean() <= 0.005


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(scenes(), st.sampled_from([1, 3]))
def test_gradients_are_finite_and_the_same_for_any_threads(case: tuple[Gaussians, Cameras, bool], threads: int) -> None:
    gaussians, camera, antialias = case
    results = []
    for count in (2, threads):
        leaves = gaussians.map(lambda t: t.clone().requires_grad_())
        picture = render(leaves, camera, antialias=antialias, threads=count)
        (picture.color.square().sum() + picture.depth.sum() - picture.alpha.sum()).backward()
        results.append([getattr(leaves, n).grad for n in NAMES])
    for name, first, second in zip(NAMES, *results, strict=True):
        assert first.isfinite().all(), name
        assert torch.equal(first, second), name


@pytest.mark.parametrize("exponent", [-38, -20, -8, 8, 20, 38])
@pytest.mark.parametrize("field", ["means", "scales", "quaternions", "harmonics"])
def test_extreme_magnitudes(field: str, exponent: int) -> None:
    """Nothing but finite numbers comes out, in the picture and in the gradients."""
    generator = torch.Generator().manual_seed(0)
    values = {
        "means": torch.randn(40, 3, generator=generator) + torch.tensor([0.0, 0, 3]),
        "scales": torch.rand(40, 3, generator=generator) * 0.1,
        "quaternions": torch.randn(40, 4, generator=generator),
        "opacities": torch.rand(40, generator=generator),
        "harmonics": torch.randn(40, 4, 3, generator=generator),
    }
    values[field] = values[field] * 10.0**exponent
    leaves = Gaussians(**{name: value.requires_grad_() for name, value in values.items()})
    intrinsics = torch.tensor([[20.0, 0, 12], [0, 20, 10], [0, 0, 1]])
    picture = render(leaves, Cameras(world_to_cam=torch.eye(4), intrinsics=intrinsics, height=20, width=24))
    assert not picture.color.isnan().any()
    assert picture.depth.isfinite().all()
    picture.alpha.sum().backward()
    for name in NAMES:
        assert not getattr(leaves, name).grad.isnan().any(), name
