"""transforms.json, DL3DV scenes and COLMAP models as input: cameras, paths, and what is refused."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from da3gs.errors import InputError
from da3gs.formats.cameras.colmap import load_colmap, pinhole_model, save_colmap
from da3gs.formats.cameras.transforms import load_transforms, save_transforms, transforms_content
from da3gs.photos import load_photos
from tests.unit.pictures import posed_folder, rotation, save, textured

SETS = ["banana", "berlin", "buddha", "desk"]


def rewritten(folder: Path, content: dict) -> Path:
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def test_transforms(tmp_path):
    posed_folder(tmp_path)
    loaded = load_photos(tmp_path, resolution=98)
    assert loaded.kind == "transforms"
    cameras = loaded.views.cameras
    assert cameras is not None
    assert loaded.views.intrinsics is None
    assert (cameras.height, cameras.width) == (70, 98)
    np.testing.assert_allclose(
        cameras.intrinsics[0], [[80 * 98 / 96, 0, 47 * 98 / 96], [0, 81 * 70 / 64, 33 * 70 / 64], [0, 0, 1]], rtol=1e-6
    )
    # OpenGL camera 1 at (0.1, 0.5, -0.25), turned by 0.1 about y: its -z is our z, its -y our y
    np.testing.assert_allclose(cameras.centers[1], [0.1, 0.5, -0.25], atol=1e-6)
    np.testing.assert_allclose(cameras.forward[1], [-math.sin(0.1), 0, -math.cos(0.1)], atol=1e-6)
    np.testing.assert_allclose(cameras.cam_to_world[1, :3, 1], [0, -1, 0], atol=1e-6)
    given = loaded.cam_to_world_given
    assert given is not None
    assert (given[1] * [1, -1, -1, 1]).tolist() == rotation(0.1)  # the caller's own digits
    assert load_photos(tmp_path / "transforms.json").views.names == ("0", "1", "2")
    assert [p.focal_source for p in loaded.photos] == ["given"] * 3


def test_bom_suffixes_and_intrinsics_of_single_frames(tmp_path):
    content = posed_folder(tmp_path)
    content["frames"][0].update(file_path="./images/0", fl_x=90.0)
    content["frames"][1].update(file_path="images\\1.png", w=192, h=128)
    (tmp_path / "transforms.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    loaded = load_photos(tmp_path, resolution=98)
    cameras = loaded.views.cameras
    assert cameras is not None
    focal = cameras.intrinsics[:, 0, 0] / 98 * 96
    np.testing.assert_allclose(focal, [90, 40, 80], rtol=1e-6)  # 80 for twice the size is 40 for this one


def test_field_of_view_in_place_of_focal_lengths(tmp_path):
    content = posed_folder(tmp_path)
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del content[key]
    loaded = load_photos(rewritten(tmp_path, {**content, "camera_angle_x": math.pi / 2}), resolution=98)
    intrinsics = loaded.photos[0].original_intrinsics
    np.testing.assert_allclose(intrinsics, [[48, 0, 48], [0, 48, 32], [0, 0, 1]], rtol=1e-12)


def test_missing_photos_are_left_out(tmp_path):
    posed_folder(tmp_path)
    (tmp_path / "images/1.png").unlink()
    (tmp_path / "images/2.png").write_bytes(b"broken")
    loaded = load_photos(tmp_path)
    assert loaded.views.names == ("0",)
    assert [(d.name, d.reason.split(" (")[0]) for d in loaded.dropped] == [
        ("images/1.png", "is missing"),
        ("images/2.png", "is not a picture that da3gs reads"),
    ]
    assert [p.index for p in loaded.photos] == [0]
    (tmp_path / "images/0.png").unlink()
    with pytest.raises(InputError, match=r"holds no photo that can be used: images/0\.png is missing"):
        load_photos(tmp_path)


def test_nearly_orthonormal_rotations_are_made_so(tmp_path):
    content = posed_folder(tmp_path)
    content["frames"][0]["transform_matrix"][0][0] = 1.0004
    loaded = load_photos(rewritten(tmp_path, content))
    cameras = loaded.views.cameras
    assert cameras is not None
    turn = cameras.world_to_cam[0, :3, :3].double()
    assert float((turn.T @ turn - torch.eye(3)).abs().max()) < 1e-6


def breaking(content: dict, frame: dict | None = None, **common: object) -> dict:
    content = json.loads(json.dumps(content))
    content["frames"][1].update(frame or {})
    content.update(common)
    return content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: breaking(c, frames=[]), "'frames' must be a list"),
        (lambda c: breaking(c, frames=7), "frames"),
        (lambda c: {"a": 1}, "no 'frames'"),
        (lambda c: [1, 2], "no 'frames'"),
        (lambda c: breaking(c, {"transform_matrix": None}), "4 rows"),
        (lambda c: breaking(c, {"transform_matrix": [[1, 2]] * 4}), "not 4 numbers"),
        (lambda c: breaking(c, {"transform_matrix": [["1", 0, 0, 0], *rotation(0)[1:]]}), "a number is needed"),
        (lambda c: breaking(c, {"transform_matrix": (np.array(rotation(0)) * 2).tolist()}), "no rotation"),
        (lambda c: breaking(c, {"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}), "mirrors"),
        (lambda c: breaking(c, {"transform_matrix": [*rotation(0)[:3], [0, 0, 1, 1]]}), "last row"),
        (lambda c: breaking(c, {"transform_matrix": np.full((4, 4), np.nan).tolist()}), "finite number"),
        (lambda c: breaking(c, {"transform_matrix": np.full((4, 4), 1e300).tolist()}), "no rotation"),
        (lambda c: breaking(c, {"file_path": 3}), "a path is needed"),
        (lambda c: breaking(c, {"file_path": "../0.png"}), "leads out"),
        (lambda c: breaking(c, {"file_path": "/etc/hostname"}), "leads out"),
        (lambda c: breaking(c, {"file_path": "C:\\photos\\0.png"}), "leads out"),
        (lambda c: breaking(c, {"mask_path": "../../m.png"}), "leads out"),
        (lambda c: breaking(c, fl_x=-5), "fl_x=-5"),
        (lambda c: breaking(c, fl_x=True), "a number is needed"),
        (lambda c: breaking(c, fl_x=10**400), "finite number"),
        (lambda c: breaking(c, k1=float("inf")), "finite number"),
        (lambda c: breaking(c, camera_model="FOV"), "not supported yet"),
        (lambda c: breaking(c, is_fisheye=True, k1=-90.0), "fisheye distortion"),
        (lambda c: breaking(c, camera_model="EQUIRECTANGULAR"), "twice as wide as high"),
        (lambda c: breaking(c, w=64, h=64), "same shape"),
        (lambda c: {k: v for k, v in c.items() if k not in ("fl_x", "fl_y")}, "no focal length"),
    ],
)
def test_broken_transforms_are_told_in_one_line(tmp_path, change, words):
    content = posed_folder(tmp_path)
    rewritten(tmp_path, change(content))
    with pytest.raises(InputError, match=words) as caught:
        load_photos(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["{", "", "\xff\xfe", "[" * 100_000, "1" * 5000, "null", '"a"', '{"frames": [{}]}'])
def test_broken_json(tmp_path, text):
    save(tmp_path / "a.png")
    (tmp_path / "transforms.json").write_text(text, "latin-1")
    with pytest.raises(InputError, match=r"transforms\.json"):
        load_photos(tmp_path)


def places_in(value: object) -> list[tuple[dict | list, object]]:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, below in items:
        found += [(value, key), *places_in(below)]
    return found


def test_random_changes_raise_nothing_else(tmp_path):
    strange = [None, True, -1, 0, 1e308, -1e308, 1e-300, 10**30, "", "x", "../x", "/", "a\0b", "\ud800", [], {}, [[]],
               float("nan"), float("inf"), "images", "images/../images/0.png", "." * 5000]  # fmt: skip
    content = posed_folder(tmp_path)
    rng = random.Random(0)
    for _ in range(150):
        changed = json.loads(json.dumps(content))
        container, key = rng.choice(places_in(changed))
        container[key] = rng.choice(strange)
        rewritten(tmp_path, changed)
        try:
            load_photos(tmp_path, resolution=98, views=1)
        except InputError as error:
            words = str(error)
            assert len(words) < 400
            assert words.isprintable()


def test_links_that_lead_out(tmp_path):
    inside = tmp_path / "set"
    content = posed_folder(inside)
    outside = save(tmp_path / "outside.png")
    (inside / "images/1.png").unlink()
    os.symlink(outside, inside / "images/1.png")
    with pytest.raises(InputError, match="leads out"):
        load_photos(inside)
    (inside / "images/1.png").unlink()
    os.symlink("0.png", inside / "images/1.png")
    assert len(load_photos(inside).views) == 3
    shutil.move(inside / "transforms.json", tmp_path / "t.json")
    os.symlink(tmp_path / "t.json", inside / "transforms.json")
    with pytest.raises(InputError, match="is a link that leads out"):
        load_photos(inside)
    assert len(content["frames"]) == 3


def test_transforms_round_trip_to_the_last_digit(tmp_path):
    posed_folder(tmp_path)
    loaded = load_photos(tmp_path)
    given = loaded.cam_to_world_given
    assert given is not None
    known = np.stack([p.original_intrinsics for p in loaded.photos])
    content = transforms_content(
        [f"images/{p.name}.png" for p in loaded.photos],
        cam_to_world=given,
        intrinsics=known,
        sizes=[(p.original_height, p.original_width) for p in loaded.photos],
        extra={"note": "kept"},
        per_frame=[{"number": p.index} for p in loaded.photos],
    )
    assert content["fl_y"] == 81.0
    assert content["frames"][2]["number"] == 2
    assert content["frames"][1]["transform_matrix"] == rotation(0.1)
    save_transforms(tmp_path / "again.json", content)
    before, after = load_transforms(tmp_path / "transforms.json"), load_transforms(tmp_path / "again.json")
    for a, b in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(a.cam_to_world, b.cam_to_world)


def test_distorted_photos_become_straight(tmp_path):
    content = posed_folder(tmp_path)
    rewritten(tmp_path, {**content, "k1": 0.1, "p1": 0.001})
    straight, bent = load_photos(tmp_path), load_photos(tmp_path, undistort=False)
    assert straight.views.cameras is not None
    assert bent.views.cameras is not None
    assert float(straight.views.cameras.intrinsics[0, 0, 0]) > float(bent.views.cameras.intrinsics[0, 0, 0])
    assert not torch.equal(straight.views.images, bent.views.images)
    np.testing.assert_array_equal(bent.photos[0].original(), textured())
    assert straight.photos[0].original().shape == (64, 96, 3)


def test_mask_paths(tmp_path):
    content = posed_folder(tmp_path)
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    save(tmp_path / "masks/1.png", mask)
    content["frames"][1]["mask_path"] = "masks/1.png"
    content["frames"][2]["mask_path"] = "masks/2.png"
    loaded = load_photos(rewritten(tmp_path, content), resolution=98)
    assert loaded.views.names == ("0", "1")
    assert "has a mask, 2.png, that does not exist" in loaded.dropped[0].reason
    assert loaded.views.masks is not None
    assert loaded.views.masks[1].float().mean() == pytest.approx(0.5, abs=0.02)


def test_dl3dv_layout(tmp_path):
    content = posed_folder(tmp_path / "scene" / "nerfstudio")
    place = tmp_path / "scene" / "nerfstudio"
    (place / "images").rename(place / "images_4")
    scaled = {k: content[k] * 4 for k in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    rewritten(place, {**content, **scaled})
    for source in (tmp_path, tmp_path / "scene", place, place / "transforms.json"):
        loaded = load_photos(source)
        assert loaded.kind == "dl3dv"
        np.testing.assert_allclose(loaded.photos[0].original_intrinsics[0], [80, 0, 47])
    shutil.copytree(tmp_path / "scene", tmp_path / "other")
    with pytest.raises(InputError, match=r"holds 2 scenes \(other, scene\)"):
        load_photos(tmp_path)


def colmap_folder(folder: Path, place: str = "sparse/0", *, binary: bool = True) -> Path:
    for i in range(3):
        save(folder / "images" / f"{i + 8}.png", textured(seed=i))
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, -1, -2]
    model = pinhole_model(
        ["10.png", "9.png", "8.png"],
        world_to_cam=poses,
        intrinsics=np.tile(np.array([[80.0, 0, 47], [0, 81, 33], [0, 0, 1]]), (3, 1, 1)),
        sizes=[(64, 96)] * 3,
        positions=np.ones((5, 3)),
    )
    (folder / place).mkdir(parents=True, exist_ok=True)
    save_colmap(model, folder / place, binary=binary)
    return folder


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
@pytest.mark.parametrize("binary", [True, False])
def test_colmap_models(tmp_path, place, binary):
    colmap_folder(tmp_path, place, binary=binary)
    for source in {tmp_path, tmp_path / place}:
        loaded = load_photos(source, resolution=98)
        assert loaded.kind == "colmap"
        assert loaded.views.names == ("8", "9", "10")  # natural name order
        cameras = loaded.views.cameras
        assert cameras is not None
        np.testing.assert_allclose(cameras.centers[:, 0], [2, 1, 0], atol=1e-6)
        assert loaded.points is not None
        assert loaded.points.positions.shape == (5, 3)


def test_colmap_paths_stay_inside(tmp_path):
    folder = colmap_folder(tmp_path / "set")
    model = load_colmap(folder / "sparse/0")
    outside = save(tmp_path / "outside.png")
    (folder / "images/9.png").unlink()
    assert [d.reason for d in load_photos(folder).dropped] == ["is missing"]
    os.symlink(outside, folder / "images/9.png")
    with pytest.raises(InputError, match="leads out"):
        load_photos(folder)
    (folder / "images/9.png").unlink()
    for name in ("../../outside.png", str(outside)):
        text = (folder / "sparse/0/images.bin").read_bytes().replace(b"8.png\0", name.encode() + b"\0")
        (folder / "sparse/0/images.bin").write_bytes(text)
        with pytest.raises(InputError, match="leads out"):
            load_photos(folder)
        save_colmap(model, folder / "sparse/0")


def test_desk_cameras_agree_between_its_two_forms(test_data):
    ours = load_photos(test_data("data/desk"), views=6, resolution=252)
    theirs = load_photos(test_data("data/desk") / "sparse/0", views=6, resolution=252)
    assert (ours.kind, theirs.kind) == ("transforms", "colmap")
    assert ours.views.names == theirs.views.names
    assert ours.views.cameras is not None
    assert theirs.views.cameras is not None
    torch.testing.assert_close(ours.views.cameras.world_to_cam, theirs.views.cameras.world_to_cam, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.views.cameras.intrinsics, theirs.views.cameras.intrinsics, atol=1e-4, rtol=0)
    assert torch.equal(ours.views.images, theirs.views.images)


def test_points_of_the_desk_land_on_the_same_colours(test_data):
    """Points carry the mean colour of the pixels that show them: projected into the views they must find it again."""
    loaded = load_photos(test_data("data/desk") / "sparse/0")
    cameras, points = loaded.views.cameras, loaded.points
    assert cameras is not None
    assert points is not None
    near = points.errors < 1
    positions = torch.from_numpy(points.positions[near]).float()
    colors = torch.from_numpy(points.colors[near]).float() / 255
    errors, shuffled = [], []
    for view in range(0, 28, 4):
        local = positions @ cameras.world_to_cam[view, :3, :3].T + cameras.world_to_cam[view, :3, 3]
        pixels = (local / local[:, 2:]) @ cameras.intrinsics[view].T
        seen = (local[:, 2] > 0) & (pixels[:, 0] > 2) & (pixels[:, 0] < 502) & (pixels[:, 1] > 2) & (pixels[:, 1] < 278)
        u, v = pixels[seen, 0].long(), pixels[seen, 1].long()
        found = loaded.views.images[view, :, v, u].T
        errors.append((found - colors[seen]).abs().mean())
        shuffled.append((found - colors[seen].flip(0)).abs().mean())
    assert float(torch.stack(errors).mean()) < 0.6 * float(torch.stack(shuffled).mean())


@pytest.mark.parametrize("name", SETS)
def test_shared_posed_sets(name, test_data):
    loaded = load_photos(test_data(f"data/{name}"), views=3)
    assert loaded.views.cameras is not None
    assert len(loaded.views) == 3
    assert all(p.focal_source == "given" for p in loaded.photos)


def test_shared_dl3dv_layout(test_data):
    loaded = load_photos(test_data("data/dl3dv_layout"), views=2)
    assert loaded.kind == "dl3dv"
    assert loaded.photos[0].original_intrinsics[0, 0] == pytest.approx(829.217, abs=0.01)  # a quarter of 3316.87
