"""What ``da3gs refine`` must refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Case
from tests.small_scene import small_scene_folder


def with_scene(text: str) -> Callable[[Path], list[str]]:
    """Arguments after ``refine s.scene``, a good scene."""

    def build(folder: Path) -> list[str]:
        small_scene_folder(folder / "s.scene")
        return ["refine", "s.scene", *text.split()]

    return build


def without_scene(folder: Path) -> list[str]:
    """A scene that is not there."""
    return ["refine", "nowhere", "-o", "t.scene"]


def bare_file(folder: Path) -> list[str]:
    """Splats without photos."""
    small_scene_folder(folder / "s.scene")
    return ["refine", "s.scene/scene.ply", "-o", "t.scene"]


CASES = [
    Case("no-scene", without_scene, "nowhere"),
    Case("bare-file", bare_file, r"scene\.ply"),
    Case("no-output", with_scene(""), "-o|--output"),
    Case("onto-itself", with_scene("-o s.scene --overwrite"), "input"),
    Case("seconds-zero", with_scene("-o t.scene --seconds 0"), "--seconds.*0"),
    Case("seconds-nan", with_scene("-o t.scene --seconds nan"), "--seconds.*nan"),
    Case("steps-zero", with_scene("-o t.scene --steps 0"), "--steps.*0"),
    Case("budget-negative", with_scene("-o t.scene --budget -3"), "--budget"),
    Case("holdout-unknown", with_scene("-o t.scene --steps 1 --holdout nobody"), "nobody"),
]
