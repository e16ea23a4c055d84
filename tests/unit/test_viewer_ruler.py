"""The ruler, the picker that it shares, and the row of next things."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from da3gs.errors import InputError
from da3gs_viewer import Viewer
from da3gs_viewer.editor import Editor
from da3gs_viewer.panels.level import measured
from da3gs_viewer.panels.next_panel import MOST_KEYS, NEIGHBOURS
from da3gs_viewer.panels.ruler import unit, written
from tests.browser.wall import wall_scene
from tests.small_scene import small_gaussians, small_scene
from tests.unit.test_refine import noisy_scene

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class FakeClient:
    """A browser as far as panels talk to it: one callback for clicks, cards and files."""

    def __init__(self, scene: Any) -> None:
        self.clicked: list[Any] = []
        self.cards: list[str] = []
        self.files: list[tuple[str, bytes]] = []
        self.client_id = 999
        self.scene = SimpleNamespace(
            on_click=lambda: self.clicked.append,
            remove_click_callback=self.clicked.remove,
            add_icosphere=scene.add_icosphere,
        )

    def add_notification(self, title: str, body: str, **_: Any) -> Any:
        self.cards.append(title)
        return SimpleNamespace(remove=lambda: None)

    def send_file_download(self, name: str, content: bytes, **_: Any) -> None:
        self.files.append((name, content))

    def click(self, x: float, y: float) -> None:
        """On the wall, which is 4 away, at these coordinates."""
        [callback] = self.clicked
        callback(SimpleNamespace(ray_origin=(0.0, 0.0, 0.0), ray_direction=(x / 4, y / 4, 1.0)))


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer(wall_scene(), port=0) as viewer:
        yield viewer


def test_two_clicks_are_a_length(viewer: Viewer) -> None:
    ruler, client = viewer.panel.ruler, FakeClient(viewer.server.scene)
    ruler.measure(client)
    client.click(-0.6, 0.0)
    assert "other end" in ruler.said.content
    client.click(0.6, 0.0)
    assert ruler.lengths == [pytest.approx(1.2, abs=0.03)]
    assert "units" in ruler.said.content
    client.click(0.0, 0.3)
    client.click(0.0, -0.3)
    assert len(ruler.lengths) == 2
    ruler.back()
    assert len(ruler.lengths) == 1
    client.clicked[0](SimpleNamespace(ray_origin=(0.0, 0.0, 0.0), ray_direction=(0.0, 0.0, -1.0)))
    assert client.cards == ["Nothing there"]
    ruler.measure(client)
    assert not client.clicked, "the button again stops"
    assert len(ruler.points) == 2, "half a line goes"
    viewer.editor.place(measured(torch.tensor([[0.0, 0, 0], [1, 0, 0]]), 2.0))
    assert ruler.lengths == [pytest.approx(2.4, abs=0.06)], "it grows with the scene"
    viewer.editor.undo()
    assert ruler.lengths == [pytest.approx(1.2, abs=0.03)]
    ruler.clear()
    assert ruler.points == []


def test_one_panel_has_the_clicks(viewer: Viewer) -> None:
    panel, client = viewer.panel, FakeClient(viewer.server.scene)
    panel.ruler.measure(client)
    panel.level._pick(client, 2)
    client.click(-0.5, 0.0)
    assert panel.ruler.points == []
    assert "1 of 2" in panel.level.said.content
    panel.ruler.measure(client)
    assert "1 of 2" not in panel.level.said.content
    client.click(0.5, 0.0)
    assert len(panel.ruler.points) == 1
    assert viewer.editor.state.placement is None


def test_units() -> None:
    scene = small_scene()
    assert unit(Editor(scene)) == "units"
    metric = Editor(dataclasses.replace(scene, record={**scene.record, "frame": {"unit": "metre"}}))
    assert unit(metric) == "m"
    metric.place(measured(torch.tensor([[0.0, 0, 0], [1, 0, 0]]), 3.0))
    assert unit(metric) == "units", "nobody knows whether they meant metres"
    assert unit(Editor(small_gaussians())) == "units"
    assert written(0.0004567, "m") == "0.000457 m"


def test_the_row_of_next_things(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, client = viewer.panel, FakeClient(viewer.server.scene)
    panel.next.go("Clean", client)
    assert panel.clean.handles["outliers"].value == NEIGHBOURS
    played: list[Any] = []
    monkeypatch.setattr(panel.path, "play", played.append)
    panel.next.go("Path", client)
    assert 2 <= len(panel.path.flight) <= MOST_KEYS
    assert played == [client]
    panel.next.go("Share", client)
    assert client.files[0][0].endswith(".html")
    assert b"<canvas" in client.files[0][1]
    panel.next.go("Export", client)
    assert client.files[1][1].startswith(b"ply")
    monkeypatch.setattr(viewer.editor, "refine", lambda seconds: {"kept": False})
    panel.next.go("Refine", client)
    assert client.cards[-1] == "Nothing changed"


def test_refining_in_the_viewer_can_be_taken_back() -> None:
    scene, _ = noisy_scene()
    editor = Editor(scene)
    record = editor.refine(6.0)
    assert record["kept"]
    assert editor.gaussians is not scene.gaussians
    assert editor.saved().record["cleaning"]["before"][-1]["refined"]["kept"]
    assert editor.undo()
    assert torch.equal(editor.gaussians.means, scene.gaussians.means)
    with pytest.raises(InputError, match="bare file"):
        Editor(small_gaussians()).refine(1.0)
