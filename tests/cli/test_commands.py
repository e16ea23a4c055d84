"""Each command once: what it writes, prints and returns."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3gs.cli import main
from da3gs.cli._scenes import finished_pieces
from da3gs.errors import InputError

TINY = ("--resolution", "84", "--quiet")


def run_json(capfd: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    """The object that a command prints with --json; its status has to be 0."""
    assert main([*map(str, words), "--json"]) == 0
    out, _ = capfd.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def refusal(capfd: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line of a command that ends with 2."""
    assert main([str(word) for word in words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("da3gs: error: ")
    assert err.count("\n") == 1
    return err


def test_reconstruct_keeps_the_contract(
    photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = run_json(
        capfd, "reconstruct", photos, "--model", model, "-o", tmp_path / "s", "--holdout", "every:3",
        "--poses", "predicted", *TINY,
    )  # fmt: skip
    assert facts["scene"] == str(tmp_path / "s")
    assert facts["views"] == 2
    assert facts["splats"] > 1000
    assert facts["licence"] == "Apache-2.0"
    assert facts["poses"] == "predicted"
    unknown = {"placed": "predicted", "inliers": None, "reprojection_error": None}
    assert facts["cameras"] == [{"photo": name, **unknown} for name in ("a", "b", "c")]
    assert facts["dropped"] == {}
    assert facts["holdout_poses"] == "aligned"
    assert facts["psnr_holdout"] > 5
    assert facts["check"]["passed"] is True
    assert facts["check"]["psnr_file_vs_memory"] > 60
    assert facts["seconds"]["total"] > 0
    assert facts["peak_memory_mb"] > 10
    assert {"model", "psnr_input"} <= set(facts)
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert {"scene.json", "scene.ply", "transforms.json", "cameras.json", "reference.npz", "preview.png"} <= names


def test_photos_that_nothing_ties_become_a_scene_of_one(
    photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = run_json(
        capfd, "reconstruct", photos, "--model", model, "-o", tmp_path / "s", "--holdout", "every:3", *TINY
    )
    assert facts["views"] == 1
    assert [camera["placed"] for camera in facts["cameras"]] == ["predicted"]
    assert facts["dropped"] == {"nothing ties it to the photo that is shown, which stands alone": 2}
    assert facts["psnr_holdout"] is None
    assert facts["check"]["passed"] is True


def test_reconstruct_without_output_takes_the_next_name(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "my photos")
    monkeypatch.chdir(tmp_path)
    for expected in ("my-photos.scene", "my-photos-2.scene"):
        assert main(["reconstruct", "my photos", "--model", str(model), *TINY]) == 0
        out, _ = capfd.readouterr()
        assert out.startswith(f"{expected}: ")
        assert "passed" in out
        assert (tmp_path / expected / "scene.json").is_file()


def test_dry_run_writes_nothing(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = run_json(capfd, "reconstruct", photos, "--model", model, "--dry-run", *TINY)
    assert planned["views"] == ["a", "b", "c"]
    assert planned["memory_mb"] > 0
    assert list(tmp_path.iterdir()) == []


def test_reconstruct_looks_at_the_output_first(
    photos: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "small.scene" in refusal(capfd, "reconstruct", photos, "--model", "no such model", "-o", scene)
    assert "input" in refusal(capfd, "reconstruct", scene / "images", "-o", scene, "--overwrite")
    assert "does not exist" in refusal(capfd, "reconstruct", photos, "-o", tmp_path / "no" / "where")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.process
def test_a_disk_that_is_too_small(photos: Path, model: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the middle."""
    words = [sys.executable, "-m", "da3gs", "reconstruct", str(photos), "--model", str(model), "-o", "s", *TINY]
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 100; exec {shlex.join(words)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("da3gs: error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.process
def test_an_interrupted_run_leaves_nothing(number: signal.Signals, photos: Path, model: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "da3gs", "reconstruct", str(photos), "--model", str(model), "-o", "s"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--views", "many"), "--views takes a whole number or auto, got 'many'"),
        (("--views", "0"), "--views"),
        (("--resolution", "9999999"), "--resolution"),
        (("--fps", "nan"), "--fps"),
        (("--holdout", "every:1"), "--holdout"),
        (("--device", "cuda"), "cuda"),
        (("--min-opacity", "7"), "opacity"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_reconstruct_refuses_flags(
    flags: tuple[str, ...], said: str, photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if flags[1] == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has CUDA")
    line = refusal(capfd, "reconstruct", photos, "--model", model, "-o", tmp_path / "s", *flags)
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_flag_costs_nothing_of_a_killed_run(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it had finished stays; what a run made that ends with an error goes."""
    finished = tmp_path / ".s.partial" / "chunk_0.safetensors"
    finished.parent.mkdir()
    finished.write_bytes(b"hours of work")
    for flags in (("--model", "no such model"), ("--resolution", "7"), ("--masks", str(tmp_path / "gone"))):
        refusal(capfd, "reconstruct", photos, "-o", tmp_path / "s", *flags)
        assert finished.read_bytes() == b"hours of work"

    def failing(path: Path) -> None:
        with finished_pieces(path) as partial:
            partial.mkdir(exist_ok=True)
            (partial / "chunk_1.safetensors").touch()
            (partial / ".chunk_2.tmp").mkdir()
            raise InputError("no memory")

    for path in (tmp_path / "s", tmp_path / "new"):
        with pytest.raises(InputError):
            failing(path)
    assert [*tmp_path.rglob("*")] == [finished.parent, finished]
    with finished_pieces(tmp_path / "s"):
        pass
    assert not finished.parent.exists()


def test_check(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = run_json(capfd, "check", scene)
    assert report["passed"] is True
    assert report["nonfinite"] == 0
    assert report["psnr"] > 60
    assert len(report["bounds"]) == 2
    assert main(["check", str(scene), "--min-psnr", "99.9"]) == 1
    assert "FAILED" in capfd.readouterr().out
    bare = run_json(capfd, "check", scene / "scene.ply")
    assert bare["psnr"] is None
    assert bare["splats"] == report["splats"]
    assert run_json(capfd, "check", scene / "scene.ply", "--against", scene)["psnr"] == pytest.approx(report["psnr"])


def test_render_a_picture_and_a_folder(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture = tmp_path / "x.png"
    assert run_json(capfd, "render", scene, "-o", picture, "--camera", "1", "--size", "40x30")["frames"] == 1
    with Image.open(picture) as image:
        assert image.size == (40, 30)
    run_json(capfd, "render", scene, "-o", tmp_path / "depth", "--path", "inputs", "--depth")
    files = sorted(path.name for path in (tmp_path / "depth").iterdir())
    assert files[0] == "frame_00000.npy"
    assert np.load(tmp_path / "depth" / files[0]).dtype == np.float32
    run_json(capfd, "render", scene / "scene.ply", "-o", tmp_path / "bare.png")


def test_render_a_video(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "x.mp4"
    assert run_json(capfd, "render", scene, "-o", video, "--seconds", "0.5", "--fps", "8")["frames"] == 4
    assert video.read_bytes()[4:8] == b"ftyp"
    assert "exists already" in refusal(capfd, "render", scene, "-o", video)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--size", "40"), "--size takes WIDTHxHEIGHT such as 960x540, got '40'"),
        (("--size", "0x40"), "out of range"),
        (("--background", "1,1"), "--background takes three numbers"),
        (("--background", "1,1,nan"), "0 to 1"),
        (("--camera", "nobody"), "nobody"),
        (("--path", "moonwalk"), "moonwalk"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_render_refuses_flags(
    flags: tuple[str, ...], said: str, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capfd, "render", scene, "-o", tmp_path / "x.png", *flags)
    assert not (tmp_path / "x.png").exists()


def test_render_refuses_unknown_suffixes(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ".mp4" in refusal(capfd, "render", scene, "-o", tmp_path / "x.mov")


def test_export(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    splats = run_json(capfd, "check", scene)["splats"]
    for suffix in (".ply", ".compressed.ply", ".splat", ".spz"):
        output = tmp_path / f"x{suffix}"
        assert run_json(capfd, "export", scene, "-o", output)["written"] == splats
        assert run_json(capfd, "check", output, "--against", scene, "--min-psnr", "20")["splats"] == splats
    few = tmp_path / "few.ply"
    assert run_json(capfd, "export", scene, "-o", few, "--min-opacity", "0.5", "--sh-degree", "0")["written"] < splats
    half = (tmp_path / "x.ply").stat().st_size / 2e6
    small = run_json(capfd, "export", scene, "-o", tmp_path / "small.ply", "--max-mb", f"{half:.3f}")
    assert (tmp_path / "small.ply").stat().st_size == round(small["megabytes"] * 1e6) <= 1e6 * half + 1000
    assert small["budget"]["before"] == splats > small["budget"]["after"] == small["written"]
    run_json(capfd, "export", scene, "-o", tmp_path / "cameras")
    assert {"cameras.json", "transforms.json", "sparse"} <= {path.name for path in (tmp_path / "cameras").iterdir()}
    assert ".ply" in refusal(capfd, "export", scene, "-o", tmp_path / "x.obj")


def test_models(capfd: pytest.CaptureFixture[str]) -> None:
    everything = run_json(capfd, "models")["models"]
    assert {"da3gs-nano", "da3-base", "da3-giant"} <= {card["name"] for card in everything}
    commercial = run_json(capfd, "models", "list", "--commercial")["models"]
    assert all(card["commercial"] for card in commercial)
    assert len(commercial) < len(everything)
    assert run_json(capfd, "models", "show", "da3-large")["licence"] == "CC-BY-NC-4.0"
    assert "da3gs-nano" in refusal(capfd, "models", "show", "nobody")
    assert "needs a NAME" in refusal(capfd, "models", "show")


def test_doctor(capfd: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    report = json.loads(capfd.readouterr().out)
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert {status[name] for name in ("python", "torch", "numba", "video", "heic")} == {"ok"}
    assert all(check["mend"] for check in report["checks"] if check["status"] != "ok")


@pytest.mark.process
def test_view_serves_until_interrupted(scene: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "da3gs", "view", str(scene), "--port", "0", "--no-browser", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(url, timeout=20) as page:
            assert b"<html" in page.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err


def test_view_refuses_addresses(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 is in use" in refusal(capfd, "view", scene, "--port", port)
    assert "no address of this machine" in refusal(capfd, "view", scene, "--host", "192.0.2.1")
    assert "out of range" in refusal(capfd, "view", scene, "--port", "70000")
    assert "--max-files is a number above 0, got 0" in refusal(capfd, "view", "--max-files", "0", "--port", "0")


@pytest.mark.slow
def test_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        facts = run_json(capfd, "demo", "-o", tmp_path / "demo.scene", "--overwrite")
        assert facts["check"]["passed"] is True
        assert facts["frames"] >= 48
        assert facts["poses"] == "colmap"
        assert facts["views"] == 8
        assert facts["cameras_off"]["rotation_degrees"] < 0.5
        assert facts["cameras_off"]["center_share"] < 0.02
        assert (tmp_path / "demo.mp4").stat().st_size > 10_000
