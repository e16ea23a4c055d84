"""What is seen is what is exported: sliders, undo, merging, pictures, the link."""

from __future__ import annotations

import dataclasses
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import da3gs
from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity
from da3gs.rendering import render
from da3gs.splats.pruning import NO_LIMITS, Limits
from da3gs_viewer import Viewer
from da3gs_viewer.editor import Editor
from da3gs_viewer.painter import camera_at
from da3gs_viewer.panels.clean_panel import NEUTRAL
from da3gs_viewer.panels.export_panel import exported
from da3gs_viewer.panels.panel import camera_link
from da3gs_viewer.pictures import MODES, Artist, Look, eight_bits
from tests.small_scene import small_scene

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer(small_scene(), port=0) as viewer:
        yield viewer


def random_state(viewer: Viewer, seed: int) -> None:
    """Some of the sliders somewhere, as if by hand."""
    chance, handles = random.Random(seed), viewer.panel.clean.handles
    choices: dict[str, Any] = {
        "opacity": chance.uniform(0, 0.5), "confidence": chance.uniform(0, 60), "edge": chance.uniform(0.05, 0.4),
        "sky": True, "size": chance.uniform(0, 20), "outliers": chance.randrange(1, 20), "crop": True,
        "photos": chance.choice(["0", "1,2", "3"]),
    }  # fmt: skip
    viewer.editor.reset()
    viewer.panel.clean.low.value = tuple(chance.uniform(-1.2, -0.3) for _ in range(3))
    viewer.panel.clean.high.value = tuple(chance.uniform(0.3, 1.2) for _ in range(3))
    for name, value in choices.items():
        if name in handles:
            handles[name].value = value if chance.random() < 0.4 else NEUTRAL[name]
    viewer.editor.clean(viewer.panel.clean.limits())


@pytest.mark.parametrize("seed", range(20))
def test_the_exported_file_is_what_the_server_draws(viewer: Viewer, seed: int, tmp_path: Path) -> None:
    random_state(viewer, seed)
    home = viewer.home
    camera = camera_at(home.position, home.wxyz, home.fov, 96, 72)
    if not len(viewer.editor.gaussians):
        with pytest.raises(InputError):
            exported(viewer, ".ply")
        return
    name, content = exported(viewer, ".ply")
    (tmp_path / name).write_bytes(content)
    read = da3gs.load_gaussians(tmp_path / name)
    assert len(read) == len(viewer.editor.gaussians)
    assert f"**{len(read):,}** of" in viewer.panel.clean._counts.content
    assert len(content) == pytest.approx(viewer.editor.megabytes * 1e6, abs=2000)
    shown = viewer.artist.paint(camera, Look()).astype(float)
    away = float(np.mean((shown - eight_bits(render(read, camera).color)) ** 2))
    assert away < 255**2 / 10 ** (50 / 10), "50 dB"


def test_a_saved_scene_tells_what_was_done(viewer: Viewer, tmp_path: Path) -> None:
    viewer.editor.reset()
    viewer.editor.clean(dataclasses.replace(NO_LIMITS, min_opacity=0.5))
    name, content = exported(viewer, "scene folder (.zip)")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    scene = da3gs.load_scene(tmp_path / name.removesuffix(".zip"))
    assert len(scene.gaussians) == len(viewer.editor.gaussians) < 300
    assert scene.provenance is not None
    assert len(scene.provenance.view) == len(scene.gaussians)
    assert scene.record["cleaning"]["limits"]["min_opacity"] == 0.5
    viewer.editor.reset()


def test_undo_goes_back_step_by_step() -> None:
    editor = Editor(small_scene())
    heard: list[bool] = []
    editor.on_change(heard.append)
    editor.clean(dataclasses.replace(NO_LIMITS, min_opacity=0.5))
    few = len(editor.gaussians)
    editor.clean(dataclasses.replace(NO_LIMITS, min_opacity=0.5))  # the same again is no step
    editor.clean(dataclasses.replace(NO_LIMITS, min_opacity=0.8))
    assert len(editor.gaussians) < few < 300
    editor.reset()
    assert len(editor.gaussians) == 300
    assert editor.undo()
    assert editor.undo()
    assert len(editor.gaussians) == few
    assert editor.undo()
    assert not editor.undo()
    assert heard == [False] * 6
    with pytest.raises(InputError):
        Editor(small_scene().gaussians).clean(Limits())


def test_merging_begins_anew_and_can_be_undone() -> None:
    editor = Editor(small_scene())
    editor.clean(dataclasses.replace(NO_LIMITS, min_opacity=0.2))
    cleaned = len(editor.gaussians)
    editor.merge(cleaned // 2)
    assert 0 < len(editor.gaussians) <= cleaned // 2
    assert editor.state.limits == NO_LIMITS
    steps = editor.saved().record["cleaning"]["before"]
    assert steps[0]["cleaned"]["limits"]["min_opacity"] == 0.2
    assert steps[1]["merged"]["before"] == cleaned
    editor.undo()
    assert len(editor.gaussians) == cleaned
    with pytest.raises(InputError, match="bare file"):
        Editor(small_scene().gaussians).merge(10)


def test_a_moved_world_looks_the_same(tmp_path: Path) -> None:
    editor = Editor(small_scene())
    artist, cameras = Artist(editor), editor.cameras
    assert cameras is not None
    before = artist.paint(cameras[0], Look())
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)
    editor.place(Similarity(scale=torch.tensor(2.0).double(), rotation=turn, translation=torch.ones(3).double()))
    assert editor.cameras is not None
    after = artist.paint(editor.cameras[0], Look())
    assert float(np.abs(after.astype(int) - before).mean()) < 0.5
    editor.saved().save(tmp_path / "moved.scene")
    again = da3gs.load_scene(tmp_path / "moved.scene")
    torch.testing.assert_close(again.cameras.world_to_cam, editor.cameras.world_to_cam, atol=1e-5, rtol=0)
    assert again.record["frame"]["placed"]["scale"] == 2.0
    assert again.record["frame"]["vertical_axis"] == [0.0, -1.0, 0.0]
    editor.undo()
    assert editor.cameras is cameras


def test_every_mode_draws() -> None:
    editor = Editor(small_scene())
    artist = Artist(editor)
    assert editor.cameras is not None
    drawn = {mode: artist.paint(editor.cameras[0], Look(mode=mode)) for mode in artist.modes}
    assert set(drawn) <= set(MODES)
    assert {"colour", "depth", "normal", "alpha", "coverage", "error"} <= set(drawn)
    for mode, picture in drawn.items():
        assert picture.shape == (42, 56, 3), mode
        assert picture.std() > 1, mode
    assert artist.paint(editor.cameras[0], Look(background=(1.0, 0.0, 0.0)))[0, 0, 0] > 200
    assert Artist(Editor(small_scene().gaussians)).modes == ("colour", "depth", "normal", "alpha")


def test_the_photo_beside_the_render() -> None:
    scene = small_scene()
    editor = Editor(scene)
    artist, own = Artist(editor), scene.cameras[0]
    photo = eight_bits(scene.views.images[0].movedim(0, -1))
    plain = artist.paint(own, Look())
    wiped = artist.paint(own, Look(compare="wipe", wipe=0.5))
    assert np.array_equal(wiped[:, :26], photo[:, :26]), "left the photo, pixel by pixel"
    assert np.array_equal(wiped[:, 30:], plain[:, 30:]), "right the render"
    beside = artist.paint(own, Look(compare="beside"))
    assert beside.shape == plain.shape
    elsewhere = scene.cameras[2]
    assert np.array_equal(artist.paint(elsewhere, Look(compare="wipe")), artist.paint(elsewhere, Look()))
    wide = dataclasses.replace(own.cropped(-10, -20, 62, 96))
    warped = artist.photo_from(wide, 0)
    assert warped is not None
    assert np.array_equal(warped[0][10:52, 20:76], photo), "a wider camera sees the same photo in its middle"
    assert not warped[1][:10].any()


def test_photos_are_listed_worst_first() -> None:
    scene = small_scene()
    scene = dataclasses.replace(scene, record={**scene.record, "psnr": {"input": [20.0, 15.5, 30.0, 18.0]}})
    with Viewer(scene, port=0) as viewer:
        assert viewer.panel.photos.order == [1, 3, 0, 2]
        assert "15.5 dB" in viewer.panel.photos.photo.options[0]


def test_the_link_holds_the_camera(viewer: Viewer) -> None:
    class Camera:
        position, look_at, up_direction, fov = (1.0, 2.0, 3.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0), 0.8

    link = camera_link(viewer.url, Camera)
    assert link.startswith(viewer.url + "/?initialCameraPosition=1,2,3&initialCameraLookAt=0,0,1&")
    assert camera_link("http://h:1/?token=x", Camera).startswith("http://h:1/?token=x&initialCameraPosition=")
