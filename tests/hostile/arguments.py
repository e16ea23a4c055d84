"""Arguments and outputs that cannot be: the command line's own cases."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.hostile.case import Case
from tests.small_scene import small_scene_folder


def words(text: str) -> Callable[[Path], list[str]]:
    """Arguments that need no file."""
    return lambda folder: text.split()


def photos(folder: Path, count: int = 2) -> Path:
    """A folder ``photos`` with pictures that are fine."""
    path = folder / "photos"
    path.mkdir()
    for number in range(count):
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(path / f"{number}.png")
    return path


def with_photos(text: str) -> Callable[[Path], list[str]]:
    """Arguments after ``reconstruct photos``."""

    def build(folder: Path) -> list[str]:
        photos(folder)
        return ["reconstruct", "photos", *text.split()]

    return build


def with_scene(text: str) -> Callable[[Path], list[str]]:
    """Arguments that name ``s.scene``, a good scene."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        return text.split()

    return build


def with_file(name: str, content: bytes, text: str) -> Callable[[Path], list[str]]:
    """Arguments that name a file of this content."""

    def build(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return text.split()

    return build


def foreign_folder(folder: Path) -> list[str]:
    """--overwrite on a folder that da3gs did not write."""
    photos(folder)
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.txt").write_text("five years of work")
    return ["reconstruct", "photos", "-o", "thesis", "--overwrite"]


def input_as_output(folder: Path) -> list[str]:
    """The photos' own folder as the scene."""
    photos(folder)
    return ["reconstruct", "photos", "-o", "photos", "--overwrite"]


def output_round_the_input(folder: Path) -> list[str]:
    """A scene folder that holds the photos."""
    small_scene_folder(folder / "s.scene")
    return ["reconstruct", "s.scene/images", "-o", "s.scene", "--overwrite"]


def output_through_a_link(folder: Path) -> list[str]:
    """A link to a scene as the output."""
    photos(folder)
    small_scene_folder(folder / "s.scene")
    os.symlink("s.scene", folder / "link.scene")
    return ["reconstruct", "photos", "-o", "link.scene", "--overwrite"]


def video_over_text(folder: Path) -> list[str]:
    """--overwrite on a file of another kind."""
    small_scene_folder(folder / "s.scene")
    (folder / "x.mp4").write_text("not a video")
    return ["render", "s.scene", "-o", "x.mp4", "--overwrite"]


def newline_name(folder: Path) -> list[str]:
    """A name that would make two lines of one."""
    return ["reconstruct", "a\nda3gs: error: b.jpg"]


def escape_name(folder: Path) -> list[str]:
    """A name that would colour the terminal."""
    return ["check", "\x1b[31mred.ply"]


CASES = [
    Case("unknown-command", words("reconstrukt photos"), "unknown command 'reconstrukt'"),
    Case("unknown-flag", words("reconstruct photos --modle x"), "--modle"),
    Case("flag-without-value", words("reconstruct photos -o"), "-o"),
    Case("no-input", words("reconstruct"), "nothing to reconstruct"),
    Case("input-missing", words("reconstruct nowhere.jpg"), "nowhere.jpg"),
    Case("input-with-newline", newline_name, "error: b.jpg"),
    Case("input-with-escape", escape_name, r"x1b\[31mred"),
    Case("seed-negative", with_photos("--seed -1"), "--seed -1"),
    Case("seed-too-large", with_photos("--seed 9223372036854775808"), "--seed 9223372036854775808"),
    Case("seed-no-number", with_photos("--seed lucky"), "--seed.*'lucky'"),
    Case("threads-zero", with_photos("--threads 0"), "--threads 0"),
    Case("device-unknown", with_photos("--device tpu"), "'tpu'"),
    Case("poses-unknown", with_photos("--poses guessed"), "'guessed'"),
    Case("views-zero", with_photos("--views 0"), "--views.*0"),
    Case("views-no-number", with_photos("--views few"), "--views.*'few'"),
    Case("resolution-tiny", with_photos("--resolution 1"), "--resolution.*1"),
    Case("resolution-huge", with_photos("--resolution 100000"), "--resolution.*100000"),
    Case("fps-not-a-number", with_photos("--fps nan"), "--fps.*nan"),
    Case("opacity-out-of-range", with_photos("--min-opacity 2"), "opacity.*2"),
    Case("holdout-every-one", with_photos("--holdout every:1"), "--holdout.*every:1"),
    Case("holdout-unknown-name", with_photos("--holdout nobody"), "nobody"),
    Case("holdout-everything", with_photos("--holdout 0,1"), "holdout"),
    Case("model-unknown", with_photos("--model da3-colossal"), "da3-colossal"),
    Case("model-not-here", with_photos("--model da3-giant"), "da3-giant"),
    Case("model-empty-folder", with_photos("--model photos"), "photos"),
    Case("given-poses-missing", with_photos("--poses given"), "poses"),
    Case("masks-missing", with_photos("--masks nowhere"), "nowhere"),
    Case("output-parent-missing", with_photos("-o no/where"), "does not exist"),
    Case("output-exists", with_photos("-o photos"), "photos.*exists"),
    Case("output-foreign-folder", foreign_folder, "thesis"),
    Case("output-is-input", input_as_output, "input"),
    Case("output-holds-input", output_round_the_input, "input"),
    Case("output-is-a-link", output_through_a_link, "link"),
    Case("render-suffix", with_scene("render s.scene -o x.mov"), r"x\.mov.*\.mp4"),
    Case("render-over-text", video_over_text, r"x\.mp4"),
    Case("render-size", with_scene("render s.scene -o x.png --size 0x0"), "--size"),
    Case("render-size-huge", with_scene("render s.scene -o x.png --size 16000x16000"), "16000"),
    Case("render-path", with_scene("render s.scene -o x.mp4 --path moonwalk"), "moonwalk"),
    Case("render-camera", with_scene("render s.scene -o x.png --camera 99"), "99"),
    Case("render-background", with_scene("render s.scene -o x.png --background red"), "'red'"),
    Case("render-no-seconds", with_scene("render s.scene -o x.mp4 --seconds 0"), "0 seconds"),
    Case("render-fps-nan", with_scene("render s.scene -o x.mp4 --fps nan"), "nan"),
    Case("render-no-scene", words("render nowhere -o x.mp4"), "nowhere"),
    Case("export-suffix", with_scene("export s.scene -o x.obj"), r"x\.obj.*\.spz"),
    Case("export-degree", with_scene("export s.scene -o x.ply --sh-degree 9"), "--sh-degree.*9"),
    Case("export-opacity", with_scene("export s.scene -o x.ply --min-opacity nan"), "--min-opacity.*nan"),
    Case("export-frame", with_scene("export s.scene -o x.ply --frame blender"), "'blender'"),
    Case("export-cameras-of-splats", with_scene("export s.scene/scene.ply -o cameras"), "scene folder"),
    Case("view-port-out-of-range", with_scene("view s.scene --port 65536"), "65536"),
    Case("view-foreign-host", with_scene("view s.scene --host 192.0.2.1 --no-browser"), r"192\.0\.2\.1"),
    Case("view-no-scene", words("view nowhere.ply --no-browser --port 0"), r"nowhere\.ply"),
    Case("models-unknown", words("models show nobody"), "nobody"),
    Case("models-no-action", words("models sell"), "'sell'"),
    Case("train-no-preset", words("train nothing -o run"), "nothing"),
]
