"""`check` sees what goes wrong between memory and a file, and says what it cannot read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch

from da3gs.cli.check import check_lines
from da3gs.errors import InputError
from da3gs.exports.axis_conventions import axes_of
from da3gs.exports.independent import decode_splats
from da3gs.formats import READ_SUFFIXES, WRITTEN_SUFFIXES, load_splat_file, save_gaussians
from da3gs.formats.axes import Frame
from da3gs.formats.splats._ply_header import read_header
from da3gs.formats.splats.ply import save_ply
from da3gs.gaussians import Gaussians
from da3gs.pipeline.check import CheckReport, check
from da3gs.pipeline.export import export
from tests.small_scene import small_gaussians, small_scene, small_scene_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_scene_folder(tmp_path / "scene")


def rewritten(folder: Path, change: object) -> None:
    """Pass the rows of scene.ply through a function."""
    path = folder / "scene.ply"
    rows = np.array(plyfile.PlyData.read(path, mmap=False)["vertex"].data)
    plyfile.PlyData([plyfile.PlyElement.describe(change(rows), "vertex")]).write(path)


def test_a_scene_holds(folder: Path) -> None:
    report = check(folder)
    assert report.passed
    assert report.splats == 300
    assert report.nonfinite == 0
    assert len(report.psnr_cameras) == 4
    assert report.psnr == min(report.psnr_cameras) >= 65  # half precision costs 75 dB or so
    low, high = report.bounds
    means = small_gaussians().means
    assert np.allclose(low, means.amin(0), atol=1e-6)
    assert np.allclose(high, means.amax(0), atol=1e-6)
    again = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert {"splats", "bounds", "nonfinite", "psnr", "passed"} <= again.keys()


def test_a_file_alone_and_against_a_scene(folder: Path) -> None:
    alone = check(folder / "scene.ply")
    assert alone.psnr is None
    assert alone.passed
    assert check(folder / "scene.ply", against=folder).psnr == check(folder).psnr
    assert not check(folder / "scene.ply", against=folder, min_psnr=99.0).passed


def swapped(a: str, b: str) -> object:
    def change(rows: np.ndarray) -> np.ndarray:
        rows[a], rows[b] = rows[b].copy(), rows[a].copy()
        return rows

    return change


def shifted_rotation(rows: np.ndarray) -> np.ndarray:
    w, x, y, z = (rows[f"rot_{i}"].copy() for i in range(4))
    for name, values in zip(("rot_0", "rot_1", "rot_2", "rot_3"), (x, y, z, w), strict=True):
        rows[name] = values
    return rows


def interleaved(rows: np.ndarray) -> np.ndarray:
    rest = np.stack([rows[f"f_rest_{i}"] for i in range(24)], 1).reshape(-1, 3, 8).transpose(0, 2, 1).reshape(-1, 24)
    for i in range(24):
        rows[f"f_rest_{i}"] = rest[:, i]
    return rows


def raw(name: str, function: object) -> object:
    def change(rows: np.ndarray) -> np.ndarray:
        rows[name] = function(rows[name])
        return rows

    return change


WRONG = {
    "quaternion xyzw": shifted_rotation,
    "opacity not a logit": raw("opacity", lambda v: 1 / (1 + np.exp(-v))),
    "scale not a log": raw("scale_0", np.exp),
    "harmonics interleaved": interleaved,
    "axes swapped": swapped("y", "z"),
    "colours swapped": swapped("f_dc_0", "f_dc_2"),
    "y up": raw("y", np.negative),
    "a splat lost": lambda rows: rows[rows["opacity"] < rows["opacity"].max()],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_fail(folder: Path, name: str) -> None:
    rewritten(folder, WRONG[name])
    report = check(folder)
    assert not report.passed
    assert report.psnr < 50


def test_order_of_properties_and_double_precision_do_not_matter(folder: Path) -> None:
    def change(rows: np.ndarray) -> np.ndarray:
        names = rows.dtype.names[::-1]
        other = np.empty(len(rows), [(name, "f8") for name in names])
        for name in names:
            other[name] = rows[name]
        return other

    before = check(folder).psnr
    rewritten(folder, change)
    assert check(folder).psnr == pytest.approx(before, abs=1)


def test_numbers_that_are_not_finite(folder: Path) -> None:
    def change(rows: np.ndarray) -> np.ndarray:
        rows["x"][:3] = np.nan
        rows["f_rest_7"][5] = np.inf
        return rows

    rewritten(folder, change)
    report = check(folder)
    assert report.nonfinite == 4
    assert not report.passed
    assert np.isfinite(np.array(report.bounds)).all()
    assert not check(folder / "scene.ply").passed


def test_no_splats(folder: Path) -> None:
    save_ply(small_gaussians(0), folder / "scene.ply", overwrite=True)
    report = check(folder)
    assert (report.splats, report.bounds, report.psnr, report.passed) == (0, None, None, False)


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_every_degree(tmp_path: Path, bands: int) -> None:
    dataclasses.replace(small_scene(), gaussians=small_gaussians(bands=bands)).save(tmp_path / "scene")
    assert check(tmp_path / "scene").psnr >= 65


@pytest.mark.parametrize("bands", [1, 9, 16])
@pytest.mark.parametrize("suffix", [suffix for suffix in WRITTEN_SUFFIXES if suffix in READ_SUFFIXES])
def test_both_readers_see_the_same(tmp_path: Path, suffix: str, bands: int) -> None:
    path = tmp_path / f"a{suffix}" if suffix.startswith(".") else tmp_path / "a" / suffix
    save_gaussians(small_gaussians(600, bands), path)
    file, theirs = load_splat_file(path), decode_splats(path)
    assert (theirs.kind, theirs.axes) == (".sog" if suffix == "meta.json" else suffix, file.axes)
    assert theirs.nonfinite == 0
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        np.testing.assert_allclose(
            getattr(theirs, name), getattr(file.gaussians, name), rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("suffix", "bands"),
    [(".spz", 9), (".compressed.ply", 9), (".splat", 1), (".html", 16), (".sog", 16), (".glb", 16), (".usdz", 9)],
)
def test_small_formats_against_a_scene(tmp_path: Path, suffix: str, bands: int) -> None:
    splats = small_gaussians(bands=bands).map(lambda t: t.clamp(-1.7, 1.7))  # colours that a byte can hold
    dataclasses.replace(small_scene(), gaussians=splats).save(tmp_path / "scene")
    save_gaussians(splats, tmp_path / f"a{suffix}")
    report = check(tmp_path / f"a{suffix}", against=tmp_path / "scene")
    assert report.min_psnr == 45
    assert report.passed
    assert report.format == suffix
    assert report.degree == round(bands**0.5) - 1
    assert report.precision >= report.psnr - 0.3  # the reference has half precision, that is all


def test_what_a_format_leaves_out_is_told_apart_from_its_precision(folder: Path, tmp_path: Path) -> None:
    splats = small_gaussians().map(lambda t: t.clamp(-1.7, 1.7))
    dataclasses.replace(small_scene(), gaussians=splats).save(tmp_path / "other")
    save_gaussians(splats, tmp_path / "a.splat")
    report = check(tmp_path / "a.splat", against=tmp_path / "other")
    assert report.degree == 0
    assert not report.passed  # the harmonics are gone
    assert report.psnr < 40
    assert report.precision > 45
    said = check_lines(report)
    assert f".splat with harmonics up to degree 0: its precision alone gives {report.precision:.2f} dB" in said
    save_gaussians(splats.masked(torch.arange(299)), tmp_path / "fewer.spz")
    assert check(tmp_path / "fewer.spz", against=tmp_path / "other").precision is None


@pytest.mark.parametrize("frame", ["opencv", "opengl", "colmap", "supersplat"])
@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".html", ".glb", ".usda"])
def test_files_in_other_axes(folder: Path, tmp_path: Path, suffix: str, frame: str) -> None:
    path = tmp_path / f"a{suffix}"
    export(folder, path, frame=frame)
    stated = check(path, against=folder, frame=frame).psnr
    assert stated > 37
    unstated = check(path, against=folder).psnr
    assert unstated == stated  # the file says it


@pytest.mark.parametrize("frame", ["opencv", "opengl"])
def test_offsets_of_file_and_scene(tmp_path: Path, frame: Frame) -> None:
    """A scene near its origin against the same splats in the caller's world, and with an offset of their own."""
    place = torch.tensor([430000.0, -12.0, 5200000.0], dtype=torch.float64)
    x, y, z = place.tolist()
    scene = dataclasses.replace(small_scene(), offset=(x, y, z))
    scene.save(tmp_path / "scene")
    export(scene, tmp_path / "same.ply", frame=frame)
    export(scene, tmp_path / "same.spz", frame=frame)
    assert check(tmp_path / "same.ply", against=tmp_path / "scene").passed
    assert check(tmp_path / "same.spz", against=tmp_path / "scene", min_psnr=35.0).passed
    turn = axes_of(frame).rotation
    with (tmp_path / "same.ply").open("rb") as file:
        header = read_header(file, "same.ply")
    rows = np.fromfile(tmp_path / "same.ply", header.elements[0].dtype("<"), offset=header.size)
    doubles = rows.astype([(name, "f8" if name in "xyz" else "f4") for name in rows.dtype.names])
    said = [line for line in header.comments if not line.startswith("Offset")]

    def against(shift: torch.Tensor, *lines: str) -> CheckReport:
        moved = doubles.copy()
        for name, value in zip("xyz", (turn @ shift).tolist(), strict=True):
            moved[name] += value
        plyfile.PlyData([plyfile.PlyElement.describe(moved, "vertex")], comments=[*said, *lines]).write(
            str(tmp_path / "moved.ply")
        )
        return check(tmp_path / "moved.ply", against=tmp_path / "scene")

    assert against(place).passed, "the caller's world, in double precision"
    assert against(torch.zeros(3, dtype=torch.float64)).passed, "the scene's world, unstated"
    other = torch.tensor([430010.0, 0.0, 5200000.0], dtype=torch.float64)
    numbers = " ".join(repr(value) for value in (turn @ other).tolist())
    report = against(place - other, f"Offset: {numbers}")
    assert report.passed, "an offset of its own"
    assert "compared after adding" in report.note
    assert not against(place, f"Offset: {numbers}").passed


def test_gltf_that_is_cut(tmp_path: Path) -> None:
    save_gaussians(small_gaussians(), tmp_path / "a.glb")
    whole = (tmp_path / "a.glb").read_bytes()
    for data in (b"glTF", whole[:-9], b"glTF" + bytes(40)):
        (tmp_path / "b.glb").write_bytes(data)
        with pytest.raises(InputError, match="cut short"):
            check(tmp_path / "b.glb")


@pytest.mark.parametrize(
    ("version", "frame", "axes", "reason"),
    [
        (4, None, "RDF", "stated by the file"),
        (4, "opengl", "RUB", "stated by the file"),
        (3, None, "RUB", ".spz version 3 is RUB by its specification"),
    ],
)
def test_the_axes_that_are_assumed_are_said(
    folder: Path, tmp_path: Path, version: int, frame: str | None, axes: str, reason: str
) -> None:
    export(folder, tmp_path / "a.spz", spz_version=version, frame=frame)
    report = check(tmp_path / "a.spz", against=folder, min_psnr=37.0)
    assert report.passed
    assert (report.axes, report.axes_reason) == (axes, reason)
    assert any(line.startswith("axes x right") and line.endswith(reason) for line in check_lines(report))
    wrong = check(tmp_path / "a.spz", against=folder, frame="supersplat")
    assert (wrong.passed, wrong.axes, wrong.axes_reason) == (False, "LUF", "as asked for")


def test_pages_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<!doctype html><p>hello</p>")
    with pytest.raises(InputError, match="not a splat file"):
        check(tmp_path / "a.html")


@pytest.mark.parametrize("suffix", [".spz", ".compressed.ply", ".splat"])
def test_small_formats_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_gaussians(small_gaussians(), path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"cut short|not a splat file"):
        check(path)


def test_quaternions_of_any_length(folder: Path) -> None:
    def change(rows: np.ndarray) -> np.ndarray:
        for i in range(4):
            rows[f"rot_{i}"] *= 3
        return rows

    rewritten(folder, change)
    assert check(folder).passed


def reference(folder: Path, **changes: np.ndarray) -> None:
    arrays = dict(np.load(folder / "reference.npz")) | changes
    np.savez(folder / "reference.npz", **arrays)


def cut(name: str) -> object:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 2 // 3])

    return damage


BROKEN = {
    "splats cut": (cut("scene.ply"), "scene.ply is broken or cut short"),
    "no splats": (lambda f: (f / "scene.ply").unlink(), "scene.ply does not exist"),
    "splats a folder": (lambda f: ((f / "scene.ply").unlink(), (f / "scene.ply").mkdir()), "not a regular file"),
    "text": (lambda f: (f / "scene.ply").write_text("hello"), "not a splat file"),
    "mesh": (
        lambda f: (f / "scene.ply").write_text(
            "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n"
        ),
        "not a Gaussian splat",
    ),
    "huge count": (
        lambda f: (f / "scene.ply").write_bytes(
            (f / "scene.ply").read_bytes().replace(b"vertex 300", b"vertex 300000000000")
        ),
        "broken or cut short",
    ),
    "huge ascii count": (
        lambda f: (f / "scene.ply").write_text(
            "ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n1\n"
        ),
        "cut short",
    ),
    "no scene.json": (lambda f: (f / "scene.json").unlink(), "no scene.json"),
    "broken scene.json": (cut("scene.json"), "scene.json of scene is broken"),
    "no reference": (lambda f: (f / "reference.npz").unlink(), r"no reference\.npz"),
    "reference cut": (cut("reference.npz"), r"reference\.npz is damaged"),
    "reference text": (lambda f: (f / "reference.npz").write_text("hello"), r"reference\.npz is damaged"),
    "reference NaN": (lambda f: reference(f, world_to_cam=np.full((4, 4, 4), np.nan)), "not finite"),
    "reference shape": (lambda f: reference(f, world_to_cam=np.eye(4)), "should be float64"),
    "reference count": (lambda f: reference(f, world_to_cam=np.eye(4)[None]), "belong together"),
    "reference pickle": (lambda f: reference(f, color=np.array([{}])), "it is object"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_scenes_give_one_line(folder: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        check(folder)
    assert "\n" not in str(caught.value)


def test_arguments(folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere", None, None), "does not exist"),
        ((tmp_path, None, None), "not a scene folder"),
        ((folder, tmp_path / "nowhere", None), "not a scene folder"),
        ((folder, folder / "scene.ply", None), "not a scene folder"),
        ((folder, None, float("nan")), "--min-psnr"),
        ((folder, None, -1.0), "--min-psnr"),
    ):
        path, against, bound = arguments
        with pytest.raises(InputError, match=message):
            check(path, against=against, min_psnr=bound)


def test_the_reference_is_not_the_file(folder: Path) -> None:
    """Splats changed after the reference was rendered are noticed, in the smallest."""
    gaussians = small_gaussians()
    moved = Gaussians(
        means=gaussians.means + torch.tensor([0.002, 0.0, 0.0]),
        scales=gaussians.scales,
        quaternions=gaussians.quaternions,
        opacities=gaussians.opacities,
        harmonics=gaussians.harmonics,
    )
    save_ply(moved, folder / "scene.ply", overwrite=True)
    assert not check(folder).passed
