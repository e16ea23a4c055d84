"""``da3gs evaluate`` and ``da3gs compare`` as commands: files, exit codes, killed runs, several workers."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from da3gs.cli import main
from da3gs.evaluation.jobs import run_workers
from tests.evaluation_scenes import chunk_entry, scene_folders, split_file

COMMAND = [sys.executable, "-m", "da3gs", "evaluate"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scenes and a split."""
    folder = tmp_path_factory.mktemp("evaluation")
    scene_folders(folder / "data", 8)
    split_file(folder / "split.json", [f"scene-{i:03d}" for i in range(8)])
    return folder


def words(data: Path, output: Path, *flags: str) -> list[str]:
    return [str(data / "data"), "--split", str(data / "split.json"), "--resolution", "112", "--threads", "1",
            "-o", str(output), *flags]  # fmt: skip


def figures(output: Path) -> dict[str, list[float]]:
    """PSNR of every view."""
    report = json.loads((output / "report.json").read_text())
    assert report["status"] == "finished"
    return {scene["name"]: [view["psnr"] for view in scene["views"]] for scene in report["scenes"]}


def alike(a: dict[str, list[float]], b: dict[str, list[float]]) -> bool:
    return a.keys() == b.keys() and all(abs(x - y) <= 0.01 for k in a for x, y in zip(a[k], b[k], strict=True))


def test_the_report_has_the_promised_shape(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["evaluate", *words(data, output, "--baseline", "nearest", "--json", "--save-images")]) == 0
    printed = json.loads(capsys.readouterr().out)
    report = json.loads((output / "report.json").read_text())
    assert printed["mean"] == report["mean"]
    assert {"settings", "versions", "mean", "median", "confidence_95", "protocol", "scenes"} <= set(report)
    assert set(report["mean"]) == {"psnr", "ssim", "lpips"}
    assert {"da3gs", "torch", "git_commit"} <= set(report["versions"])
    scene = report["scenes"][0]
    assert {"name", "status", "psnr", "ssim", "lpips", "lpips_reason", "views"} <= set(scene)
    assert {"index", "psnr", "ssim", "lpips"} <= set(scene["views"][0])
    names = {p.name for p in (output / "images" / "scene-000").iterdir()}
    assert names == {f"{kind}_{n:05d}.png" for kind in ("render", "target") for n in range(3)}
    assert len(list((output / "scenes").iterdir())) == 8
    assert (output / "report.html").read_text().startswith("<!doctype html>")
    assert (output / "report.csv").read_text().count("\n") == 1 + 8 * 3
    low, high = report["confidence_95"]["psnr"]
    assert low < report["mean"]["psnr"] < high
    assert (output / "report.csv").read_text().splitlines()[0].endswith(",splats,megabytes,fit_seconds")


def test_exit_codes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    nearest = ("--baseline", "nearest")
    assert main(["evaluate", *words(data, output, *nearest, "--min-psnr", "90")]) == 1
    assert "FAILED: psnr" in capsys.readouterr().out
    assert main(["evaluate", *words(data, output, *nearest, "--min-psnr", "5")]) == 0, "finished scenes are kept"
    assert main(["evaluate", *words(data, output, *nearest, "--size", "60x100")]) == 2
    assert "other settings (size: None, now [60, 100])" in capsys.readouterr().err
    assert main(["compare", str(output), str(output)]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["compare", str(output), str(tmp_path)]) == 2
    broken = scene_folders(tmp_path / "data", 2)
    for photo in (broken / "scene-001" / "nerfstudio" / "images").iterdir():
        photo.write_bytes(b"")
    assert main(["evaluate", str(broken), "--split", "every:3", *nearest, "-o", str(tmp_path / "half")]) == 1
    assert "failed: scene-001" in capsys.readouterr().out


def test_bad_photos_cost_their_frames_and_never_other_scenes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, of another shape, a bomb, or no picture at all: left out with the reason, or that scene fails alone."""
    root = scene_folders(tmp_path / "data", 5)
    photos = [root / f"scene-{i:03d}" / "nerfstudio" / "images" for i in range(5)]
    files = sorted(photos[0].iterdir())
    files[1].unlink()
    Image.new("RGB", (60, 84)).save(files[2])
    sorted(photos[1].iterdir())[4].write_bytes(png_bomb())
    for photo in photos[2].iterdir():
        Image.new("RGB", (84, 112)).save(photo)
    for photo in photos[3].iterdir():
        photo.unlink()
    split = split_file(tmp_path / "split.json", [f"scene-{i:03d}" for i in range(5)])
    output = tmp_path / "out"
    arguments = [str(root), "--split", str(split), "--baseline", "nearest", "--resolution", "112", "-o", str(output)]
    assert main(["evaluate", *arguments]) == 1
    report = json.loads((output / "report.json").read_text())
    scenes = {scene["name"]: scene for scene in report["scenes"]}
    assert [scene["status"] for scene in scenes.values()] == ["done", "done", "failed", "failed", "done"]
    assert [(left["index"], left["role"]) for left in scenes["scene-000"]["dropped"]] == [(1, "target"), (2, "target")]
    assert "its camera is for 112x84" in scenes["scene-000"]["dropped"][1]["reason"]
    assert "megapixels" in scenes["scene-001"]["dropped"][0]["reason"]
    assert [view["index"] for view in scenes["scene-000"]["views"]] == [6]
    printed = capsys.readouterr()
    assert "failed: scene-003" in printed.out
    assert "Traceback" not in printed.err
    assert sorted(p.name for p in (output / "scenes").iterdir()) == [f"scene-00{i}.json" for i in (0, 1, 4)]


def png_bomb() -> bytes:
    """A hundred bytes that say they are 60000 pixels wide and high."""
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def test_a_bomb_in_a_chunk_is_left_out(tmp_path: Path) -> None:
    entry, images = chunk_entry(), []
    for i, image in enumerate(chunk_entry()["images"]):  # type: ignore[arg-type, var-annotated]
        images.append(torch.frombuffer(bytearray(png_bomb()), dtype=torch.uint8) if i == 2 else image)
    (tmp_path / "data").mkdir()
    torch.save([{**entry, "images": images}], tmp_path / "data" / "000000.torch")
    arguments = [str(tmp_path / "data"), "--split", "every:2", "--baseline", "nearest", "-o", str(tmp_path / "out")]
    assert main(["evaluate", *arguments, "--quiet"]) == 0
    scene = json.loads((tmp_path / "out" / "report.json").read_text())["scenes"][0]
    assert [(left["index"], left["role"]) for left in scene["dropped"]] == [(2, "target")]


@pytest.mark.process
def test_a_run_killed_at_any_moment_goes_on(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    nearest = ("--baseline", "nearest")
    process = subprocess.Popen(COMMAND + words(data, output, *nearest), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := list((output / "scenes").glob("*.json"))):
        assert process.poll() is None or time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {p.name: p.stat().st_mtime_ns for p in (output / "scenes").glob("scene-*.json")}
    assert found
    assert main(["evaluate", *words(data, output, *nearest, "--quiet")]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in (output / "scenes").iterdir()}
    assert len(after) == 8
    assert {name: after[name] for name in before} == before, "finished scenes are not computed again"
    assert main(["evaluate", *words(data, tmp_path / "whole", *nearest, "--quiet")]) == 0
    assert figures(output) == figures(tmp_path / "whole")


def test_what_is_left_of_a_run_killed_at_its_start_stands_in_no_ones_way(data: Path, tmp_path: Path) -> None:
    """Killed before there was a report: nothing but temporary folders, and an empty folder if it was the user's."""
    output = tmp_path / "out"
    (output / ".report.json.abc.999999999.tmp").mkdir(parents=True)
    (tmp_path / ".out.abc.999999999.tmp" / "out").mkdir(parents=True)
    flags = ("--baseline", "nearest", "--quiet", "--scenes", "scene-000,scene-001")
    split = words(data, output, *flags)
    whole = json.loads((data / "split.json").read_text())
    (tmp_path / "split.json").write_text(json.dumps({key: whole[key] for key in ("scene-000", "scene-001")}))
    split[split.index("--split") + 1] = str(tmp_path / "split.json")
    assert main(["evaluate", *split]) == 0
    assert sorted(p.name for p in output.iterdir()) == ["report.csv", "report.html", "report.json", "scenes"]


def test_a_scene_file_cut_short_is_computed_again(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["evaluate", *words(data, output, "--baseline", "nearest", "--quiet")]) == 0
    whole = figures(output)
    file = output / "scenes" / "scene-003.json"
    file.write_text(file.read_text()[:200])
    assert main(["evaluate", *words(data, output, "--baseline", "nearest", "--quiet")]) == 0
    assert figures(output) == whole


@pytest.mark.slow
@pytest.mark.process
def test_a_run_killed_again_and_again_ends_with_the_same_figures(data: Path, tmp_path: Path) -> None:
    """Killed after 1, 1.4, 1.8 ... seconds, with two workers, until a run is left alone long enough to finish."""
    output, flags = tmp_path / "out", ("--baseline", "depth-warp", "--workers", "2", "--quiet")
    command = COMMAND + words(data, output, *flags)
    kept: dict[str, int] = {}
    patience, kills = 1.0, 0
    while True:
        try:
            assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=patience).returncode == 0
            break
        except subprocess.TimeoutExpired:  # by SIGKILL
            kills, patience = kills + 1, patience + (0.4 if patience < 12 else 8)
        files = {p.name: p.stat().st_mtime_ns for p in (output / "scenes").glob("scene-*.json")}
        assert {name: files[name] for name in kept} == kept, "finished scenes are not computed again"
        kept = files
        assert kills < 60
    assert kills > 2
    assert main(["evaluate", *words(data, tmp_path / "whole", "--baseline", "depth-warp", "--quiet")]) == 0
    assert alike(figures(output), figures(tmp_path / "whole"))
    assert sorted(p.name for p in output.iterdir()) == ["report.csv", "report.html", "report.json", "scenes"]


@pytest.mark.slow
@pytest.mark.process
def test_two_workers_give_the_figures_of_one(data: Path, model: Path, tmp_path: Path) -> None:
    flags = ("--model", str(model))
    assert main(["evaluate", *words(data, tmp_path / "one", *flags, "--quiet")]) == 0
    assert main(["evaluate", *words(data, tmp_path / "two", *flags, "--quiet", "--workers", "2")]) == 0
    assert alike(figures(tmp_path / "one"), figures(tmp_path / "two"))


def jobs_of(data: Path) -> list[Any]:
    """The jobs of the eight scenes with a fast baseline."""
    from da3gs.evaluation.baselines import Method
    from da3gs.evaluation.jobs import Job
    from da3gs.evaluation.protocol import Protocol

    protocol = Protocol(size=None, network=None, resolution=112, undistort=True, poses="given", targets="given")
    return [
        Job(
            task="views", root=str(data / "data"), key=f"scene-{i:03d}", context=(0, 4, 8), target=(1, 2, 6),
            protocol=protocol, method=Method(kind="constant-depth"),
        )
        for i in range(8)
    ]  # fmt: skip


@pytest.mark.process
def test_workers_that_are_killed_are_replaced(data: Path) -> None:
    """The first process is killed while it starts, with its scene in hand; another one does that scene."""
    from da3gs.evaluation.jobs import run_job

    born: list[int] = []

    def kill_the_first(pid: int) -> None:
        born.append(pid)
        if len(born) == 1:
            os.kill(pid, signal.SIGKILL)

    jobs = jobs_of(data)
    results = {r.record["name"]: r.record for r in run_workers(jobs, 2, threads=1, born=kill_the_first)}
    assert len(born) == 3
    assert {r["status"] for r in results.values()} == {"done"}
    expected = {job.key: run_job(job).record for job in jobs}
    for key, record in results.items():
        assert abs(record["psnr"] - expected[key]["psnr"]) <= 0.01


@pytest.mark.process
def test_a_scene_that_kills_its_process_every_time_fails_alone(data: Path) -> None:
    killed: list[int] = []

    def kill_all(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    results = list(run_workers(jobs_of(data)[:1], 1, threads=1, born=kill_all))
    assert len(killed) == 3
    assert results[0].record["status"] == "failed"
    assert "died 3 times" in results[0].record["reason"]


@pytest.mark.slow
@pytest.mark.process
def test_a_thousand_scenes(tmp_path: Path) -> None:
    """The bundled model on a thousand scenes, two workers; the page embeds only the worst and best views."""
    import shutil

    root = scene_folders(tmp_path / "data", 1)
    for i in range(1, 1000):
        shutil.copytree(root / "scene-000", root / f"scene-{i:03d}", copy_function=os.link)
    split = split_file(tmp_path / "split.json", [f"scene-{i:03d}" for i in range(1000)], target=[1])
    output = tmp_path / "out"
    arguments = ["evaluate", str(root), "--split", str(split), "--resolution", "56", "--threads", "1"]
    assert main([*arguments, "--workers", "2", "-o", str(output), "--quiet"]) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["counts"]["done"] == 1000
    assert len({scene["psnr"] for scene in report["scenes"]}) == 1
    assert (output / "report.html").stat().st_size < 3_000_000


_RAY = """
import sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
output, lose = Path(sys.argv[-1]), sys.argv[1] == "lose"
def watch():
    while not list((output / "scenes").glob("scene-*.json")):
        time.sleep(0.02)
    cluster.remove_node(second, allow_graceful=False)
if lose:
    threading.Thread(target=watch, daemon=True).start()
from da3gs.cli import main
code = main(["evaluate", *sys.argv[2:-1], "--address", cluster.address, "-o", sys.argv[-1]])
cluster.shutdown()
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["keep", "lose"])
@pytest.mark.process
def test_a_local_ray_cluster_gives_the_same_figures(data: Path, tmp_path: Path, fate: str) -> None:
    """Two nodes on this machine, one of which goes while scenes run; skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="ray is not installed; it comes with the extra cluster")
    arguments = [str(data / "data"), "--split", str(data / "split.json"), "--resolution", "112", "--threads", "1"]
    command = [sys.executable, "-c", _RAY, fate, *arguments, "--baseline", "constant-depth", str(tmp_path / "ray")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-1000:]
    assert "trusts everyone" in done.stdout
    assert main(["evaluate", *words(data, tmp_path / "here", "--baseline", "constant-depth", "--quiet")]) == 0
    assert alike(figures(tmp_path / "ray"), figures(tmp_path / "here"))
