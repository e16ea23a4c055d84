"""PlayCanvas' splat-transform and gsply, neither of which we wrote, read every splat format that they know."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
from gsply.spz import read_spz

from da3gs.formats import load_gaussians, save_gaussians
from da3gs.geometry.harmonics import C0
from da3gs.pipeline.export import export
from tests.small_scene import small_gaussians, small_scene_folder

pytestmark = [pytest.mark.slow, pytest.mark.process]

TOOL = Path(__file__).parent / "node_modules" / ".bin" / "splat-transform"
COUNT = 5000
STEPS = {  # how far from the truth a format may put positions, opacities, DC colours, other harmonics, relative scales
    ".ply": (1e-6, 1e-6, 1e-5, 1e-5, 1e-5),
    ".compressed.ply": (2e-3, 0.003, 0.02, 1 / 60, 0.005),
    ".splat": (1e-6, 0.003, 0.01, None, 1e-5),
    ".spz": (1e-6, 0.003, 0.01, 1 / 200, 0.04),
}


@pytest.fixture(scope="module")
def tool() -> str:
    if not TOOL.exists() or shutil.which("node") is None:
        pytest.skip("splat-transform is not installed; make test-readers installs it (needs node)")
    return str(TOOL)


def statistics(tool: str, path: Path) -> tuple[int, dict[str, tuple[float, float, int]]]:
    """Its table: the number of splats, and (smallest, largest, not finite) of each column."""
    done = subprocess.run([tool, "-q", str(path), "-m", "null"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, columns = -1, {}
    for line in done.stdout.splitlines():
        if line.startswith("**Row Count:**"):
            count = int(line.split()[-1])
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 8 and cells[0] not in ("Column", "") and not cells[0].startswith("-"):
            columns[cells[0]] = (float(cells[1]), float(cells[2]), int(cells[6]) + int(cells[7]))
    return count, columns


@pytest.mark.parametrize("suffix", STEPS)
def test_splat_transform_sees_what_was_written(tool: str, tmp_path: Path, suffix: str) -> None:
    splats = small_gaussians(COUNT, 9)
    splats.harmonics[:, 0].clamp_(-1.7, 1.7)  # what a byte can hold
    save_gaussians(splats, tmp_path / f"a{suffix}")
    count, columns = statistics(tool, tmp_path / f"a{suffix}")
    position, opacity, constant, other, size = STEPS[suffix]
    assert count == COUNT
    assert sum(bad for _, _, bad in columns.values()) == 0
    expected = {name: (splats.means[:, i], position) for i, name in enumerate("xyz")}
    expected["opacity"] = (splats.opacities, opacity)
    for i in range(3):
        expected[f"f_dc_{i}"] = (splats.harmonics[:, 0, i] * C0 + 0.5, constant)  # shown as colours
        expected[f"scale_{i}"] = (splats.scales[:, i], size * float(splats.scales[:, i].max()))  # without logarithm
    if other is not None:
        for k in range(24):
            expected[f"f_rest_{k}"] = (splats.harmonics[:, 1 + k % 8, k // 8], other)
    assert other is not None or not any(name.startswith("f_rest") for name in columns)
    for name, (values, step) in expected.items():
        low, high, _ = columns[name]
        wanted = (float(values.min()), float(values.max()))
        assert (low, high) == pytest.approx(wanted, abs=step + 1e-5 * max(map(abs, wanted))), name


@pytest.mark.parametrize("suffix", [".compressed.ply", ".spz"])
def test_what_splat_transform_writes(tool: str, tmp_path: Path, suffix: str) -> None:
    splats = small_gaussians(1000, 16)
    save_gaussians(splats, tmp_path / "a.ply")
    version = ["--spz-version", "3"] if suffix == ".spz" else []
    done = subprocess.run(
        [tool, "-q", *version, str(tmp_path / "a.ply"), str(tmp_path / f"b{suffix}")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    again = load_gaussians(tmp_path / f"b{suffix}")
    assert len(again) == 1000
    nearest = torch.cdist(splats.means, again.means).argmin(1)
    assert (again.means[nearest] - splats.means).abs().max() < 2e-3
    lost = (again.harmonics[nearest] - splats.harmonics).abs().amax((0, 2))
    # .compressed.ply: half a step of 1/32. .spz: it keeps 5 of the 8 bits of degree 1 and 4 of the rest ("sh1Bits",
    # "shRestBits"), so half a step of 8 or 16 in 128, after a first rounding to whole numbers.
    first, rest = (4.5 / 128, 8.5 / 128) if suffix == ".spz" else (1 / 64, 1 / 64)
    assert lost[1:4].max() <= first + 1e-5
    assert lost[4:].max() <= rest + 1e-5
    assert (again.scales[nearest].log() - splats.scales.log()).abs().max() < 0.05


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz"])
def test_gsply_sees_the_same_bounds(tmp_path: Path, suffix: str) -> None:
    """gsply leaves the axes of .spz as they are stored."""
    folder, path = small_scene_folder(tmp_path / "scene"), tmp_path / f"a{suffix}"
    assert export(folder, path) == 300
    data = read_spz(str(path)) if suffix == ".spz" else gsply.plyread(str(path))
    means = data.means * (np.array([1, -1, -1]) if suffix == ".spz" else 1)
    wanted = small_gaussians().means.numpy()
    assert len(means) == 300
    np.testing.assert_allclose([means.min(0), means.max(0)], [wanted.min(0), wanted.max(0)], atol=2e-6)


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
