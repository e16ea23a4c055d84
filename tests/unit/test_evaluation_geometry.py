"""Geometry tasks on tiny folders laid out as the real data sets, with a network that knows the truth."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.evaluation.evaluate import evaluate
from da3gs.evaluation.geometry.datasets import dataset_of, open_true_scenes
from da3gs.evaluation.geometry.files import read_mvsnet_camera, read_pfm, surface_points
from da3gs.evaluation.geometry.robust_similarity import robust_similarity
from da3gs.evaluation.geometry.tasks import drawn
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.metrics.depth import depth_errors
from da3gs.metrics.points import point_errors, thinned_points
from da3gs.metrics.pose import pose_auc, relative_pose_errors
from da3gs.prediction import Prediction
from da3gs.views import Views

COUNT, HEIGHT, WIDTH = 6, 84, 112
SCALE = WIDTH / 640
CAMERA = np.array([[585 * SCALE, 0, 320 * SCALE], [0, 585 * SCALE, 240 * SCALE], [0, 0, 1.0]])
MM = 100


def poses() -> np.ndarray:
    """Camera-to-world: a walk before the wall z = 2, always looking along z."""
    walk = np.tile(np.eye(4), (COUNT, 1, 1))
    walk[:, 0, 3] = np.linspace(-0.5, 0.5, COUNT)
    walk[:, 1, 3] = 0.1 * np.sin(np.arange(COUNT))
    walk[:, 2, 3] = 0.05 * np.cos(2 * np.arange(COUNT))
    return walk


def photo(pose: np.ndarray, camera: np.ndarray = CAMERA) -> np.ndarray:
    """The wall's texture seen from a pose."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack(((u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)), -1)
    at = rays * (2 - pose[2, 3]) + pose[:3, 3]
    x, y = at[..., 0], at[..., 1]
    colors = np.stack((np.sin(9 * x + 2 * y), np.sin(8 * y - 5 * x), np.sin(6 * x + 7 * y)), -1)
    return ((0.5 + 0.4 * colors) * 255).round().astype(np.uint8)


def wall_points() -> np.ndarray:
    grid = np.linspace(-1.6, 1.6, 400)
    x, y = np.meshgrid(grid, grid)
    return np.stack((x, y, np.full_like(x, 2.0)), -1).reshape(-1, 3)


class Knows(torch.nn.Module):
    """Tells true cameras and depth of the photos that it recognises, in a frame of its own."""

    def __init__(self, unit: float = 1.0) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.frame = Similarity(
            scale=torch.tensor(0.4 / unit, dtype=torch.float64),
            rotation=quaternion_to_matrix(torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.float64)),
            translation=torch.tensor([1.0, 2, 3], dtype=torch.float64),
        )
        self.unit = unit
        self.pictures = torch.stack([torch.from_numpy(photo(p)).float() for p in poses()]) / 255

    def forward(self, views: Views, *, poses: str = "camera", **ignored: bool) -> Prediction:
        walk = torch.from_numpy(globals()["poses"]())
        walk[:, :3, 3] *= self.unit
        index = []
        for image in views.images:
            index.append(int((self.pictures - image.movedim(0, -1)).abs().mean((1, 2, 3)).argmin()))
        cameras = Cameras(
            world_to_cam=torch.linalg.inv(walk[index]).float(),
            intrinsics=torch.from_numpy(CAMERA).float().expand(len(index), 3, 3),
            height=HEIGHT,
            width=WIDTH,
        )
        depth = (2 * self.unit - walk[index, 2, 3]).float()[:, None, None].expand(-1, HEIGHT, WIDTH)
        return Prediction(
            depth=depth * float(self.frame.scale),
            confidence=torch.full_like(depth, 2.0),
            cameras=cameras.transformed(self.frame),
        )


def write_ply(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "property float x\nproperty float y\nproperty float z\nend_header\n"
    path.write_bytes(head.encode() + points.astype("<f4").tobytes())


def seven_scenes(root: Path) -> Path:
    seq = root / "wall" / "seq-01"
    seq.mkdir(parents=True)
    walk = [pose for pose in poses() for _ in range(11)]  # every 11th frame is used
    for i, pose in enumerate(walk):
        stem = f"frame-{i:06d}"
        if i % 11 == 0:
            Image.fromarray(photo(pose)).save(seq / f"{stem}.color.png")
            depth = np.full((HEIGHT, WIDTH), round(1000 * (2 - pose[2, 3])), np.uint16)
            depth[:2] = 65535
            Image.fromarray(depth).save(seq / f"{stem}.depth.png")
        else:
            (seq / f"{stem}.color.png").write_bytes(b"")
        np.savetxt(seq / f"{stem}.pose.txt", pose)
    return root


def eth3d(root: Path) -> Path:
    model = root / "wall" / "dslr_calibration_undistorted"
    model.mkdir(parents=True)
    k = CAMERA
    (model / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}\n")
    lines = []
    folder = root / "wall" / "images" / "dslr_images_undistorted"
    folder.mkdir(parents=True)
    for i, pose in enumerate(poses()):
        t = -pose[:3, 3]
        lines.append(f"{i + 1} 1 0 0 0 {t[0]} {t[1]} {t[2]} 1 dslr_images_undistorted/DSC_{i:04d}.png\n\n")
        Image.fromarray(photo(pose)).save(folder / f"DSC_{i:04d}.png")
    (model / "images.txt").write_text("".join(lines))
    (model / "points3D.txt").write_text("")
    moved = wall_points() - [5.0, 0, 0]
    write_ply(root / "wall" / "dslr_scan_eval" / "scan1.ply", moved)
    (root / "wall" / "dslr_scan_eval" / "scan_alignment.mlp").write_text(
        '<!DOCTYPE MeshLabDocument><MeshLabProject><MeshGroup><MLMesh label="scan1" filename="scan1.ply">'
        "<MLMatrix44>1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1</MLMatrix44></MLMesh></MeshGroup></MeshLabProject>"
    )
    return root


def scannetpp(root: Path) -> Path:
    place = root / "0a1b2c3d4e"
    pictures = place / "dslr" / "resized_undistorted_images"
    pictures.mkdir(parents=True)
    swap = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
    frames = []
    for i, pose in enumerate(pose for pose in poses() for _ in range(5)):
        matrix = np.linalg.inv(swap) @ pose @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"DSC{i:05d}.png", "transform_matrix": matrix.tolist()})
        if i % 5 == 0:
            Image.fromarray(photo(pose)).save(pictures / f"DSC{i:05d}.png")
    k = CAMERA
    content = {"w": WIDTH, "h": HEIGHT, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    folder = place / "dslr" / "nerfstudio"
    folder.mkdir()
    (folder / "transforms_undistorted.json").write_text(json.dumps({**content, "frames": frames}))
    write_ply(place / "scans" / "mesh_aligned_0.05.ply", wall_points())
    return root


def dtu(root: Path) -> Path:
    (root / "Cameras").mkdir(parents=True)
    (root / "Rectified" / "scan7").mkdir(parents=True)
    (root / "Depths_raw" / "scan7").mkdir(parents=True)
    for i, pose in enumerate(poses()):
        pose = pose.copy()
        Image.fromarray(photo(pose)).save(root / "Rectified" / "scan7" / f"rect_{i + 1:03d}_3_r5000.png")
        z = MM * (2 - pose[2, 3])
        pose[:3, 3] *= MM
        rows = "\n".join(" ".join(map(str, row)) for row in np.linalg.inv(pose))
        k = "\n".join(" ".join(map(str, row)) for row in CAMERA)
        (root / "Cameras" / f"{i:08d}_cam.txt").write_text(f"extrinsic\n{rows}\n\nintrinsic\n{k}\n\n425 2.5\n")
        depth = np.full((HEIGHT, WIDTH), z, "<f4")
        (root / "Depths_raw" / "scan7" / f"depth_map_{i:04d}.pfm").write_bytes(
            f"Pf\n{WIDTH} {HEIGHT}\n-1\n".encode() + depth.tobytes()
        )
    write_ply(root / "Points" / "stl" / "stl007_total.ply", wall_points() * MM)
    return root


LAYOUTS = {"7scenes": seven_scenes, "eth3d": eth3d, "scannetpp": scannetpp, "dtu": dtu}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_poses_of_every_layout_are_read_right(tmp_path: Path, layout: str) -> None:
    root = LAYOUTS[layout](tmp_path / "data")
    assert dataset_of(root, "auto") == layout
    report = evaluate(root, task="pose", model=Knows(), resolution=WIDTH)
    assert report["counts"] == {"scenes": 1, "done": 1, "failed": 0}
    assert report["mean"]["auc3"] == pytest.approx(1.0, abs=1e-6)
    assert len(report["scenes"][0]["frames"]) == COUNT


@pytest.mark.parametrize("poses", ["given", "predicted"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_surfaces_of_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, poses: str) -> None:
    """The truth fused has precision 1; recall is the part of the true wall that is seen."""
    unit = MM if layout == "dtu" else 1.0
    monkeypatch.setattr("da3gs.evaluation.geometry.tasks.SAMPLES", 100_000)
    root = LAYOUTS[layout](tmp_path / "data")
    report = evaluate(root, task="points", model=Knows(unit), resolution=WIDTH, poses=poses)
    assert report["counts"]["done"] == 1, report["scenes"]
    assert report["mean"]["precision"] > 0.99
    assert report["mean"]["accuracy"] < 0.03 * unit  # the true points lie that far apart
    if layout == "7scenes":  # its truth is fused from the same frames
        assert report["mean"]["f1"] > 0.99
    assert report["mean"]["recall"] > 0.15


@pytest.mark.parametrize("layout", ["7scenes", "dtu"])
def test_depth_tasks(tmp_path: Path, layout: str) -> None:
    unit = MM if layout == "dtu" else 1.0
    report = evaluate(LAYOUTS[layout](tmp_path / "data"), task="depth", model=Knows(unit), resolution=WIDTH)
    assert report["mean"]["absrel_none"] < 2e-3
    assert report["mean"]["delta1_median"] == 1
    views = report["scenes"][0]["views"]
    assert [view["index"] for view in views] == report["scenes"][0]["frames"]
    assert np.mean([view["absrel_none"] for view in views]) == pytest.approx(report["mean"]["absrel_none"], abs=1e-6)
    assert set(report["mean"]) == {
        f"{m}_{a}" for m, a in itertools.product(("absrel", "sqrel", "delta1"), ("none", "median", "scale", "affine"))
    }


def test_one_sequence_of_seven_scenes_and_its_mesh(tmp_path: Path) -> None:
    """The official benchmark takes the second sequence of stairs and the first of the others."""
    root = seven_scenes(tmp_path / "data")
    (root / "wall").rename(root / "stairs")
    (root / "stairs" / "seq-01").rename(root / "stairs" / "seq-02")
    (root / "stairs" / "seq-01").mkdir()
    write_ply(root / "meshes" / "stairs.ply", wall_points())
    scenes = open_true_scenes(root, "7scenes")
    assert list(scenes) == ["stairs"]
    scene = scenes["stairs"]()
    assert len(scene.scene) == 11 * COUNT
    assert scene.points is not None
    assert len(scene.points()) == len(wall_points())


def test_photos_that_the_official_benchmark_leaves_out_of_eth3d(tmp_path: Path) -> None:
    root = eth3d(tmp_path / "data")
    (root / "wall").rename(root / "relief")
    model = root / "relief" / "dslr_calibration_undistorted" / "images.txt"
    model.write_text(model.read_text().replace("DSC_0002.png", "DSC_0430.JPG"))
    assert len(open_true_scenes(root, "eth3d")["relief"]().scene) == COUNT - 1
    write_ply(root / "relief" / "combined_mesh.ply", wall_points()[:7])
    points = open_true_scenes(root, "eth3d")["relief"]().points
    assert points is not None
    assert len(points()) == 7, "the surface that the official benchmark made goes first"


def test_the_other_copies_of_dtu(tmp_path: Path) -> None:
    """The pose task's folders of 64 photos; MVSNet's training copy, whose cameras are for a quarter of the size."""
    root = dtu(tmp_path / "data")
    plain = open_true_scenes(root, "dtu")["scan7"]().scene
    whole = plain.read(2, True).intrinsics
    (root / "Cameras" / "train").mkdir()
    for file in sorted((root / "Cameras").glob("*.txt")):
        head, tail = file.read_text().split("intrinsic\n")
        quarter = [float(n) / 4 if i < 6 else float(n) for i, n in enumerate(tail.split()[:9])]
        (root / "Cameras" / "train" / file.name).write_text(f"{head}intrinsic\n{' '.join(map(str, quarter))}")
    (root / "Rectified" / "scan7").rename(root / "Rectified" / "scan7_train")
    small = open_true_scenes(root, "dtu")["scan7"]()
    np.testing.assert_allclose(small.scene.read(2, True).intrinsics, whole)
    assert small.depth is not None
    shots = tmp_path / "sixty-four"
    (shots / "scans" / "scan7" / "image").mkdir(parents=True)
    for i, photo_file in enumerate(sorted((root / "Rectified" / "scan7_train").iterdir())):
        photo_file.rename(shots / "scans" / "scan7" / "image" / f"{i:08d}.png")
    (root / "Cameras").rename(shots / "Cameras")
    assert dataset_of(shots, "auto") == "dtu"
    again = open_true_scenes(shots, "dtu")["scan7"]().scene
    np.testing.assert_allclose(again.cam_to_world, plain.cam_to_world)


def test_missing_photos_are_left_out_of_geometry_too(tmp_path: Path) -> None:
    root = dtu(tmp_path / "data")
    (root / "Rectified" / "scan7" / "rect_003_3_r5000.png").write_bytes(b"broken")
    scene = evaluate(root, task="pose", model=Knows(MM), resolution=WIDTH)["scenes"][0]
    assert scene["status"] == "done"
    assert scene["frames"] == [0, 1, 3, 4, 5]
    assert [(left["index"], left["role"]) for left in scene["dropped"]] == [(2, "frame")]
    assert scene["auc3"] == pytest.approx(1.0, abs=1e-6)


def test_what_the_data_cannot_tell_is_refused(tmp_path: Path) -> None:
    root = eth3d(tmp_path / "data")
    with pytest.raises(InputError, match="no true depth"):
        evaluate(root, task="depth", model=Knows(), resolution=WIDTH)
    with pytest.raises(InputError, match="not laid out as --dataset dtu"):
        evaluate(root, task="pose", model=Knows(), dataset="dtu")
    with pytest.raises(InputError, match="--baseline"):
        evaluate(root, task="pose", baseline="nearest")
    with pytest.raises(InputError, match="--size"):
        evaluate(root, task="pose", size=(64, 64), model=Knows())


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "short.pfm").write_bytes(b"Pf\n10 10\n-1\n1234")
    with pytest.raises(InputError, match=r"short\.pfm is cut short"):
        read_pfm(tmp_path / "short.pfm")
    (tmp_path / "huge.pfm").write_bytes(b"Pf\n1000000 1000000\n-1\n")
    with pytest.raises(InputError, match=r"huge\.pfm"):
        read_pfm(tmp_path / "huge.pfm")
    (tmp_path / "no.ply").write_bytes(b"plx")
    with pytest.raises(InputError, match=r"no\.ply"):
        surface_points(tmp_path / "no.ply")
    (tmp_path / "flat_cam.txt").write_text("extrinsic\n" + "0 " * 16 + "\nintrinsic\n" + "1 " * 9)
    with pytest.raises(InputError, match=r"flat_cam\.txt holds no rotation"):
        read_mvsnet_camera(tmp_path / "flat_cam.txt")
    root = eth3d(tmp_path / "data")
    project = root / "wall" / "dslr_scan_eval" / "scan_alignment.mlp"
    project.write_text(project.read_text().replace('filename="scan1.ply"', 'filename="../../../secret.ply"'))
    with pytest.raises(InputError, match="makes no sense"):
        open_true_scenes(root, "eth3d")["wall"]().points()  # type: ignore[misc]


def test_pose_auc_against_brute_force() -> None:
    """Pair by pair in numpy, quaternions and arccosines as the official code has them, bins by numpy's histogram."""
    generator = torch.Generator().manual_seed(0)
    rotations = quaternion_to_matrix(torch.randn(7, 4, generator=generator, dtype=torch.float64))
    true = torch.eye(4, dtype=torch.float64).repeat(7, 1, 1)
    true[:, :3, :3], true[:, :3, 3] = rotations, torch.randn(7, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(7, 4, generator=generator, dtype=torch.float64) * 0.03 + torch.tensor([1.0, 0, 0, 0])
    wrong = true.clone()
    wrong[:, :3, :3] = quaternion_to_matrix(noise) @ rotations
    wrong[:, :3, 3] += 0.1 * torch.randn(7, 3, generator=generator, dtype=torch.float64)
    worst = []
    for i, j in itertools.combinations(range(7), 2):
        laid = [m.numpy() @ np.linalg.inv(m[0].numpy()) for m in (wrong, true)]
        a, b = (np.linalg.inv(m[i]) @ m[j] for m in laid)
        cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
        turn = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        unit = [t[:3, 3] / np.linalg.norm(t[:3, 3]) for t in (a, b)]
        shift = np.degrees(np.arccos(np.clip(unit[0] @ unit[1], -1, 1)))
        worst.append(max(turn, min(shift, 180 - shift)))
    found = pose_auc(*relative_pose_errors(wrong, true))
    for threshold in (3, 5, 15, 30):
        histogram, _ = np.histogram(worst, bins=np.arange(threshold + 1))
        expected = np.mean(np.cumsum(histogram / len(worst)))
        assert found[f"auc{threshold}"] == pytest.approx(expected, abs=1e-12)
    assert 0.1 < found["auc15"] < 0.9, "the case has to tell something"
    perfect = pose_auc(*relative_pose_errors(true, true))
    assert perfect == {"auc3": 1, "auc5": 1, "auc15": 1, "auc30": 1}


def test_depth_errors_against_float64_formulas() -> None:
    random = np.random.default_rng(0)
    true = random.uniform(1, 5, (20, 30)).astype(np.float32)
    valid = random.random((20, 30)) < 0.8
    guess = (2.0 * true + 0.5 + random.normal(0, 0.1, true.shape)).astype(np.float32)
    d, t = guess[valid].astype(np.float64), true[valid].astype(np.float64)
    slope, shift = np.polyfit(d, t, 1)
    for alignment, fitted in (
        ("none", d), ("median", d * np.sort(t)[(len(t) - 1) // 2] / np.sort(d)[(len(d) - 1) // 2]),
        ("scale", d * (d @ t) / (d @ d)), ("affine", slope * d + shift),
    ):  # fmt: skip
        found = depth_errors(
            torch.from_numpy(guess), torch.from_numpy(true), torch.from_numpy(valid), alignment=alignment
        )
        assert found["absrel"] == pytest.approx(np.mean(np.abs(fitted - t) / t), rel=1e-6)
        assert found["sqrel"] == pytest.approx(np.mean((fitted - t) ** 2 / t), rel=1e-6)
        assert found["delta1"] == pytest.approx(np.mean(np.maximum(fitted / t, t / fitted) < 1.25))
    assert found["absrel"] < 0.03, "an affine guess is nearly right once aligned"


def test_point_errors_against_brute_force() -> None:
    random = np.random.default_rng(1)
    a, b = random.random((300, 3)), random.random((200, 3))
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    there, back = apart.min(1), apart.min(0)
    found = point_errors(a, b, distance=0.08)
    assert found["accuracy"] == pytest.approx(there.mean())
    assert found["completeness"] == pytest.approx(back.mean())
    p, r = (there < 0.08).mean(), (back < 0.08).mean()
    assert found["f1"] == pytest.approx(2 * p * r / (p + r))
    assert point_errors(np.zeros((0, 3)), b, distance=1.0)["f1"] == 0
    cubes = thinned_points(np.array([[0.0, 0, 0], [0.1, 0, 0], [0.9, 0, 0]]), 0.5)
    np.testing.assert_allclose(cubes, [[0.05, 0, 0], [0.9, 0, 0]])


def test_robust_alignment_ignores_a_lost_camera() -> None:
    walk = torch.eye(4, dtype=torch.float64).repeat(12, 1, 1)
    walk[:, :3, 3] = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.eye(3, dtype=torch.float64).expand(12, 3, 3)
    true = Cameras(world_to_cam=torch.linalg.inv(walk), intrinsics=k, height=4, width=4)
    frame = Similarity(
        scale=torch.tensor(3.0, dtype=torch.float64),
        rotation=quaternion_to_matrix(torch.tensor([0.5, 0.5, 0.1, -0.2], dtype=torch.float64)),
        translation=torch.ones(3, dtype=torch.float64),
    )
    moved = true.transformed(frame.inverse())
    broken = moved.world_to_cam.clone()
    broken[4, :3, 3] += 40
    found = robust_similarity(Cameras(world_to_cam=broken, intrinsics=k, height=4, width=4), true)
    assert float(found.scale) == pytest.approx(3.0, rel=1e-6)


def test_frames_are_drawn_as_the_official_benchmark_does() -> None:
    import random

    random.seed(42)
    frames = list(range(250))
    random.shuffle(frames)
    assert drawn(list(range(250)), 100) == sorted(frames[:100])
