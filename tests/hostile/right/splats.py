"""Splat files as trainers, scanners and surveys write them: what they say is read, drawn and carried on."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.cli import main
from da3gs.cli._scenes import open_scene
from da3gs.errors import InputError
from da3gs.exports.splat_file import BareSplats, load_bare
from da3gs.formats import load_gaussians, load_splat_file, save_gaussians
from da3gs.formats.splats.ply import load_ply, ply_comments, save_ply
from da3gs.geometry.harmonics import C0
from da3gs.pipeline.check import check
from da3gs.pipeline.export import export
from da3gs.pipeline.render_path import render_path
from da3gs.rendering import render
from da3gs.scene import load_scene
from tests.hostile.right import case, right
from tests.hostile.right.layouts import WIDTH
from tests.small_scene import small_gaussians, small_scene_folder

SIDE = 12
PLACE = (500_000.0, 4_649_776.0, 120.0)
"""Somewhere, in metres of UTM."""

Columns = dict[str, np.ndarray]


def wall(scale: float = 0.08) -> Columns:
    """Opaque splats in a plane three units ahead, in the numbers of a PLY."""
    generator = np.random.default_rng(0)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE)))
    count = SIDE * SIDE
    colors = generator.uniform(0.1, 0.9, (count, 3))
    turns = generator.normal(size=(count, 4))
    columns = {"x": x, "y": y, "z": np.full(count, 3.0)}
    columns |= {f"f_dc_{i}": (colors[:, i] - 0.5) / C0 for i in range(3)}
    columns |= {"opacity": np.full(count, 4.0)}
    columns |= {f"scale_{i}": np.full(count, np.log(scale)) for i in range(3)}
    return columns | {f"rot_{i}": turns[:, i] / np.linalg.norm(turns, axis=1) for i in range(4)}


def written(
    path: Path,
    columns: Columns,
    *,
    comments: Sequence[str] = (),
    form: str = "binary_little_endian",
    kinds: dict[str, str] | str = "float",
    end: str = "\n",
    after: Sequence[str] = (),
) -> Path:
    """A PLY of these columns; ``kinds`` are PLY's types of some properties, or of all."""
    types = {"float": "f4", "double": "f8", "uchar": "u1", "int": "i4", "ushort": "u2"}
    named = {name: kinds if isinstance(kinds, str) else kinds.get(name, "float") for name in columns}
    count = len(columns["x"])
    lines = ["ply", f"format {form} 1.0", *(f"comment {line}" for line in comments), f"element vertex {count}"]
    lines += [*(f"property {kind} {name}" for name, kind in named.items()), *after, "end_header"]
    rows = np.zeros(count, [(name, (">" if "big" in form else "<") + types[kind]) for name, kind in named.items()])
    for name, values in columns.items():
        rows[name] = values
    text = "".join(" ".join(repr(value) for value in row) + "\n" for row in rows.tolist()).encode()
    path.write_bytes((end.join(lines) + end).encode() + (text if form == "ascii" else rows.tobytes()))
    return path


def cameras(path: Path, position: Sequence[float] = (0.0, 0.0, 0.0)) -> Path:
    """One camera that looks along z, as Inria's file has it."""
    camera = {"id": 0, "img_name": "a", "width": 96, "height": 96, "position": list(position), "fx": 120.0, "fy": 120.0}
    path.write_text(json.dumps([{**camera, "rotation": np.eye(3).tolist()}]))
    return path


def drawn(source: Path, folder: Path, *, at: Sequence[float] = (0.0, 0.0, 0.0), **flags: Any) -> np.ndarray:
    """What ``render`` shows of a file from one camera, 0 to 255."""
    path = cameras(folder / "cameras.json", at)
    render_path(open_scene(str(source), device="cpu"), folder / "out.png", path=path, overwrite=True, **flags)
    return np.asarray(Image.open(folder / "out.png").convert("RGB"), np.float64)


WORDS = {
    "brush": "SplatRenderMode: mip",
    "postshot": "antialiased 1",
    "postshot-true": "antialiased: true",
    "capitals": "SPLATRENDERMODE: MIP",
    "equals": "antialiased=1",
}


def _mip(word: str, tmp_path: Path) -> None:
    """Drawn as with --antialias, and said again in every format that has a place for it."""
    columns = wall(0.004)
    mip, plain = written(tmp_path / "mip.ply", columns, comments=[word]), written(tmp_path / "plain.ply", columns)
    wanted = drawn(plain, tmp_path, antialias=True)
    np.testing.assert_array_equal(drawn(mip, tmp_path), wanted)
    assert drawn(plain, tmp_path).mean() > 2 * wanted.mean()
    assert check(mip).antialiased
    assert not check(plain).antialiased
    for name in ("c.ply", "c.compressed.ply", "c.spz", "c.sog"):
        export(mip, tmp_path / name)
        assert load_bare(tmp_path / name).antialiased, name
        assert check(tmp_path / name).antialiased, name
    assert "SplatRenderMode: mip" in ply_comments(tmp_path / "c.ply")


for name, word in WORDS.items():
    case("splats", f"mip-of-{name}", functools.partial(_mip, word))


@right("splats")
def not_mip(tmp_path: Path) -> None:
    """Words that say the contrary, or that only look alike."""
    for line in ("antialiased 0", "SplatRenderMode: default", "antialiasedness: 1", "not antialiased 1", "antialiased"):
        assert not load_bare(written(tmp_path / "a.ply", wall(), comments=[line])).antialiased, line


UP = {
    "z": (0.0, 0.0, 1.0),
    "x": (1.0, 0.0, 0.0),
    "y": (0.0, -1.0, 0.0),
    "-z": (0.0, 0.0, -1.0),
    "+y": (0.0, 1.0, 0.0),
    "0 0 1": (0.0, 0.0, 1.0),
    "0.6 0 0.8": (0.6, 0.0, 0.8),
}


def _vertical(word: str, tmp_path: Path) -> None:
    """Kept by conversions there and back, and the camera from outside stands upright."""
    path = written(tmp_path / "a.ply", wall(), comments=[f"Vertical Axis: {word}"])
    bare = load_bare(path)
    assert bare.upward == pytest.approx(UP[word])
    export(path, tmp_path / "b.compressed.ply", frame="opengl")
    export(tmp_path / "b.compressed.ply", tmp_path / "c.ply")
    assert load_bare(tmp_path / "c.ply").upward == pytest.approx(UP[word])
    from da3gs.pipeline.render_path import _outside_camera

    up = _outside_camera(bare).cam_to_world[0, :3, 1] * -1
    assert float(up @ torch.tensor(UP[word])) > 0.8


for word in UP:
    case("splats", f"vertical-axis-{word.replace(' ', '-')}", functools.partial(_vertical, word))


@right("splats")
def vertical_axis_in_the_viewer(tmp_path: Path) -> None:
    """It stands upright too, draws mip splats as such, and exports what the file said."""
    from da3gs_viewer.editor import Editor
    from da3gs_viewer.viewpoint import up_direction

    path = written(tmp_path / "a.ply", wall(), comments=["Vertical axis: z", "SplatRenderMode: mip"])
    editor = Editor(open_scene(str(path), device="cpu"), device="cpu", backend="cpu")
    np.testing.assert_array_equal(up_direction(None, editor.bare.upward), [0, 0, 1])
    assert editor.bare.antialiased
    export(editor.bare, tmp_path / "b.ply")
    assert {"Vertical axis: z", "SplatRenderMode: mip"} <= set(ply_comments(tmp_path / "b.ply"))


@right("splats")
def axes_that_a_ply_states_hold_everywhere(tmp_path: Path) -> None:
    """A file in OpenGL's axes is drawn like the same splats in OpenCV's."""
    plain = written(tmp_path / "plain.ply", wall())
    export(plain, tmp_path / "gl.ply", frame="opengl")
    np.testing.assert_allclose(drawn(tmp_path / "gl.ply", tmp_path), drawn(plain, tmp_path), atol=1)
    torch.testing.assert_close(load_gaussians(tmp_path / "gl.ply").means, load_gaussians(plain).means)


def _far(kind: str, place: tuple[float, float, float], spread: float, name: str, tmp_path: Path) -> None:
    """An offset is taken off and told, and no place is lost; a camera in the file's own world sees the splats."""
    columns = wall()
    near = written(tmp_path / "near.ply", columns)
    columns = {**columns, **{axis: columns[axis] * spread + move for axis, move in zip("xyz", place, strict=True)}}
    far = written(tmp_path / "far.ply", columns, kinds=kind)
    bare = load_bare(far)
    assert bare.offset is not None
    exact = np.stack([columns[axis] for axis in "xyz"], 1)
    again = bare.gaussians.means.double().numpy() + np.array(bare.offset)
    assert np.abs(again - exact).max() < (1e-6 if kind == "double" else 0.3)
    assert any("too far from the origin for float32" in note for note in bare.notes)
    export(far, tmp_path / name)
    stored = load_bare(tmp_path / name)
    apart = torch.cdist(bare.gaussians.means.double(), stored.turned("opencv").gaussians.means.double())
    assert float(apart.amin(1).max()) < 2e-3
    assert len(apart.argmin(1).unique()) == SIDE**2, "no two become one"
    if name.endswith(".ply"):
        assert stored.offset == bare.offset
    if kind == "double":
        assert np.abs(drawn(far, tmp_path, at=place) - drawn(near, tmp_path)).mean() < 1


for name in ("a.ply", "a.compressed.ply", "a.spz", "a.sog", "a.glb", "a.splat"):
    case("splats", f"georeferenced-{name[2:]}", functools.partial(_far, "double", PLACE, 1.0, name))
case("splats", "georeferenced-south", functools.partial(_far, "double", (3e5, -6.2e6, -4000.0), 1.0, "a.ply"))
case("splats", "earth-centred", functools.partial(_far, "double", (4.2e6, 1.2e6, 4.6e6), 1.0, "a.ply"))


@right("splats")
def far_in_single_precision(tmp_path: Path) -> None:
    """What was lost before is lost; nothing is lost any more, and it is told."""
    columns = {**wall(), "x": wall()["x"] * 8 + 500_000, "y": wall()["y"] * 8 + 600_000}
    bare = load_bare(written(tmp_path / "a.ply", columns))
    assert bare.offset is not None
    exact = np.stack([columns[axis] for axis in "xyz"], 1).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.add(bare.gaussians.means.double().numpy(), bare.offset), exact)


@right("splats")
def no_offset_without_need(tmp_path: Path) -> None:
    """Doubles near the origin, large scenes about it, and large splats far away keep their numbers."""
    wide = {**wall(0.001), "x": wall()["x"] * 1e5, "y": wall()["y"] * 1e5}
    large = {**wall(50.0), "x": wall()["x"] * 100 + 20_000}
    for columns in (wall(), wide, large):
        path = written(tmp_path / "a.ply", columns, kinds="double")
        assert load_bare(path).offset is None
        np.testing.assert_array_equal(load_bare(path).gaussians.means[:, 0].numpy(), columns["x"].astype(np.float32))


@right("splats")
def offset_in_text_and_json(tmp_path: Path) -> None:
    """``export`` says it on stdout, and a format without a place for it says that."""
    path = written(tmp_path / "utm.ply", {**wall(), "x": wall()["x"] + PLACE[0]}, kinds="double")
    said = json_of(["export", str(path), "-o", str(tmp_path / "a.spz"), "--json"])
    assert said["offset"] == [500_000.0, 0.0, 3.0]
    assert "the offset 500000 0 3" in said["losses"]["not_kept"]
    assert "too far" in said["notes"][0]
    text = said_by(["export", str(path), "-o", str(tmp_path / "b.ply")])
    assert "offset   500000 0 3" in text
    assert "far from the origin" in said_by(["check", str(path)])


def said_by(words: list[str]) -> str:
    """What a command prints; it has to succeed."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(words) == 0, words
    return out.getvalue()


def json_of(words: list[str]) -> dict[str, Any]:
    """The same of ``--json``."""
    found: dict[str, Any] = json.loads(said_by(words))
    return found


@right("splats")
def discs_of_2d_splatting(tmp_path: Path) -> None:
    """Two scales: flat splats, in every command."""
    columns = {name: values for name, values in wall().items() if name != "scale_2"}
    path = written(tmp_path / "discs.ply", columns)
    bare = load_bare(path)
    np.testing.assert_allclose(bare.gaussians.scales.numpy(), [[0.08, 0.08, 1e-6]] * SIDE**2, rtol=1e-5)
    assert "2D Gaussian splats" in bare.notes[0]
    assert check(path).passed
    export(path, tmp_path / "a.spz")
    assert len(load_gaussians(tmp_path / "a.spz")) == SIDE**2
    assert drawn(path, tmp_path).mean() > 10


@right("splats")
def discs_with_harmonics(tmp_path: Path) -> None:
    """The thickness takes no harmonic's place."""
    rest = {f"f_rest_{i}": np.full(SIDE**2, float(i)) for i in range(9)}
    columns = {name: values for name, values in {**wall(), **rest}.items() if name != "scale_2"}
    splats = load_gaussians(written(tmp_path / "a.ply", columns))
    np.testing.assert_array_equal(splats.harmonics[0, 1:].T.flatten().numpy(), np.arange(9.0))
    assert float(splats.scales[0, 2]) == pytest.approx(1e-6)


def _painted(kind: str, top: float, tmp_path: Path) -> None:
    """Red, green and blue are the colours that are seen."""
    plain = wall()
    colors = np.stack([plain.pop(f"f_dc_{i}") for i in range(3)], 1) * C0 + 0.5
    stored = np.rint(colors * top) if top > 1 else colors
    columns = {**plain, **dict(zip(("red", "green", "blue"), stored.T, strict=True))}
    kinds = dict.fromkeys(("red", "green", "blue"), kind)
    path = written(tmp_path / "a.ply", columns, kinds=kinds)
    shown = load_gaussians(path).harmonics[:, 0].numpy() * C0 + 0.5
    np.testing.assert_allclose(shown, colors, atol=0.6 / 255)
    assert check(path).passed
    assert any("red, green, blue" in note for note in load_bare(path).notes)


for kind, top in (("uchar", 255.0), ("ushort", 65535.0), ("float", 1.0)):
    case("splats", f"colours-of-{kind}", functools.partial(_painted, kind, top))


@right("splats")
def colours_beside_harmonics(tmp_path: Path) -> None:
    """A preview colour beside harmonics is none."""
    grey = dict.fromkeys(("red", "green", "blue"), np.full(SIDE**2, 7.0))
    path = written(tmp_path / "a.ply", {**wall(), **grey}, kinds=dict.fromkeys(grey, "uchar"))
    plain = written(tmp_path / "b.ply", wall())
    assert torch.equal(load_gaussians(path).harmonics, load_gaussians(plain).harmonics)


FORMS: dict[str, dict[str, Any]] = {
    "ascii": {"form": "ascii"},
    "big-endian": {"form": "binary_big_endian"},
    "doubles": {"kinds": "double"},
    "windows-line-ends": {"form": "ascii", "end": "\r\n"},
    "big-endian-doubles": {"form": "binary_big_endian", "kinds": "double"},
    "mixed-types": {"kinds": {"x": "double", "opacity": "double", "rot_0": "double"}},
}


def _form(name: str, tmp_path: Path) -> None:
    plain = load_gaussians(written(tmp_path / "plain.ply", wall()))
    path = written(tmp_path / "a.ply", wall(), **FORMS[name])
    for field in ("means", "scales", "quaternions", "opacities", "harmonics"):
        torch.testing.assert_close(getattr(load_gaussians(path), field), getattr(plain, field))
    assert check(path).passed


for name in FORMS:
    case("splats", f"form-{name}", functools.partial(_form, name))


@right("splats")
def further_properties_are_told(tmp_path: Path) -> None:
    """Read, and named as what is passed over; normals and colours beside harmonics are nothing to tell."""
    more = {"label": np.ones(SIDE**2), "confidence": np.zeros(SIDE**2), "nx": np.zeros(SIDE**2)}
    path = written(tmp_path / "a.ply", {**more, **wall()}, kinds={"label": "int"})
    assert load_bare(path).notes == ("properties passed over: label, confidence",)
    assert load_bare(written(tmp_path / "b.ply", {"nx": np.zeros(SIDE**2), **wall()})).notes == ()
    assert "passed over: label" in said_by(["export", str(path), "-o", str(tmp_path / "c.ply")])


LACKING: dict[str, tuple[Callable[[str], bool], list[str], str]] = {
    "point-cloud": (lambda name: name in "xyz", [], "it is a point cloud, whose points have no size"),
    "mesh": (
        lambda name: name in "xyz",
        ["element face 2", "property list uchar int vertex_indices"],
        "it is a mesh of 2 faces",
    ),
    "no-opacity": (lambda name: name != "opacity", [], "lack opacity"),
    "no-rotation": (lambda name: name[:3] != "rot", [], "lack rot_0, rot_1, rot_2, rot_3"),
    "one-scale": (lambda name: name not in ("scale_1", "scale_2"), [], "lack scale_1"),
}


def _lacking(name: str, tmp_path: Path) -> None:
    """Refused by what it is or lacks; ``check`` names what is missing too."""
    keep, after, told = LACKING[name]
    columns = {column: values for column, values in wall().items() if keep(column)}
    path = written(tmp_path / "a.ply", columns, after=after)
    if after:
        path.write_bytes(path.read_bytes() + (b"\3" + np.arange(3, dtype="<i4").tobytes()) * 2)
    with pytest.raises(InputError, match=told):
        load_bare(path)
    missing = next(column for column in wall() if column not in columns)
    with pytest.raises(InputError, match=missing):
        check(path)


for name in LACKING:
    case("splats", f"refused-{name}", functools.partial(_lacking, name))


@right("splats")
def harmonics_with_a_gap(tmp_path: Path) -> None:
    """Nine of them, but not the first nine."""
    rest = {f"f_rest_{i + 1}": np.zeros(SIDE**2) for i in range(9)}
    with pytest.raises(InputError, match="has 9 f_rest properties"):
        load_bare(written(tmp_path / "a.ply", {**wall(), **rest}))


@right("splats")
def numbers_that_are_not_finite(tmp_path: Path) -> None:
    """One answer: such splats are left out and counted by whatever reads the file, and fail ``check``."""
    columns = wall()
    columns["x"][3], columns["scale_1"][5], columns["f_dc_2"][7] = np.nan, np.inf, -np.inf
    path = written(tmp_path / "a.ply", columns)
    bare = open_scene(str(path), device="cpu")
    assert isinstance(bare, BareSplats)
    assert len(bare.gaussians) == SIDE**2 - 3
    assert bare.notes == ("3 splats left out, whose numbers are not finite",)
    for suffix in ("ply", "spz", "sog", "glb", "splat", "compressed.ply", "html"):
        assert export(path, tmp_path / f"b.{suffix}") == SIDE**2 - 3
    assert np.isfinite(drawn(path, tmp_path)).all()
    report = check(path)
    assert (report.nonfinite, report.passed) == (3, False)
    assert json_of(["export", str(path), "-o", str(tmp_path / "c.ply"), "--json"])["notes"] == list(bare.notes)


@right("splats")
def scenes_of_numbers_that_are_not_finite(tmp_path: Path) -> None:
    """The answer for a scene folder is that for a file, rows of splats.npz included."""
    folder = small_scene_folder(tmp_path / "s.scene")
    splats = load_ply(folder / "scene.ply")
    splats.means[3, 0], splats.harmonics[5, 4, 1] = math.nan, math.inf
    save_ply(splats, folder / "scene.ply", overwrite=True)
    scene = load_scene(folder)
    assert scene.notes == ("2 splats left out, whose numbers are not finite",)
    assert scene.provenance is not None
    assert scene.provenance.pixel[:6].tolist() == [0, 1, 2, 4, 6, 7]
    for suffix in ("ply", "spz", "sog", "glb", "splat", "compressed.ply", "html"):
        assert export(folder, tmp_path / f"b.{suffix}") == 298
        assert export(splats, tmp_path / f"c.{suffix}") == 298
    assert "2 splats left out" in said_by(["export", str(folder), "-o", str(tmp_path / "d.spz")])
    assert (check(folder).nonfinite, check(folder).passed) == (2, False)
    save_ply(splats.masked(torch.tensor([3, 5])), folder / "scene.ply", overwrite=True)
    (folder / "splats.npz").unlink()
    with pytest.raises(InputError, match=r"scene.ply has no splat whose numbers are all finite \(2 splats\)"):
        load_scene(folder)


@right("splats")
def nothing_finite(tmp_path: Path) -> None:
    """Refused, not empty."""
    path = written(tmp_path / "a.ply", {**wall(), "y": np.full(SIDE**2, np.nan)})
    for use in (load_bare, lambda file: export(file, tmp_path / "b.spz")):
        with pytest.raises(InputError, match=r"no splat whose numbers are all finite \(144 splats\)"):
            use(path)


@right("splats")
def infinite_logits(tmp_path: Path) -> None:
    """Opacities of exactly 0 and 1, and scales of 0, are stored as infinities by some, and mean what they mean."""
    columns = wall()
    columns["opacity"][0], columns["opacity"][1], columns["scale_0"][2] = np.inf, -np.inf, -np.inf
    bare = load_bare(written(tmp_path / "a.ply", columns))
    assert len(bare.gaussians) == SIDE**2
    assert bare.gaussians.opacities[:2].tolist() == [1.0, 0.0]
    assert check(tmp_path / "a.ply").nonfinite == 0


@right("splats")
def spz_without_a_record_of_axes(tmp_path: Path) -> None:
    """Version 4 is taken in a PLY's axes, version 3 in its own, and ``check`` says why."""
    save_gaussians(small_gaussians(), tmp_path / "a.spz")
    export(tmp_path / "a.spz", tmp_path / "three.spz", spz_version=3)
    data = bytearray((tmp_path / "a.spz").read_bytes())
    assert data[14] & 2, "the record is there"
    data[14] &= ~2
    data[16:20] = (32).to_bytes(4, "little")
    (tmp_path / "bare.spz").write_bytes(data[:32] + data[44:])
    stated, bare, three = (load_splat_file(tmp_path / f"{name}.spz") for name in ("a", "bare", "three"))
    assert (stated.stated, bare.stated, bare.axes, three.axes) == (True, False, "RDF", "RUB")
    assert torch.equal(bare.gaussians.means, stated.gaussians.means)
    assert "without a record" in check(tmp_path / "bare.spz").axes_reason
    torch.testing.assert_close(
        load_gaussians(tmp_path / "three.spz").means, load_gaussians(tmp_path / "bare.spz").means, atol=1e-5, rtol=0
    )


@right("splats")
def the_mip_flag_of_spz(tmp_path: Path) -> None:
    """Bit 0 of the flags, read and drawn."""
    export(BareSplats(gaussians=load_gaussians(written(tmp_path / "p.ply", wall(0.004)))), tmp_path / "a.spz")
    data = bytearray((tmp_path / "a.spz").read_bytes())
    data[14] |= 1
    (tmp_path / "mip.spz").write_bytes(data)
    np.testing.assert_array_equal(
        drawn(tmp_path / "mip.spz", tmp_path), drawn(tmp_path / "a.spz", tmp_path, antialias=True)
    )


@right("splats")
def what_render_draws_is_what_is_drawn(tmp_path: Path) -> None:
    """The picture of a plain file is the renderer's own."""
    path = written(tmp_path / "a.ply", wall())
    from da3gs.cameras import Cameras

    intrinsics = torch.tensor([[120.0, 0, WIDTH / 2], [0, 120.0, WIDTH / 2], [0, 0, 1]])
    camera = Cameras(world_to_cam=torch.eye(4), intrinsics=intrinsics, height=96, width=96)
    color = render(load_gaussians(path), camera, backend="cpu").color.clamp(0, 1).numpy() * 255
    assert np.abs(drawn(path, tmp_path) - color).max() <= 1
