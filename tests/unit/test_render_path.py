"""Videos, frames and pictures: the right pixels, the right number, the right names."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras, look_at
from da3gs.cli.render import Render
from da3gs.errors import InputError
from da3gs.formats.cameras.camera_paths import PathFormat, load_camera_path, save_camera_path
from da3gs.gaussians import Gaussians
from da3gs.keyframes import keyframed
from da3gs.pipeline.render_path import FrameFormat, render_path
from da3gs.rendering import PATH_NAMES, render
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


@pytest.mark.parametrize("kind", ["nerfstudio", "inria", "transforms", "colmap", "supersplat"])
def test_frames_of_a_path_file_are_direct_renders(scene: Scene, tmp_path: Path, kind: PathFormat) -> None:
    poses = scene.cameras.cam_to_world[[1, 2]].double()
    fov = torch.tensor([0.8, 0.6], dtype=torch.float64)
    flight = keyframed(poses, fov, height=HEIGHT, width=WIDTH, between=0.5, fps=10.0)
    save_camera_path(flight, tmp_path / "path", format=kind)
    assert render_path(scene, tmp_path / "frames", path=tmp_path / "path") == 5
    cameras = load_camera_path(tmp_path / "path", size=(HEIGHT, WIDTH)).cameras().to(dtype=torch.float32)
    for index in range(5):
        direct = _eight_bits(render(scene.gaussians, cameras[index]).color)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / f"frame_{index:05d}.png")), direct)
    if kind != "supersplat":  # whose cameras do not roll
        assert torch.allclose(cameras.centers, flight.cameras().centers.float(), atol=1e-6)


def test_a_path_files_own_rate_size_and_length(scene: Scene, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    poses, fov = scene.cameras.cam_to_world.double(), torch.full((3,), 0.8, dtype=torch.float64)
    flight = keyframed(poses, fov, height=20, width=34, between=0.5, fps=12.0)
    save_camera_path(flight, tmp_path / "path", format="nerfstudio")
    assert render_path(scene, tmp_path / "a.mp4", path=tmp_path / "path") == 12
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (34, 20, 12)
    changes = {"fps": 6.0, "seconds": 2.0, "size": (16, 12)}
    assert render_path(scene, tmp_path / "b.mp4", path=str(tmp_path / "path"), **changes) == 12
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (16, 12, 6)


def test_path_files_follow_a_scene_that_was_moved_to_the_origin(scene: Scene, tmp_path: Path) -> None:
    """The caller's cameras lie far out; a path made on the stored splats does not."""
    offset = (4e6, -1e6, 20.0)
    moved = dataclasses.replace(scene, offset=offset)
    pose = scene.cameras.cam_to_world[:1].double()
    far = pose.clone()
    far[:, :3, 3] += torch.tensor(offset, dtype=torch.float64)
    pictures = []
    for name, poses in (("near", pose), ("far", far)):
        flight = keyframed(poses, torch.tensor([0.8], dtype=torch.float64), height=HEIGHT, width=WIDTH)
        save_camera_path(flight, tmp_path / name, format="nerfstudio")
        render_path(moved, tmp_path / f"{name}.png", path=tmp_path / name)
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int))
    assert pictures[0].max() > 100
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize("frames", ["png", "jpg", "webp"])
def test_kinds_of_frames(scene: Scene, tmp_path: Path, frames: FrameFormat) -> None:
    render_path(scene, tmp_path / "a", path="inputs", frames=frames)
    render_path(scene, tmp_path / "m", path="inputs", frames=frames, mask=True)
    name = f"frame_00001.{frames}"
    direct = render(scene.gaussians, scene.cameras[1])
    for folder, expected in (("a", _eight_bits(direct.color)), ("m", _eight_bits(direct.alpha)[..., None])):
        stored = np.asarray(Image.open(tmp_path / folder / name).convert("RGB")).astype(float)
        if frames == "jpg":
            assert np.abs(stored - expected).mean() < 3
        else:
            assert np.array_equal(stored, np.broadcast_to(expected, stored.shape))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_single_pictures(scene: Scene, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    render_path(scene, file, camera=2)
    direct = _eight_bits(render(scene.gaussians, scene.cameras[2]).color).astype(float)
    with Image.open(file) as picture:
        assert getattr(picture, "n_frames", 1) == 1
        assert np.abs(np.asarray(picture) - direct).mean() < 3
    render_path(scene, file, camera=1, overwrite=True)
    (tmp_path / "b.jpg").write_text("mine")
    with pytest.raises(InputError, match=r"not a \.jpg file"):
        render_path(scene, tmp_path / "b.jpg", camera=1, overwrite=True)


@pytest.mark.parametrize("what", ["depth", "mask"])
def test_depth_and_mask_videos(scene: Scene, tmp_path: Path, what: str) -> None:
    """Greys of the coverage, colours of the depth; raw depth in a folder of the same path."""
    av = pytest.importorskip("av")
    flags = {what: True, "fps": 5.0, "seconds": 1.0, "path": "wander"}
    assert render_path(scene, tmp_path / "a.mp4", **flags) == 5
    assert render_path(scene, tmp_path / "frames", **flags) == 5
    with av.open(str(tmp_path / "a.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(images) == 5
    if what == "mask":
        coverage = np.asarray(Image.open(tmp_path / "frames" / "frame_00002.png")).astype(float)
        assert np.abs(images[2].mean(-1) - coverage[:, :40]).mean() < 4
    else:
        depth = np.load(tmp_path / "frames" / "frame_00002.npy", allow_pickle=False)
        assert depth.dtype == np.float32
        assert depth.shape == (HEIGHT, WIDTH)
        assert images[2].max() > 150, "colours"


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_videos(scene: Scene, tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("da3gs.formats.media.video")
    file = tmp_path / f"flight{suffix}"
    assert render_path(scene, file, path="wander", fps=10.0, seconds=1.2, depth=suffix == ".gif") == 12
    if suffix == ".webp":
        with Image.open(file) as animation:
            assert (animation.n_frames, animation.size) == (12, (WIDTH, HEIGHT))
        return
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
    with pytest.raises(InputError, match="nan seconds"):
        render_path(scene, tmp_path / "a.mp4", seconds=float("nan"))
    with pytest.raises(InputError, match="0 frames a second"):
        render_path(scene, tmp_path / "a.mp4", fps=0.0)
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


def test_the_help_lists_every_path() -> None:
    words = inspect.getsource(Render)
    missing = [name for name in PATH_NAMES if not re.search(rf"\b{name}\b", words)]
    assert not missing
