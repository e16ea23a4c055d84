"""DL3DV-style roots and chunks: what is read, lazily, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.torch_chunk import load_chunk
from da3gs.photos.datasets.dl3dv import open_dl3dv
from tests.unit.pictures import posed_folder, rotation, textured

KEY = "95c43ebc897c0aceefd38d4c77118733de9e09fbcb0eb412202496f272115de0"


def encoded(picture: np.ndarray) -> torch.Tensor:
    """PNG bytes as chunks hold them."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def chunk_entry(key: str = "scene", count: int = 3) -> dict:
    """The scene of ``posed_folder`` as a chunk holds it."""
    cameras = torch.zeros(count, 18)
    cameras[:, :4] = torch.tensor([80 / 96, 81 / 64, 47 / 96, 33 / 64])
    for i in range(count):
        pose = np.array(rotation(0.1 * i)) * [1, -1, -1, 1]
        cameras[i, 6:] = torch.from_numpy(np.linalg.inv(pose)[:3].reshape(-1)).float()
    return {
        "key": key,
        "url": "",
        "timestamps": torch.arange(count) + 7,
        "cameras": cameras,
        "images": [encoded(textured(seed=i)) for i in range(count)],
    }


def test_a_root_of_scenes(tmp_path):
    posed_folder(tmp_path / "one" / "nerfstudio")
    posed_folder(tmp_path / "3K" / "two")
    (tmp_path / "one" / "nerfstudio" / "images").rename(tmp_path / "one" / "nerfstudio" / "images_4")
    data = open_dl3dv(tmp_path)
    assert list(data) == ["one", "two"]
    assert "two" in data
    scene = data["one"]
    assert (scene.key, scene.names, len(scene)) == ("one", ("0.png", "1.png", "2.png"), 3)
    np.testing.assert_array_equal(scene.picture(1), textured(seed=1))
    np.testing.assert_allclose(scene.pixel_intrinsics(0, 64, 96), [[80, 0, 47], [0, 81, 33], [0, 0, 1]])
    np.testing.assert_allclose(scene.pixel_intrinsics(0, 32, 48), [[40, 0, 23.5], [0, 40.5, 16.5], [0, 0, 1]])
    np.testing.assert_array_equal(scene.cam_to_world[1], np.array(rotation(0.1)) * [1, -1, -1, 1])
    for folder in (tmp_path / "one", tmp_path / "one" / "nerfstudio"):
        assert list(open_dl3dv(folder)) == ["one"]
    with pytest.raises(InputError, match="holds no scene 'three'"):
        data["three"]


def test_chunks_say_the_same_as_folders(tmp_path):
    posed_folder(tmp_path / "scene")
    torch.save([chunk_entry(), chunk_entry("other")], tmp_path / "000000.torch")
    folder, chunk = open_dl3dv(tmp_path / "scene")["scene"], open_dl3dv(tmp_path / "000000.torch")["scene"]
    np.testing.assert_allclose(chunk.cam_to_world, folder.cam_to_world, atol=1e-6)
    np.testing.assert_allclose(chunk.intrinsics, folder.intrinsics, atol=1e-6)
    np.testing.assert_array_equal(chunk.picture(2), folder.picture(2))
    assert chunk.names == ("frame_00007", "frame_00008", "frame_00009")
    assert list(open_dl3dv(tmp_path)) == ["other", "scene"]


def test_an_index_spares_opening_chunks(tmp_path):
    (tmp_path / "test").mkdir()
    torch.save([chunk_entry()], tmp_path / "test" / "000000.torch")
    (tmp_path / "test" / "000001.torch").write_bytes(b"broken")
    index = tmp_path / "test" / "index.json"
    index.write_text(json.dumps({"scene": "000000.torch", "lost": "000001.torch"}))
    data = open_dl3dv(tmp_path)
    assert list(data) == ["lost", "scene"]
    assert len(data["scene"]) == 3
    with pytest.raises(InputError, match="not a file that torch wrote"):
        data["lost"]
    index.write_text(json.dumps({"scene": "../000000.torch"}))
    with pytest.raises(InputError, match=r"is said to be in '\.\./000000\.torch', not here"):
        open_dl3dv(tmp_path)
    index.write_text(json.dumps({"../scene": "000000.torch"}))
    with pytest.raises(InputError, match="is no name of a scene"):
        open_dl3dv(tmp_path)


def test_a_missing_photo_keeps_its_number(tmp_path):
    posed_folder(tmp_path / "scene")
    (tmp_path / "scene" / "images" / "1.png").unlink()
    (tmp_path / "scene" / "images" / "2.png").write_bytes(b"nothing")
    scene = open_dl3dv(tmp_path)["scene"]
    assert len(scene) == 3
    np.testing.assert_array_equal(scene.picture(0), textured(seed=0))
    with pytest.raises(InputError, match=r"scene, frame 1: 1\.png is missing"):
        scene.picture(1)
    with pytest.raises(InputError, match=r"scene, frame 2: 2\.png is not a picture"):
        scene.picture(2)
    with pytest.raises(InputError, match="has frames 0 to 2, not 3"):
        scene.picture(3)


def test_distortion_can_be_undone(tmp_path):
    posed_folder(tmp_path / "scene", k1=0.1)
    scene = open_dl3dv(tmp_path)["scene"]
    assert scene.distortion[0][0] == 0.1
    image, intrinsics = scene.undistorted_picture(0)
    assert image.shape == (64, 96, 3)
    assert intrinsics[0, 0] != 80
    plain = open_dl3dv(tmp_path / "scene")["scene"].picture(0)
    np.testing.assert_array_equal(plain, textured(seed=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "../x"}, "is called '../x'"),
        ({"key": 3}, "is called 3"),
        ({"cameras": torch.zeros(3, 17)}, r"cameras are torch.float32 of shape \(3, 17\)"),
        ({"cameras": torch.full((3, 18), float("nan"))}, "not finite"),
        ({"cameras": torch.zeros(1).expand(3, 18)}, "longer than what is stored"),
        ({"cameras": torch.zeros(3, 18).to_sparse()}, "no plain tensor"),
        ({"timestamps": torch.zeros(3)}, "timestamps are torch.float32"),
        ({"images": []}, "one image for each of 3"),
        ({"images": [torch.zeros(3)] * 3}, "not the bytes of a picture"),
        ({"images": None}, "one image for each"),
    ],
)
def test_wrong_chunks_are_refused(tmp_path, change, message):
    path = tmp_path / "a.torch"
    torch.save([chunk_entry() | change], path)
    with pytest.raises(InputError, match=message):
        load_chunk(path)


def test_wrong_cameras_and_pictures_of_chunks_are_refused(tmp_path):
    path = tmp_path / "a.torch"
    entry = chunk_entry()
    entry["cameras"][1, 6:] = 2
    entry["images"][0] = torch.zeros(100, dtype=torch.uint8)
    torch.save([entry], path)
    with pytest.raises(InputError, match=r"a\.torch, scene, frame 1: its camera holds no rotation"):
        open_dl3dv(path)["scene"]
    entry["cameras"] = chunk_entry()["cameras"]
    torch.save([entry], path)
    with pytest.raises(InputError, match="frame_00007 is not a picture"):
        open_dl3dv(path)["scene"].picture(0)


class _Code:
    def __reduce__(self):
        return print, ("run",)


def test_hostile_chunks_are_refused(tmp_path, capsys):
    path = tmp_path / "a.torch"
    torch.save([_Code()], path)
    with pytest.raises(InputError, match="may run code"):
        load_chunk(path)
    assert capsys.readouterr().out == ""
    torch.save([chunk_entry()], path)
    packed = tmp_path / "packed.torch"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.namelist():
            target.writestr(item, source.read(item))
    with pytest.raises(InputError, match="compressed members"):
        load_chunk(packed)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cut short"):
        load_chunk(path)
    for value in ([], {}, 3):
        torch.save(value, path)
        with pytest.raises(InputError, match="no list of scenes"):
            load_chunk(path)
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(InputError, match="at most 2 GB"):
        load_chunk(path)


def test_roots_without_scenes_are_refused(tmp_path):
    with pytest.raises(InputError, match="neither scenes"):
        open_dl3dv(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_dl3dv(tmp_path / "none")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"is no \.torch chunk"):
        open_dl3dv(tmp_path / "a.txt")


def test_paths_that_lead_out_are_refused(tmp_path):
    posed_folder(tmp_path / "root" / "scene")
    shutil.move(tmp_path / "root" / "scene" / "images" / "0.png", tmp_path / "0.png")
    (tmp_path / "root" / "scene" / "images" / "0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(InputError, match="leads out"):
        open_dl3dv(tmp_path / "root")["scene"]


def test_shared_layout(test_data):
    scene = open_dl3dv(test_data("data/dl3dv_layout"))[KEY]
    picture = scene.picture(5)
    assert picture.ndim == 3
    assert scene.pixel_intrinsics(5, *picture.shape[:2])[0, 0] == pytest.approx(
        3316.868 * picture.shape[1] / 3840, rel=1e-5
    )
