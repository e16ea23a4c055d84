"""Camera paths: keyframes and the flight between them; the formats in and out, to the last axis."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.cameras import Cameras, look_at
from da3gs.errors import InputError
from da3gs.formats.cameras.camera_paths import PATH_FORMATS, load_camera_path, path_format, save_camera_path
from da3gs.geometry.projection import rigid_inverse
from da3gs.geometry.rotations import angle_between
from da3gs.keyframes import CameraPath, keyframed, stated_frames

HEIGHT, WIDTH = 90, 160


def _poses(count: int = 5) -> torch.Tensor:
    """Camera to world: on a rising arc round (0, 0, 4), y down, no roll."""
    angle = torch.arange(count, dtype=torch.float64) * 0.35
    eyes = torch.stack((3 * angle.sin(), -0.2 * angle, 4 - 4 * angle.cos()), -1)
    target = torch.tensor([0.0, 0.1, 4.0], dtype=torch.float64).expand(count, 3)
    return rigid_inverse(look_at(eyes, target, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)))


def _path(*, loop: bool = False, count: int = 5) -> CameraPath:
    fov = torch.linspace(0.7, 1.1, count, dtype=torch.float64)
    times = [0.0, 1.0, 1.5, 3.0, 4.0][:count]
    return keyframed(
        _poses(count), fov, height=HEIGHT, width=WIDTH, seconds=times, loop=loop, fps=10.0,
        duration=5.5 if loop else None, smoothness=0.75,
    )  # fmt: skip


def _assert_same(cameras: Cameras, expected: Cameras, tolerance: float = 1e-9) -> None:
    assert (cameras.height, cameras.width) == (expected.height, expected.width)
    torch.testing.assert_close(cameras.centers.double(), expected.centers.double(), atol=tolerance, rtol=0)
    torch.testing.assert_close(cameras.world_to_cam.double(), expected.world_to_cam.double(), atol=tolerance, rtol=0)
    torch.testing.assert_close(cameras.intrinsics.double(), expected.intrinsics.double(), atol=1e-7, rtol=0)


def test_the_flight_passes_its_keyframes_on_time() -> None:
    path = _path()
    at = path.at(path.seconds)
    torch.testing.assert_close(at.cam_to_world, path.cam_to_world, atol=1e-12, rtol=0)
    torch.testing.assert_close(at.intrinsics, path.intrinsics, atol=1e-9, rtol=0)
    frames = path.cameras()
    assert len(frames) == 40
    torch.testing.assert_close(frames.cam_to_world[[0, -1]], path.cam_to_world[[0, -1]], atol=1e-12, rtol=0)


def test_a_loop_comes_back_and_leaves_out_the_repeated_frame() -> None:
    path = _path(loop=True)
    frames = path.cameras()
    assert len(frames) == 55
    step = (frames.centers.roll(-1, 0) - frames.centers).norm(dim=-1)
    assert step[-1] < 2 * step[:-1].max()
    torch.testing.assert_close(path.at(path.seconds + 5.5).cam_to_world, path.cam_to_world, atol=1e-12, rtol=0)


@pytest.mark.parametrize("loop", [False, True])
def test_flights_are_smooth(loop: bool) -> None:
    """Speed and turning change continuously: halving the step halves their largest change, a jump would keep it."""
    path = _path(loop=loop)

    def jumps(rate: float) -> tuple[float, float]:
        cameras = path.cameras(fps=rate)
        centers, rotation = cameras.centers, cameras.world_to_cam[:, :3, :3]
        speed = (centers[1:] - centers[:-1]) * rate
        turning = angle_between(rotation[1:], rotation[:-1]) * rate
        return float(speed.diff(dim=0).norm(dim=-1).max()), float(turning.diff().abs().max())

    for coarse, fine in zip(jumps(60.0), jumps(240.0), strict=True):
        assert fine < 0.5 * coarse


def test_turning_about_one_axis_at_constant_speed_is_followed_exactly() -> None:
    angle = torch.arange(6, dtype=torch.float64) * 0.9
    poses = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    poses[:, 0, 0], poses[:, 0, 2] = angle.cos(), angle.sin()
    poses[:, 2, 0], poses[:, 2, 2] = -angle.sin(), angle.cos()
    path = keyframed(poses, torch.ones(6, dtype=torch.float64), height=10, width=10, between=1.0)
    moments = torch.linspace(0, 5, 41, dtype=torch.float64)
    rotation = path.at(moments).cam_to_world[:, :3, :3]
    torch.testing.assert_close(rotation[:, 0, 0], (0.9 * moments).cos(), atol=1e-12, rtol=0)
    torch.testing.assert_close(rotation[:, 0, 2], (0.9 * moments).sin(), atol=1e-12, rtol=0)


def test_another_length_or_rate_flies_the_same_way() -> None:
    path = _path()
    slow = path.cameras(seconds=8.0)
    assert len(slow) == 80
    torch.testing.assert_close(slow.centers[-1], path.cam_to_world[-1, :3, 3])
    stated = stated_frames(path.cameras(), fps=10.0)
    assert stated.cameras() is stated.frames
    _assert_same(stated.cameras(fps=10.0), path.cameras())
    double = stated.cameras(fps=20.0)
    assert len(double) == 78, "3.9 seconds from the first of 40 frames to the last"
    apart = torch.cdist(double.centers, path.cameras(fps=500.0).centers).min(1).values
    assert apart.max() < 0.01
    assert len(stated_frames(path.cameras()[0]).cameras()) == 1
    assert len(_path(count=1).cameras()) == 10, "one keyframe is a second of standing still"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": [0.0, 2.0, 1.0]}, "not in order"),
        ({"seconds": [1.0, 2.0, 3.0]}, "first is at 0"),
        ({"seconds": [0.0, math.nan, 3.0]}, "not finite"),
        ({"duration": 0.5}, "last keyframe"),
        ({"fps": 0.0}, "frames a second"),
        ({"height": 0}, "at least 1"),
        ({"smoothness": 2.0}, "smoothness"),
        ({"fov": math.pi}, "field of view"),
    ],
)
def test_paths_without_meaning_are_refused(change: dict, words: str) -> None:
    fov = torch.full((3,), change.pop("fov", 1.0), dtype=torch.float64)
    arguments = {"height": 10, "width": 10, **change}
    with pytest.raises(InputError, match=words):
        keyframed(_poses(3), fov, **arguments)
    with pytest.raises(InputError, match="without keyframes"):
        keyframed(_poses(3)[:0], fov[:0], height=10, width=10)


@pytest.mark.parametrize("kind", ["nerfstudio", "inria", "transforms", "colmap"])
@pytest.mark.parametrize("loop", [False, True])
def test_frames_survive(kind: str, loop: bool, tmp_path: Path) -> None:
    path = _path(loop=loop)
    save_camera_path(path, tmp_path / "a", format=kind)
    assert path_format(tmp_path / "a") == kind, "told by content: the name says nothing"
    back = load_camera_path(tmp_path / "a")
    # COLMAP stores quaternions, whose squares round differently
    _assert_same(back.cameras(), path.cameras(), 1e-12)


def test_photo_cameras_survive_whole(tmp_path: Path) -> None:
    """Off-centre principal points, pixels that are not square."""
    cameras = _path().cameras()
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0, 0] *= 1.1
    intrinsics[:, 0, 2] += 7.25
    intrinsics[:, 1, 2] -= 3.5
    cameras = Cameras(world_to_cam=cameras.world_to_cam, intrinsics=intrinsics, height=HEIGHT, width=WIDTH)
    for kind in ("inria", "transforms", "colmap"):
        save_camera_path(cameras, tmp_path / kind, format=kind)
        _assert_same(load_camera_path(tmp_path / kind).cameras(), cameras, 1e-12)
    (tmp_path / "text").mkdir()
    from da3gs.formats.cameras.colmap import load_colmap, save_colmap

    save_colmap(load_colmap(tmp_path / "colmap" / "sparse" / "0"), tmp_path / "text", binary=False)
    _assert_same(load_camera_path(tmp_path / "text").cameras(), cameras, 1e-9)


@pytest.mark.parametrize("kind", ["nerfstudio", "supersplat"])
@pytest.mark.parametrize("loop", [False, True])
def test_keyframes_survive(kind: str, loop: bool, tmp_path: Path) -> None:
    path = _path(loop=loop)
    save_camera_path(path, tmp_path / "a.json", format=kind)
    back = load_camera_path(tmp_path / "a.json", size=(HEIGHT, WIDTH))
    torch.testing.assert_close(back.cam_to_world, path.cam_to_world, atol=1e-9, rtol=0)
    torch.testing.assert_close(back.intrinsics, path.intrinsics, atol=1e-9, rtol=0)
    torch.testing.assert_close(back.seconds, path.seconds, atol=1e-9, rtol=0)
    assert (back.loop, back.fps, back.height, back.width) == (loop, 10.0, HEIGHT, WIDTH)
    assert back.smoothness == pytest.approx(path.smoothness)
    assert back.duration == pytest.approx(path.duration)


def test_nerfstudio_axes_by_hand(tmp_path: Path) -> None:
    """Rows, camera to world, OpenGL: this camera stands at (1, 2, 3), looks along world -x, its up is world z."""
    matrix = [0, 0, 1, 1, 1, 0, 0, 2, 0, 1, 0, 3, 0, 0, 0, 1]
    frame = {"camera_to_world": matrix, "fov": 90.0, "aspect": 2.0}
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"camera_path": [frame], "render_height": 100, "render_width": 200, "fps": 30}))
    cameras = load_camera_path(file).cameras()
    assert cameras.centers.tolist() == [[1, 2, 3]]
    assert cameras.forward.tolist() == [[-1, 0, 0]]
    assert (-cameras.world_to_cam[0, 1, :3]).tolist() == [0, 0, 1]
    k = cameras.intrinsics[0]
    assert k[0, 0] == pytest.approx(50)
    assert k[1, 1] == pytest.approx(50)
    assert k[:2, 2].tolist() == [100, 50]


def test_the_old_viewers_keyframes(tmp_path: Path) -> None:
    """Text, column after column, and one length for all."""
    columns = [0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 2, 3, 1]
    keyframe = {"matrix": json.dumps(columns), "fov": 50, "aspect": 1.77, "properties": '[["FOV",50]]'}
    content = {"keyframes": [keyframe, keyframe], "render_height": 10, "render_width": 20, "fps": 24, "seconds": 3}
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**content, "camera_type": "perspective", "is_cycle": False, "camera_path": []}))
    path = load_camera_path(file)
    assert path.cam_to_world[0, :3, 3].tolist() == [1, 2, 3]
    assert path.cam_to_world[0, :3, 2].tolist() == [-1, 0, 0]
    assert path.seconds.tolist() == [0, 3]


def test_transforms_and_inria_axes_by_hand(tmp_path: Path) -> None:
    opengl = [[0, 0, 1, 1], [1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    file = tmp_path / "x.txt"
    frame = {"file_path": "a.png", "transform_matrix": opengl}
    file.write_text(json.dumps({"fl_x": 50, "w": 200, "h": 100, "frames": [frame]}))
    transforms = load_camera_path(file).cameras()
    # camera to world with OpenCV axes: right = +y, down = -z, forward = -x
    rotation = [[0, 0, -1], [1, 0, 0], [0, -1, 0]]
    entry = {"id": 0, "width": 200, "height": 100, "position": [1, 2, 3], "rotation": rotation, "fx": 50, "fy": 50}
    file.write_text(json.dumps([entry]))
    inria = load_camera_path(file).cameras()
    for cameras in (transforms, inria):
        assert cameras.centers.tolist() == [[1, 2, 3]]
        assert cameras.forward.tolist() == [[-1, 0, 0]]
        assert cameras.cam_to_world[0, :3, :3].tolist() == rotation


def test_photos_of_other_sizes_fill_the_first_ones_size(tmp_path: Path) -> None:
    entry = {"position": [0, 0, 0], "rotation": np.eye(3).tolist()}
    entries = [
        {**entry, "width": 200, "height": 100, "fx": 100, "fy": 100},
        {**entry, "width": 100, "height": 100, "fx": 80, "fy": 80},
    ]
    (tmp_path / "a").write_text(json.dumps(entries))
    cameras = load_camera_path(tmp_path / "a").cameras()
    assert (cameras.height, cameras.width) == (100, 200)
    assert cameras.intrinsics[1].tolist() == [[160, 0, 100], [0, 160, 50], [0, 0, 1]]


def test_supersplat_axes_by_hand(tmp_path: Path) -> None:
    """Its (-1, -2, 3) is our (1, 2, 3); its +y is our -y; the angle is along the longer side."""
    camera = {"initial": {"position": [-1, -2, 3], "target": [-1, -2, 8], "fov": 90}}
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"version": 2, "cameras": [camera], "animTracks": []}))
    for size in ((100, 200), (200, 100)):
        cameras = load_camera_path(file, size=size).cameras()
        assert len(cameras) == 24
        assert cameras.centers[0].tolist() == [1, 2, 3]
        torch.testing.assert_close(cameras.cam_to_world[0, :3, :3], torch.eye(3, dtype=torch.float64))
        assert cameras.intrinsics[0, 0, 0] == pytest.approx(100)


def test_supersplat_flights_are_those_of_its_viewer(tmp_path: Path) -> None:
    """Hermite pieces with tangents that run from the point before to the point after, times the smoothness."""
    times, x = [0, 10, 30], [0.0, 1.0, 5.0]
    position = [value for at in x for value in (at, 0, 0)]
    target = [value for at in x for value in (at, 0, 4.0)]
    values = {"position": position, "target": target, "fov": [60, 60, 60]}
    track = {
        "name": "t", "duration": 3, "frameRate": 10, "loopMode": "none", "interpolation": "spline",
        "smoothness": 0.5, "keyframes": {"times": times, "values": values},
    }  # fmt: skip
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"version": 2, "animTracks": [track], "cameras": []}))
    frames = load_camera_path(file, size=(50, 50)).cameras()
    assert len(frames) == 30

    def expected(frame: float) -> float:
        i = 0 if frame < 10 else 1
        slopes = [0.5 * 0.1, 0.5 * 5 / 30, 0.5 * 0.2]
        h = times[i + 1] - times[i]
        u = (frame - times[i]) / h
        basis = (2 * u**3 - 3 * u**2 + 1, u**3 - 2 * u**2 + u, -2 * u**3 + 3 * u**2, u**3 - u**2)
        return float(np.dot(basis, (x[i], h * slopes[i], x[i + 1], h * slopes[i + 1])))

    wanted = [-expected(30 * i / 29) for i in range(30)]
    assert frames.centers[:, 0].tolist() == pytest.approx(wanted, abs=1e-12)
    file.write_text(json.dumps({**track, "loopMode": "pingpong"}))
    there_and_back = load_camera_path(file, size=(50, 50)).cameras()
    assert len(there_and_back) == 58
    assert torch.equal(there_and_back.centers[30:], there_and_back.centers[1:29].flip(0))


def test_existing_files_stay(tmp_path: Path) -> None:
    for kind in PATH_FORMATS:
        save_camera_path(_path(), tmp_path / kind, format=kind)
        with pytest.raises(InputError, match="exists already"):
            save_camera_path(_path(), tmp_path / kind, format=kind)
        save_camera_path(_path(count=2), tmp_path / kind, format=kind, overwrite=True)
        assert len(load_camera_path(tmp_path / kind).cameras()) == 10
    (tmp_path / "colmap" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="thesis"):
        save_camera_path(_path(), tmp_path / "colmap", format="colmap", overwrite=True)


NERFSTUDIO = {"camera_path": [{"camera_to_world": np.eye(4).flatten().tolist(), "fov": 60}]}
KEYFRAME = {"matrix": np.eye(4).flatten().tolist(), "fov": 60}
TRACK = {"times": [0, 1], "values": {"position": [0] * 6, "target": [1] * 6, "fov": [60, 60]}}
INRIA = {"width": 9, "height": 9, "position": [0, 0, 0], "rotation": np.eye(3).tolist(), "fx": 9, "fy": 9}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "no camera path"),
        ("3", "no camera path"),
        ('{"a": 1}', "no camera path"),
        ({"camera_path": [], "keyframes": []}, "without keyframes"),
        ({"camera_path": "all"}, "list of objects"),
        ({"camera_path": [{"camera_to_world": [1, 2], "fov": 60}]}, "16 numbers"),
        ({"camera_path": [{"camera_to_world": [math.nan] * 16, "fov": 60}]}, "finite"),
        ({"camera_path": [{"camera_to_world": [0.0] * 16, "fov": 60}]}, "no rotation"),
        ({"camera_path": [{"camera_to_world": np.eye(4).flatten().tolist(), "fov": 0}]}, "fov is 0"),
        ({"camera_path": [{"camera_to_world": np.eye(4).flatten().tolist()}]}, "fov"),
        ({**NERFSTUDIO, "camera_type": "fisheye"}, "only perspective"),
        ({**NERFSTUDIO, "render_height": -1}, "whole number of pixels"),
        ({**NERFSTUDIO, "fps": 1e9}, "frames a second"),
        ({"keyframes": [{**KEYFRAME, "matrix": "nothing"}]}, "16 numbers"),
        ({"keyframes": [KEYFRAME, KEYFRAME], "default_transition_sec": -1}, "transition of -1"),
        ({"keyframes": {"times": [], "values": {}}}, "at least one"),
        ({"keyframes": {**TRACK, "times": [1, 0]}}, "increase"),
        ({"keyframes": {**TRACK, "times": [0, 1, 2]}}, "9 numbers"),
        ({"keyframes": {**TRACK, "values": {**TRACK["values"], "target": [0] * 6}}}, "looks nowhere"),
        ({"keyframes": {**TRACK, "values": {**TRACK["values"], "fov": [60, 200]}}}, "field of view"),
        ({"keyframes": TRACK, "duration": 1e12}, "at most"),
        ({"animTracks": [], "cameras": []}, "neither"),
        ({"animTracks": [3]}, "no keyframes"),
        ([{**INRIA, "fx": 0}], "focal length"),
        ([{**INRIA, "position": [0, "a", 0]}], "malformed"),
        ([{**INRIA, "rotation": np.zeros((3, 3)).tolist()}], "not a rotation"),
        ({"frames": []}, "at least one"),
        ({"frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}]}, "focal length"),
    ],
)
def test_broken_files_are_one_line(content: object, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=words) as caught:
        load_camera_path(file)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_folders_that_are_no_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no COLMAP model"):
        load_camera_path(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_camera_path(tmp_path / "nothing")
