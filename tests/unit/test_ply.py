"""PLY files: standard properties out, any spelling of them in, one line for everything broken."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gsply
import numpy as np
import plyfile
import pytest
import torch

from benchmarks.ply import extra_memory, random_gaussians, save_tuples, timed
from da3gs.errors import InputError
from da3gs.formats import format_of_content, load_gaussians, save_gaussians
from da3gs.formats.splats.ply import load_ply, ply_comments, property_names, save_ply
from da3gs.formats.splats.upstream_ply import save_upstream_ply, upstream_rows
from da3gs.gaussians import Gaussians


@pytest.fixture
def gaussians() -> Gaussians:
    return random_gaussians(300, 9)


def close(a: Gaussians, b: Gaussians, tolerance: float = 1e-6) -> None:
    """Equal but for float32 logs and exponentials, which cost a few units in the last place."""
    for name in ("means", "harmonics", "quaternions", "opacities", "scales"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-5, atol=tolerance, msg=name)


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_round_trip(tmp_path: Path, bands: int) -> None:
    splats = random_gaussians(20_000, bands)  # more than one block
    save_ply(splats, tmp_path / "a.ply", comments=["Vertical axis: y", "two\nlines", "umlaut ü"])
    again = load_gaussians(tmp_path / "a.ply")
    close(splats, again)
    assert torch.equal(splats.means, again.means)
    assert ply_comments(tmp_path / "a.ply") == ("Vertical axis: y", "two lines", "umlaut \\xfc")


def test_exact_bytes_of_one_splat(tmp_path: Path) -> None:
    splat = Gaussians(
        means=torch.tensor([[1.0, 2, 3]]),
        scales=torch.tensor([[1.0, torch.e, 0.0]]),
        quaternions=torch.tensor([[2.0, 0, 0, 0]]),
        opacities=torch.tensor([0.5]),
        harmonics=torch.arange(12.0).reshape(1, 4, 3),
    )
    save_ply(splat, tmp_path / "a.ply")
    header, _, data = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[2] for line in header.decode().splitlines() if line.startswith("property float ")]
    assert names == property_names(4)
    row = dict(zip(names, np.frombuffer(data, "<f4").tolist(), strict=True))
    assert [row[n] for n in ("x", "y", "z", "nx", "ny", "nz", "opacity")] == [1, 2, 3, 0, 0, 0, 0]
    assert [row[f"f_dc_{i}"] for i in range(3)] == [0, 1, 2]
    assert [row[f"f_rest_{i}"] for i in range(9)] == [3, 6, 9, 4, 7, 10, 5, 8, 11]  # colour-major
    assert [row[f"rot_{i}"] for i in range(4)] == [1, 0, 0, 0]
    assert row["scale_0"] == 0
    assert row["scale_1"] == pytest.approx(1, abs=1e-6)
    assert row["scale_2"] == pytest.approx(np.log(1e-38), rel=1e-5)


def test_opaque_and_clear_splats_stay_finite(tmp_path: Path, gaussians: Gaussians) -> None:
    gaussians.opacities[:2] = torch.tensor([0.0, 1.0])
    save_ply(gaussians, tmp_path / "a.ply")
    raw = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]["opacity"]
    assert np.isfinite(raw).all()
    again = load_ply(tmp_path / "a.ply").opacities
    assert again[0] == pytest.approx(1e-6, rel=1e-3)
    assert 1 - again[1] == pytest.approx(1e-6, rel=0.1)  # float32 steps are 6e-8 there


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_gsply_reads_it(tmp_path: Path, bands: int) -> None:
    splats = random_gaussians(500, bands)
    save_ply(splats, tmp_path / "a.ply", comments=["anything"])
    other = gsply.plyread(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(other.means, splats.means.numpy())
    np.testing.assert_allclose(np.exp(other.scales), splats.scales.numpy(), rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-other.opacities)), splats.opacities.numpy(), atol=2e-6)
    np.testing.assert_allclose(other.quats, splats.quaternions.numpy(), atol=1e-6)
    np.testing.assert_array_equal(other.sh0, splats.harmonics[:, 0].numpy())
    rest = other.shN.reshape(500, -1) if bands > 1 else np.zeros((500, 0), np.float32)
    ours = splats.harmonics[:, 1:].numpy()
    assert np.array_equal(rest, ours.reshape(500, -1)) or np.array_equal(rest, ours.transpose(0, 2, 1).reshape(500, -1))


def rewritten(path: Path, order: list[str], kind: str, text: bool, byte_order: str) -> None:
    """The file with its properties in another order and type, by plyfile, between two other elements."""
    vertex = plyfile.PlyData.read(path, mmap=False)["vertex"].data
    rows = np.empty(len(vertex), dtype=[(name, kind) for name in order])
    for name in order:
        rows[name] = vertex[name] if name in vertex.dtype.names else 7
    other = np.array([(1, 2.5)], dtype=[("a", "u1"), ("b", "f8")])
    elements = [plyfile.PlyElement.describe(a, n) for a, n in ((other, "before"), (rows, "vertex"), (other, "after"))]
    plyfile.PlyData(elements, text=text, byte_order=byte_order).write(path)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize(("text", "byte_order"), [(False, "<"), (False, ">"), (True, "=")])
def test_reads_any_order_type_and_encoding(
    tmp_path: Path, gaussians: Gaussians, kind: str, text: bool, byte_order: str
) -> None:
    path = tmp_path / "a.ply"
    save_ply(gaussians, path)
    rewritten(path, [*property_names(9, normals=False)[::-1], "extra"], kind, text, byte_order)
    close(gaussians, load_ply(path))


def test_lists_before_the_vertices(tmp_path: Path, gaussians: Gaussians) -> None:
    save_ply(gaussians, tmp_path / "a.ply")
    vertex = plyfile.PlyData.read(tmp_path / "a.ply", mmap=False)["vertex"]
    faces = np.empty(2, dtype=[("vertex_indices", object)])
    faces["vertex_indices"] = [np.arange(3, dtype="i4"), np.arange(4, dtype="i4")]
    face = plyfile.PlyElement.describe(faces, "face", len_types={"vertex_indices": "u1"})
    plyfile.PlyData([face, vertex]).write(tmp_path / "b.ply")
    close(gaussians, load_ply(tmp_path / "b.ply"))


def test_zero_quaternions_become_the_identity(tmp_path: Path, gaussians: Gaussians) -> None:
    gaussians.quaternions[0] = 0
    save_ply(gaussians, tmp_path / "a.ply")
    assert load_ply(tmp_path / "a.ply").quaternions[0].tolist() == [1, 0, 0, 0]


def test_double_precision_and_gradients_are_fine(tmp_path: Path, gaussians: Gaussians) -> None:
    grown = gaussians.to(dtype=torch.float64).map(lambda t: t.requires_grad_())
    save_ply(grown, tmp_path / "a.ply")
    close(gaussians, load_ply(tmp_path / "a.ply"))


def test_no_splats_at_all(tmp_path: Path) -> None:
    save_ply(random_gaussians(0), tmp_path / "a.ply")
    assert len(load_ply(tmp_path / "a.ply")) == 0


def test_never_over_an_existing_file(tmp_path: Path, gaussians: Gaussians) -> None:
    (tmp_path / "a.ply").write_text("mine")
    with pytest.raises(InputError, match=r"a\.ply exists already"):
        save_gaussians(gaussians, tmp_path / "a.ply")
    assert (tmp_path / "a.ply").read_text() == "mine"
    save_gaussians(gaussians, tmp_path / "a.ply", overwrite=True)
    close(gaussians, load_gaussians(tmp_path / "a.ply"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def replace(old: bytes, new: bytes) -> object:
    return lambda data: data.replace(old, new, 1)


BROKEN = {
    "empty": (lambda data: b"", "is not a splat file"),
    "other": (lambda data: b"GIF89a" + data, "is not a splat file"),
    "magic only": (lambda data: b"ply\n", "no end_header"),
    "cut header": (lambda data: data[:100], "no end_header"),
    "cut rows": (lambda data: data[:-1], r"cut short: 300 splats by its header need \d+ bytes"),
    "no rows": (lambda data: data[: data.index(b"end_header") + 11], "cut short"),
    "more rows": (lambda data: data + b"1234", "4 bytes more than its header"),
    "count too small": (replace(b"vertex 300", b"vertex 299"), "bytes more than its header"),
    "count huge": (replace(b"vertex 300", b"vertex 999999999999999"), "cut short"),
    "count absurd": (replace(b"vertex 300", b"vertex " + b"9" * 5000), "makes no sense"),
    "count negative": (replace(b"vertex 300", b"vertex -300"), "makes no sense"),
    "no format": (replace(b"format binary_little_endian 1.0\n", b""), "without a format"),
    "odd format": (replace(b"binary_little_endian", b"binary_middle_endian"), "makes no sense"),
    "odd type": (replace(b"property float x", b"property quad x"), "makes no sense"),
    "twice": (replace(b"property float y", b"property float x"), "twice"),
    "renamed": (replace(b"scale_1", b"scale_9"), "lack scale_1"),
    "mesh": (
        lambda data: b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
        "lack y, z, f_dc_0, f_dc_1 and 9 more; it is a point cloud",
    ),
    "no vertices": (lambda data: b"ply\nformat ascii 1.0\nelement face 0\nend_header\n", "no vertex element"),
    "bands": (replace(b"f_rest_23", b"f_toast_23"), "23 f_rest properties"),
    "ascii that is binary": (replace(b"binary_little_endian", b"ascii"), "cannot be read as a PLY file"),
    "ascii count": (
        lambda data: (
            data[: data.index(b"end_header") + 11]
            .replace(b"binary_little_endian", b"ascii")
            .replace(b"vertex 300", b"vertex 99999999999")
        ),
        "cut short",
    ),
    "list": (replace(b"property float nx", b"property list uchar int nx"), "lists"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path: Path, gaussians: Gaussians, name: str) -> None:
    damage, message = BROKEN[name]
    save_ply(gaussians, tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes(damage((tmp_path / "a.ply").read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_gaussians(tmp_path / "a.ply")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ply")
    for path, message in (
        (tmp_path / "a.ply", "regular"),
        (tmp_path, "regular"),
        (tmp_path / "b.ply", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            load_gaussians(path)
    with pytest.raises(InputError, match="suffix"):
        save_gaussians(random_gaussians(1), tmp_path / "a.obj")


def test_the_format_goes_by_content(tmp_path: Path, gaussians: Gaussians) -> None:
    save_ply(gaussians, tmp_path / "a.ply")
    (tmp_path / "a.ply").rename(tmp_path / "a.splat")
    assert format_of_content(tmp_path / "a.splat").suffix == ".ply"
    close(gaussians, load_gaussians(tmp_path / "a.splat"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other burn time that has nothing to do with the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_faster_than_tuples_and_lean(tmp_path: Path) -> None:
    splats = random_gaussians(100_000)
    path = tmp_path / "a.ply"
    memory = extra_memory(lambda: save_ply(splats, path, overwrite=True))
    assert memory <= max(0.1 * path.stat().st_size, 4 << 20)  # one block is 2 MB
    theirs = timed(lambda: save_tuples(splats, tmp_path / "b.ply"), 2, time.thread_time)
    for _ in range(5):  # a busy machine spoils single runs
        ours = timed(lambda: save_ply(splats, path, overwrite=True), 3, time.thread_time)
        if theirs / ours >= 8:
            break
    assert theirs / ours >= 8  # 20 and more without the type checks of the tests, 60 for 2 M: benchmarks/ply.py


UPSTREAM = {
    "official_export": {},
    "keep_all_sh": {"harmonics": "all", "nearest": 1.0, "border": False},
    "shift_and_scale": {"nearest": 1.0, "border": False, "centered": True},
    "every_second_view": {"logit": False, "nearest": 0.5, "every": 2},
    "mcmc_dev": {"harmonics": "padded", "nearest": 1.0, "border": False},
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_the_official_form(tmp_path: Path, name: str, test_data: Callable[[str], Path]) -> None:
    data = np.load(test_data("spec/fixtures_public/fn_ply.npz"))
    tensor = lambda key: torch.from_numpy(data[f"in/{key}"])[0]  # noqa: E731
    splats = Gaussians(
        means=tensor("means"),
        scales=tensor("scales"),
        quaternions=tensor("rotations"),
        opacities=tensor("opacities"),
        harmonics=tensor("harmonics").transpose(1, 2),
    )
    depth = torch.from_numpy(data["in/depth"])[..., 0]
    header, rows = upstream_rows(splats, depth, **UPSTREAM[name])
    assert header == data[f"out/{name}/header"].tobytes()
    allowed = json.loads(str(data["meta"]))["tolerances"][f"out/{name}/vertices"]
    error = rows.numpy() - data[f"out/{name}/vertices"]
    assert np.abs(error).max() <= allowed["abs"]
    assert np.sqrt(np.square(error).mean()) <= allowed["rms"]
    if name == "every_second_view":
        assert header + rows.numpy().tobytes() == data[f"out/{name}/file_bytes"].tobytes()
    if name == "official_export":
        save_upstream_ply(splats, depth, tmp_path / "a.ply")
        assert load_ply(tmp_path / "a.ply").degree == 0
