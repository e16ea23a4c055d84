"""The CPU renderer against a brute-force oracle, and everything else that its users rely on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from da3gs.cameras import Cameras, look_at
from da3gs.errors import BackendError, InputError
from da3gs.gaussians import Gaussians
from da3gs.rendering import Rendering, render
from tests.unit import oracle


def _splats(number: int, *, seed: int, bands: int = 4, depth: float = 4.0) -> Gaussians:
    """A cloud round (0, 0, depth): tiny and huge, faint and opaque, some behind the cameras used here."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=normal(number, 3) * torch.tensor([2.0, 1.5, 2.0]) + torch.tensor([0.0, 0.0, depth]),
        scales=torch.exp(normal(number, 3) - 3),
        quaternions=normal(number, 4),
        opacities=torch.rand(number, generator=generator),
        harmonics=normal(number, bands, 3) * 0.3,
    )


def _camera(height: int = 37, width: int = 53) -> Cameras:
    """Unequal focal lengths, a principal point far off the centre, sizes that are no multiple of a tile."""
    world_to_cam = look_at(
        torch.tensor([0.2, -0.1, -0.3]), torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.0, -1.0, 0.0])
    )
    intrinsics = torch.tensor([[60.0, 0.0, 18.0], [0.0, 70.0, 27.0], [0.0, 0.0, 1.0]])
    return Cameras(world_to_cam=world_to_cam, intrinsics=intrinsics, height=height, width=width)


def _assert_like_oracle(
    gaussians: Gaussians, camera: Cameras, *, background: Tensor | None = None, **options: bool
) -> None:
    """Compare with float64.

    A float32 exponent of up to 8 is good to 5e-7, and the errors of the splats of a pixel add up by chance: 1e-5 in
    colour and alpha has a margin of five over what random scenes show. Depth divides by alpha, which may be 1/255.
    Pixels where a decision hangs on the last digits are left out; there must be few.
    """
    truth = oracle.draw(
        gaussians.means, gaussians.scales, gaussians.quaternions, gaussians.opacities, gaussians.harmonics,
        camera.world_to_cam, camera.intrinsics, camera.height, camera.width, background=background, **options,
    )  # fmt: skip
    ours = render(gaussians, camera, background=background, backend="cpu", **options)
    sure = ~truth.doubtful
    assert sure.float().mean() > 0.97
    brightest = max(1.0, truth.color.abs().max().item())
    assert (ours.color - truth.color)[sure].abs().max() < 1e-5 * brightest
    assert (ours.alpha - truth.alpha)[sure].abs().max() < 1e-5
    assert ((ours.depth - truth.depth) * truth.alpha)[sure].abs().max() < 2e-5 * truth.depth.max()


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
@pytest.mark.parametrize("antialias", [False, True])
def test_random_scenes(bands: int, antialias: bool) -> None:
    background = torch.tensor([0.2, 0.5, 0.9])
    _assert_like_oracle(_splats(600, seed=bands, bands=bands), _camera(), background=background, antialias=antialias)


def test_camera_inside_the_cloud() -> None:
    """Half of the splats are behind the camera, some touch the near plane, some fill the picture."""
    gaussians = _splats(500, seed=2, depth=0.0)
    assert (gaussians.means[:, 2] < -0.3).float().mean() > 0.3
    _assert_like_oracle(gaussians, _camera())


def test_tiny_splats() -> None:
    gaussians = _splats(1000, seed=3)
    _assert_like_oracle(dataclasses.replace(gaussians, scales=gaussians.scales * 1e-3), _camera())


def test_huge_splats() -> None:
    gaussians = _splats(60, seed=4)
    _assert_like_oracle(dataclasses.replace(gaussians, scales=gaussians.scales * 300), _camera())


def test_opaque_stack() -> None:
    """Alpha is capped at 0.999: one layer lets 1e-3 through, the second would leave 1e-6 < 1e-4 and is not drawn."""
    depths = torch.tensor([3.0, 1.0, 2.0])
    gaussians = Gaussians(
        means=torch.stack((torch.zeros(3), torch.zeros(3), depths), -1),
        scales=torch.full((3, 3), 50.0),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4),
        opacities=torch.ones(3),
        harmonics=torch.tensor([0.0, 1.0, 2.0])[:, None, None].expand(3, 1, 3),
    )
    camera = dataclasses.replace(_camera(), world_to_cam=torch.eye(4))
    picture = render(gaussians, camera)
    nearest = 0.5 + 0.28209479 * 1.0
    assert picture.alpha[10, 10].item() == pytest.approx(0.999, abs=1e-6)
    assert picture.color[10, 10, 0].item() == pytest.approx(0.999 * nearest, abs=1e-5)
    assert picture.depth[10, 10].item() == pytest.approx(1.0, abs=1e-5)
    _assert_like_oracle(gaussians, camera)


def test_needles() -> None:
    """Splats a thousand times as long as wide, across the whole picture."""
    gaussians = _splats(200, seed=5)
    needles = torch.tensor([3.0, 0.003, 0.003]).expand(200, 3)
    _assert_like_oracle(dataclasses.replace(gaussians, scales=needles), _camera())


def test_skew() -> None:
    camera = _camera()
    skewed = camera.intrinsics.clone()
    skewed[0, 1] = 9.0
    _assert_like_oracle(_splats(300, seed=6), dataclasses.replace(camera, intrinsics=skewed))


def _same(first: Rendering, second: Rendering) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("color", "depth", "alpha"))


def test_threads_change_no_byte() -> None:
    gaussians, camera = _splats(3000, seed=7), _camera(100, 130)
    one = render(gaussians, camera, threads=1)
    assert all(_same(one, render(gaussians, camera, threads=threads)) for threads in (2, 3, 7))


def test_equal_depths_keep_the_order_of_the_splats() -> None:
    gaussians = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]).expand(100, 3),
        scales=torch.full((100, 3), 0.2),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).expand(100, 4),
        opacities=torch.full((100,), 0.3),
        harmonics=torch.linspace(-1, 1, 100)[:, None, None].expand(100, 1, 3),
    )
    _assert_like_oracle(gaussians, dataclasses.replace(_camera(), world_to_cam=torch.eye(4)))


def test_shapes_of_batches() -> None:
    gaussians, camera = _splats(50, seed=8), _camera()
    stacked = Cameras(
        world_to_cam=torch.stack([camera.world_to_cam, torch.eye(4)]),
        intrinsics=camera.intrinsics.expand(2, 3, 3),
        height=37,
        width=53,
    )
    both = render(gaussians, stacked)
    assert both.color.shape == (2, 37, 53, 3)
    assert both.depth.shape == both.alpha.shape == (2, 37, 53)
    assert torch.equal(both.color[0], render(gaussians, camera).color)
    assert torch.equal(both.color[1], render(gaussians, stacked[1]).color)

    other = _splats(50, seed=9)
    scenes = Gaussians(**{name: torch.stack((getattr(gaussians, name), getattr(other, name)))
                          for name in ("means", "scales", "quaternions", "opacities", "harmonics")})  # fmt: skip
    grid = Cameras(
        world_to_cam=stacked.world_to_cam.expand(2, 2, 4, 4),
        intrinsics=stacked.intrinsics.expand(2, 2, 3, 3),
        height=37,
        width=53,
    )
    many = render(scenes, grid)
    assert many.color.shape == (2, 2, 37, 53, 3)
    assert torch.equal(many.color[0, 1], both.color[1])
    assert torch.equal(many.color[1, 0], render(other, camera).color)


def test_background_a_camera() -> None:
    camera = _camera()
    pair = Cameras(
        world_to_cam=camera.world_to_cam.expand(2, 4, 4),
        intrinsics=camera.intrinsics.expand(2, 3, 3),
        height=37,
        width=53,
    )
    colors = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.25, 0.25]])
    empty = _splats(0, seed=0)
    picture = render(empty, pair, background=colors)
    assert torch.equal(picture.color, colors[:, None, None].expand(2, 37, 53, 3))
    assert not picture.alpha.any()
    assert not picture.depth.any()


@pytest.mark.parametrize("field", ["means", "scales", "quaternions", "opacities", "harmonics"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.0])
def test_broken_splats_are_left_out(field: str, value: float) -> None:
    """Every third splat is broken; the others look as if they were alone. Zero means and harmonics are not broken."""
    gaussians = _splats(90, seed=10)
    spoilt = getattr(gaussians, field).clone()
    spoilt[::3] = value
    broken = dataclasses.replace(gaussians, **{field: spoilt})
    picture = render(broken, _camera(), background=(0.1, 0.2, 0.3))
    assert picture.color.isfinite().all()
    assert picture.depth.isfinite().all()
    if value != 0 or field in ("scales", "quaternions", "opacities"):
        alone = render(gaussians.masked(torch.arange(90) % 3 != 0), _camera(), background=(0.1, 0.2, 0.3))
        assert _same(picture, alone)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 16), (17, 15)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    _assert_like_oracle(_splats(200, seed=11), _camera(*size))


def test_long_lists_are_drawn_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    from da3gs.rendering import _cpu

    gaussians, camera = _splats(400, seed=12), _camera(100, 70)
    whole = render(gaussians, camera)
    monkeypatch.setattr(_cpu, "_ENTRIES_AT_ONCE", 100)
    assert _same(whole, render(gaussians, camera))


def test_float64_splats_give_float64_pictures() -> None:
    gaussians = _splats(20, seed=13).to(dtype=torch.float64)
    assert render(gaussians, _camera()).color.dtype == torch.float64


def test_errors_are_one_clear_line() -> None:
    gaussians, camera = _splats(5, seed=14), _camera()
    with pytest.raises(InputError, match="100000 pixels"):
        render(gaussians, dataclasses.replace(camera, height=100000, width=100000))
    with pytest.raises(InputError, match="focal length is 0 pixels"):
        render(gaussians, dataclasses.replace(camera, intrinsics=torch.zeros(3, 3)))
    with pytest.raises(InputError, match="not finite"):
        render(gaussians, dataclasses.replace(camera, world_to_cam=torch.full((4, 4), torch.nan)))
    with pytest.raises(InputError, match="2 spherical harmonics"):
        render(dataclasses.replace(gaussians, harmonics=torch.zeros(5, 2, 3)), camera)
    with pytest.raises(InputError, match="background of shape"):
        render(gaussians, camera, background=(1.0, 2.0))
    with pytest.raises(BackendError, match=r"needs CUDA tensors, got cpu; .*backend='cpu'"):
        render(gaussians, camera, backend="gsplat")
