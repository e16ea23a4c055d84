"""The scene folder: everything in it, read back, and by programs that are not ours."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from da3gs._scene_write import file_stem, reference_indices
from da3gs.errors import InputError
from da3gs.formats.cameras.inria import load_inria
from da3gs.formats.cameras.transforms import load_transforms
from da3gs.formats.splats.ply import ply_comments
from da3gs.photos.records import Original, Photo
from da3gs.rendering import render
from da3gs.scene import Scene, far_offset, load_scene
from tests.small_scene import HEIGHT, WIDTH, small_cameras, small_scene, small_scene_folder

ALWAYS = {
    "scene.json",
    "scene.ply",
    "transforms.json",
    "cameras.json",
    "images",
    "reference.npz",
    "preview.png",
    "sparse",
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return small_scene()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_scene_folder(tmp_path / "scene")


def test_holds_everything(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == ALWAYS | {"splats.npz", "depth.npz", "masks"}
    assert [path.name for path in folder.parent.iterdir()] == ["scene"]


def test_comes_back(scene: Scene, folder: Path) -> None:
    again = load_scene(folder)
    assert torch.equal(again.gaussians.means, scene.gaussians.means)
    torch.testing.assert_close(again.cameras.world_to_cam, scene.cameras.world_to_cam, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.cameras.intrinsics, scene.cameras.intrinsics)
    assert (again.cameras.height, again.cameras.width) == (HEIGHT, WIDTH)
    assert again.views.names == scene.views.names
    assert torch.equal(again.views.masks, scene.views.masks)
    inside = scene.views.masks.clone()
    inside[3, 5:9, 5:9] = True  # unwanted pixels stay in the picture
    assert torch.equal(again.views.images, scene.views.images * inside[:, None])
    for field in dataclasses.fields(scene.provenance):
        assert torch.equal(getattr(again.provenance, field.name), getattr(scene.provenance, field.name)), field.name
    assert torch.equal(again.depth[0], scene.depth[0])
    assert torch.isnan(again.depth[1, 30:]).all()
    assert torch.isnan(again.depth[2, :, 40:]).all()
    assert torch.equal(again.depth[1, :30], scene.depth[1, :30])
    assert torch.equal(again.confidence, scene.confidence)
    assert torch.equal(again.sky, scene.sky)
    assert again.record["settings"] == {"views": "auto"}
    assert again.record["splats"] == 300


def test_saved_twice_is_the_same_bytes(scene: Scene, folder: Path, tmp_path: Path) -> None:
    scene.save(tmp_path / "other")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            other = tmp_path / "other" / path.relative_to(folder)
            assert path.read_bytes() == other.read_bytes(), path.name


def test_a_loaded_scene_can_be_saved(folder: Path, tmp_path: Path) -> None:
    load_scene(folder).save(tmp_path / "other")
    for name in ("transforms.json", "splats.npz", "depth.npz", "images/photo 1.png", "masks/photo 3.png"):
        assert (folder / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_only_what_is_needed(scene: Scene, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        scene,
        provenance=None,
        depth=None,
        confidence=None,
        sky=None,
        views=dataclasses.replace(scene.views, masks=None),
    )
    bare.save(tmp_path / "scene")
    assert {path.name for path in (tmp_path / "scene").iterdir()} == ALWAYS
    again = load_scene(tmp_path / "scene")
    assert again.depth is None
    assert again.provenance is None
    assert again.views.masks is None


def test_scene_json(folder: Path) -> None:
    text = (folder / "scene.json").read_text()
    record = json.loads(text)
    assert record["format"] == "da3gs scene"
    assert record["format_version"] == 1
    assert record["frame"]["vertical_axis"] == [0, -1, 0]
    assert record["frame"]["offset"] == [0, 0, 0]
    assert record["sizes"] == [[42, 56], [30, 56], [42, 40], [42, 56]]
    assert "Vertical axis: 0 -1 0" in ply_comments(folder / "scene.ply")
    assert "Unit: arbitrary" in ply_comments(folder / "scene.ply")


def test_no_private_traces(scene: Scene, tmp_path: Path) -> None:
    told = dataclasses.replace(scene, record={"input": tmp_path / "secret" / "photo.jpg", "psnr": float("inf")})
    told.save(tmp_path / "scene")
    record = json.loads((tmp_path / "scene" / "scene.json").read_text())
    assert record["input"] == "photo.jpg"
    assert record["psnr"] is None
    for path in (tmp_path / "scene").rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path.name
    with Image.open(tmp_path / "scene" / "images" / "photo 0.png") as picture:
        assert not picture.info
        assert not picture.getexif()


def test_transforms_json_is_nerfstudio_s(scene: Scene, folder: Path) -> None:
    content = json.loads((folder / "transforms.json").read_text())
    frames = content["frames"]
    assert [frame["file_path"] for frame in frames] == [f"images/photo {i}.png" for i in range(4)]
    assert (frames[1]["h"], frames[1]["w"]) == (30, 56)
    with Image.open(folder / frames[2]["file_path"]) as picture:
        assert picture.size == (frames[2]["w"], frames[2]["h"]) == (40, 42)
    matrix = np.array(frames[0]["transform_matrix"])
    assert np.allclose(matrix[:3, 3], scene.cameras.centers[0], atol=1e-6)
    assert np.allclose(-matrix[:3, 2], scene.cameras.forward[0], atol=1e-6), "OpenGL cameras look along -z"
    assert matrix[1, 1] < 0, "and their y axis points up, which is -y here"
    assert [content[key] for key in ("fl_x", "fl_y", "cx", "cy")] == [60, 62, 27, 22]


def test_cameras_json_is_inria_s(scene: Scene, folder: Path) -> None:
    cameras = load_inria(folder / "cameras.json")
    assert cameras.sizes == ((42, 56), (30, 56), (42, 40), (42, 56))
    torch.testing.assert_close(cameras.world_to_cam.float(), scene.cameras.world_to_cam, rtol=0, atol=1e-6)
    torch.testing.assert_close(cameras.intrinsics.float(), scene.cameras.intrinsics)
    entry = json.loads((folder / "cameras.json").read_text())[1]
    assert {"id", "img_name", "width", "height", "position", "rotation", "fx", "fy"} <= entry.keys()


def test_pycolmap_reads_the_model(scene: Scene, folder: Path) -> None:
    import pycolmap

    model = pycolmap.Reconstruction(str(folder / "sparse" / "0"))
    images = {image.name: image for image in model.images.values()}
    assert sorted(images) == [f"photo {i}.png" for i in range(4)]
    for index in range(4):
        image = images[f"photo {index}.png"]
        pose = image.cam_from_world().matrix()
        assert np.allclose(pose, scene.cameras.world_to_cam[index, :3].numpy(), atol=1e-6)
        assert np.allclose(model.cameras[image.camera_id].params, [60, 62, 27, 22])
    assert model.cameras[images["photo 1.png"].camera_id].height == 30
    points = np.array([point.xyz for point in model.points3D.values()])
    assert len(points) == 151
    assert np.isin(points.astype(np.float32), scene.gaussians.means.numpy()).all()


def test_reference_is_what_the_splats_show(scene: Scene, folder: Path) -> None:
    reference = np.load(folder / "reference.npz", allow_pickle=False)
    assert reference["color"].dtype == np.float16
    expected = render(scene.gaussians, scene.cameras).color.numpy()
    assert np.abs(reference["color"].astype(np.float32) - expected).max() <= 2**-11 * max(1.0, np.abs(expected).max())


def test_at_most_eight_references() -> None:
    assert reference_indices(3) == [0, 1, 2]
    assert reference_indices(8) == list(range(8))
    many = reference_indices(100)
    assert len(set(many)) == 8
    assert many[0] == 0
    assert many[-1] == 99


def far_scene(offset: torch.Tensor) -> Scene:
    """The small scene in a world far from its origin, its splats given near the origin as a careful caller does."""
    scene = small_scene()
    poses = small_cameras(dtype=torch.float64).cam_to_world
    poses[:, :3, 3] += offset
    return dataclasses.replace(scene, offset=tuple(offset.tolist()), cam_to_world_given=poses.numpy())


def test_far_worlds_keep_their_precision(tmp_path: Path) -> None:
    offset = torch.tensor([500_000.25, -3_000_000.5, 120.0], dtype=torch.float64)
    scene = far_scene(offset)
    scene.save(tmp_path / "scene")
    assert f"Offset: {offset[0]} {offset[1]} {offset[2]}" in ply_comments(tmp_path / "scene" / "scene.ply")
    written = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    matrix = np.array([frame["transform_matrix"] for frame in written["frames"]])
    assert np.array_equal(matrix[:, :, 3], scene.cam_to_world_given[:, :, 3]), "the caller's numbers, to the last digit"
    again = load_scene(tmp_path / "scene")
    assert torch.equal(again.gaussians.means, scene.gaussians.means)
    torch.testing.assert_close(again.cameras.world_to_cam, scene.cameras.world_to_cam, rtol=0, atol=1e-6)
    assert again.offset == tuple(offset.tolist())


def test_far_worlds_are_moved_when_the_caller_did_not(tmp_path: Path) -> None:
    offset = torch.tensor([0.0, 4096.0 * 100, 0.0], dtype=torch.float64)
    near = small_scene()
    poses = small_cameras(dtype=torch.float64).cam_to_world
    poses[:, :3, 3] += offset
    far = dataclasses.replace(
        near,
        gaussians=dataclasses.replace(near.gaussians, means=near.gaussians.means + offset.float()),
        cameras=dataclasses.replace(near.cameras, world_to_cam=torch.linalg.inv(poses)),
    )
    far.save(tmp_path / "scene")
    again = load_scene(tmp_path / "scene")
    assert again.offset[1] == pytest.approx(offset[1], abs=2)
    assert again.gaussians.means.abs().max() < 10
    assert torch.allclose(again.gaussians.means.double() + torch.tensor(again.offset), far.gaussians.means.double())
    assert np.allclose(again.cam_to_world_given, poses.numpy(), atol=1e-9)


def test_when_a_world_is_far() -> None:
    cameras = small_cameras()
    assert not far_offset(cameras).any()
    extent = float((cameras.centers.amax(0) - cameras.centers.amin(0)).norm())
    for factor, far in ((0.9e4, False), (1.1e4, True)):
        moved = cameras.cam_to_world.double()
        moved[:, 0, 3] += factor * extent
        there = dataclasses.replace(cameras, world_to_cam=torch.linalg.inv(moved))
        assert bool(far_offset(there).any()) is far


def damage_json(name: str, key: str, value: object) -> object:
    def damage(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        target = record["frames"][1] if name == "transforms.json" else record
        target[key] = value
        (folder / name).write_text(json.dumps(record))

    return damage


def cut(name: str) -> object:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def wrong_array(name: str, key: str, array: np.ndarray) -> object:
    def damage(folder: Path) -> None:
        arrays = dict(np.load(folder / name)) | {key: array}
        np.savez(folder / name, **arrays)

    return damage


def bomb(folder: Path) -> None:
    """A member whose header announces a terabyte."""
    header = {"descr": "<i2", "fortran_order": False, "shape": (1 << 39,)}
    with zipfile.ZipFile(folder / "splats.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("view", "pixel", "confidence", "edge", "sky"):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, header)
                member.write(bytes(1 << 20))


MATRIX = np.eye(4)
BROKEN = {
    "no scene.json": (lambda f: (f / "scene.json").unlink(), "no scene.json"),
    "scene.json cut": (cut("scene.json"), "scene.json is not valid JSON"),
    "scene.json deep": (lambda f: (f / "scene.json").write_text("[" * 100_000), "scene.json is not usable JSON"),
    "scene.json foreign": (lambda f: (f / "scene.json").write_text("{}"), "not of da3gs"),
    "scene.json newer": (damage_json("scene.json", "format_version", 99), "newer"),
    "scene.json odd version": (damage_json("scene.json", "format_version", "x"), "format version"),
    "scene.json sizes": (damage_json("scene.json", "sizes", [[1, 1]]), "belong together"),
    "scene.json large sizes": (damage_json("scene.json", "sizes", [[10**9, 10**9]] * 4), "larger than the picture"),
    "scene.json offset": (damage_json("scene.json", "frame", {"offset": [1, 2]}), "offset"),
    "scene.json frame": (damage_json("scene.json", "frame", [1]), "'frame' should be an object"),
    "scene.json axis": (
        damage_json("scene.json", "frame", {"vertical_axis": [10**400] * 3}),
        "should be three numbers",
    ),
    "scene.json axis word": (damage_json("scene.json", "frame", {"vertical_axis": "up"}), "should be three numbers"),
    "no splats": (lambda f: (f / "scene.ply").unlink(), "scene.ply does not exist"),
    "splats cut": (cut("scene.ply"), "scene.ply is cut short"),
    "no cameras": (lambda f: (f / "transforms.json").unlink(), "transforms.json of the scene does not exist"),
    "cameras cut": (cut("transforms.json"), "transforms.json is not valid JSON"),
    "NaN": (damage_json("transforms.json", "fl_x", float("nan")), "fl_x is nan"),
    "no focal": (damage_json("transforms.json", "fl_x", "60"), "a number is needed"),
    "negative focal": (damage_json("transforms.json", "fl_x", -3), "fl_x=-3"),
    "no rotation": (damage_json("transforms.json", "transform_matrix", (2 * MATRIX).tolist()), "no rotation"),
    "short matrix": (damage_json("transforms.json", "transform_matrix", [1]), "4 rows of 4 numbers"),
    "climbs out": (damage_json("transforms.json", "file_path", "../../secret.png"), "outside the scene"),
    "absolute": (damage_json("transforms.json", "file_path", "/etc/passwd"), "outside the scene"),
    "photo missing": (lambda f: (f / "images/photo 1.png").unlink(), r"photo 1\.png does not exist"),
    "photo cut": (cut("images/photo 1.png"), r"photo 1\.png of the scene cannot be read"),
    "photo text": (
        lambda f: (f / "images/photo 1.png").write_text("hello"),
        r"photo 1\.png of the scene cannot be read",
    ),
    "photo resized": (lambda f: Image.new("RGB", (5, 5)).save(f / "images/photo 1.png"), "is 5x5 pixels large"),
    "provenance cut": (cut("splats.npz"), "splats.npz is damaged or cut short"),
    "provenance short": (
        wrong_array("splats.npz", "view", np.zeros(7, np.int16)),
        "should be int16 300, it is int16 7",
    ),
    "provenance type": (wrong_array("splats.npz", "view", np.zeros(300)), "should be int16 300, it is float64"),
    "provenance view": (wrong_array("splats.npz", "view", np.full(300, 99, np.int16)), "names a view"),
    "provenance pickle": (wrong_array("splats.npz", "view", np.array([{}] * 300)), "it is object"),
    "provenance bomb": (bomb, "should be int16 300, it is int16 549755813888"),
    "depth shape": (wrong_array("depth.npz", "depth", np.zeros((1, 2, 3), np.float32)), "should be float32 4x42x56"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_give_one_line(folder: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_scene(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_links_may_not_lead_out(folder: Path, tmp_path: Path) -> None:
    photo = folder / "images" / "photo 1.png"
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match="outside the scene"):
        load_scene(folder)


def test_saving_never_replaces_what_is_not_a_scene(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "a.jpg").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="exists already" if not overwrite else "not a scene folder"):
            scene.save(path, overwrite=overwrite)
    assert [p.name for p in tmp_path.rglob("*")] == ["photos", "a.jpg"]


def test_overwriting_a_scene(scene: Scene, folder: Path) -> None:
    (folder / "extra.txt").write_text("gone with the old one")
    with pytest.raises(InputError, match="exists already"):
        scene.save(folder)
    scene.save(folder, overwrite=True)
    assert not (folder / "extra.txt").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["scene"]
    load_scene(folder)


def test_nothing_stays_behind_when_writing_fails(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3gs._scene_write.save_ply", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        scene.save(tmp_path / "scene")
    assert not list(tmp_path.iterdir())


def photo_at_full_size(index: int, height: int, width: int, intrinsics: np.ndarray | None) -> Photo:
    """A photo whose original is a smooth picture of this size."""
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    used = (42, 30, 42, 42)[index], (56, 56, 40, 56)[index]
    return Photo(
        index=index,
        name=f"photo {index}",
        file=f"photo {index}.heic",
        sha256="0" * 64,
        original_height=height,
        original_width=width,
        height=used[0],
        width=used[1],
        focal_source=None,
        original_intrinsics=intrinsics,
        read=lambda: Original(image=ramp.astype(np.uint8), mask=None, intrinsics=intrinsics),
    )


def test_originals_at_full_size(scene: Scene, tmp_path: Path) -> None:
    """Pictures and intrinsics are those of the full photo; what is loaded again is the size that was used."""
    known = np.array([[333.0, 0, 150], [0, 334, 120], [0, 0, 1]])
    sizes = ((168, 224), (120, 224), (252, 241), (168, 224))  # the third is 1 % wider than its used shape
    photos = tuple(photo_at_full_size(i, h, w, known if i == 1 else None) for i, (h, w) in enumerate(sizes))
    dataclasses.replace(scene, originals=photos).save(tmp_path / "scene")
    frames = load_transforms(tmp_path / "scene" / "transforms.json").frames
    assert [frame.file_path for frame in frames] == [f"images/photo {i}.jpg" for i in range(4)]
    for frame, (height, width) in zip(frames, sizes, strict=True):
        with Image.open(tmp_path / "scene" / frame.file_path) as picture:
            assert picture.size == (width, height) == (frame.numbers["w"], frame.numbers["h"])
            assert not picture.getexif()
    assert frames[0].lens(0, 0).intrinsics.tolist() == [[240, 0, 108], [0, 248, 88], [0, 0, 1]]
    assert frames[1].lens(0, 0).intrinsics.tolist() == known.tolist()
    again = load_scene(tmp_path / "scene")
    assert again.views.images.shape == scene.views.images.shape
    torch.testing.assert_close(again.cameras.intrinsics[[0, 2, 3]], scene.cameras.intrinsics[[0, 2, 3]])
    assert again.views.sizes == scene.views.sizes
    assert torch.equal(again.views.masks[:3], scene.views.masks[:3])
    ramp = torch.linspace(0, 1, 56)
    assert (again.views.images[0, 0, 20] - ramp).abs().max() < 0.02


def test_awkward_names(tmp_path: Path) -> None:
    """Names that differ only in what files may not hold still get files of their own."""
    scene = small_scene()
    names = ("a/b", "a:b\ud800", "a_b", "..")
    scene = dataclasses.replace(scene, views=dataclasses.replace(scene.views, names=names))
    scene.save(tmp_path / "scene")
    files = sorted(path.name for path in (tmp_path / "scene" / "images").iterdir())
    assert files == ["a_b.png", "a_b_.png", "a_b__.png", "photo.png"]
    assert len({hashlib.sha256((tmp_path / "scene" / "images" / f).read_bytes()).digest() for f in files}) == 4
    load_scene(tmp_path / "scene")
    assert file_stem("\N{SNOWMAN}" * 500) == "\N{SNOWMAN}" * 53
