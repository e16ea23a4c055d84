"""Videos: containers told by content, colours, rotation, HDR, picking of frames, and writing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from da3gs.errors import InputError
from da3gs.formats.media.color import decode_srgb, encode_srgb, to_bt709
from da3gs.formats.media.video import container_of, frame_at, frames_at, open_video, save_video
from da3gs.photos import load_photos
from tests.unit.pictures import textured

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128), (200, 150, 100), (0, 0, 0)]


def bars(height: int = 64) -> np.ndarray:
    return np.repeat(np.repeat(np.array([COLORS], np.uint8), 32, 1), height, 0)


def of_bars(image: np.ndarray) -> list[list[int]]:
    return [image[image.shape[0] // 2, 32 * i + 16].tolist() for i in range(len(COLORS))]


def encoded(
    path: Path,
    frames: list[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    matrix: str = "ITU709",
    full: bool = False,
    tags: tuple[int, int, int, int] | None = None,
    rotation: int = 0,
    aspect: str | None = None,
) -> Path:
    """A video file of RGB frames; 16-bit ones keep their depth. ``tags``: primaries, transfer, matrix, range."""
    with av.open(str(path), "w") as container:
        options = {"crf": "4"} if codec == "libx264" else {}
        if codec == "libx265":
            options = {"crf": "4", "x265-params": "log-level=none:bframes=0:pools=1:frame-threads=1"}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if aspect:
            stream.options = {**options, "aspect": aspect}
        if rotation:
            stream.set_display_rotation(rotation)
        if tags:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        for frame in frames:
            kind = "rgb48le" if frame.dtype == np.uint16 else "rgb24"
            raw = av.VideoFrame.from_ndarray(frame, format=kind).reformat(
                format=pixels,
                dst_colorspace=matrix,
                src_color_range="JPEG",
                dst_color_range="JPEG" if full else "MPEG",
            )
            container.mux(stream.encode(raw))
        container.mux(stream.encode(None))
    return path


def first_image(path: Path) -> np.ndarray:
    with open_video(path) as video:
        return next(video.frames()).image()


@pytest.mark.parametrize(
    ("pixels", "matrix", "full", "tags"),
    [
        ("yuv420p", "ITU709", False, (1, 1, 1, 1)),
        ("yuv420p", "ITU601", False, (6, 6, 6, 1)),
        ("yuvj420p", "ITU709", True, (1, 1, 1, 2)),
        ("yuv444p", "ITU601", False, None),  # nothing said, and small: BT.601, limited
    ],
)
def test_matrices_and_ranges(tmp_path, pixels, matrix, full, tags):
    path = encoded(tmp_path / "a.mp4", [bars()] * 3, pixels=pixels, matrix=matrix, full=full, tags=tags)
    np.testing.assert_allclose(of_bars(first_image(path)), COLORS, atol=3)  # 8 bits, limited range, lossy


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".ts", ".mov", ".webm"])
def test_containers(tmp_path, suffix):
    codec = "libvpx-vp9" if suffix == ".webm" else "mpeg4" if suffix == ".avi" else "libx264"
    path = encoded(tmp_path / f"a{suffix}", [bars()] * 5, codec=codec)
    anonymous = path.rename(tmp_path / "something")
    loaded = load_photos(anonymous, views=2, resolution=112)
    assert loaded.kind == "video"
    assert len(loaded.views) == 2


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation(tmp_path, rotation):
    upright = textured(96, 160)
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))  # turning counterclockwise makes it upright
    path = encoded(tmp_path / "a.mp4", [stored] * 3, rotation=rotation, tags=(1, 1, 1, 1))
    with av.open(str(path)) as container:
        assert abs(next(container.decode(video=0)).rotation) == abs(rotation)
    image = first_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 4  # another turn gives more than 30


def test_square_pixels(tmp_path):
    path = encoded(tmp_path / "a.mp4", [textured(64, 96)] * 2, aspect="4/3")
    assert first_image(path).shape == (64, 128, 3)


def as_hdr(image: np.ndarray, transfer: str) -> np.ndarray:
    """16-bit BT.2020 numbers of an sRGB picture whose white is 203 nits (the inverse of the standards' curves)."""
    light = decode_srgb(image / 255.0) @ np.linalg.inv(to_bt709("bt2020")).T
    if transfer == "pq":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        y = (np.clip(light, 0, None) * 203 / 10000) ** m1
        values = ((c1 + c2 * y) / (1 + c3 * y)) ** m2
    else:
        display = np.clip(light, 0, None) * 203 / 1000
        luminance = display @ [0.2627, 0.6780, 0.0593]
        scene = display * (np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1))[..., None]
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        values = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return (np.clip(values, 0, 1) * 65535 + 0.5).astype(np.uint16)


@pytest.mark.parametrize(("transfer", "number"), [("pq", 16), ("hlg", 18)])
def test_hdr_is_tone_mapped(tmp_path, transfer, number):
    if "libx265" not in av.codecs_available:
        pytest.skip("this build of av has no libx265")
    colors = np.array([(100, 100, 100), (170, 120, 90), (60, 140, 80), (70, 90, 160), (20, 20, 20)], np.uint8)
    picture = np.repeat(np.repeat(colors[None], 32, 1), 64, 0)
    frames = [as_hdr(picture, transfer)] * 4
    path = encoded(
        tmp_path / "a.mkv", frames, codec="libx265", pixels="yuv420p10le", matrix="BT2020", tags=(9, number, 9, 1)
    )
    image = first_image(path)
    found = np.array([image[32, 32 * i + 16] for i in range(len(colors))])
    # all of them lie under 0.6 of white, where tone mapping changes nothing
    assert (decode_srgb(colors / 255.0).max(-1) < 0.6).all()
    np.testing.assert_allclose(found, colors, atol=4)
    bright = encoded(
        tmp_path / "b.mkv", [np.full((64, 96, 3), 65535, np.uint16)] * 4, codec="libx265", pixels="yuv420p10le",
        matrix="BT2020", tags=(9, number, 9, 1),
    )  # fmt: skip
    assert first_image(bright).min() >= 250


def test_ten_bits_without_hdr(tmp_path):
    if "libx265" not in av.codecs_available:
        pytest.skip("this build of av has no libx265")
    path = encoded(tmp_path / "a.mkv", [bars()] * 4, codec="libx265", pixels="yuv420p10le", tags=(1, 1, 1, 1))
    np.testing.assert_allclose(of_bars(first_image(path)), COLORS, atol=3)


def test_wide_gamut_video(tmp_path):
    if "libx265" not in av.codecs_available:
        pytest.skip("this build of av has no libx265")
    wanted = np.full((64, 96, 3), (120, 90, 60), np.uint8)
    wide = encode_srgb(decode_srgb(wanted / 255.0) @ np.linalg.inv(to_bt709("p3")).T)
    frames = [(wide * 65535).astype(np.uint16)] * 4
    path = encoded(tmp_path / "a.mkv", frames, codec="libx265", pixels="yuv420p10le", tags=(12, 1, 1, 1))
    np.testing.assert_allclose(first_image(path)[32, 48], wanted[0, 0], atol=3)


def blurred(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((12, 8), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(image.shape[1::-1], Image.Resampling.BILINEAR))


def test_the_sharpest_frame_of_each_window(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    sharp = np.repeat(np.repeat(noise[::4, ::4], 4, 0), 4, 1)
    frames = [sharp if i in (2, 9, 13, 17) else blurred(sharp) for i in range(20)]  # 10 frames a second: 2 s
    path = encoded(tmp_path / "a.mp4", frames)
    by_rate = load_photos(path, fps=2.0, resolution=98)
    assert by_rate.views.names == ("frame_000002", "frame_000009", "frame_000013", "frame_000017")
    assert [p.index for p in by_rate.photos] == [2, 9, 13, 17]
    assert load_photos(path, resolution=98).views.names == by_rate.views.names  # 2 a second is what nobody asked for
    assert load_photos(path, views=4, resolution=98).views.names == by_rate.views.names
    assert len(load_photos(path, views=3, fps=5.0, resolution=98).views) == 3
    assert "16 of 20 frames are not used" in by_rate.dropped[0].reason
    photo = by_rate.photos[1]
    assert (photo.file, photo.original_height, photo.original_width) == ("a.mp4", 64, 96)
    original = photo.original()
    assert original.shape == (64, 96, 3)
    np.testing.assert_array_equal(original, frame_at(path, 9 * 1024))  # time stamps of 10 frames a second in mp4


def test_long_videos_are_looked_through_faster(tmp_path, monkeypatch):
    pictures = [textured(seed=i) for i in range(40)]
    path = encoded(tmp_path / "a.mp4", pictures)  # with B-frames, as x264 makes them
    with open_video(path) as video:
        every = [f.image() for f in video.frames()]
    monkeypatch.setattr("da3gs.photos.clips.LONG", 10)
    loaded = load_photos(path, views=6, resolution=98)
    assert len(loaded.views) == 6
    for photo in loaded.photos:
        np.testing.assert_array_equal(photo.original(), every[photo.index])


def test_jumps_find_the_same_frames(tmp_path):
    path = encoded(tmp_path / "a.mkv", [textured(seed=i) for i in range(90)])  # 9 seconds
    with open_video(path) as video:
        frames = [(f.time, f.image()) for f in video.frames()]
    chosen = [0, 1, 40, 41, 89]
    found = list(frames_at(path, [frames[i][0] for i in chosen]))
    assert [f.time for f in found] == [frames[i][0] for i in chosen]
    for frame, i in zip(found, chosen, strict=True):
        np.testing.assert_array_equal(frame.image(), frames[i][1])


def test_small_frames_are_refused(tmp_path):
    path = encoded(tmp_path / "a.mp4", [textured(64, 96)[:16]] * 3)
    with pytest.raises(InputError, match="96x16 pixels; both sides"):
        load_photos(path)


def test_broken_videos(tmp_path):
    path = encoded(tmp_path / "a.mp4", [textured(seed=i) for i in range(30)])
    whole = path.read_bytes()
    for name, content, words in [
        ("empty.mp4", b"", "is not a video that da3gs reads"),
        ("text.mp4", b"hello" * 200, "is not a video that da3gs reads"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "is not a video that da3gs reads"),
        ("network.mp4", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "is not a video that da3gs reads"),
        ("script.mkv", b"ffconcat version 1.0\nfile /etc/passwd\n", "is not a video that da3gs reads"),
        ("head.mp4", whole[:300], "damaged or cut short|no frames"),
        ("index.mp4", whole[: whole.index(b"moov") + 40], "damaged or cut short|no video stream|no frames"),
        (
            "noise.mkv",
            b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(5000),
            "damaged or cut short|no video|no frames",
        ),
    ]:
        broken = tmp_path / name
        broken.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            load_photos(broken)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = encoded(tmp_path / "a.mkv", [textured(seed=i) for i in range(30)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    loaded = load_photos(path, views=3, resolution=98)
    assert len(loaded.views) == 3
    assert loaded.photos[-1].index < 29


def test_sound_without_pictures(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="has no video stream"):
        load_photos(path)


def test_pictures_are_no_videos():
    assert container_of(b"\0\0\0\x18ftypheic" + bytes(600)) is None
    assert container_of(b"\0\0\0\x18ftypavif" + bytes(600)) is None
    assert container_of(b"GIF89a" + b"\x47" * 600) is None
    assert container_of(b"\x47" * 600) == "mpegts"
    assert container_of(b"RIFF1234WEBP" + bytes(600)) is None


def test_saved_mp4(tmp_path):
    frames = [np.roll(bars(65)[:, :-1], 7 * i, 1) for i in range(12)]  # 65 x 223: both odd
    path = tmp_path / "a.mp4"
    save_video(path, iter(frames), fps=12.0)
    with open_video(path) as video:
        images = [f.image() for f in video.frames()]
        context = video.stream.codec_context
        assert float(video.stream.average_rate) == 12
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)
    assert len(images) == 12
    assert images[0].shape == (66, 224, 3)
    np.testing.assert_allclose(of_bars(images[0])[:6], COLORS[:6], atol=6)
    np.testing.assert_array_equal(images[0].shape[:2], [66, 224])
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(InputError, match="exists already"):
        save_video(path, frames)
    save_video(path, frames[:2], fps=29.97, overwrite=True)
    with open_video(path) as video:
        assert float(video.stream.average_rate) == pytest.approx(29.97, abs=1e-3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_saved_animations(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_video(path, [np.roll(bars(), 16 * i, 1) for i in range(4)], fps=10.0)
    with Image.open(path) as image:
        assert image.n_frames == 4
        assert image.info["loop"] == 0
        assert image.size == (224, 64)


def test_saving_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield bars()
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        save_video(tmp_path / "a.mp4", failing())
    for name, words in [("a.mov", "not .mov"), ("a", "without a suffix")]:
        with pytest.raises(InputError, match=words):
            save_video(tmp_path / name, [bars()])
    with pytest.raises(InputError, match="no frames to write"):
        save_video(tmp_path / "a.mp4", [])
    with pytest.raises(InputError, match="fps=0"):
        save_video(tmp_path / "a.mp4", [bars()], fps=0.0)
    assert list(tmp_path.iterdir()) == []


def test_frames_by_their_time(tmp_path):
    path = encoded(tmp_path / "a.mp4", [textured(seed=i) for i in range(30)])
    with open_video(path) as video:
        frames = [(f.time, f.image()) for f in video.frames()]
    times = [t for t, _ in frames]
    assert times == sorted(times)
    for i in (0, 13, 29):
        np.testing.assert_array_equal(frame_at(path, times[i]), frames[i][1])
    assert [f.time for f in frames_at(path, [times[3], times[20]])] == [times[3], times[20]]
    with pytest.raises(InputError, match="no frame at"):
        frame_at(path, 10**9)


def test_the_shared_video(test_data):
    loaded = load_photos(test_data("data/video/robot_unitree.mp4"))
    assert loaded.views.images.shape == (7, 3, 280, 504)  # 3.5 s at 2 a second
    assert all(n.startswith("frame_000") for n in loaded.views.names)
