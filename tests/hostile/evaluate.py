"""What ``da3gs evaluate`` and ``da3gs compare`` must refuse."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.evaluation_scenes import chunk_entry, scene_folders
from tests.hostile.case import Case

GOOD = {"scene-000": {"context": [0, 4, 8], "target": [1, 2]}}


def with_split(content: Any, *flags: str) -> Callable[[Path], list[str]]:
    """A good root and a split."""

    def build(folder: Path) -> list[str]:
        scene_folders(folder / "data", 1)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "split.json").write_text(text)
        return ["evaluate", "data", "--split", "split.json", "--baseline", "nearest", "-o", "out", *flags]

    return build


def with_flags(text: str, *, output: str = " -o out") -> Callable[[Path], list[str]]:
    """A good root and these flags."""

    def build(folder: Path) -> list[str]:
        scene_folders(folder / "data", 1)
        return ["evaluate", "data", *(text + output).split()]

    return build


def with_transforms(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], list[str]]:
    """A root whose transforms.json was changed."""

    def build(folder: Path) -> list[str]:
        file = scene_folders(folder / "data", 1) / "scene-000" / "nerfstudio" / "transforms.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]

    return build


def with_chunk(entry: Callable[[dict[str, Any]], Any], *, index: Any = None) -> Callable[[Path], list[str]]:
    """A root of one chunk, whose only entry was changed."""

    def build(folder: Path) -> list[str]:
        (folder / "data").mkdir()
        torch.save(entry(chunk_entry()), folder / "data" / "000000.torch")
        if index is not None:
            (folder / "data" / "index.json").write_text(json.dumps(index))
        return ["evaluate", "data", "--split", "every:2", "--baseline", "nearest", "-o", "out"]

    return build


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("__import__('os').mkdir('hacked')",)


def chunk_with_code(folder: Path) -> list[str]:
    """A chunk whose pickle runs code."""
    (folder / "data").mkdir()
    torch.save([{**chunk_entry(), "url": _Code()}], folder / "data" / "000000.torch")
    return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]


def chunk_of_bare_pickle(folder: Path) -> list[str]:
    """No zip at all."""
    (folder / "data").mkdir()
    (folder / "data" / "000000.torch").write_bytes(pickle.dumps(_Code()))
    return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]


def chunk_bomb(folder: Path) -> list[str]:
    """A chunk whose members are compressed: a few kilobytes that want to be gigabytes."""
    (folder / "data").mkdir()
    good = folder / "data" / "good.torch"
    torch.save([chunk_entry()], good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(folder / "data" / "000000.torch", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED)
    good.unlink()
    return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]


def with_layout(change: Callable[[Path], object], *flags: str) -> Callable[[Path], list[str]]:
    """DTU's layout with one scene of two photos, in which something was changed."""

    def build(folder: Path) -> list[str]:
        data = folder / "data"
        (data / "Rectified" / "scan7").mkdir(parents=True)
        (data / "Cameras").mkdir()
        for i in range(2):
            Image.new("RGB", (112, 84), (90, 60 * i, 30)).save(
                data / "Rectified" / "scan7" / f"rect_{i + 1:03d}_3_r5000.png"
            )
            pose = f"1 0 0 {i}\n0 1 0 0\n0 0 1 0\n0 0 0 1"
            camera = f"extrinsic\n{pose}\n\nintrinsic\n100 0 56\n0 100 42\n0 0 1\n\n425 2.5\n"
            (data / "Cameras" / f"{i:08d}_cam.txt").write_text(camera)
        change(data)
        return ["evaluate", "data", "--task", *(flags or ("pose",)), "-o", "out"]

    return build


def rewritten(name: str, old: str, new: str) -> Callable[[Path], object]:
    """A file of a layout with other words."""
    return lambda data: (data / name).write_text((data / name).read_text().replace(old, new))


def seven_scenes(pose: str) -> Callable[[Path], list[str]]:
    """7Scenes with one frame of this pose."""

    def build(folder: Path) -> list[str]:
        place = folder / "data" / "chess" / "seq-01"
        place.mkdir(parents=True)
        Image.new("RGB", (112, 84), (90, 60, 30)).save(place / "frame-000000.color.png")
        (place / "frame-000000.pose.txt").write_text(pose)
        return ["evaluate", "data", "--task", "pose", "-o", "out"]

    return build


def link_out(data: Path) -> None:
    """A photo that is a link to a file outside the data."""
    photo = data / "Rectified" / "scan7" / "rect_001_3_r5000.png"
    photo.unlink()
    photo.symlink_to("/etc/passwd")


def foreign_folder(folder: Path) -> list[str]:
    """REPORT_DIR is somebody's folder."""
    scene_folders(folder / "data", 1)
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("mine")
    return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]


def other_settings(folder: Path) -> list[str]:
    """REPORT_DIR holds a report made with other settings."""
    scene_folders(folder / "data", 1)
    (folder / "out").mkdir()
    report = {"format": "da3gs report", "format_version": 1, "settings": {"task": "depth"}, "scenes": []}
    (folder / "out" / "report.json").write_text(json.dumps(report))
    return ["evaluate", "data", "--baseline", "nearest", "-o", "out"]


def no_reports(folder: Path) -> list[str]:
    """Nothing to compare."""
    return ["compare", "a", "b"]


def broken_report(folder: Path) -> list[str]:
    """A report that is none."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "report.json").write_text('{"format": "da3gs report", "format_version": 1, "scenes": 3}')
    return ["compare", "a", "b"]


def changed(**fields: Any) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """A chunk of one entry with other fields."""
    return lambda entry: [{**entry, **fields}]


def mirrored_chunk(entry: dict[str, Any]) -> dict[str, Any]:
    """A camera that is no rotation."""
    cameras = entry["cameras"].clone()
    cameras[0, 6] *= -1
    return {**entry, "cameras": cameras}


def photo_outside(content: dict[str, Any]) -> None:
    """A photo's path climbs out."""
    content["frames"][0]["file_path"] = "../../../secret.png"


def mirrored(content: dict[str, Any]) -> None:
    """A pose that is no rotation."""
    content["frames"][0]["transform_matrix"][0][0] *= -1


SPLITS = [
    Case("split-empty", with_split({}), "empty split"),
    Case("split-no-json", with_split("{"), r"split\.json is not valid JSON"),
    Case("split-deep", with_split("[" * 100_000), r"split\.json"),
    Case("split-unknown-scene", with_split({**GOOD, "nobody": GOOD["scene-000"]}), "1 scenes that data does not have"),
    Case("split-out-of-range", with_split({"scene-000": {"context": [0, 99], "target": [1]}}), "99 .*out of range"),
    Case("split-no-targets", with_split({"scene-000": {"context": [0], "target": []}}), "empty"),
    Case("split-all-context", with_split({"scene-000": {"context": [0, 1], "target": [0, 1]}}), "all 2 targets"),
    Case("split-climbing-key", with_split({"../scene-000": GOOD["scene-000"]}), "no scene key"),
    Case("split-absolute-key", with_split({"/etc": GOOD["scene-000"]}), "no scene key"),
    Case("split-huge-index", with_split({"scene-000": {"context": [0], "target": [10**30]}}), "no frame's position"),
    Case("split-nan", with_split('{"scene-000": {"context": [NaN], "target": [1]}}'), "nan|NaN"),
    Case("split-unknown-rule", with_flags("--split sometimes"), "--split"),
    Case("scenes-unknown", with_split(GOOD, "--scenes", "nobody"), "--scenes"),
]

CHUNKS = [
    Case("chunk-code", chunk_with_code, r"000000\.torch"),
    Case("chunk-bare-pickle", chunk_of_bare_pickle, r"000000\.torch"),
    Case("chunk-bomb", chunk_bomb, r"000000\.torch"),
    Case("chunk-with-function", with_chunk(changed(images=[print] * 9)), r"000000\.torch"),
    Case("chunk-float-images", with_chunk(changed(images=[torch.zeros(9)] * 9)), r"000000\.torch"),
    Case("chunk-mirrored", with_chunk(lambda entry: [mirrored_chunk(entry)]), r"000000\.torch"),
    Case("chunk-empty", with_chunk(lambda entry: []), r"000000\.torch|neither"),
    Case("chunk-climbing-key", with_chunk(changed(key="../../escape")), r"000000\.torch"),
    Case("chunk-short-cameras", with_chunk(changed(cameras=torch.zeros(2, 18))), r"000000\.torch"),
    Case("chunk-nan-cameras", with_chunk(changed(cameras=torch.full((9, 18), torch.nan))), r"000000\.torch"),
    Case("chunk-no-images", with_chunk(changed(images=[])), r"000000\.torch"),
    Case("chunk-index-climbs", with_chunk(lambda entry: [entry], index={"scene-000": "../secret.torch"}), "secret"),
    Case("chunk-index-lies", with_chunk(lambda entry: [entry], index={"nobody": "000000.torch"}), "nobody"),
]

CAMERA = "Cameras/00000000_cam.txt"
LAYOUTS = [
    Case("dtu-flat-camera", with_layout(rewritten(CAMERA, "1 0 0 0\n", "0 0 0 0\n")), "no rotation"),
    Case("dtu-mirrored-camera", with_layout(rewritten(CAMERA, "1 0 0 0\n", "-1 0 0 0\n")), "mirrors"),
    Case("dtu-camera-words", with_layout(rewritten(CAMERA, "100", "many")), "MVSNet"),
    Case("dtu-no-focal", with_layout(rewritten(CAMERA, "100 0 56", "0 0 56")), "no camera has"),
    Case("dtu-nan-camera", with_layout(rewritten(CAMERA, "100 0 56", "nan 0 56")), "no camera has"),
    Case("dtu-camera-missing", with_layout(lambda data: (data / CAMERA).unlink()), r"00000000_cam\.txt"),
    Case("dtu-photo-link", with_layout(link_out), "leads out"),
    Case("dtu-no-depth", with_layout(lambda data: None, "depth"), "no true depth"),
    Case("dtu-no-surface", with_layout(lambda data: None, "points"), "no true surface"),
    Case("dtu-number", with_layout(lambda data: (data / "Rectified/scan7/rect_001_3_r5000.png").rename(
        data / "Rectified/scan7/rect_one_3_r5000.png")), "no number"),
    Case("dtu-scene-name", with_layout(lambda data: (data / "Rectified/scan7").rename(
        data / "Rectified/scan 7")), "must be named"),
    Case("dtu-align-targets", with_layout(lambda data: None, "pose", "--align-targets"), "--align-targets"),
    Case("7scenes-flat-pose", seven_scenes("0 " * 16), "no rotation"),
    Case("7scenes-nan-pose", seven_scenes("nan " * 16), "numbers"),
    Case("7scenes-short-pose", seven_scenes("1 0 0"), "16 were expected"),
    Case("7scenes-one-frame", seven_scenes("1 0 0 0  0 1 0 0  0 0 1 0  0 0 0 1"), "between frames"),
]  # fmt: skip

REST = [
    Case("no-root", lambda folder: ["evaluate", "nowhere", "-o", "out"], "nowhere"),
    Case("no-output", with_flags("--baseline nearest", output=""), "-o|--output"),
    Case("output-parent", with_flags("--baseline nearest", output=" -o no/such/out"), "does not exist"),
    Case("foreign-folder", foreign_folder, "other things than a report"),
    Case("other-settings", other_settings, "other settings"),
    Case("path-climbs", with_transforms(photo_outside), "leads out"),
    Case("pose-mirrored", with_transforms(mirrored), "rotation|transform"),
    Case("no-frames", with_transforms(lambda content: content.update(frames=[])), "frames"),
    Case("baseline-unknown", with_flags("--baseline magic"), "--baseline"),
    Case("baseline-folder", with_flags("--baseline splats:nowhere"), "no folder"),
    Case("size-words", with_flags("--size big"), "--size"),
    Case("size-huge", with_flags("--size 99999x99999"), "--size"),
    Case("workers-none", with_flags("--workers 0 --baseline nearest"), "--workers"),
    Case("context-none", with_flags("--context 0"), "--context"),
    Case("refine-negative", with_flags("--refine -1"), "--refine"),
    Case("trunk-missing", with_flags("--baseline nearest --lpips-trunk no.pth"), "--lpips-trunk"),
    Case("model-missing", with_flags("--model nobody.safetensors"), "nobody"),
    Case("depth-without-truth", with_flags("--task depth"), "no true depth"),
    Case("layout-wrong", with_flags("--task pose --dataset dtu"), "--dataset dtu"),
    Case("min-psnr-nan", with_flags("--min-psnr nan"), "--min-psnr"),
    Case("compare-nothing", no_reports, "report"),
    Case("compare-broken", broken_report, "no report"),
]
