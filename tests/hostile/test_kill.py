"""kill -9 at random moments: nothing half-written under the output's name, and the same command succeeds afterwards.

``DA3GS_KILLS=20`` tries as often; 3 times otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from da3gs.formats import load_gaussians
from da3gs.formats.media.video import open_video
from da3gs.pipeline.check import check
from tests.evaluation_scenes import scene_folders
from tests.hostile.right.layouts import photo
from tests.hostile.runner import snapshot
from tests.small_scene import small_scene_folder

pytestmark = [pytest.mark.slow, pytest.mark.process]
TRIES = int(os.environ.get("DA3GS_KILLS", "3"))
SECONDS = 1200


def _photos(folder: Path) -> None:
    for i in range(3):
        photo(folder / "photos" / f"{i}.jpg", i)


def _scene(folder: Path) -> None:
    small_scene_folder(folder / "s.scene")


def _data(folder: Path) -> None:
    scene_folders(folder / "data", 3)


def _whole_scene(path: Path) -> None:
    assert check(path, device="cpu", backend="cpu").passed


def _whole_video(path: Path) -> None:
    with open_video(path) as video:
        assert sum(1 for _ in video.frames()) == 24


def _whole_report(path: Path) -> None:
    for file in path.rglob("*.json"):
        json.loads(file.read_text())
    if (path / "report.json").exists():
        report = json.loads((path / "report.json").read_text())
        assert (report["status"], len(report["scenes"])) in (("finished", 3), ("unfinished", 0))


def _whole_run(path: Path) -> None:
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            assert len(list(weights.keys())) > 10


@dataclasses.dataclass(frozen=True)
class Killed:
    """A command that is killed."""

    name: str
    """Of the command."""
    prepare: Callable[[Path], None]
    """Fills the working folder."""
    words: str
    """After ``da3gs``."""
    output: str
    """What it writes."""
    whole: Callable[[Path], object]
    """Fails where an output is not as a finished one has to be."""
    continues: str | None = None
    """What to add where the output is there already; None: ``--overwrite``."""


COMMANDS = [
    Killed("reconstruct", _photos, "reconstruct photos -o out --poses predicted --resolution 84", "out", _whole_scene),
    Killed("refine", _scene, "refine s.scene -o out --steps 4", "out", _whole_scene),
    Killed("render", _scene, "render s.scene -o out.mp4 --seconds 1 --size 96x64", "out.mp4", _whole_video),
    Killed("export", _scene, "export s.scene -o out.sog", "out.sog", load_gaussians),
    Killed(
        "evaluate", _data, "evaluate data --split every:3 --baseline nearest --resolution 112 -o out", "out",
        _whole_report, continues="",
    ),
    Killed("train", _scene, "train smoke -o out --steps 3", "out", _whole_run, continues="--resume"),
]  # fmt: skip


def start(words: str, folder: Path) -> subprocess.Popen[str]:
    """The command in a session of its own."""
    environment = {**os.environ, "HOME": str(folder.parent), "TMPDIR": str(folder.parent / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-m", "da3gs", *words.split(), "--quiet"], cwd=folder, start_new_session=True, text=True,
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(words: str, folder: Path) -> float:
    """The seconds of the command, which has to succeed."""
    before = time.monotonic()
    process = start(words, folder)
    try:
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, err[-2000:]
    return time.monotonic() - before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_killed_at_random_moments(command: Killed, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    command.prepare(folder)
    given = snapshot(folder)
    finished(command.words, folder)
    output = folder / command.output
    command.whole(output)
    after = set(snapshot(folder)) - set(given)
    again = command.words + (" --overwrite" if command.continues is None else f" {command.continues}")
    os.rename(output, folder.parent / "done-first")
    seconds, killed = finished(command.words, folder), 0  # of a run that has nothing to compile
    moments = random.Random(0)
    for _ in range(TRIES):
        if output.is_dir() and moments.random() < 0.5:
            os.rename(output, folder.parent / f"done-{time.monotonic_ns()}")
        process = start(again if output.exists() else command.words, folder)
        time.sleep(moments.uniform(0.2, 1.0) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if output.exists():
            command.whole(output)
        now = snapshot(folder)
        assert {name: now.get(name) for name in given} == given, "inputs are as they were"
    assert killed >= TRIES / 3, f"{killed} of {TRIES} were still at work when they were killed"
    there = output.exists()
    finished(again if there else command.words, folder)
    command.whole(output)
    left = {name for name in set(snapshot(folder)) - set(given) if not name.startswith(command.output)}
    assert left <= {name for name in after if not name.startswith(command.output)}, "leftovers go with the next run"
