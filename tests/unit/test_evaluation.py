"""Novel views: sizes, columns, what is left out, baselines, reports, comparison."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

import da3gs
from da3gs.cameras import Cameras
from da3gs.errors import InputError
from da3gs.evaluation.data import Frame, open_scenes
from da3gs.evaluation.evaluate import evaluate
from da3gs.evaluation.novel_views import error_map
from da3gs.evaluation.protocol import covered, network_size
from da3gs.evaluation.reports.compare import compare
from da3gs.evaluation.reports.html import report_html
from da3gs.evaluation.warping import plane_depth
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.rendering import render
from tests.evaluation_scenes import DEPTH, VIEWS, chunk_entry, scene_folders, split_file
from tests.unit.corner_scene import SIZE, corner_cameras, photographed, saved
from tests.unit.plane_scene import TruthNetwork, write_photos

FRAME = Similarity(
    scale=torch.tensor(0.37, dtype=torch.float64),
    rotation=quaternion_to_matrix(torch.tensor([0.9, 0.2, -0.1, 0.3], dtype=torch.float64)),
    translation=torch.tensor([0.3, -1, 2], dtype=torch.float64),
)
NETWORK = TruthNetwork(VIEWS, DEPTH, FRAME)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scene_folders(tmp_path / "data", 1)


def run(root: Path, **flags: object) -> dict:
    split = split_file(root.parent / "split.json", sorted(p.name for p in root.iterdir() if p.is_dir()))
    return evaluate(root, **{"split": split, "model": NETWORK, "resolution": 112, **flags})


@pytest.mark.parametrize(
    ("flags", "targets"),
    [
        ({}, "given"),
        ({"poses": "predicted"}, "aligned"),
        pytest.param({"align_targets": True}, "optimised", marks=pytest.mark.slow),
        pytest.param({"poses": "predicted", "align_targets": True}, "optimised", marks=pytest.mark.slow),
    ],
)
def test_every_column_scores_a_truthful_network_well(root: Path, flags: dict, targets: str) -> None:
    report = run(root, **flags)
    assert report["settings"]["targets"] == targets
    assert report["counts"] | {"done": 1, "targets": 3, "targets_among_context": 0} == report["counts"]
    assert report["mean"]["psnr"] > 26
    assert report["mean"]["lpips"] is None
    assert "vgg16" in report["scenes"][0]["lpips_reason"]
    assert [view["index"] for view in report["scenes"][0]["views"]] == [1, 2, 6]


def test_scores_are_those_of_the_saved_pictures(root: Path, tmp_path: Path) -> None:
    """PSNR and SSIM again, from the PNG files, in float64 and with scikit-image.

    8 bits add noise of (1 / 255)² / 12, which at 35.5 dB is 0.02 dB.
    """
    run(root, output=tmp_path / "out", save_images=True)
    record = json.loads((tmp_path / "out" / "scenes" / "scene-000.json").read_text())
    for number, view in enumerate(record["views"]):
        pair = [
            np.asarray(Image.open(tmp_path / "out" / "images" / "scene-000" / f"{kind}_{number:05d}.png")) / 255.0
            for kind in ("render", "target")
        ]
        assert view["psnr"] == pytest.approx(-10 * np.log10(np.mean((pair[0] - pair[1]) ** 2)), abs=0.04)
        expected = structural_similarity(*pair, win_size=11, gaussian_weights=True, channel_axis=-1, data_range=1.0)
        assert view["ssim"] == pytest.approx(expected, abs=2e-3)


def test_context_frames_among_the_targets_are_counted(root: Path) -> None:
    split = split_file(root.parent / "split.json", ["scene-000"], target=[0, 1, 4])
    report = evaluate(root, split=split, model=NETWORK, resolution=112)
    assert report["counts"]["targets_among_context"] == 2
    assert [view["context"] for view in report["scenes"][0]["views"]] == [True, False, True]
    alone = report["scenes"][0]["views"][1]["psnr"]
    assert report["mean_without_context"]["psnr"] == pytest.approx(alone, abs=1e-5)
    assert report["mean"]["psnr"] > alone


def test_missing_and_broken_photos_are_left_out_with_the_reason(root: Path) -> None:
    images = root / "scene-000" / "nerfstudio" / "images"
    (images / "photo_2.png").unlink()
    (images / "photo_4.png").write_bytes(b"no picture")
    report = run(root, baseline="nearest")
    scene = report["scenes"][0]
    assert [(d["index"], d["role"]) for d in scene["dropped"]] == [(4, "context"), (2, "target")]
    assert "missing" in scene["dropped"][1]["reason"]
    assert [view["index"] for view in scene["views"]] == [1, 6]
    for name in ("photo_1.png", "photo_6.png"):
        (images / name).unlink()
    report = run(root, baseline="nearest")
    assert report["counts"] == {"scenes": 1, "done": 0, "failed": 1}
    assert "no target photo" in report["scenes"][0]["reason"]
    assert report["mean"] == {"psnr": None, "ssim": None, "lpips": None}


def test_a_failed_scene_does_not_stop_the_others(tmp_path: Path) -> None:
    root = scene_folders(tmp_path / "data", 3)
    for photo in (root / "scene-001" / "nerfstudio" / "images").iterdir():
        photo.write_bytes(b"broken")
    report = run(root, baseline="nearest")
    assert [scene["status"] for scene in report["scenes"]] == ["done", "failed", "done"]
    assert report["mean"]["psnr"] is not None


def test_chunks_and_folders_give_the_same_figures(root: Path, tmp_path: Path) -> None:
    chunks = tmp_path / "chunks"
    chunks.mkdir()
    torch.save([chunk_entry()], chunks / "000000.torch")
    (chunks / "index.json").write_text(json.dumps({"scene-000": "000000.torch"}))
    split = split_file(tmp_path / "split.json", ["scene-000"])
    flags = {"split": split, "model": NETWORK, "resolution": 112}
    folder, chunk = evaluate(root, **flags), evaluate(chunks, **flags)
    assert chunk["mean"]["psnr"] == pytest.approx(folder["mean"]["psnr"], abs=0.01)


def test_unposed_photos_are_scored_by_a_second_pass(tmp_path: Path) -> None:
    photos = write_photos(VIEWS, tmp_path / "photos")
    report = evaluate(photos, split="every:3", model=NETWORK, resolution=112, poses="predicted")
    assert report["settings"]["targets"] == "second pass"
    assert [view["index"] for view in report["scenes"][0]["views"]] == [0, 3, 6]
    assert report["mean"]["psnr"] > 26
    nearest = evaluate(photos, split="every:3", baseline="nearest", resolution=112, poses="predicted")
    assert nearest["counts"]["failed"] == 1, "only a model can place cameras"
    for flags, message in (
        ({"poses": "given"}, "--poses given"),
        ({"align_targets": True, "poses": "predicted"}, "--align-t"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(photos, split="every:3", model=NETWORK, **flags)


def test_cameras_of_unposed_photos_are_found_in_context_and_targets_alike(tmp_path: Path) -> None:
    eyes = [(-0.9, -0.2, 0.0), (-0.4, 0.0, 0.2), (0.1, -0.3, 0.1), (0.7, 0.1, 0.2)]
    photos = saved(photographed(corner_cameras(eyes)), tmp_path / "photos")
    strange = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(strange).save(photos / "photo_4.png")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"photos": {"context": [0, 2, 3, 4], "target": [1]}}))
    report = evaluate(photos, split=split, baseline="depth-warp", resolution=112)
    assert report["settings"]["targets"] == "found"
    assert any("structure-from-motion" in rule for rule in report["protocol"])
    scene = report["scenes"][0]
    assert [(row["index"], row["placed"]) for row in scene["cameras"]] == [(i, "sfm") for i in range(4)]
    assert all(row["reprojection_error"] < 1 for row in scene["cameras"])
    assert [(d["index"], d["role"]) for d in scene["dropped"]] == [(4, "context")]
    assert "no camera" in scene["dropped"][0]["reason"]
    assert report["mean"]["psnr"] > 15
    rule = evaluate(photos, split="every:4", baseline="nearest", resolution=112)["scenes"][0]
    assert rule["context"] == [1, 2, 3], "a rule chooses among the photos with cameras"


@pytest.mark.slow
def test_optimised_target_poses_mend_wrong_cameras(root: Path) -> None:
    """Target cameras turned by 0.4 degrees cost much; the optimised column wins it back."""
    file = root / "scene-000" / "nerfstudio" / "transforms.json"
    content = json.loads(file.read_text())
    for index in (1, 2, 6):
        pose = np.array(content["frames"][index]["transform_matrix"])
        angle = np.radians(0.8)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        pose[:3, :3] = pose[:3, :3] @ turn
        content["frames"][index]["transform_matrix"] = pose.tolist()
    file.write_text(json.dumps(content))
    given, moved = run(root), run(root, align_targets=True)
    assert moved["mean"]["psnr"] > given["mean"]["psnr"] + 3
    assert moved["mean"]["psnr"] > 25


@pytest.mark.parametrize("baseline", ["nearest", "constant-depth", "depth-warp"])
def test_baselines(root: Path, baseline: str) -> None:
    report = run(root, baseline=baseline)
    assert report["counts"]["done"] == 1, report["scenes"]
    low = {"nearest": 12, "constant-depth": 20, "depth-warp": 24}[baseline]
    assert report["mean"]["psnr"] > low
    assert report["settings"]["model"] == (None if baseline != "depth-warp" else "TruthNetwork")


def test_the_truths_own_pictures_score_perfectly(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "renders" / "scene-000"
    folder.mkdir(parents=True)
    for index in (1, 2):
        pixels = np.asarray(Image.open(root / "scene-000" / "nerfstudio" / "images" / f"photo_{index}.png"))
        Image.fromarray(pixels).save(folder / f"render_{index:05d}.png")
    np.save(folder / "photo_6.npy", np.asarray(Image.open(
        root / "scene-000" / "nerfstudio" / "images" / "photo_6.png")).astype(np.float32) / 255)  # fmt: skip
    report = run(root, baseline=f"renders:{tmp_path / 'renders'}")
    assert report["mean"]["psnr"] == 100
    assert report["mean"]["ssim"] == pytest.approx(1)
    (folder / "render_00001.png").unlink()
    assert "has no render" in run(root, baseline=f"renders:{tmp_path / 'renders'}")["scenes"][0]["reason"]


def test_saved_pictures_can_be_scored_again(root: Path, tmp_path: Path) -> None:
    """They are numbered like the targets, not like the frames; only 8 bits are lost."""
    first = run(root, baseline="constant-depth", output=tmp_path / "out", save_images=True)
    again = run(root, baseline=f"renders:{tmp_path / 'out' / 'images'}")
    pairs = zip(first["scenes"][0]["views"], again["scenes"][0]["views"], strict=True)
    assert all(a["psnr"] == pytest.approx(b["psnr"], abs=0.02) for a, b in pairs)


def test_splat_files_made_by_anyone(root: Path, tmp_path: Path) -> None:
    """Splats of the truth, saved as .ply: the same score as the model they came from, with count and size."""
    scene = da3gs.reconstruct(root / "scene-000", model=NETWORK, resolution=112, holdout="photo_1,photo_2,photo_6")
    (tmp_path / "splats").mkdir()
    da3gs.save_gaussians(scene.gaussians, tmp_path / "splats" / "scene-000.ply")
    report = run(root, baseline=f"splats:{tmp_path / 'splats'}")
    assert report["mean"]["psnr"] > 25
    assert report["splats"] == len(scene.gaussians)
    assert report["megabytes"] == pytest.approx((tmp_path / "splats" / "scene-000.ply").stat().st_size / 1e6, abs=1e-3)


class Grey:
    """A baseline of somebody else: always grey."""

    name = "grey"
    splats = megabytes = gaussians = cameras = None
    offset = (0.0, 0.0, 0.0)

    def fit(self, scene: object) -> Grey:
        return self

    def render(self, camera: Cameras, target: object) -> torch.Tensor:
        return torch.full((camera.height, camera.width, 3), 0.5)


def test_a_baseline_of_ones_own(root: Path) -> None:
    report = run(root, baseline=Grey())
    assert report["settings"]["method"] == "grey"
    photo = np.asarray(Image.open(root / "scene-000" / "nerfstudio" / "images" / "photo_1.png")) / 255.0
    expected = -10 * np.log10(np.mean((photo - 0.5) ** 2))
    assert report["scenes"][0]["views"][0]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_sizes_and_intrinsics_of_the_protocols() -> None:
    assert network_size((270, 480), None) == (266, 476)
    assert network_size((256, 448), None) == (252, 448)
    k = np.array([[100.0, 0, 240], [0, 100, 135], [0, 0, 1]])
    image = np.zeros((270, 480, 3), np.uint8)
    crop = covered(Frame(image=image, mask=None, intrinsics=k), (256, 448))
    assert crop.image.shape == (256, 448, 3)
    assert crop.intrinsics is not None
    np.testing.assert_allclose(crop.intrinsics[[0, 1], [0, 1]], [100 * 455 / 480, 100 * 256 / 270])
    np.testing.assert_allclose(crop.intrinsics[:2, 2], [227.5 - 3, 128])


def test_a_published_size_renders_targets_at_full_size(root: Path) -> None:
    report = run(root, size=(60, 110), resolution=None)
    assert report["settings"]["network_size"] == [56, 98]
    assert report["settings"]["size"] == [60, 110]


def test_the_stored_copy_that_covers_the_size_is_read(root: Path) -> None:
    """DL3DV has photos in several sizes; scaled from a much larger one they would look otherwise."""
    folder = root / "scene-000" / "nerfstudio"
    for photo in (folder / "images").iterdir():
        for name, (width, height), shade in (("images_4", (112, 84), 90), ("images_8", (56, 42), 30)):
            (folder / name).mkdir(exist_ok=True)
            Image.new("RGB", (width, height), (shade,) * 3).save(folder / name / photo.name)
    for size, shade, smallest in (((42, 56), 30, (42, 56)), ((48, 64), 90, (84, 112)), (None, None, (84, 112))):
        scene = open_scenes(root, covering=size)["scene-000"]
        pixels = scene.read(0, True).image
        assert shade is None or (pixels == shade).all()
        assert pixels.shape[:2] == smallest
    report = run(root, size=(60, 100), baseline="nearest")
    assert report["scenes"][0]["smallest_photo"] == [84, 112]


def test_intrinsics_follow_through_crop_and_resize() -> None:
    """A splat projected by the cropped camera lands on the same texture as in the cropped picture."""
    assert VIEWS.cameras is not None
    camera = VIEWS.cameras[3]
    spot = da3gs.Gaussians(
        means=torch.tensor([[0.1, 0.05, 4.0]]), scales=torch.full((1, 3), 0.03),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]), opacities=torch.tensor([0.99]),
        harmonics=torch.full((1, 1, 3), 1.0),
    )  # fmt: skip
    full = render(spot, camera).color.numpy()
    frame = Frame(
        image=(full.clip(0, 1) * 255).round().astype(np.uint8), mask=None, intrinsics=camera.intrinsics.double().numpy()
    )
    small = covered(frame, (60, 60))
    assert small.intrinsics is not None
    cropped = Cameras(
        world_to_cam=camera.world_to_cam, intrinsics=torch.from_numpy(small.intrinsics).float(), height=60, width=60
    )
    again = render(spot, cropped).color.numpy()[..., 0]
    rows, columns = np.mgrid[:60, :60]
    centers = [
        ((p / p.sum() * rows).sum(), (p / p.sum() * columns).sum()) for p in (again, small.image[..., 0] / 255.0)
    ]
    np.testing.assert_allclose(centers[0], centers[1], atol=0.1)


def test_the_plane_of_constant_depth_is_where_the_axes_meet() -> None:
    assert VIEWS.cameras is not None
    cameras = [VIEWS.cameras[i].to(dtype=torch.float64) for i in range(len(VIEWS))]
    assert plane_depth(cameras, cameras[4]) == pytest.approx(4, abs=0.1)
    assert plane_depth(cameras[:1], cameras[0]) == 1


class Words(HTMLParser):
    """Tags and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_escapes_everything_and_asks_nobody(root: Path, tmp_path: Path) -> None:
    run(root, output=tmp_path / "out", baseline="nearest")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scenes = [json.loads((tmp_path / "out" / "scenes" / "scene-000.json").read_text())]
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    scenes[0]["name"] = report["scenes"][0]["name"] = evil
    scenes[0]["pictures"]["worst"]["name"] = evil
    scenes[0]["pictures"]["best"]["photo"] = "javascript:alert(1)"
    report["settings"]["root"] = report["lpips_reason"] = report["protocol"][0] = evil
    page = report_html(report, scenes)
    assert "<script>alert" not in page
    assert "javascript:" not in page
    parser = Words()
    parser.feed(page)
    assert [tag for tag, _ in parser.tags].count("script") == 1
    assert all(a["src"].startswith("data:image/jpeg;base64,") for t, a in parser.tags if t == "img")
    assert not any(name.startswith("on") for _, attrs in parser.tags for name in attrs)
    policy = next(a["content"] for t, a in parser.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert re.search(r"https?://", page) is None
    assert page.count("data:image") >= 3


def test_nothing_leaks_a_path(root: Path, tmp_path: Path) -> None:
    run(root, output=tmp_path / "out", baseline="nearest")
    for file in (tmp_path / "out").rglob("*.*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_error_colours() -> None:
    flat = np.zeros((1, 4, 3), np.float32)
    shifted = flat + np.array([0, 0.1, 0.25, 0.9], np.float32)[None, :, None]
    np.testing.assert_allclose(error_map(shifted, flat)[0, [0, 3]], [[0, 0, 0], [1, 1, 1]], atol=1e-6)


def test_compare_tells_noise_from_a_difference(tmp_path: Path) -> None:
    root = scene_folders(tmp_path / "data", 7)
    run(root, output=tmp_path / "model", baseline="constant-depth")
    run(root, output=tmp_path / "nearest", baseline="nearest")
    found = compare(tmp_path / "nearest", tmp_path / "model")
    row = found["metrics"]["psnr"]
    assert row["difference"] > 5
    assert row["b_better_in"] == 7
    assert row["chance"] == pytest.approx(2 / 128)
    assert row["verdict"] == "B is better, by more than noise"
    assert found["metrics"]["lpips"]["verdict"] == "not measured in both"
    assert compare(tmp_path / "model", tmp_path / "model")["metrics"]["psnr"]["verdict"] == "no difference"
    file = tmp_path / "model" / "report.json"
    report = json.loads(file.read_text())
    report["scenes"] = report["scenes"][:3]
    file.write_text(json.dumps(report))
    few = compare(tmp_path / "nearest", tmp_path / "model")
    assert "too few" in few["metrics"]["psnr"]["verdict"]
    assert few["only_in_a"] == ["scene-003", "scene-004", "scene-005", "scene-006"]


def test_compare_refuses_what_cannot_be_compared(root: Path, tmp_path: Path) -> None:
    run(root, output=tmp_path / "a", baseline="nearest")
    run(root, output=tmp_path / "b", baseline="nearest", size=(60, 110))
    with pytest.raises(InputError, match="different protocols"):
        compare(tmp_path / "a", tmp_path / "b")
    assert compare(tmp_path / "a", tmp_path / "b", across_protocols=True)["scenes"] == 1
    with pytest.raises(InputError, match="no report"):
        compare(tmp_path / "a", tmp_path)
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    (tmp_path / "b" / "report.json").write_text(json.dumps({**report, "status": "unfinished"}))
    with pytest.raises(InputError, match="unfinished"):
        compare(tmp_path / "a", tmp_path / "b")
