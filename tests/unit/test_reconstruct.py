"""The whole path with a network that knows the truth: whatever is wrong then is the pipeline's."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import da3gs
from da3gs.errors import InputError
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from da3gs.pipeline.reconstruct import reconstruct
from tests.unit.plane_scene import TruthNetwork, plane_scene, write_photos, write_transforms


def similarity(scale: float, seed: int, shift: float = 1.0) -> Similarity:
    generator = torch.Generator().manual_seed(seed)
    return Similarity(
        scale=torch.tensor(scale, dtype=torch.float64),
        rotation=quaternion_to_matrix(torch.randn(4, generator=generator, dtype=torch.float64)),
        translation=shift * torch.randn(3, generator=generator, dtype=torch.float64),
    )


ROOT = Path(__file__).parents[2]
VIEWS, DEPTH = plane_scene()
NETWORK = TruthNetwork(VIEWS, DEPTH, similarity(0.37, 1))


def test_unposed_photos_become_an_upright_scene_of_median_depth_one(tmp_path):
    scene = reconstruct(write_photos(VIEWS, tmp_path / "photos"), model=NETWORK, resolution=112, poses="predicted")
    assert scene.record["poses"]["source"] == "predicted"
    assert scene.record["input"] == "folder"
    torch.testing.assert_close(scene.cameras.centers[0], torch.zeros(3), atol=1e-5, rtol=0)
    assert scene.depth is not None
    assert scene.depth.median().item() == pytest.approx(1, abs=1e-4)
    assert scene.record["psnr"]["input_mean"] > 30  # a smooth texture: nothing but misplaced splats could cost much
    assert len(scene.gaussians) == 5 * 84 * 112 - sum(scene.record["cleaned"].values())
    up = scene.cameras.world_to_cam[:, 1, :3]
    assert (up[:, 1] > 0.95).all()  # +y is down in every photo


def test_held_out_photos_are_kept_from_the_model_and_scored(tmp_path):
    """The plane fills every view, so that a held-out photo is shown whole: only the pipeline could spoil it."""
    folder = write_photos(VIEWS, tmp_path / "photos")
    scene = reconstruct(folder, model=NETWORK, resolution=112, holdout="photo_2", poses="predicted")
    assert scene.views.names == ("photo_0", "photo_1", "photo_3", "photo_4")
    assert scene.record["psnr"]["holdout_poses"] == "aligned"
    assert scene.record["psnr"]["holdout_mean"] > 28
    roles = {photo["name"]: photo["role"] for photo in scene.record["views"]["kept"]}
    assert roles["photo_2"] == "holdout"
    posed = reconstruct(write_transforms(VIEWS, tmp_path / "posed"), model=NETWORK, resolution=112, holdout="every:3")
    assert posed.views.names == ("photo_1", "photo_2", "photo_4")
    assert posed.record["psnr"]["holdout_poses"] == "given"
    assert len(posed.record["psnr"]["holdout"]) == 2


@pytest.mark.parametrize(("scale", "seed"), [(1.0, 3), (25.0, 4), (0.01, 5)])
def test_given_poses_put_the_scene_into_the_callers_frame(tmp_path, scale, seed):
    world = similarity(scale, seed, shift=scale)
    folder = write_transforms(VIEWS, tmp_path / "posed", world)
    scene = reconstruct(folder, model=NETWORK, resolution=112, holdout="photo_2")
    assert scene.record["poses"]["source"] == "given"
    assert scene.record["poses"]["residual"]["rotation_degrees"] < 0.05
    expected = VIEWS.cameras.transformed(world)
    torch.testing.assert_close(scene.cameras.centers, expected.centers[[0, 1, 3, 4]], atol=1e-4 * scale, rtol=1e-4)
    off = (scene.depth / (DEPTH[[0, 1, 3, 4]] * scale) - 1).abs()  # a pixel of disparity is 7 % of the depth
    assert off.quantile(0.95) < 0.02
    assert scene.record["psnr"]["holdout_mean"] > 28


def test_a_world_far_from_the_origin_keeps_its_detail(tmp_path):
    """UTM-like coordinates: float32 would round positions to half a metre; the splats are stored minus an offset."""
    world = dataclasses.replace(similarity(1.0, 3), translation=torch.tensor([5.0e5, 4.0e6, 30.0], dtype=torch.float64))
    scene = reconstruct(write_transforms(VIEWS, tmp_path / "posed", world), model=NETWORK, resolution=112)
    assert scene.record["psnr"]["input_mean"] > 30
    assert abs(scene.offset[1] - 4.0e6) < 10
    np.testing.assert_allclose(scene.cam_to_world_given[:, :3, 3].mean(0), [5.0e5, 4.0e6, 30.0], atol=5)


def test_the_scene_folder_survives_a_round_trip(tmp_path):
    scene = reconstruct(write_photos(VIEWS, tmp_path / "photos"), model=NETWORK, resolution=112, poses="predicted")
    scene.save(tmp_path / "out.scene")
    back = da3gs.load_scene(tmp_path / "out.scene")
    torch.testing.assert_close(back.gaussians.means, scene.gaussians.means, rtol=0, atol=0)
    torch.testing.assert_close(back.cameras.world_to_cam, scene.cameras.world_to_cam, rtol=0, atol=1e-6)
    assert back.views.names == scene.views.names


WITHOUT_UNIX = """
import sys
sys.modules.update(dict.fromkeys(("resource", "fcntl", "pwd", "grp", "termios")))  # None: importing fails
from pathlib import Path
from da3gs.pipeline.reconstruct import reconstruct
from tests.unit.test_reconstruct import NETWORK, VIEWS
from tests.unit.plane_scene import write_photos
scene = reconstruct(write_photos(VIEWS, Path(sys.argv[1]) / "photos"), model=NETWORK, resolution=112, poses="predicted")
scene.save(Path(sys.argv[1]) / "a.scene")
print(len(scene.gaussians), scene.record["peak_memory_mb"])
"""


@pytest.mark.process
def test_reconstruct_runs_without_the_modules_of_unix(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    count, peak = done.stdout.split()
    assert int(count) > 1000
    assert peak == "None"


def test_the_same_input_gives_the_same_splats(tmp_path):
    folder = write_photos(VIEWS, tmp_path / "photos")
    first, second = (reconstruct(folder, model=NETWORK, resolution=112, poses="predicted").gaussians for _ in range(2))
    for name in ("means", "scales", "quaternions", "opacities", "harmonics"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_impossible_wishes_are_refused(tmp_path):
    folder = write_photos(VIEWS, tmp_path / "photos")
    for flags, words in (
        ({"poses": "given"}, "no poses"),
        ({"splats": "head"}, "no Gaussian head"),
        ({"holdout": "every:2", "views": 1}, "leaves none"),
        ({"threads": 0}, "--threads"),
        ({"device": "cuda"} if not torch.cuda.is_available() else {"threads": -1}, "--"),
        ({"min_opacity": 0.999}, "none of"),
    ):
        with pytest.raises((InputError, da3gs.Da3gsError), match=words):
            reconstruct(folder, model=NETWORK, resolution=112, **flags)
