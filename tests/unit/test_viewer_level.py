"""Levelling and scaling by clicked points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.geometry.similarity import Similarity
from da3gs_viewer.editor import Editor
from da3gs_viewer.flight import Flight, Key
from da3gs_viewer.panels.level import flipped, levelled, measured
from da3gs_viewer.panels.picking import hit
from da3gs_viewer.pictures import Artist
from tests.browser.wall import wall_scene
from tests.small_scene import small_scene


def test_three_points_become_the_ground() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        points, above = torch.randn(3, 3, generator=generator).double(), torch.randn(3, generator=generator).double()
        similarity = levelled(points, above)
        moved = similarity.apply(points)
        assert float(moved[:, 1].max() - moved[:, 1].min()) < 1e-9, "level"
        there = similarity.apply(above[None])[0]
        torch.testing.assert_close(there, above)
        assert float(there[1]) < float(moved[0, 1]), "above is where y is less"
        assert float(torch.det(similarity.rotation)) == pytest.approx(1)
    with pytest.raises(InputError, match="one line"):
        levelled(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), torch.ones(3))


def test_two_points_and_a_length() -> None:
    points = torch.tensor([[1.0, 2, 3], [1, 2, 7]])
    moved = measured(points, 2.0).apply(points.double())
    assert float((moved[1] - moved[0]).norm()) == pytest.approx(2)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError):
            measured(points, wrong)
    with pytest.raises(InputError):
        measured(points[[0, 0]], 1.0)


def test_a_click_meets_the_wall() -> None:
    artist = Artist(Editor(wall_scene()))
    point = hit(artist, np.zeros(3), np.array([0.1, -0.05, 1.0]))
    assert point is not None
    np.testing.assert_allclose(point.numpy(), [0.4, -0.2, 4.0], atol=0.03)
    assert hit(artist, np.zeros(3), np.array([0.0, 0.0, -1.0])) is None


def test_every_move_can_be_taken_back_and_keys_go_along() -> None:
    editor, flight = Editor(small_scene()), Flight()
    start = Key(position=np.array([0.0, 0.1, -2.0]), wxyz=np.array([1.0, 0, 0, 0]), fov=0.8)
    flight.add(start)

    def follow(moved: bool) -> None:
        if moved and editor.last_move is not None:
            flight.moved(editor.last_move)

    editor.on_change(follow)
    editor.place(flipped(torch.zeros(3)))
    assert flight.keys[0].position.tolist() == pytest.approx([0.0, -0.1, -2.0])
    editor.place(measured(torch.tensor([[0.0, 0, 0], [1, 0, 0]]), 3.0))
    assert flight.keys[0].position.tolist() == pytest.approx([0.0, -0.3, -6.0])
    both = editor.state.placement
    assert both is not None
    torch.testing.assert_close(
        both.apply(torch.tensor([[0.0, 0.1, -2.0]]).double())[0].numpy(), flight.keys[0].position
    )
    editor.undo()
    assert flight.keys[0].position.tolist() == pytest.approx([0.0, -0.1, -2.0])
    editor.reset()
    assert flight.keys[0].position.tolist() == pytest.approx([0.0, 0.1, -2.0])


def test_composition_is_one_after_the_other() -> None:
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    one = Similarity(scale=torch.tensor(2.0).double(), rotation=turn, translation=torch.ones(3).double())
    other = Similarity(scale=torch.tensor(0.5).double(), rotation=turn.T, translation=torch.arange(3).double())
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(one.after(other).apply(points), one.apply(other.apply(points)))
