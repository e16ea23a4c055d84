"""Device and backend of every command that draws: gsplat is called where asked for, and draws the CPU's picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs.cli import main
from da3gs.cli.demo import demo_photos
from da3gs.scene import load_scene
from tests.gsplat_twin import Twin, twin
from tests.small_scene import HEIGHT, WIDTH, small_scene

__all__ = ["twin"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scene, saved."""
    path = tmp_path_factory.mktemp("backend") / "small.scene"
    small_scene().save(path)
    return path


def ran(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """The JSON of a command."""
    assert main([*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_render(twin: Twin, folder: Path, tmp_path: Path) -> None:
    for backend in ("cpu", "gsplat"):
        out = tmp_path / f"{backend}.png"
        assert main(["render", str(folder), "-o", str(out), "--camera", "1", "--backend", backend, "--quiet"]) == 0
        assert bool(twin.calls) == (backend == "gsplat")
    call = twin.calls[-1]
    assert (call.splats, call.cameras, call.size, call.antialiased) == (300, (1,), (HEIGHT, WIDTH), False)
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / f"{backend}.png")) for backend in ("cpu", "gsplat")))


def test_check(twin: Twin, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = ran(capsys, "check", str(folder), "--backend", "cpu")
    assert not twin.calls
    assert ran(capsys, "check", str(folder), "--backend", "gsplat") == plain
    assert [call.size for call in twin.calls] == [(HEIGHT, WIDTH)] * 4


def test_export_merges_with_it(twin: Twin, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("export", str(folder), "--budget", "120")
    plain = ran(capsys, *words, "-o", str(tmp_path / "a.ply"), "--backend", "cpu")
    assert not twin.calls
    drawn = ran(capsys, *words, "-o", str(tmp_path / "b.ply"), "--backend", "gsplat")
    assert {call.splats for call in twin.calls} >= {300}
    assert drawn["budget"] == plain["budget"]


def test_refine(twin: Twin, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {}
    for backend in ("cpu", "gsplat"):
        out = tmp_path / f"{backend}.scene"
        words = ("refine", str(folder), "-o", str(out), "--steps", "3", "--backend", backend)
        figures[backend] = ran(capsys, *words)["refinement"]
        assert bool(twin.calls) == (backend == "gsplat")
    for key in ("kept", "splats_after", "psnr_before", "psnr_after"):
        assert figures["gsplat"][key] == pytest.approx(figures["cpu"][key], abs=0.01), key


def test_reconstruct(twin: Twin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = demo_photos()
    words = ("reconstruct", str(photos), "--poses", "given", "--resolution", "56", "--views", "2", "--refine", "0")
    plain = ran(capsys, *words, "-o", str(tmp_path / "a.scene"), "--backend", "cpu")
    assert not twin.calls
    drawn = ran(capsys, *words, "-o", str(tmp_path / "b.scene"), "--backend", "gsplat")
    assert twin.calls
    assert drawn["psnr_input"] == pytest.approx(plain["psnr_input"], abs=0.01)


def test_evaluate(twin: Twin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", str(demo_photos()), "--split", "every:4", "--resolution", "56")
    plain = ran(capsys, *words, "-o", str(tmp_path / "a"), "--backend", "cpu")
    assert not twin.calls
    drawn = ran(capsys, *words, "-o", str(tmp_path / "b"), "--backend", "gsplat")
    assert twin.calls
    assert drawn["mean"]["psnr"] == pytest.approx(plain["mean"]["psnr"], abs=0.01)


def test_viewer(twin: Twin, folder: Path) -> None:
    from da3gs_viewer.app import Viewer
    from da3gs_viewer.pictures import Look

    scene, pictures = load_scene(folder), []
    for backend in ("cpu", "gsplat"):
        with Viewer(scene, port=0, backend=backend) as viewer:
            pictures.append(viewer.artist.paint(scene.cameras[0], Look()))
            viewer.editor.merge(150)
        assert bool(twin.calls) == (backend == "gsplat")
    assert np.array_equal(*pictures)
    assert {call.splats for call in twin.calls} >= {300}


@pytest.mark.parametrize("command", ["view", "demo"])
def test_what_is_asked_for_reaches_the_viewer(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``view SCENE`` and ``demo --view`` hand device and backend on."""
    import da3gs.cli.view

    given: dict[str, Any] = {}
    monkeypatch.setattr("da3gs_viewer.app.view", lambda scene, **options: given.update(options))
    if command == "demo":
        import da3gs.cli.demo as demo

        (tmp_path / "photos").mkdir()  # a single photo is enough
        shutil.copy(demo_photos() / "desk_1.jpg", tmp_path / "photos")
        monkeypatch.setattr(demo, "demo_photos", lambda: tmp_path / "photos")
        words = ["demo", "-o", str(tmp_path / "d.scene"), "--view"]
    else:
        words = ["view", str(folder), "--no-browser", "--port", "0"]
    assert da3gs.cli.main([*words, "--backend", "cpu", "--device", "cpu"]) == 0
    assert (given["backend"], given["device"]) == ("cpu", "cpu")


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "a", "b", "--device", "cpu"),
        ("models", "list", "--threads", "1"),
        ("doctor", "--seed", "1"),
        ("render", "a", "-o", "b.png", "--seed", "1"),
        ("train", "nano", "-o", "r", "--backend", "cpu"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(words)) == 2
    assert words[-2] in capsys.readouterr().err


def test_gsplat_without_cuda_is_refused_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(folder), "-o", str(folder.parent / "x.png"), "--backend", "gsplat"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("da3gs: error: backend='gsplat' needs CUDA tensors, got cpu; use --device cuda")
    assert said.count("\n") == 1
