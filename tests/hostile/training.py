"""Training that cannot begin: wrong configs, broken scenes, folders that are in use."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.hostile.case import Case

BENCHMARK = "032dee9fb0a8bc1b90871dc5fe950080d0bcd3caf166447f44e60ca50ac04ec7"
POSE = [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
TINY = (
    'preset = "smoke"\nsteps = 2\ntextures = 11\nvalidate_steps = 0\n'
    "stages = [{steps = 1, sizes = [[28, 42, 1.0]], pixels = 2400, views = [2, 2]}]\n"
)


def scene(folder: Path, name: str, photos: int, frames: int) -> None:
    """A DL3DV-style scene that lists more frames than it has photos."""
    place = folder / "data" / name
    (place / "images").mkdir(parents=True)
    for i in range(photos):
        Image.linear_gradient("L").convert("RGB").save(place / "images" / f"{i}.png")
    listed = [{"file_path": f"images/{i}.png", "transform_matrix": POSE} for i in range(frames)]
    content = {"fl_x": 200, "fl_y": 200, "cx": 128, "cy": 128, "w": 256, "h": 256, "frames": listed}
    (place / "transforms.json").write_text(json.dumps(content))


def case(name: str, words: str, prepare: Callable[[Path], object], expect: str) -> Case:
    """A run of a tiny config in a folder that ``prepare`` fills."""

    def build(folder: Path) -> list[str]:
        (folder / "tiny.toml").write_text(TINY)
        prepare(folder)
        return words.split()

    return Case(name, build, expect)


def text(name: str, content: str) -> Callable[[Path], object]:
    """A file."""
    return lambda folder: (folder / name).write_text(content)


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


def folder_of(name: str, *files: str) -> Callable[[Path], object]:
    """A folder with some files in it."""

    def prepare(folder: Path) -> None:
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_bytes(b"nothing")

    return prepare


def broken_scene(folder: Path) -> None:
    """A scene whose transforms.json is cut short."""
    scene(folder, "one", 3, 3)
    path = folder / "data" / "one" / "transforms.json"
    path.write_text(path.read_text()[:-40])


DATA = "train tiny.toml -o run --data data"
CASES = [
    case("toml-broken", "train bad.toml -o run", text("bad.toml", "steps = ["), "bad.toml is not TOML"),
    case("toml-missing", "train none.toml -o run", nothing, "cannot read none.toml"),
    case("toml-unknown-field", "train bad.toml -o run", text("bad.toml", "colour = 1"), "unknown field 'colour'"),
    case("toml-wrong-size", "train bad.toml -o run",
         text("bad.toml", TINY.replace("28", "30")), "multiples of 14"),
    case("setting-without-value", "train tiny.toml -o run --set steps", nothing, "is no NAME=VALUE"),
    case("model-unknown", "train tiny.toml -o run --model gpt", nothing, "model = 'gpt' cannot be trained"),
    case("model-nested", "train tiny.toml -o run --model da3nested-giant-large", nothing, "cannot be trained"),
    case("resume-without-run", "train tiny.toml -o run --resume", nothing, "holds no state.safetensors"),
    case("resume-broken-state", "train tiny.toml -o run --resume",
         folder_of("run", "state.safetensors"), "cannot resume from state.safetensors"),
    case("run-exists", "train tiny.toml -o run", folder_of("run", "state.safetensors"), "holds a run already"),
    case("init-unknown", "train tiny.toml -o run --init none.safetensors", nothing, "neither a model nor a file"),
    case("init-broken", "train tiny.toml -o run --init a.safetensors", text("a.safetensors", "x"), "cannot be read"),
    case("device-mps", "train tiny.toml -o run --device mps", nothing, "training runs on the CPU or on CUDA"),
    case("photos-missing", "train tiny.toml -o run --set photos=none", nothing, "photos = 'none' is no folder"),
    case("teacher-any-view", "train tiny.toml -o run --set teacher=da3gs-nano", nothing, "is no monocular model"),
    case("data-missing", DATA, nothing, "data does not exist"),
    case("data-empty", DATA, folder_of("data"), "holds neither scenes"),
    case("data-benchmark-only", DATA, functools.partial(scene, name=BENCHMARK, photos=3, frames=3),
         "only benchmark scenes"),
    case("data-scene-broken", DATA, broken_scene, "20 scenes in a row cannot be used.*not valid JSON"),
    case("data-photos-missing", DATA, functools.partial(scene, name="one", photos=1, frames=2),
         "20 scenes in a row cannot be used.*1.png is missing"),
    case("data-too-few-frames", DATA, functools.partial(scene, name="one", photos=1, frames=1),
         "fewer than the 2 that are asked for"),
    case("chunk-broken", "train tiny.toml -o run --data a.torch", text("a.torch", "x"),
         "a.torch is not a file that torch wrote"),
]  # fmt: skip
