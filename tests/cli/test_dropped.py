"""Nothing is passed over in silence: every reason is on stdout, in the JSON and in scene.json."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from da3gs.cli import main
from da3gs.cli._summary import summary, summary_lines
from da3gs.photos import load_photos
from da3gs.photos.accounts import counted, recorded
from da3gs.pipeline.check import check
from da3gs.scene import load_scene
from tests.hostile.right.layouts import HEIGHT, WIDTH, photo
from tests.small_scene import small_scene


def crowded(folder: Path) -> Path:
    """Photos, and as many kinds of files that become no view as a folder can hold."""
    for i in range(3):
        photo(folder / f"{i}.jpg", i)
        photo(folder / "masks" / f"{i}.png", 20 + i)
        photo(folder / "normals" / f"{i}.png", 30 + i)
        photo(folder / f"{i}_depth.png", 40 + i)
    shutil.copy(folder / "0.jpg", folder / "0 copy.jpg")
    photo(folder / "lower" / "1.jpg", 1, height=HEIGHT // 2, width=WIDTH // 2)
    photo(folder / "@eaDir" / "0.jpg" / "SYNOPHOTO_THUMB_M.jpg", 50)
    photo(folder / "thumbnail.jpg", 51, height=40, width=60)
    photo(folder / "preview.jpg", 52)
    photo(folder / "icon.png", 53, height=20, width=20)
    photo(folder / "strip.png", 54, height=32, width=32 * 22)
    (folder / "empty.jpg").touch()
    (folder / "cut.jpg").write_bytes((folder / "0.jpg").read_bytes()[:400])
    (folder / "text.jpg").write_text("not a picture")
    broken = bytearray(photo(folder / "broken.png", 55).read_bytes())
    broken[broken.index(b"IDAT") + 200] ^= 1
    (folder / "broken.png").write_bytes(broken)
    Image.new("RGBA", (96, 64)).save(folder / "nothing.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 900, np.uint16)).save(folder / "2.png")
    (folder / "0.nef").write_bytes(b"MM\0*" + bytes(60))
    (folder / "sky.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(20))
    (folder / "clip.mp4").write_bytes(bytes(40))
    (folder / "notes.txt").touch()
    (folder / ".DS_Store").touch()
    os.symlink(folder, folder / "round")
    os.symlink(folder / "gone", folder / "gone.jpg")
    os.symlink("/", folder / "out")
    return folder


def told_everywhere(wanted: dict[str, int], folder: Path, facts: dict[str, Any]) -> None:
    """In the JSON, in what is printed for people, and in scene.json."""
    assert facts["dropped"] == wanted
    text = "\n".join(summary_lines(load_scene(folder, device="cpu"), facts))
    entries = json.loads((folder / "scene.json").read_text())["views"]["dropped"]
    for reason, count in wanted.items():
        of_reason = [entry for entry in entries if entry.get("kind", entry["reason"]) == reason]
        assert sum(entry.get("count", 1) for entry in of_reason) == count, reason
        told = of_reason[0]["reason"] if len(of_reason) == 1 else reason
        assert f"left out {count}: {told} (" in text, (reason, text)


def test_every_reason_is_told(tmp_path: Path) -> None:
    """By the record, the JSON and the lines of a scene."""
    dropped = load_photos(crowded(tmp_path / "crowded"), resolution=84).dropped
    assert len(counted(dropped)) >= 15, counted(dropped)
    record = {
        "model": {"name": "da3gs-nano", "licence": "Apache-2.0"}, "poses": {"source": "given", "cameras": []},
        "views": {"kept": [], "dropped": recorded(dropped)}, "input": "folder", "frame": {"metric": False},
        "psnr": {"input_mean": 30.0, "holdout_mean": None, "holdout_poses": None}, "seconds": {"total": 1.0},
        "cleaned": {},
    }  # fmt: skip
    dataclasses.replace(small_scene(), record=record).save(tmp_path / "a")
    loaded = load_scene(tmp_path / "a", device="cpu")
    told_everywhere(counted(dropped), tmp_path / "a", summary(loaded, tmp_path / "a", check(tmp_path / "a"), {}))


@pytest.mark.slow
def test_every_reason_is_told_by_the_command(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = crowded(tmp_path / "crowded")
    wanted = counted(load_photos(source, resolution=84).dropped)
    flags = ["--model", str(model), "--poses", "predicted", "--resolution", "84", "--refine", "0", "--quiet"]
    assert main(["reconstruct", str(source), *flags, "-o", str(tmp_path / "a"), "--json"]) == 0
    told_everywhere(wanted, tmp_path / "a", json.loads(capfd.readouterr().out))
