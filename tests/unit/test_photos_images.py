"""One picture file: formats, orientation, colours, transparency, EXIF, and everything that can be wrong with it."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from da3gs.formats.media.color import decode_hlg, decode_pq, decode_srgb, encode_srgb, to_bt709, to_srgb, tone_mapped
from da3gs.photos.decoding.images import check_size, read_header, read_picture, turned
from da3gs.photos.decoding.masks import read_mask
from da3gs.photos.records import Unreadable
from tests.unit.pictures import save, textured

DISPLAY_P3 = {"primaries": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), "white": (0.3127, 0.3290)}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2).clip(1e-9)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm", ".avif", ".gif"])
def test_formats(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", **({"quality": 95} if suffix == ".avif" else {}))
    header, picture = read_header(path), read_picture(path)
    assert (header.height, header.width, header.orientation, header.focal) == (64, 96, 1, None)
    assert picture.mask is None
    assert picture.image.dtype == np.uint8
    lossless = suffix in (".png", ".tif", ".bmp", ".ppm")
    if lossless:
        np.testing.assert_array_equal(picture.image, textured())
    else:
        assert psnr(picture.image, textured()) > 28  # lossy coding of a sharp mark


def exif_of(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        where = exif if name in ("Orientation",) else exif.get_ifd(0x8769)
        where[{"Orientation": 0x0112, "FocalLengthIn35mmFilm": 0xA405, "FocalLength": 0x920A}[name]] = value
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path, suffix, orientation):
    upright = textured()
    path = tmp_path / f"a{suffix}"
    exif = exif_of(Orientation=orientation)
    # the inverse of what a reader must do: Pillow's own transposition back
    codes = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(codes[orientation]))
    keywords = {"quality": 95} if suffix in (".jpg", ".webp") else {}
    stored.save(path, exif=exif.tobytes() if suffix != ".tif" else exif, **keywords)
    picture = read_picture(path)
    assert picture.image.shape == upright.shape
    assert psnr(picture.image, upright) > 28
    assert read_header(path).upright_size == (64, 96)


def test_stored_pixels_stay_when_asked(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(textured()).save(path, exif=exif_of(Orientation=6).tobytes())
    assert read_picture(path, upright=False).image.shape == (64, 96, 3)
    assert read_picture(path).image.shape == (96, 64, 3)


def test_turned_against_pillow():
    picture = textured()
    codes = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    for orientation, code in codes.items():
        wanted = np.asarray(Image.fromarray(picture).transpose(Image.Transpose(code)))
        np.testing.assert_array_equal(turned(picture, orientation), wanted)
    assert turned(picture[..., 0], 6).shape == (96, 64)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_upright(tmp_path, orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    upright = textured(128, 192)
    stored = upright if orientation == 1 else np.rot90(upright)  # 6: turn clockwise to see it upright
    image = pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(stored)))
    path = tmp_path / "a.heic"
    image.save(path, quality=95, exif=exif_of(Orientation=orientation).tobytes())
    header, picture = read_header(path), read_picture(path)
    assert header.upright_size == picture.image.shape[:2] == (128, 192)
    assert psnr(picture.image, upright) > 28


def p3_profile() -> bytes:
    """A display P3 profile as small as ICC allows: matrix and one curve."""
    from da3gs.formats.media.color import primaries_to_xyz

    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d65, d50 = primaries_to_xyz("p3") @ np.ones(3), np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ d65)) @ bradford
    columns = (adapt @ primaries_to_xyz("p3")).T

    def fixed(value: float) -> bytes:
        return round(float(value) * 65536).to_bytes(4, "big", signed=True)

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(fixed(v) for v in values)

    curve = b"para\0\0\0\0\0\3\0\0" + b"".join(fixed(v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    name = b"desc\0\0\0\0" + (11).to_bytes(4, "big") + b"Wide tests\0" + bytes(78)
    text = b"text\0\0\0\0none\0"
    tags = {b"desc": name, b"cprt": text, b"wtpt": xyz(d50), b"rXYZ": xyz(columns[0]), b"gXYZ": xyz(columns[1])}
    tags |= {b"bXYZ": xyz(columns[2]), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, body = len(tags).to_bytes(4, "big"), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + (start + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data
    head = bytearray(128)
    head[0:4] = (128 + len(table) + len(body)).to_bytes(4, "big")
    head[8:12], head[12:24], head[36:40] = b"\x02\x40\0\0", b"mntrRGB XYZ ", b"acsp"
    head[68:80] = b"".join(fixed(v) for v in d50)
    return bytes(head) + table + body


def test_display_p3_becomes_srgb(tmp_path):
    inside = np.full((64, 64, 3), (120, 90, 60), np.uint8)
    wide = (encode_srgb(decode_srgb(inside / 255.0) @ np.linalg.inv(to_bt709("p3")).T) * 255 + 0.5).astype(np.uint8)
    assert np.abs(wide.astype(int) - inside).max() > 3
    path = save(tmp_path / "p3.png", wide, icc_profile=p3_profile())
    picture = read_picture(path)
    assert np.abs(picture.image.astype(int) - inside).max() <= 2  # three roundings to 8 bits
    plain = save(tmp_path / "plain.png", wide)
    np.testing.assert_array_equal(read_picture(plain).image, wide)


def test_heic_that_names_its_colours_by_numbers(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    inside = np.full((64, 64, 3), (120, 90, 60), np.uint8)
    wide = (encode_srgb(decode_srgb(inside / 255.0) @ np.linalg.inv(to_bt709("p3")).T) * 255 + 0.5).astype(np.uint8)
    image = pillow_heif.from_pillow(Image.fromarray(wide))
    numbers = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
    image.save(tmp_path / "a.heic", quality=100, chroma=444, **numbers)
    assert np.abs(read_picture(tmp_path / "a.heic").image.astype(int) - inside).max() <= 3


def test_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_picture(path).image, textured())


def test_broken_profiles_are_passed_over(tmp_path):
    for profile in (b"nonsense", p3_profile()[:200], p3_profile().replace(b"RGB ", b"CMYK")):
        path = save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_array_equal(read_picture(path).image, textured())


def test_grey_palette_cmyk_and_sixteen_bits(tmp_path):
    grey = textured()[..., 1]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png").image, np.repeat(grey[..., None], 3, 2))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png").image[..., 0], grey)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.tif").image[..., 0], grey)
    palette = Image.fromarray(textured()).quantize(64)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png").image, np.asarray(palette.convert("RGB")))
    Image.fromarray(textured()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert psnr(read_picture(tmp_path / "cmyk.jpg").image, textured()) > 28
    Image.fromarray(grey > 128).save(tmp_path / "bits.png")
    assert set(np.unique(read_picture(tmp_path / "bits.png").image)) == {0, 255}


def test_transparency_is_a_mask(tmp_path):
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :40] = 100
    rgba = np.dstack((textured(), alpha))
    for suffix in (".png", ".tif", ".webp"):
        Image.fromarray(rgba).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
        picture = read_picture(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(picture.mask, alpha > 128)
        np.testing.assert_array_equal(picture.image, textured())  # colours as stored
    Image.fromarray(np.dstack((textured(), np.full((64, 96), 255, np.uint8)))).save(tmp_path / "opaque.png")
    assert read_picture(tmp_path / "opaque.png").mask is None
    Image.fromarray(np.dstack((textured(), np.zeros((64, 96), np.uint8)))).save(tmp_path / "none.png")
    with pytest.raises(Unreadable, match="transparent everywhere"):
        read_picture(tmp_path / "none.png")
    Image.fromarray(textured()).quantize(16).save(tmp_path / "p.png", transparency=0)
    assert read_picture(tmp_path / "p.png").mask is not None


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(textured(seed=i)) for i in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.webp").image, textured())


def test_masks(tmp_path):
    grey = np.zeros((64, 96), np.uint8)
    grey[10:] = 255
    for mode in ("L", "1", "RGB", "P"):
        Image.fromarray(grey).convert(mode).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), grey > 0)


def test_focal_length_of_the_exif(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(textured(480, 720)).save(path, exif=exif_of(FocalLengthIn35mmFilm=50).tobytes())
    assert read_header(path).focal == pytest.approx(50 / 36 * 720)  # 3:2, so the diagonal is the width's way
    Image.fromarray(textured(480, 640)).save(path, exif=exif_of(FocalLengthIn35mmFilm=26).tobytes())
    assert read_header(path).focal == pytest.approx(26 / 43.2666 * 800, rel=1e-4)
    for nonsense in (0, 1, 60000):
        Image.fromarray(textured(480, 640)).save(path, exif=exif_of(FocalLengthIn35mmFilm=nonsense).tobytes())
        assert read_header(path).focal is None


def test_focal_length_from_the_sensor(tmp_path):
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    tags[0x920A], tags[0xA20E], tags[0xA210], tags[0xA002], tags[0xA003] = 18.0, 4000.0, 2, 3600, 2400
    path = tmp_path / "a.jpg"
    Image.fromarray(textured(240, 360)).save(path, exif=exif.tobytes())
    assert read_header(path).focal == pytest.approx(18 * 4000 / 25.4 / 10, rel=1e-4)
    Image.fromarray(textured(360, 360)).save(path, exif=exif.tobytes())  # cropped since: the tags do not hold
    assert read_header(path).focal is None


def test_sizes():
    check_size(32, 640)
    check_size(10000, 25000)
    for height, width, words in [(31, 64, "at least 32"), (32, 641, "20 times"), (20000, 12501, "250 megapixels")]:
        with pytest.raises(Unreadable, match=words):
            check_size(height, width)


def test_large_headers_are_refused_before_decoding(tmp_path):
    head = b"P6\n60000 50000\n255\n"
    (tmp_path / "bomb.ppm").write_bytes(head + bytes(100))
    with pytest.raises(Unreadable, match="at most 250 megapixels"):
        read_header(tmp_path / "bomb.ppm")
    (tmp_path / "big.ppm").write_bytes(b"P6\n15000 12000\n255\n" + bytes(100))  # 180 MP: Pillow alone would refuse it
    assert read_header(tmp_path / "big.ppm").width == 15000
    with pytest.raises(Unreadable, match="cut short"):
        read_picture(tmp_path / "big.ppm")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_large_pictures_are_read_whole(tmp_path, suffix):
    rows = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (9600, 40, 3))  # 98 MP: Pillow alone would warn
    Image.fromarray(rows).save(tmp_path / f"a{suffix}")
    assert read_picture(tmp_path / f"a{suffix}").image.shape == rows.shape
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_unreadable_files(tmp_path):
    good = save(tmp_path / "good.jpg", textured(200, 300)).read_bytes()
    cases = {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"hello, this is no picture at all", "is not a picture"),
        "short.jpg": (good[: len(good) // 2], "cut short"),
        "head.jpg": (good[:100], "cut short|damaged|not a picture"),
        "eps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n", "is not a picture"),
        "pdf.png": (b"%PDF-1.4\n", "is not a picture"),
        "list.png": (b"#EXTM3U\nhttp://localhost/x.ts\n", "is not a picture"),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        "icon.png": (b"\0\0\1\0\1\0" + bytes(100), "is not a picture"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unreadable, match=words) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(Unreadable, match="does not exist"):
        read_header(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(Unreadable, match="is a folder"):
        read_header(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(Unreadable, match="not a regular file"):
        read_header(tmp_path / "pipe.jpg")


def test_a_bug_of_ours_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its traceback; what a decoder raises on bytes is damage."""

    def faulty(*_: object) -> None:
        raise TypeError("ours")

    save(tmp_path / "a.png")
    monkeypatch.setattr("da3gs.photos.decoding.images.srgb_pixels", faulty)
    with pytest.raises(Unreadable, match="damaged"):
        read_picture(tmp_path / "a.png")
    monkeypatch.setattr("da3gs.photos.decoding.images.turned", None)
    monkeypatch.setattr("da3gs.photos.decoding.images.srgb_pixels", lambda image, _: (np.asarray(image), None))
    with pytest.raises(TypeError, match="NoneType"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", ".avif", ".heic", ".bmp"])
def test_damaged_bytes_raise_nothing_else(tmp_path, capfd, suffix):
    """Any damage is either shown as a picture or told in words; warnings would fail the test."""
    if suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF", ".heic": "HEIF"}.get(suffix, suffix[1:].upper())
    Image.fromarray(textured()).save(buffer, kind)
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    for trial in range(25):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 1 + trial % 5):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(bytes(broken[: len(whole) if trial % 2 else int(rng.integers(1, len(whole)))]))
        try:
            read_picture(path)
        except Unreadable as problem:
            words = str(problem)
            assert words
            assert "\n" not in words
    assert capfd.readouterr() == ("", "")  # decoders in C keep quiet as well


def test_curves_of_hdr():
    # ITU-R BT.2100 and BT.2408: white is 203 nits at PQ 0.5806 and HLG 0.75; the peaks are 10,000 and 1,000 nits
    assert decode_pq(np.array([0.5806]))[0] == pytest.approx(1.0, abs=2e-3)
    assert decode_pq(np.array([1.0]))[0] == pytest.approx(10000 / 203)
    assert decode_hlg(np.full((1, 3), 0.75))[0] == pytest.approx(np.ones(3), abs=0.01)
    assert decode_hlg(np.full((1, 3), 1.0))[0] == pytest.approx(np.full(3, 1000 / 203), rel=1e-3)
    assert decode_hlg(np.zeros((1, 3)))[0].tolist() == [0, 0, 0]


def test_tone_mapping_is_smooth_and_monotone():
    light = np.linspace(0, 8, 4001)[:, None].repeat(3, 1)
    mapped = tone_mapped(light)[:, 0]
    assert (np.diff(mapped) >= -1e-12).all()
    assert mapped[-1] == pytest.approx(1)
    np.testing.assert_allclose(mapped[:300], light[:300, 0])
    slopes = np.diff(mapped) / 0.002
    assert np.abs(np.diff(slopes[:2400])).max() < 0.01  # no corner at the knee
    colored = tone_mapped(np.array([[4.0, 2.0, 1.0]]))
    assert colored[0, 0] / colored[0, 2] == pytest.approx(4)


def test_white_stays_white():
    for primaries in ("bt2020", "p3"):
        np.testing.assert_allclose(to_bt709(primaries).sum(1), 1, atol=1e-9)
        white = to_srgb(np.ones((1, 1, 3), np.float32), primaries=primaries, transfer="srgb")
        assert white.tolist() == [[[255, 255, 255]]]
    np.testing.assert_allclose(encode_srgb(decode_srgb(np.linspace(0, 1, 99))), np.linspace(0, 1, 99), atol=1e-12)
