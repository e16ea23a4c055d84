"""Folders of posed sets and loose photos: what is a photo, which cameras are taken, and what is said of the rest."""

from __future__ import annotations

import functools
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.media.video import save_video
from da3gs.photos.folders.finder import OF_VIDEO
from da3gs.photos.folders.other_cameras import CAMERAS
from da3gs.photos.folders.roles import CHANGED
from da3gs.photos.folders.survey import SCENE
from tests.hostile.right import case, right
from tests.hostile.right.layouts import (
    FOCAL,
    HEIGHT,
    WIDTH,
    accounted_for,
    colmap,
    everything,
    files_of,
    in_opencv,
    load,
    photo,
    pose,
    posed_as,
    reasons,
    transforms,
)
from tests.small_scene import small_scene_folder
from tests.unit.pictures import textured


def nerf_synthetic(folder: Path) -> Path:
    """Three splits; depth and normal maps stand beside the test photos."""
    for split, indices in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4, 5))):
        for k, i in enumerate(indices):
            photo(folder / split / f"r_{k}.png", i)
            if split == "test":
                for made in ("depth", "normal"):
                    photo(folder / split / f"r_{k}_{made}_0001.png", 10 + i)
        names = [f"./{split}/r_{k}" for k in range(len(indices))]
        file = transforms(folder / f"transforms_{split}.json", names, indices)
        content = json.loads(file.read_text())
        angle = 2 * np.arctan(WIDTH / 2 / FOCAL)
        file.write_text(json.dumps({"camera_angle_x": angle, "frames": content["frames"]}))
    return folder


@right("folders")
def nerf_synthetic_takes_train_and_tells_the_rest(tmp_path: Path) -> None:
    """The maps are no photos."""
    loaded = load(nerf_synthetic(tmp_path))
    posed_as(loaded, (0, 1, 2))
    assert loaded.views.intrinsics is None
    assert "--split val|test, or all" in loaded.notes[0]
    told = reasons(loaded)
    assert told["is a depth map"] == told["is a normal map"] == 2
    assert told["is of another split (--split)"] == 3
    accounted_for(loaded, tmp_path)


def _split(split: str, indices: tuple[int, ...], folder: Path) -> None:
    loaded = load(nerf_synthetic(folder), split=split)
    posed_as(loaded, indices)
    accounted_for(loaded, folder)


for split, indices in (("val", (3,)), ("test", (4, 5)), ("all", (0, 1, 2, 3, 4, 5))):
    case("folders", f"split-{split}", functools.partial(_split, split, indices))


@right("folders")
def split_of_something_else_is_refused(tmp_path: Path) -> None:
    """Loose photos, COLMAP, a single file."""
    photo(tmp_path / "a.png", 0)
    with pytest.raises(InputError, match=r"--split train is for a folder with transforms_train\.json"):
        load(tmp_path, split="train")
    with pytest.raises(InputError, match=r"--split is for a folder or a zip"):
        load(tmp_path / "a.png", split="train")


@right("folders")
def nerf_synthetic_in_a_zip(tmp_path: Path) -> None:
    """The same finder."""
    nerf_synthetic(tmp_path / "lego")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "lego").rglob("*.*")):
            archive.write(file, file.relative_to(tmp_path))
    loaded = load(tmp_path / "a.zip", split="val")
    posed_as(loaded, (3,))
    assert loaded.kind == "transforms"


def _colmap_place(sparse: str, pictures: str, binary: bool, folder: Path) -> None:
    for i in range(4):
        photo(folder / pictures / f"{i}.jpg", i)
    colmap(folder / sparse, [f"{i}.jpg" for i in range(4)], binary=binary)
    loaded = load(folder)
    assert loaded.kind == "colmap"
    posed_as(loaded, range(4))
    accounted_for(loaded, folder)


for sparse, pictures in (
    ("sparse/0", "images"),
    ("sparse", "images"),
    ("sparse/3", "images"),
    ("colmap/sparse/0", "images"),
    ("distorted/sparse/0", "input"),
    ("distorted/sparse", "input"),
    ("dense/sparse", "dense/images"),
    ("sparse/0", "photos"),
    ("sparse/0", "."),
    ("model_text", "images"),
):
    for binary in (True, False):
        name = f"colmap-{sparse}-{pictures}-{'bin' if binary else 'txt'}".replace("/", "-")
        case("folders", name, functools.partial(_colmap_place, sparse, pictures, binary))


@right("folders")
def the_colmap_model_of_most_photos(tmp_path: Path) -> None:
    """sparse/0 is a stub; sparse/2 has more names, but its photos are not there."""
    for i in range(8):
        photo(tmp_path / "images" / f"{i}.jpg", i)
    colmap(tmp_path / "sparse/0", ["0.jpg", "1.jpg"])
    colmap(tmp_path / "sparse/1", [f"{i}.jpg" for i in range(2, 8)], range(2, 8), binary=False)
    colmap(tmp_path / "sparse/2", [f"gone_{i}.jpg" for i in range(12)])
    loaded = load(tmp_path)
    posed_as(loaded, range(2, 8))
    assert any("sparse/0 (2 photos) is not: name it" in note for note in loaded.notes)
    posed_as(load(tmp_path / "sparse/0"), (0, 1))
    accounted_for(loaded, tmp_path)


@right("folders")
def undistorted_photos_belong_to_the_undistorted_model(tmp_path: Path) -> None:
    """Inria's layout: the same names in input/ and images/, models for both."""
    names = [f"{i}.jpg" for i in range(3)]
    for i, name in enumerate(names):
        photo(tmp_path / "input" / name, i, height=80, width=112)
        photo(tmp_path / "images" / name, i)
    colmap(tmp_path / "distorted/sparse/0", names)
    text = (tmp_path / "distorted/sparse/0/cameras.bin").read_bytes()
    wide = WIDTH.to_bytes(8, "little") + HEIGHT.to_bytes(8, "little")
    other = (112).to_bytes(8, "little") + (80).to_bytes(8, "little")
    (tmp_path / "distorted/sparse/0/cameras.bin").write_bytes(text.replace(wide, other))
    colmap(tmp_path / "sparse/0", names)
    loaded = load(tmp_path)
    assert [p.original_width for p in loaded.photos] == [WIDTH] * 3
    assert [p.original_width for p in load(tmp_path / "distorted/sparse/0").photos] == [112] * 3
    accounted_for(loaded, tmp_path)


@right("folders")
def half_a_colmap_model_is_refused(tmp_path: Path) -> None:
    """Never read as an ordinary folder of photos."""
    for i in range(3):
        photo(tmp_path / "images" / f"{i}.jpg", i)
    colmap(tmp_path / "sparse/0", [f"{i}.jpg" for i in range(3)])
    for gone, words in (("images", "images"), ("cameras", "cameras")):
        shutil.move(tmp_path / f"sparse/0/{gone}.bin", tmp_path / "aside")
        with pytest.raises(InputError, match=f"COLMAP model without its {words}"):
            load(tmp_path)
        with pytest.raises(InputError, match=f"COLMAP model without its {words}"):
            load(tmp_path / "sparse/0")
        shutil.move(tmp_path / "aside", tmp_path / f"sparse/0/{gone}.bin")
    assert load(tmp_path).kind == "colmap"


@right("folders")
def two_kinds_of_cameras_for_the_same_photos(tmp_path: Path) -> None:
    """transforms.json has the longer numbers; the line says how to ask for COLMAP's."""
    for i in range(3):
        photo(tmp_path / "images" / f"{i}.jpg", i)
    names = [f"{i}.jpg" for i in range(3)]
    colmap(tmp_path / "colmap/sparse/0", names, (3, 4, 5))
    transforms(tmp_path / "transforms.json", [f"images/{n}" for n in names])
    loaded = load(tmp_path)
    posed_as(loaded, range(3))
    assert "colmap/sparse/0 (3 photos) is not: name it to take it" in loaded.notes[0]
    posed_as(load(tmp_path / "colmap/sparse/0"), (3, 4, 5))
    accounted_for(loaded, tmp_path)
    for i in range(3):
        (tmp_path / "images" / f"{i}.jpg").rename(tmp_path / "images" / f"x{i}.jpg")
    colmap(tmp_path / "colmap/sparse/0", [f"x{n}" for n in names], (3, 4, 5))
    posed_as(load(tmp_path), (3, 4, 5))  # whose photos are there


def polycam(folder: Path, *, corrected: bool = True) -> Path:
    """Raw data of the app."""
    sets = [("images", "cameras")] + [("corrected_images", "corrected_cameras")] * corrected
    for i in range(3):
        stamp = str(100000 + 333 * i)
        for pictures, cameras in sets:
            photo(folder / "keyframes" / pictures / f"{stamp}.jpg", i)
            matrix = np.array(pose(i))
            row = {f"t_{r}{c}": matrix[r, c] for r in range(3) for c in range(4)}
            numbers = {"fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "width": WIDTH, "height": HEIGHT}
            (folder / "keyframes" / cameras).mkdir(exist_ok=True)
            (folder / "keyframes" / cameras / f"{stamp}.json").write_text(json.dumps({**numbers, **row}))
        for made in ("depth", "confidence"):
            (folder / "keyframes" / made).mkdir(exist_ok=True)
            Image.fromarray(np.full((48, 64), 3000, np.uint16)).save(folder / f"keyframes/{made}/{stamp}.png")
    (folder / "mesh_info.json").write_text("{}")
    photo(folder / "thumbnail.jpg", 0, height=32, width=48)
    return folder


@right("folders")
def polycam_export(tmp_path: Path) -> None:
    """With its cameras, and never its thumbnail."""
    loaded = load(polycam(tmp_path))
    assert loaded.kind == "polycam"
    posed_as(loaded, range(3))
    assert reasons(loaded)["is a thumbnail"] == 1
    assert reasons(loaded)["is a depth map"] == 3
    accounted_for(loaded, tmp_path)
    posed_as(load(tmp_path / "keyframes"), range(3))
    shutil.rmtree(tmp_path / "keyframes/corrected_images")
    posed_as(load(tmp_path), range(3))


@right("folders")
def polycam_export_without_cameras(tmp_path: Path) -> None:
    """Then it is a folder of photos; depth, confidence and the second version are none."""
    polycam(tmp_path)
    for name in ("cameras", "corrected_cameras"):
        shutil.rmtree(tmp_path / "keyframes" / name)
    loaded = load(tmp_path)
    assert files_of(loaded) == ["100000.jpg", "100333.jpg", "100666.jpg"]
    assert reasons(loaded)["is a thumbnail"] == 1
    accounted_for(loaded, tmp_path)


def record3d(folder: Path, pictures: str, metadata: str) -> Path:
    """The app's RGBD export: quaternions xyzw, K column by column."""
    poses = []
    for i in range(3):
        photo(folder / pictures / f"{i}.jpg", i)
        half, at = 0.05 * i, np.array(pose(i))[:3, 3]
        poses.append([0.0, np.sin(half), 0.0, np.cos(half), *at])
    k = [FOCAL, 0, 0, 0, FOCAL, 0, WIDTH / 2, HEIGHT / 2, 1]
    (folder / metadata).write_text(json.dumps({"K": k, "poses": poses, "w": WIDTH, "h": HEIGHT, "fps": 60}))
    (folder / "depth").mkdir()
    (folder / "depth/0.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(20))
    return folder


def _record3d(pictures: str, metadata: str, packed: bool, folder: Path) -> None:
    record3d(folder / "scan", pictures, metadata)
    source = folder / "scan"
    if packed:  # an .r3d file is a zip of this
        source = folder / "scan.r3d"
        with zipfile.ZipFile(source, "w") as archive:
            for file in sorted((folder / "scan").rglob("*")):
                archive.write(file, file.relative_to(folder / "scan"))
    loaded = load(source)
    assert loaded.kind == "record3d"
    posed_as(loaded, range(3))
    np.testing.assert_allclose(loaded.photos[0].original_intrinsics, [[80, 0, 48], [0, 80, 32], [0, 0, 1]])
    if not packed:
        accounted_for(loaded, source)


for pictures, metadata, packed in (("rgb", "metadata.json", False), ("rgbd", "metadata", True)):
    case("folders", f"record3d-{pictures}", functools.partial(_record3d, pictures, metadata, packed))


@right("folders")
def dl3dv_with_smaller_copies(tmp_path: Path) -> None:
    """The largest are taken, the others told."""
    for i in range(3):
        photo(tmp_path / "images_4" / f"frame_{i}.png", i)
        photo(tmp_path / "images_8" / f"frame_{i}.png", i, height=32, width=48)
    transforms(tmp_path / "transforms.json", [f"images/frame_{i}.png" for i in range(3)])
    loaded = load(tmp_path)
    assert loaded.kind == "dl3dv"
    assert loaded.photos[0].original_width == WIDTH
    accounted_for(loaded, tmp_path)


@right("folders")
def photos_beside_folders(tmp_path: Path) -> None:
    """A cover beside two folders: all of them; formats that are not read are named."""
    photo(tmp_path / "cover.jpg", 0)
    for i in range(1, 6):
        photo(tmp_path / ("ground floor", "upstairs")[i % 2] / f"IMG_{i}.jpg", i)
    for name in ("a.jxl", "b.exr", "c.psd", "notes.txt", "d.dng"):
        (tmp_path / name).write_bytes(b"x" * 40)
    loaded = load(tmp_path)
    assert len(loaded.views) == 6
    assert sum(n for reason, n in reasons(loaded).items() if "format that is not read" in reason) == 3
    accounted_for(loaded, tmp_path)


@right("folders")
def thumbnails_of_file_servers(tmp_path: Path) -> None:
    """Synology's, QNAP's, GNOME's, macOS's, Lightroom's, a recycle bin's: nobody's photos."""
    for i in range(3):
        photo(tmp_path / "day" / f"IMG_{i}.JPG", i)
    places = ("@eaDir/IMG_0.JPG", ".@__thumb", ".thumbnails", "Thumbs", "__MACOSX", "#recycle", "Previews.lrdata/A")
    for place in places:
        photo(tmp_path / "day" / place / "SYNOPHOTO_THUMB_XL.jpg", 0)
        photo(tmp_path / "day" / place / "b.jpg", 9, height=40, width=60)
    loaded = load(tmp_path)
    assert files_of(loaded) == [f"IMG_{i}.JPG" for i in range(3)]
    accounted_for(loaded, tmp_path)


@right("folders")
def thumbnails_beside_photos(tmp_path: Path) -> None:
    """By name and by size; a photo that is called so and is as large as the others stays."""
    for i in range(3):
        photo(tmp_path / f"IMG_{i}.jpg", i)
        photo(tmp_path / f"IMG_{i}_thumb.jpg", i, height=32, width=48)
    photo(tmp_path / "thumb_of_the_king.jpg", 7)
    photo(tmp_path / "preview.jpg", 8)
    loaded = load(tmp_path)
    assert files_of(loaded) == ["IMG_0.jpg", "IMG_1.jpg", "IMG_2.jpg", "thumb_of_the_king.jpg"]
    accounted_for(loaded, tmp_path)


@right("folders")
def copies_of_photos(tmp_path: Path) -> None:
    """Byte for byte, saved once more, smaller, in another folder and by a link: each photo once, the best of it."""
    for i in range(3):
        first = photo(tmp_path / f"IMG_{i}.jpg", i)
        shutil.copy(first, tmp_path / f"IMG_{i} (1).jpg")
        shutil.copy(first, photo(tmp_path / "backup" / f"other {i}.jpg", i))
        photo(tmp_path / f"IMG_{i}.webp", i)
        photo(tmp_path / "for the web" / f"{i}.jpg", i, height=40, width=60)
    os.symlink("IMG_0.jpg", tmp_path / "link.jpg")
    loaded = load(tmp_path)
    assert files_of(loaded) == ["IMG_0.jpg", "IMG_1.jpg", "IMG_2.jpg"]
    assert reasons(loaded) == {"is a copy of another photo": 10, "is a smaller copy of another photo": 3}
    accounted_for(loaded, tmp_path)


@right("folders")
def a_burst_is_not_copies(tmp_path: Path) -> None:
    """Photos that differ by a little, of one size and format."""
    rng = np.random.default_rng(0)
    base = np.asarray(Image.open(photo(tmp_path / "0.png", 0))).astype(int)
    for i in range(1, 4):
        noisy = (base + rng.integers(-1, 2, base.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{i}.png")
    assert len(load(tmp_path).views) == 4


@right("folders")
def depth_and_masks_are_no_photos(tmp_path: Path) -> None:
    """By folder, by name, and by 16 bits of grey beside a photo of the same name."""
    for i in range(3):
        photo(tmp_path / "color" / f"{i}.jpg", i)
        for place in ("depth", "depth_maps", "normals", "masks", "mono-depth", "semantic", "confidence"):
            photo(tmp_path / place / f"{i}.png", 20 + i)
        for made in ("depth", "mask", "normal"):
            photo(tmp_path / "color" / f"{i}_{made}.png", 30 + i)
        photo(tmp_path / "color" / f"{i}.jpg.png", 40 + i)
        (tmp_path / "aligned").mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 900 + i, np.uint16)).save(tmp_path / "aligned" / f"{i}.png")
    loaded = load(tmp_path)
    assert files_of(loaded) == ["0.jpg", "1.jpg", "2.jpg"]
    accounted_for(loaded, tmp_path)


@right("folders")
def a_folder_of_masks_alone_is_a_folder_of_photos(tmp_path: Path) -> None:
    """Whoever names it, or has nothing else, means it; so are photos of labels."""
    for i in range(3):
        photo(tmp_path / "masks" / f"{i}.png", i)
    assert len(load(tmp_path).views) == 3
    assert len(load(tmp_path / "masks").views) == 3
    photo(tmp_path / "labels" / "merlot.png", 7)
    photo(tmp_path / "bottles" / "riesling.png", 8)
    assert {"merlot.png", "riesling.png"} <= set(files_of(load(tmp_path)))


@right("folders")
def seven_scenes_names(tmp_path: Path) -> None:
    """7-Scenes: frame-000000.color.png, .depth.png, .pose.txt."""
    for i in range(3):
        photo(tmp_path / f"frame-{i:06d}.color.png", i)
        Image.fromarray(np.full((HEIGHT, WIDTH), 900 + i, np.uint16)).save(tmp_path / f"frame-{i:06d}.depth.png")
        (tmp_path / f"frame-{i:06d}.pose.txt").write_text("1\t0\t0\t0\n" * 4)
    loaded = load(tmp_path)
    assert reasons(loaded)[CAMERAS] == 3
    assert files_of(loaded) == [f"frame-{i:06d}.color.png" for i in range(3)]
    accounted_for(loaded, tmp_path)


@right("folders")
def photos_without_suffixes(tmp_path: Path) -> None:
    """Told by their first bytes."""
    for i in range(2):
        photo(tmp_path / f"{i}.jpg", i).rename(tmp_path / f"IMG_{i}")
    (tmp_path / "README").write_text("no photo")
    loaded = load(tmp_path)
    assert files_of(loaded) == ["IMG_0", "IMG_1"]
    accounted_for(loaded, tmp_path)


@right("folders")
def input_beside_images(tmp_path: Path) -> None:
    """Two versions of the same photos, of two folders; cameras of a rig are not versions of one another."""
    for i in range(3):
        photo(tmp_path / "images" / f"{i}.jpg", i)
        photo(tmp_path / "input" / f"{i}.jpg", i + 10)
    loaded = load(tmp_path)
    assert len(loaded.views) == 3
    assert reasons(loaded) == {"is another version of a photo in images/": 3}
    (tmp_path / "images").rename(tmp_path / "front")
    (tmp_path / "input").rename(tmp_path / "back")
    assert len(load(tmp_path).views) == 6


@right("folders")
def a_video_alone_in_a_folder(tmp_path: Path) -> None:
    """Read as if it were named; of two one has to be."""
    frames = [np.roll(np.asarray(Image.open(photo(tmp_path / "0.png", 0))), 2 * i, 1) for i in range(8)]
    (tmp_path / "0.png").unlink()
    (tmp_path / "clip").mkdir()
    save_video(tmp_path / "clip" / "a.mp4", frames, fps=8.0)
    (tmp_path / "clip" / "readme.txt").write_text("x")
    loaded = load(tmp_path / "clip", views=3)
    assert loaded.kind == "video"
    assert len(loaded.views) == 3
    shutil.copy(tmp_path / "clip/a.mp4", tmp_path / "clip/b.mp4")
    with pytest.raises(InputError, match=r"holds no photos but 2 videos \(a\.mp4, b\.mp4\)"):
        load(tmp_path / "clip")
    photo(tmp_path / "clip" / "c.png", 1)
    assert reasons(load(tmp_path / "clip")) == {"is a video (give it alone)": 2, "is no picture": 1}


@right("folders")
def one_posed_set_below_wins_over_loose_pictures(tmp_path: Path) -> None:
    """And of several one has to be named, unless photos lie in the folder itself."""
    photo(tmp_path / "preview" / "sheet.png", 9)
    for name in ("a", "b"):
        for i in range(2):
            photo(tmp_path / name / "images" / f"{i}.png", i + 5 * (name == "b"))
        transforms(tmp_path / name / "transforms.json", [f"images/{i}.png" for i in range(2)])
        if name == "a":
            loaded = load(tmp_path)
            posed_as(loaded, range(2))
            accounted_for(loaded, tmp_path)
    with pytest.raises(InputError, match=r"holds 2 scenes \(a, b\); name one of them"):
        load(tmp_path)
    photo(tmp_path / "own.png", 8)
    loaded = load(tmp_path)
    assert files_of(loaded) == ["own.png", "sheet.png"]
    assert "2 posed sets (a, b) lie below" in loaded.notes[0]
    accounted_for(loaded, tmp_path)


_FORMS = {
    "poses_bounds.npy": ("LLFF", b"\x93NUMPY"),
    "cameras_sphere.npz": ("IDR and NeuS", b"PK"),
    "cameras.xml": ("Metashape", b'<?xml version="1.0"?>\n<document version="1.5.0">\n <chunk label="a">'),
    "blocks.xml": ("ContextCapture", b"<?xml version='1.0'?>\n<BlocksExchange version='2.1'>"),
    "bundle.out": ("Bundler", b"# Bundle file v0.3\n3 0\n"),
    "reconstruction.nvm": ("VisualSFM", b"NVM_V3\n\n3\n"),
    "sfm_data.json": ("OpenMVG", b'{\n "sfm_data_version": "0.3", "views": []}'),
    "reconstruction.json": ("OpenSfM", b'[{"cameras": {}, "shots": {}}]'),
    "cameras.csv": ("RealityCapture", b"#name,x,y,alt,heading,pitch,roll\n"),
    "odometry.csv": ("Stray Scanner", b"timestamp, frame, x, y, z, qx, qy, qz, qw\n"),
    "pose/0.txt": ("a matrix a photo", b"1.0 0.0 0 -1.5e-1\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"),
    "poses/00.txt": ("a matrix a photo", b"1 0 0 0 0 1 0 0 0 0 1 0\n"),
    "cams/00000000_cam.txt": ("MVSNet", b"extrinsic\n1 0 0 0\n"),
    "groundtruth.txt": ("TUM", b"# timestamp tx ty tz qx qy qz qw\n1305031449.7996 1.2 0.8 1.4 0.1 0.1 -0.4 0.8\n"),
}


def _cameras_of_others(name: str, program: str, content: bytes, folder: Path) -> None:
    """Photos beside cameras in a form that is not read: said in a line, and the reason for which they are dropped."""
    for i in range(3):
        photo(folder / "images" / f"{i}.jpg", i)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("the camera pose was 1 0 0 0")
    loaded = load(folder)
    assert files_of(loaded) == ["0.jpg", "1.jpg", "2.jpg"]
    assert loaded.cam_to_world_given is None
    assert reasons(loaded)[CAMERAS] == 1
    wanted = f"{name} holds cameras ({program}), which are not read: export them as COLMAP or transforms.json"
    assert loaded.notes == (wanted,)
    accounted_for(loaded, folder)


for _name, (_program, _content) in _FORMS.items():
    run = functools.partial(_cameras_of_others, _name, _program, _content)
    case("folders", f"cameras-of-others-{_name.replace('/', '-')}", run)


def _beside_a_video(pieces: dict[str, int], folder: Path) -> None:
    """A scan whose photos are the frames of a video; what was made of them is none."""
    save_video(folder / "rgb.mp4", (textured(seed=i) for i in range(4)), fps=4.0)
    for piece, depth in pieces.items():
        for i in range(4):
            (folder / piece).mkdir(exist_ok=True)
            kind = np.uint16 if depth == 16 else np.uint8
            Image.fromarray(np.full((48, 64), i + 1, kind)).save(folder / piece / f"{i:06d}.png")
    photo(folder / "rgb_thumb.jpg", 7, height=48, width=64)
    loaded = load(folder)
    assert loaded.kind == "video"
    assert reasons(loaded)[OF_VIDEO] == 4 * len(pieces) + 1


case("folders", "video-beside-depth", functools.partial(_beside_a_video, {"depth": 16, "confidence": 8}))
case("folders", "video-beside-its-thumbnail", functools.partial(_beside_a_video, {}))


@right("folders")
def changed_copies_beside_photos(tmp_path: Path) -> None:
    """BlendedMVS' ``_masked`` pictures, and a phone's edited ones, are no further views; alone they are photos."""
    for i in range(3):
        photo(tmp_path / f"{i:08d}.jpg", i)
        photo(tmp_path / f"{i:08d}_masked.jpg", 50 + i)
    photo(tmp_path / "00000001-edited.jpg", 60)
    photo(tmp_path / "someone-edited.jpg", 61)
    loaded = load(tmp_path)
    assert sorted(files_of(loaded)) == ["00000000.jpg", "00000001.jpg", "00000002.jpg", "someone-edited.jpg"]
    assert reasons(loaded)[CHANGED] == 4
    accounted_for(loaded, tmp_path)


@right("folders")
def an_earlier_result_among_photos(tmp_path: Path) -> None:
    """A scene that was written into the folder of its photos is not taken for a posed set."""
    for i in range(3):
        photo(tmp_path / f"{i}.jpg", i)
    small_scene_folder(tmp_path / "out.scene")
    loaded = load(tmp_path)
    assert files_of(loaded) == ["0.jpg", "1.jpg", "2.jpg"]
    assert reasons(loaded) == {SCENE: everything(tmp_path / "out.scene")}
    accounted_for(loaded, tmp_path)
    assert load(tmp_path / "out.scene").cam_to_world_given is not None


@right("folders")
def a_photo_with_two_cameras(tmp_path: Path) -> None:
    """Refused where they differ; listed twice with the same one it is one view."""
    for i in range(2):
        photo(tmp_path / "images" / f"{i}.jpg", i)
    twice = ["images/0.jpg", "images/0.jpg", "images/1.jpg"]
    transforms(tmp_path / "transforms.json", twice, [0, 0, 1])
    loaded = load(tmp_path)
    posed_as(loaded, [0, 1])
    accounted_for(loaded, tmp_path)
    transforms(tmp_path / "transforms.json", twice, [0, 2, 1])
    with pytest.raises(InputError, match=r"frame 0 and .*frame 1 give images/0.jpg different cameras; keep one"):
        load(tmp_path)


@right("folders")
def poses_come_out_in_the_callers_axes(_: Path) -> None:
    """The helper that every case here compares with: OpenGL's y and z turn about."""
    assert in_opencv(0)[:3, :3].tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, -1]]
