"""Photos, folders and zips to views: padding, masks, names, order, picking, and what is refused or left out."""

from __future__ import annotations

import gc
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import da3gs
from da3gs.errors import InputError
from da3gs.formats.cameras.lens import lens_of
from da3gs.formats.media.video import save_video
from da3gs.photos import load_photos, load_views
from da3gs.photos.naming import natural_key, shown, unique_stems
from da3gs.photos.picking import covering, evenly
from da3gs.photos.resampling.undistort import distorted, undistorted, undistorted_intrinsics
from tests.unit.pictures import posed_folder, save, textured


def test_a_folder(tmp_path):
    for name in ("10.png", "9.png", "1.jpg"):
        save(tmp_path / name, textured(seed=int(name[:-4])))
    (tmp_path / "notes.txt").write_text("not a photo")
    save(tmp_path / ".hidden.png")
    loaded = load_photos(tmp_path, resolution=98)
    assert loaded.kind == "folder"
    assert loaded.views.names == ("1", "9", "10")
    assert loaded.views.images.shape == (3, 3, 70, 98)
    assert loaded.views.masks is None
    assert loaded.views.cameras is None
    assert loaded.views.intrinsics is None
    assert [p.index for p in loaded.photos] == [0, 1, 2]
    assert (loaded.photos[0].original_height, loaded.photos[0].width) == (64, 98)
    assert len(loaded.photos[0].sha256) == 64
    np.testing.assert_array_equal(loaded.photos[1].original(), textured(seed=9))
    assert da3gs.load_views is load_views


def test_portrait_beside_landscape_is_padded_not_cropped(tmp_path):
    wide, tall = textured(56, 84), textured(84, 56, seed=1)
    views = load_views([save(tmp_path / "wide.png", wide), save(tmp_path / "tall.png", tall)], resolution=84)
    assert views.images.shape == (2, 3, 84, 84)
    assert views.sizes == [(56, 84), (84, 56)]
    np.testing.assert_allclose(views.images[0, :, :56].permute(1, 2, 0), wide / np.float32(255), atol=1e-7)
    np.testing.assert_allclose(views.images[1, :, :, :56].permute(1, 2, 0), tall / np.float32(255), atol=1e-7)
    assert views.images[0, :, 56:].abs().max() == 0
    assert views.masks is not None
    assert views.masks[0].sum() == 56 * 84


def test_exif_focal_length_becomes_intrinsics(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 36
    Image.fromarray(textured(56, 84)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    save(tmp_path / "b.jpg", textured(56, 84))
    loaded = load_photos(tmp_path, resolution=168)
    intrinsics = loaded.views.intrinsics
    assert intrinsics is not None
    np.testing.assert_allclose(intrinsics[0], [[168, 0, 84], [0, 168, 56], [0, 0, 1]], rtol=1e-5)
    assert torch.isnan(intrinsics[1]).all()
    assert [p.focal_source for p in loaded.photos] == ["exif", None]
    np.testing.assert_allclose(loaded.photos[0].original_intrinsics[0], [84, 0, 42], rtol=1e-5)


def test_transparency_and_masks(tmp_path):
    alpha = np.full((56, 84), 255, np.uint8)
    alpha[:28] = 0
    Image.fromarray(np.dstack((textured(56, 84), alpha))).save(tmp_path / "a.png")
    save(tmp_path / "b.png", textured(56, 84))
    masks = tmp_path / "masks"
    half = np.zeros((112, 168), np.uint8)  # another size of the same shape
    half[:, 84:] = 255
    save(masks / "b.png", half)
    views = load_views(tmp_path, resolution=84, masks=masks)
    assert views.masks is not None
    np.testing.assert_array_equal(views.masks[0].numpy(), alpha > 0)
    np.testing.assert_array_equal(views.masks[1].numpy(), np.arange(84)[None] >= np.full((56, 1), 42))


def test_masks_that_fit_nothing(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "masks" / "other.png")
    with pytest.raises(InputError, match=r"no mask named like a photo \(a.png\)"):
        load_photos(tmp_path, masks=tmp_path / "masks")
    save(tmp_path / "masks" / "a.png", np.full((64, 64), 255, np.uint8))
    with pytest.raises(InputError, match="of another shape"):
        load_photos([tmp_path / "a.png"], masks=tmp_path / "masks")
    save(tmp_path / "masks" / "a.png", np.zeros((64, 96), np.uint8))
    with pytest.raises(InputError, match="masked everywhere"):
        load_photos([tmp_path / "a.png"], masks=tmp_path / "masks")


def test_what_cannot_be_read_is_left_out_of_a_folder_and_an_error_by_name(tmp_path):
    whole = save(tmp_path / "1.jpg", textured(200, 300)).read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "4.nef").write_bytes(b"II*\0")
    (tmp_path / "5.mp4").write_bytes(b"")
    save(tmp_path / "6.png", textured(20, 200))
    os.mkfifo(tmp_path / "7.jpg")
    (tmp_path / "8.jpg").mkdir()
    os.symlink("/dev/zero", tmp_path / "9.jpg")
    os.symlink("1.jpg", tmp_path / "10.jpg")
    loaded = load_photos(tmp_path)
    assert loaded.views.names == ("1",)
    reasons = {d.name: d.reason for d in loaded.dropped}
    assert set(reasons) == {"2.jpg", "3.jpg", "4.nef", "5.mp4", "6.png", "7.jpg", "9.jpg", "10.jpg"}
    for name, words in [("2.jpg", "cut short"), ("3.jpg", "empty"), ("4.nef", "raw file"), ("5.mp4", "video"),
                        ("6.png", "at least 32"), ("7.jpg", "regular file"), ("9.jpg", "leads out"),
                        ("10.jpg", "copy of another photo (1.jpg)")]:  # fmt: skip
        assert words in reasons[name]
    for name in ("2.jpg", "3.jpg", "4.nef", "6.png", "7.jpg", "8.jpg", "9.jpg"):
        with pytest.raises(InputError, match=name):
            load_photos([tmp_path / "1.jpg", tmp_path / name])


def test_a_folder_without_photos(tmp_path):
    with pytest.raises(InputError, match="holds no photos"):
        load_photos(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.jpg is not a picture"):
        load_photos(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_photos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no input"):
        load_photos([])
    for wrong in ({"views": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"resolution": 3}):
        with pytest.raises(InputError, match="="):
            load_photos(tmp_path, **wrong)


def test_photos_in_folders_below(tmp_path):
    for seed, name in enumerate(("b/1.png", "a/2.png", "a/1.png")):
        save(tmp_path / name, textured(seed=seed))
    assert load_photos(tmp_path).views.names == ("1", "2", "1_2")
    save(tmp_path / "images" / "9.png", textured(seed=3))
    save(tmp_path / "0.png", textured(seed=4))
    assert load_photos(tmp_path).views.names == ("1", "2", "1_2", "9", "0")  # in the order of their paths


def test_several_inputs_must_be_photos(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "sub" / "a.png")
    loaded = load_photos([a, b, a])
    assert loaded.kind == "photos"
    assert loaded.views.names == ("a", "a_2")
    assert loaded.dropped[0].reason == "is named twice"
    with pytest.raises(InputError, match="is a folder among 2"):
        load_photos([a, tmp_path / "sub"])
    (tmp_path / "x.zip").write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(InputError, match="is a zip file among 2"):
        load_photos([a, tmp_path / "x.zip"])


def test_picking_is_even_and_says_what_it_leaves(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", textured(seed=i))
    (tmp_path / "5.png").write_bytes(b"bad")
    loaded = load_photos(tmp_path, views=3)
    assert loaded.views.names == ("0", "2", "4")
    assert {d.name for d in loaded.dropped} == {"1.png", "3.png", "5.png"}
    assert evenly(7, 3) == [0, 3, 6]


def test_damage_found_while_decoding_is_replaced(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.jpg", textured(200, 300, seed=i))
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])  # the header is good
    loaded = load_photos(tmp_path, views=3)
    assert len(loaded.views) == 3
    assert "2" not in loaded.views.names


def test_covering_spreads_cameras():
    poses = np.tile(np.eye(4), (10, 1, 1))
    poses[:, 0, 3] = [0, 0.01, 0.02, 0.03, 5, 5.01, 5.02, 10, 10.01, 10.02]
    chosen = covering(poses, 3)
    assert [round(float(poses[i, 0, 3])) for i in chosen] == [0, 5, 10]
    assert covering(np.tile(np.eye(4), (4, 1, 1)), 2) == sorted(covering(np.tile(np.eye(4), (4, 1, 1)), 2))
    turning = np.tile(np.eye(4), (4, 1, 1))
    turning[3, :3, :3] = np.diag([-1, 1, -1])
    assert 3 in covering(turning, 2)


def zipped(path: Path, entries: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_zip(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    content = {f"trip/day 1/{i}.png": save(tmp_path / f"{i}.png", textured(seed=i)).read_bytes() for i in (2, 10)}
    extra = {"__MACOSX/trip/._2.png": b"x", "trip/.DS_Store": b"x", "trip/read me.txt": b"x", "trip/bad.jpg": b"x"}
    loaded = load_photos(zipped(tmp_path / "a.zip", {**extra, **content}))
    assert loaded.kind == "zip"
    assert loaded.views.names == ("2", "10")
    assert {d.name for d in loaded.dropped} == {"trip/bad.jpg", "trip/read me.txt", "trip/.DS_Store", "__MACOSX/"}
    photos = loaded.photos
    del loaded
    gc.collect()
    np.testing.assert_array_equal(photos[1].original(), textured(seed=10))  # still on the disk
    del photos
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_zips_of_other_things(tmp_path):
    posed_folder(tmp_path / "set")
    files = {f"deep/set/{f.relative_to(tmp_path / 'set')}": f.read_bytes() for f in (tmp_path / "set").rglob("*.*")}
    loaded = load_photos(zipped(tmp_path / "posed.zip", files))
    assert loaded.kind == "transforms"
    assert loaded.views.cameras is not None
    save_video(tmp_path / "a.mp4", [textured(seed=i) for i in range(10)], fps=10.0)
    loaded = load_photos(zipped(tmp_path / "clip.zip", {"a.mp4": (tmp_path / "a.mp4").read_bytes()}), views=2)
    assert loaded.kind == "video"
    assert loaded.photos[0].original().shape == (64, 96, 3)


def link_entry(name: str, target: str) -> tuple[zipfile.ZipInfo, str]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def test_hostile_zips_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    photo = save(tmp_path / "a.png").read_bytes()
    path = tmp_path / "x.zip"
    for name in ("../a.png", "/a.png", "a/../../b.png", "C:/a.png", "..\\a.png"):
        with pytest.raises(InputError, match="leads out of the archive"):
            load_photos(zipped(path, {"ok.png": photo, name: photo}))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ok.png", photo)
        archive.writestr(*link_entry("link.png", "/etc/passwd"))
    with pytest.raises(InputError, match="is a link or a device"):
        load_photos(path)
    zipped(path, {"bomb.bmp": bytes(64 << 20), "ok.png": photo})
    with pytest.raises(InputError, match="packed suspiciously tight"):
        load_photos(path)
    zipped(path, {f"{i}.txt": b"" for i in range(2001)})
    with pytest.raises(InputError, match="at most 2000"):
        load_photos(path)
    whole = zipped(path, {"ok.png": photo}).read_bytes()
    for broken in (whole[:-30], whole[: len(whole) // 2], b"PK\3\4", b"PK\5\6" + bytes(17)):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="cut short"):
            load_photos(path)
    zipped(path, {})
    with pytest.raises(InputError, match="holds no photos"):
        load_photos(path)
    damaged = bytearray(whole)
    damaged[60:80] = bytes(20)
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match=r"ok\.png is damaged in the zip"):
        load_photos(path)
    encrypted = bytearray(whole)
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[whole.index(signature) + at] |= 1
    path.write_bytes(bytes(encrypted))
    with pytest.raises(InputError, match="is encrypted"):
        load_photos(path)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_too_much_in_a_zip(tmp_path, monkeypatch):
    monkeypatch.setattr("da3gs.photos.archives.MOST_BYTES", 1000)
    rng = np.random.default_rng(0)
    path = zipped(tmp_path / "x.zip", {"a.png": rng.bytes(600), "b.png": rng.bytes(600)})
    with pytest.raises(InputError, match="would unpack to"):
        load_photos(path)


def test_undistortion_matches_a_pinhole_picture():
    """A picture seen through a lens, made by an own resampler, comes back straight."""
    height, width = 120, 160
    lens = lens_of(
        fx=130.0, fy=128.0, cx=82.0, cy=58.0, height=height, width=width, distortion=(-0.12, 0.03, 0.002, -0.001)
    )

    def pattern(rays: np.ndarray) -> np.ndarray:
        x, y = rays[..., 0], rays[..., 1]
        return 128 + 50 * np.stack((np.sin(9 * x + 2 * y), np.cos(7 * y), np.sin(8 * x - 5 * y)), -1)

    v, u = np.mgrid[:height, :width] + 0.5
    seen = (np.stack((u, v), -1).reshape(-1, 2) - lens.intrinsics[:2, 2]) / lens.intrinsics[[0, 1], [0, 1]]
    rays = seen.copy()
    for _ in range(50):  # invert the distortion by fixed-point iteration
        rays -= distorted(rays, lens.distortion) - seen
    photo = pattern(rays).reshape(height, width, 3).round().astype(np.uint8)
    flat, _, new = undistorted(photo, None, lens)
    straight = (np.stack((u, v), -1) - new[:2, 2]) / new[[0, 1], [0, 1]]
    assert np.abs(flat - pattern(straight)).mean() < 0.6  # rounding twice gives 0.35
    assert np.abs(flat - pattern(straight)).max() < 4


@pytest.mark.parametrize("k1", [-0.3, -0.1, 0.1, 0.3])
def test_undistorted_pictures_have_no_holes(k1):
    lens = lens_of(fx=100.0, fy=100.0, cx=70.0, cy=50.0, height=100, width=140, distortion=(k1, 0.0, 0.0, 0.0))
    new = undistorted_intrinsics(lens)
    mask = np.zeros((100, 140), bool)
    mask[1:-1, 1:-1] = True
    _, kept, _ = undistorted(np.zeros((100, 140, 3), np.uint8), mask, lens)
    assert kept is not None
    assert kept[3:-3, 3:-3].all()
    assert not kept.all()  # somewhere the result touches the photo's border: nothing is wasted
    assert new[0, 0] / new[1, 1] == pytest.approx(1)
    assert new[:2, 2].tolist() == [70, 50]


def test_distortion_that_folds_is_refused():
    lens = lens_of(fx=50.0, fy=50.0, cx=70.0, cy=50.0, height=100, width=140, distortion=(-50.0, 0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="cannot be undone"):
        undistorted_intrinsics(lens)


def test_names():
    assert sorted(["b2", "b10", "B1", "a"], key=natural_key) == ["a", "B1", "b2", "b10"]
    assert unique_stems(["x/A.jpg", "a.png", "a.png"]) == ["A", "a_2", "a_3"]
    assert shown("a\nb\x1b[31m") == "a?b?[31m"
    assert shown("bad\udcff") == "bad?"
    assert len(shown("x" * 500)) <= 120


def test_shared_photos_without_poses(test_data):
    loaded = load_photos(test_data("data/banana_raw_unposed"))
    assert loaded.views.images.shape == (4, 3, 336, 504)
    # 60 mm: SfM of the same camera (SOURCES.md, banana) found 1750 px at 1008, 875 at 504; EXIF is rounded
    assert loaded.views.intrinsics is not None
    assert float(loaded.views.intrinsics[0, 0, 0]) == pytest.approx(875, rel=0.05)
    mixed = [test_data("data/lund_unposed/01.jpg"), test_data("data/soh_unposed/000.png")]
    assert load_views(mixed).sizes == [(378, 504), (280, 504)]
