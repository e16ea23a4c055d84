"""nerfstudio itself, in an environment of its own, reads a scene folder through our data parser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from da3gs.nerfstudio_plugin import posed_folder
from tests.small_scene import small_scene_folder

pytestmark = [pytest.mark.slow, pytest.mark.process]

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("DA3GS_NERFSTUDIO", HERE / ".nerfstudio")) / "bin" / "python"


def test_nerfstudio_reads_a_scene_folder(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("nerfstudio's environment is missing; make test-readers makes it (3 GB)")
    folder = small_scene_folder(tmp_path / "scene")
    done = subprocess.run(
        [str(PYTHON), str(HERE / "nerfstudio_probe.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path)},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    told = json.loads(lines[-1].removeprefix("RESULT "))
    assert told["class"] == "da3gs.nerfstudio_plugin.SceneDataParser"
    assert told["offered"], "ns-train lists it"
    wanted = posed_folder(folder, splats=True)
    method = told["method"]
    assert method["name"] == "da3gs"
    assert method["class"] == "da3gs.nerfstudio_method.SceneSplatfacto"
    assert method["shapes"]["features_rest"] == [300, 15, 3]
    assert method["optimised"] == ["features_dc", "features_rest", "means", "opacities", "quats", "scales"]
    assert wanted.splats is not None
    np.testing.assert_allclose(method["means"], wanted.splats.means[:5], atol=1e-6)
    np.testing.assert_allclose(method["scales"], wanted.splats.scales[:5], rtol=1e-4)
    for split, chosen in (("train", [1, 2, 3]), ("val", [0])):
        found = told[split]
        assert found["images"] == [wanted.images[i].name for i in chosen]
        assert found["shapes"] == [[*wanted.sizes[i], 3] for i in chosen]
        assert found["sizes"] == [list(wanted.sizes[i]) for i in chosen]
        assert found["focal"] == [[60, 62]] * len(chosen)
        assert found["middle"] == [[27, 22]] * len(chosen)
        np.testing.assert_allclose(found["camera_to_worlds"], wanted.cam_to_world[chosen, :3], atol=1e-6)
        assert found["points"] == [300, 3]
        assert found["colors"] == "torch.uint8"
        np.testing.assert_allclose(found["first_points"], wanted.points[:5], atol=1e-6)
        own = posed_folder(folder, align=False).cam_to_world[chosen, :3]
        opencv = own * [1, -1, -1, 1]  # which is what its method gives by default
        np.testing.assert_allclose(found["original"], opencv, atol=1e-5)
        np.testing.assert_allclose(found["intrinsics"], wanted.intrinsics[chosen], atol=1e-5)
