"""Programs that we did not write read the numbers that we wrote, and we read theirs: splat by splat."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.exports.independent import decode_splats
from da3gs.formats import load_gaussians, load_splat_file, save_gaussians
from da3gs.formats.axes import with_axes
from da3gs.gaussians import Gaussians
from da3gs.geometry.harmonics import C0
from da3gs.pipeline.export import export
from tests.readers import programs
from tests.readers.programs import NUMBER_READERS, Differences, NumberReader, differences, save_as, splats_for
from tests.small_scene import small_gaussians, small_scene_folder

pytestmark = [pytest.mark.slow, pytest.mark.process]

ROUNDING = 2e-5
"""Between two programs that take the same bytes for the same numbers, in float32 and logarithms of it."""
WRITTEN = ("b.ply", "b.compressed.ply", "b.spz", "3.spz", "b.sog", "sog/meta.json", "lod/lod-meta.json", "b.glb")
HALF = 0.5
"""A step."""
CORNER = 12**0.5 * 2
"""How far a rotation turns, at most, when the three smaller components of its quaternion move by a small number: the
fourth moves by three times as much, where all four have the same size, and the angle is twice the quaternion's."""


@pytest.fixture
def converter() -> None:
    if shutil.which("node") is None or not programs.SPLAT_TRANSFORM.exists():
        pytest.skip("splat-transform is not installed; make test-readers installs it (needs node)")


@pytest.mark.parametrize(
    ("reader", "name"), [pytest.param(r, n, id=f"{r.name}-{n}") for r in NUMBER_READERS for n in r.opened]
)
def test_a_program_reads_our_numbers(tmp_path: Path, reader: NumberReader, name: str) -> None:
    """Every number, as it is stored."""
    if programs.version(reader.package) is None:
        pytest.skip(f"{reader.name} is not installed; make test-readers installs it")
    if reader.name == "gsply" and name.endswith((".sog", ".json")):
        pytest.importorskip("imagecodecs", reason="gsply reads SOG with imagecodecs; make test-readers installs it")
    path = save_as(splats_for(name), tmp_path / name)
    seen = reader.seen(path, tmp_path)
    found = differences(decode_splats(path), seen)
    print(reader.name, name, found)
    if name == "a.splat":  # (b - 128) / 128, as its author reads a byte, against b / 127.5 - 1: half a step
        assert 1e-3 < found.rotations <= CORNER * HALF / 128
        found = dataclasses.replace(found, rotations=0.0)
    assert found.largest <= ROUNDING
    if reader.name == "splat-transform":  # takes all in a PLY's axes, so that of ours .spz version 3 alone is turned
        assert (differences(load_gaussians(path), seen).means <= ROUNDING) == (name != "3.spz")


@pytest.mark.parametrize("name", ["a.usda", "a.usdz"])
def test_openusd_finds_nothing_to_complain_of(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pxr", reason="usd-core is not installed; make test-readers installs it")
    assert programs.openusd_complaints(save_as(splats_for(name, 300), tmp_path / name)) == []


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("name", WRITTEN)
def test_we_read_what_splat_transform_writes(tmp_path: Path, name: str) -> None:
    """The numbers that it reads itself, which lie within half a step of what it was given."""
    splats, path = splats_for(name), tmp_path / name
    save_gaussians(splats, tmp_path / "a.ply")
    path.parent.mkdir(exist_ok=True)
    programs.splat_transform(*(["--spz-version", 3] if name == "3.spz" else []), tmp_path / "a.ply", path)
    ours = load_gaussians(path, axes="RDF" if name == "3.spz" else None)
    if name != "b.glb":  # which it only writes
        found = differences(ours, programs.seen_by_splat_transform(path, tmp_path))
        assert found.largest <= ROUNDING
    independent, axes = decode_splats(path), load_splat_file(path).axes
    assert differences(load_splat_file(path).gaussians, independent).largest <= ROUNDING
    assert axes == independent.axes
    lost, bound = differences(splats, ours, sort=True), half_a_step(splats, path)
    print(name, lost, bound)
    for field in Differences.__dataclass_fields__:
        assert getattr(lost, field) <= getattr(bound, field) * 1.001 + ROUNDING, field


def half_a_step(splats: Gaussians, path: Path) -> Differences:
    """Of splat-transform's quantisation of these splats."""
    reach = float((splats.means.amax(0) - splats.means.amin(0)).max())
    logs = splats.scales.log()
    if path.name.endswith(".compressed.ply"):  # within a chunk's bounds, here those of all
        colors = splats.harmonics[:, 0]
        return Differences(
            means=HALF * reach / 1023,
            scales=HALF * float(logs.max() - logs.min()) / 1023,
            rotations=CORNER * HALF * 2**0.5 / 1023,
            opacities=HALF / 255,
            constant=HALF * float((colors.amax(0) - colors.amin(0)).max()) / 255,
            rest=HALF * 8 / 256,
        )
    if path.suffix == ".spz":  # 5 bits of harmonics of degree 1 and 4 of the others, of numbers rounded to 1/128 before
        return Differences(
            means=HALF / 2**12,
            scales=HALF / 16,
            rotations=CORNER * HALF * 0.5**0.5 / 511,
            opacities=HALF / 255,
            constant=HALF / (0.15 * 255),
            rest=8.5 / 128,
        )
    if path.suffix in (".sog", ".json"):
        return half_a_step_of_sog(splats, path)
    return Differences(means=0, scales=0, rotations=0, opacities=0, constant=0, rest=0)


def half_a_step_of_sog(splats: Gaussians, path: Path) -> Differences:
    """Half the widest gap of the codebooks that the splats use; the palette of the harmonics has no such bound."""
    if path.suffix == ".sog":
        with zipfile.ZipFile(path) as archive:
            metas = [json.loads(archive.read("meta.json"))]
    else:
        metas = [json.loads(file.read_text()) for file in path.parent.rglob("meta.json")]
    reach = 1 + float(splats.means.abs().max())
    steps = [(np.array(meta["means"]["maxs"]) - meta["means"]["mins"]).max() / 65535 for meta in metas]
    return Differences(  # it cuts positions, rotations and opacities off where others round: whole steps
        means=max(steps) * reach,
        scales=HALF * max(np.diff(meta["scales"]["codebook"]).max() for meta in metas),
        rotations=CORNER * 2**0.5 / 255,
        opacities=1 / 255,
        constant=HALF * max(np.diff(meta["sh0"]["codebook"]).max() for meta in metas),
        rest=1.0,
    )


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_we_read_what_the_author_of_ksplat_writes(tmp_path: Path, level: int) -> None:
    """Every number as splat-transform reads it; opacities and colours are bytes that were cut off, whole steps."""
    splats = splats_for("a.ply")
    save_gaussians(splats, tmp_path / "a.ply")
    programs.write_ksplat(tmp_path / "a.ply", tmp_path / "a.ksplat", level)
    ours = load_gaussians(tmp_path / "a.ksplat")
    assert differences(ours, programs.seen_by_splat_transform(tmp_path / "a.ksplat", tmp_path)).largest <= ROUNDING
    half_float = 2**-10 if level else 0  # cut off, of numbers about 1
    bound = Differences(
        means=HALF * 5 / 65535 if level else 0,  # buckets are 5 wide
        scales=half_float,
        rotations=CORNER * half_float,
        opacities=1 / 255,
        constant=1 / 255 / C0,
        rest=(0, half_float, HALF * 3 / 255)[level],  # bytes between -1.5 and 1.5
    )
    lost = differences(splats, ours, sort=True)
    print(lost, bound)
    for field in Differences.__dataclass_fields__:
        assert getattr(lost, field) <= getattr(bound, field) * 1.001 + ROUNDING, field
    assert ours.degree == 2, "as many as the format holds"


def test_the_gltf_validator_objects_to_names_of_the_extension_alone(tmp_path: Path) -> None:
    """Its last release is older than the extension, whose attributes have names that the core does not allow."""
    if programs.version("gltf-validator") is None:
        pytest.skip("gltf-validator is not installed; make test-readers installs it (needs node)")
    path = save_as(splats_for("a.glb", 300), tmp_path / "a.glb")
    for complaint in programs.gltf_complaints(path):
        about = complaint["pointer"].rpartition("/")[2]
        extension = (complaint["code"], complaint["pointer"]) == ("UNSUPPORTED_EXTENSION", "/extensionsUsed/0")
        name = complaint["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE" and about.startswith("KHR_gaussian_splatting:")
        assert extension or name, complaint


def test_pycolmap_reads_the_exported_cameras(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    folder, out = small_scene_folder(tmp_path / "scene"), tmp_path / "cameras"
    export(folder, out, frame="opengl")
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    assert model.num_images() == 4
    assert model.num_points3D() > 0
    from da3gs.exports.axis_conventions import turned_scene
    from da3gs.scene import load_scene

    scene = turned_scene(load_scene(folder), "opengl")
    for image in model.images.values():
        index = scene.views.names.index(Path(image.name).stem)
        pose = np.asarray(image.cam_from_world().matrix())
        np.testing.assert_allclose(pose, scene.cameras.world_to_cam[index, :3], atol=1e-5)
        assert model.cameras[image.camera_id].params.tolist() == [60, 62, 27, 22]


def test_a_wrong_number_would_be_seen() -> None:
    """The comparison itself."""
    splats = small_gaussians(50, 4)
    turned = with_axes(splats, "RDF", "RUB")
    assert differences(splats, splats).largest == 0
    assert differences(splats, turned).means > 0.1
    swapped = torch.roll(splats.quaternions, 1, -1)
    other = Gaussians(**{**{name: getattr(splats, name) for name in ("means", "scales", "opacities", "harmonics")},
                         "quaternions": swapped})  # fmt: skip
    assert differences(splats, other).rotations > 1
    assert differences(splats, splats.masked(torch.arange(49, -1, -1)), sort=True).largest == 0
