"""Exports within a budget, their sizes told before they are written, and what bare files say of their world."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from da3gs.cli.check import check_lines
from da3gs.errors import InputError
from da3gs.exports.splat_file import load_bare
from da3gs.formats import load_gaussians, save_gaussians
from da3gs.formats.splats.ply import ply_comments, save_ply
from da3gs.gaussians import Gaussians
from da3gs.optimisation.budget import merge
from da3gs.pipeline.check import check
from da3gs.pipeline.export import export, prepared
from da3gs.scene import Scene
from da3gs.splats.pruning import NO_LIMITS
from tests.small_scene import small_gaussians, small_scene, small_scene_folder

FILES = (".ply", ".compressed.ply", ".splat", ".spz", ".html", ".glb", ".sog", ".usda", ".usdz")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return small_scene(count=3000)


@pytest.mark.parametrize("suffix", FILES)
def test_the_size_is_known_before(scene: Scene, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    ready = prepared(scene, path, degree=1)
    assert not path.exists()
    assert ready.write() == ready.count == 3000
    assert round((ready.megabytes or 0) * 1e6) == path.stat().st_size


def test_a_budget_merges_as_reconstruct_does(scene: Scene, tmp_path: Path) -> None:
    ready = prepared(scene, tmp_path / "a.ply", budget=500)
    expected, _, price = merge(scene.gaussians, None, scene.cameras, scene.views, 500)
    assert ready.merged == {
        "most": 500, "before": 3000, "after": len(expected), "psnr_price": pytest.approx(price, abs=5e-4)
    }  # fmt: skip
    assert ready.write() == len(expected) <= 500
    assert torch.equal(load_gaussians(tmp_path / "a.ply").means, expected.means)
    assert export(scene, tmp_path / "b.ply", budget=3000) == 3000, "what fits is left alone"


@pytest.mark.parametrize("suffix", FILES)
def test_a_size_is_kept_by_every_format(scene: Scene, tmp_path: Path, suffix: str) -> None:
    most = {".html": 0.12, ".usda": 0.1, ".usdz": 0.1}.get(suffix, 0.025)  # the player itself takes 0.05 MB
    path = tmp_path / f"a{suffix}"
    count = export(scene, path, max_mb=most)
    assert path.stat().st_size <= most * 1e6
    assert 0 < count < 3000
    assert path.stat().st_size >= 0.6 * most * 1e6, "and used"


def test_cleaning_comes_first_and_axes_last(scene: Scene, tmp_path: Path) -> None:
    limits = dataclasses.replace(NO_LIMITS, min_opacity=0.5)
    ready = prepared(scene, tmp_path / "a.ply", limits=limits, budget=500, frame="opengl")
    left = int((scene.gaussians.opacities >= 0.5).sum())
    assert ready.dropped == {"opacity": 3000 - left}
    assert ready.merged is not None
    assert ready.merged["before"] == left
    plain = prepared(scene, tmp_path / "a.ply", limits=limits, budget=500)
    turned = ready.content.gaussians.means * torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(turned, plain.content.gaussians.means)


def test_a_check_says_that_a_file_holds_fewer_splats(tmp_path: Path) -> None:
    folder = small_scene_folder(tmp_path / "scene")
    export(folder, tmp_path / "few.spz", budget=60)
    report = check(tmp_path / "few.spz", against=folder)
    assert not report.passed
    assert report.note is not None
    assert f"{report.splats} of the scene's 300 splats" in report.note
    assert any(line.startswith("worst") for line in check_lines(report))
    assert check(folder / "scene.ply", against=folder, min_psnr=99.0).note is None, "it holds them all"


def test_scenes_of_too_many_splats_are_bounded_before_they_are_drawn(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("da3gs.optimisation.budget.DEFAULT_BUDGET", 600)
    drawn = []

    def told(gaussians: Gaussians, *others: object, **options: object) -> object:
        """Merge, and note how many splats were to be drawn."""
        drawn.append(len(gaussians))
        return merge(gaussians, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("da3gs.pipeline.export.merge", told)
    ready = prepared(scene, tmp_path / "a.ply", budget=500)
    assert drawn[0] <= 1200
    assert ready.count <= 500
    assert ready.merged is not None
    assert ready.merged["before"] == 3000


def test_budgets_that_cannot_be(scene: Scene, tmp_path: Path) -> None:
    folder = small_scene_folder(tmp_path / "scene")
    bare = folder / "scene.ply"
    for source, output, options, message in (
        (scene, "a.ply", {"budget": 0}, "--budget.*0"),
        (scene, "a.ply", {"max_mb": float("nan")}, "--max-mb"),
        (scene, "a.ply", {"budget": 5, "max_mb": 1.0}, "exclude each other"),
        (scene, "a.html", {"max_mb": 0.02}, r"--max-mb 0\.02 is too small: a\.html takes 0\.0\d MB"),
        (scene, "cameras", {"budget": 5}, "files of splats"),
        (bare, "a.ply", {"budget": 100}, r"--budget merges .* bare file .*300 splats, 100 wanted"),
        (bare, "a.spz", {"max_mb": 0.01}, "--max-mb merges .* bare file"),
        (scene, "a.ply", {"limits": dataclasses.replace(NO_LIMITS, max_size=1e-6)}, "none of 3000 splats .*size 3000"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, tmp_path / output, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]
    assert export(bare, tmp_path / "a.ply", budget=300) == 300, "nothing has to be merged"
    (folder / "images" / "photo 1.png").unlink()
    with pytest.raises(InputError, match=r"photo 1\.png does not exist"):
        export(folder, tmp_path / "b.ply", budget=100)


def test_cleaning_holds_for_the_points_of_cameras_too(tmp_path: Path) -> None:
    from da3gs.formats.cameras.colmap import load_colmap

    scene = small_scene()
    export(scene, tmp_path / "cameras", limits=dataclasses.replace(NO_LIMITS, crop=(-9.0, -9.0, -9.0, 0.0, 9.0, 9.0)))
    positions = load_colmap(tmp_path / "cameras" / "sparse" / "0").points.positions
    assert len(positions) > 50
    assert positions[:, 0].max() <= 0


def test_a_bare_file_keeps_what_it_says_of_its_world(tmp_path: Path) -> None:
    """There and back again: the comments turn with the splats, and tell ``check`` the axes."""
    folder = small_scene_folder(tmp_path / "scene")
    export(folder / "scene.ply", tmp_path / "gl.compressed.ply", frame="opengl")
    export(tmp_path / "gl.compressed.ply", tmp_path / "back.ply")
    turned, back = ply_comments(tmp_path / "gl.compressed.ply"), ply_comments(tmp_path / "back.ply")
    assert "Vertical axis: 0 1 0" in turned
    assert "Axes: OpenGL (x right, y up, z back)" in turned
    assert back == ply_comments(folder / "scene.ply")
    assert check(tmp_path / "back.ply", against=folder, min_psnr=38.0).passed
    export(folder / "scene.ply", tmp_path / "gl.ply", frame="opengl")
    export(tmp_path / "gl.ply", tmp_path / "same.ply", frame="opengl")
    assert torch.equal(load_gaussians(tmp_path / "same.ply").means, load_gaussians(tmp_path / "gl.ply").means)
    assert check(tmp_path / "same.ply", against=folder).passed
    assert load_bare(tmp_path / "gl.ply").upward == (0, 1, 0)


def test_comments_that_are_not_ours_stay_behind(tmp_path: Path) -> None:
    strange = [
        "made in /home/somebody/secret", "Vertical axis: w", "Unit: /home/somebody", "Axes: sideways", "Offset: 1 2 nan"
    ]  # fmt: skip
    save_ply(small_gaussians(), tmp_path / "a.ply", comments=strange)
    export(tmp_path / "a.ply", tmp_path / "b.ply")
    assert ply_comments(tmp_path / "b.ply") == ()
    export(tmp_path / "a.ply", tmp_path / "c.ply", frame="supersplat")
    assert len(ply_comments(tmp_path / "c.ply")) == 2  # who wrote it, and its axes
    save_gaussians(small_gaussians(), tmp_path / "d.spz")
    assert load_bare(tmp_path / "d.spz").comments()[1:] == ["Axes: OpenCV (x right, y down, z forward)"]


def test_an_offset_turns_with_the_axes(tmp_path: Path) -> None:
    scene = dataclasses.replace(small_scene(), offset=(4e5, 5e6, -3.0))
    export(scene, tmp_path / "a.ply")
    export(tmp_path / "a.ply", tmp_path / "b.ply", frame="opengl")
    assert "Offset: 400000.0 -5000000.0 3.0" in ply_comments(tmp_path / "b.ply")
