"""Videos, frames and pictures: the right pixels, the right number, the right names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.gaussians import Gaussians
from da3gs.pipeline.render_path import render_path
from da3gs.rendering import render
from da3gs.scene import Scene
from da3gs.views import Views

WIDTH, HEIGHT = 41, 30


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Three photos of a colourful wall of splats, 3 units away."""
    generator = torch.Generator().manual_seed(0)
    number = 400
    means = torch.rand(number, 3, generator=generator) * torch.tensor([4.0, 3.0, 0.3]) - torch.tensor([2.0, 1.5, -3.0])
    gaussians = Gaussians(
        means=means,
        scales=torch.full((number, 3), 0.15),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).repeat(number, 1),
        opacities=torch.full((number,), 0.9),
        harmonics=torch.randn(number, 1, 3, generator=generator),
    )
    eyes = torch.tensor([[-0.3, 0.0, 0.0], [0.0, 0.05, 0.0], [0.3, 0.0, 0.0]])
    ahead, up = torch.tensor([0.0, 0.0, 3.0]).expand(3, 3), torch.tensor([0.0, -1.0, 0.0]).expand(3, 3)
    intrinsics = torch.tensor([[40.0, 0, 20.5], [0, 40.0, 15], [0, 0, 1]]).repeat(3, 1, 1)
    cameras = Cameras(world_to_cam=look_at(eyes, ahead, up), intrinsics=intrinsics, height=HEIGHT, width=WIDTH)
    views = Views(images=torch.zeros(3, 3, HEIGHT, WIDTH), names=("left", "middle", "right"), cameras=cameras)
    return Scene(gaussians=gaussians, cameras=cameras, views=views, record={})


def _eight_bits(color: torch.Tensor) -> np.ndarray:
    return (color.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("camera", ["right", 2, "2"])
def test_one_camera_is_the_direct_render(scene: Scene, tmp_path: Path, camera: str | int) -> None:
    background = (1.0, 0.5, 0.0)
    assert render_path(scene, tmp_path / "a.png", camera=camera, background=background) == 1
    direct = render(scene.gaussians, scene.cameras[2], background=background).color
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), _eight_bits(direct))


def test_a_folder_of_the_photos_cameras(scene: Scene, tmp_path: Path) -> None:
    seen = []
    count = render_path(
        scene, tmp_path / "frames", path="inputs", progress=lambda stage, done, total: seen.append((done, total))
    )
    assert count == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    names = sorted(f.name for f in (tmp_path / "frames").iterdir())
    assert names == ["frame_00000.png", "frame_00001.png", "frame_00002.png"]
    for index, name in enumerate(names):
        direct = _eight_bits(render(scene.gaussians, scene.cameras[index]).color)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / name)), direct)


def test_depth_and_mask_folders(scene: Scene, tmp_path: Path) -> None:
    render_path(scene, f"{tmp_path}/depth/", path="inputs", depth=True)
    direct = render(scene.gaussians, scene.cameras[1])
    stored = np.load(tmp_path / "depth" / "frame_00001.npy", allow_pickle=False)
    assert stored.dtype == np.float32
    assert np.array_equal(stored, direct.depth.numpy())
    render_path(scene, tmp_path / "mask", path="inputs", mask=True)
    coverage = Image.open(tmp_path / "mask" / "frame_00001.png")
    assert coverage.mode == "L"
    assert np.array_equal(np.asarray(coverage), _eight_bits(direct.alpha))


def test_near_is_red_in_depth_pictures(scene: Scene, tmp_path: Path) -> None:
    render_path(scene, tmp_path / "d.png", camera=1, depth=True)
    colors = np.asarray(Image.open(tmp_path / "d.png")).astype(int)
    depth = render(scene.gaussians, scene.cameras[1]).depth.numpy()
    covered = depth > 0
    near, far = depth < np.quantile(depth[covered], 0.1), depth > np.quantile(depth[covered], 0.9)
    assert colors[near & covered][:, 0].mean() > colors[far & covered][:, 0].mean() + 50


def test_another_size_keeps_the_middle(scene: Scene, tmp_path: Path) -> None:
    """Twice as large: every pixel of the small picture is about the mean of four of the large one."""
    render_path(scene, tmp_path / "large.png", camera=1, size=(2 * WIDTH, 2 * HEIGHT))
    large = np.asarray(Image.open(tmp_path / "large.png")).astype(float)
    small = render(scene.gaussians, scene.cameras[1]).color.clamp(0, 1).numpy() * 255
    halved = large.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 4
    render_path(scene, tmp_path / "wide.png", camera=1, size=(WIDTH, HEIGHT // 2))
    wide = np.asarray(Image.open(tmp_path / "wide.png")).astype(float)
    top = (HEIGHT - HEIGHT // 2) / 2
    middle = small[int(top) : int(top) + HEIGHT // 2]
    assert np.abs(wide - middle).mean() < 8


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_videos(scene: Scene, tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("da3gs.formats.video")
    file = tmp_path / f"flight{suffix}"
    assert render_path(scene, file, path="wander", fps=10.0, seconds=1.2, depth=suffix == ".gif") == 12
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 12
    if suffix == ".mp4":
        assert frames[0].shape == (30, 40, 3), "an odd side loses a column"
        first = _eight_bits(render(scene.gaussians, scene.cameras[1]).color)[:, :40]
        assert np.abs(frames[0].astype(float) - first).mean() < 12


def test_splats_alone(scene: Scene, tmp_path: Path) -> None:
    assert render_path(scene.gaussians, tmp_path / "a.png", size=(48, 32)) == 1
    assert np.asarray(Image.open(tmp_path / "a.png")).max() > 100
    with pytest.raises(InputError, match="no cameras to choose from"):
        render_path(scene.gaussians, tmp_path / "b.png", camera=0)
    assert not (tmp_path / "b.png").exists()


def test_mistakes_write_nothing(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown camera path 'loop'"):
        render_path(scene, tmp_path / "a.mp4", path="loop")
    with pytest.raises(InputError, match="no camera is called 'front'; the scene has left, middle, right"):
        render_path(scene, tmp_path / "a.png", camera="front")
    with pytest.raises(InputError, match="camera 3 does not exist; the scene has 0 to 2"):
        render_path(scene, tmp_path / "a.png", camera=3)
    with pytest.raises(InputError, match="exclude each other"):
        render_path(scene, tmp_path / "a.png", depth=True, mask=True)
    with pytest.raises(InputError, match="too many"):
        render_path(scene, tmp_path / "a.mp4", seconds=1e9)
    with pytest.raises(InputError, match="cannot be drawn"):
        render_path(scene, tmp_path / "a.png", camera=0, size=(200000, 200000))
    with pytest.raises(InputError, match="suffix"):
        render_path(scene, tmp_path / "a.jpeg2")
    assert not any(tmp_path.iterdir())
    (tmp_path / "a.png").write_bytes(b"\x89PNG mine")
    with pytest.raises(InputError, match="exists already"):
        render_path(scene, tmp_path / "a.png", camera=0)
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG mine"
