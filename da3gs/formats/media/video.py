"""Videos: frames out as upright sRGB, frames in as mp4, gif or webp.

Only the containers of ``container_of`` are opened, each by its own demuxer on an open file: no playlist, no network
description, no concatenation script, whatever a file is called. Rotation, BT.601/709/2020 matrices, full and limited
range, HLG and PQ are taken from the stream; where it says nothing, small pictures are BT.601, others BT.709, the range
limited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from da3gs._files import atomic_file
from da3gs.errors import InputError
from da3gs.formats.media.color import numbered, to_srgb

HEAD_BYTES = 600
CONTAINER_WORDS = "mp4, mov, mkv, webm, avi, mpegts"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PICTURE_BRANDS = (
    b"avif",
    b"avis",
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"mif1",
    b"msf1",
    b"jxl ",
    b"crx ",
)
_MOST_PIXELS = 250_000_000
_JUMP = 2.0
"""Seconds from which it is quicker to jump to the next frame than to decode what lies between."""


def container_of(head: bytes) -> str | None:
    """The demuxer for a file that begins with these ``HEAD_BYTES``, None where it is no video that is read.

    >>> container_of(b"....ftypisom" + bytes(400))
    'mov'
    >>> container_of(b"#EXTM3U") is None
    True
    """
    if head.startswith((b"GIF8", b"\x89PNG")):
        return None
    if head[4:8] in _MP4_BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS else "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    for start, packet in ((0, 188), (4, 192)):
        if len(head) > start + 2 * packet and set(head[start : start + 2 * packet + 1 : packet]) == {0x47}:
            return "mpegts"
    return None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class VideoFrame:
    """One decoded frame, its colours not yet converted."""

    index: int
    """Its number in the order shown, from 0."""
    time: int
    """Its time stamp in the stream's unit; its number where the stream has none."""
    seconds: float
    """Its time from the stream's zero."""
    raw: Any
    """The decoder's frame; holds memory of the decoder until let go."""
    aspect: float = 1.0
    """Width of a pixel by its height."""

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """Upright sRGB with square pixels."""
        return _upright(_srgb(self.raw), float(self.raw.rotation), self.aspect)

    def sharpness(self) -> float:
        """The variance of the Laplacian of a small grey version: comparable between neighbouring frames only."""
        width = min(self.raw.width, 480)
        height = max(1, round(self.raw.height * width / self.raw.width))
        grey = self.raw.reformat(width=width, height=height, format="gray", interpolation="AREA").to_ndarray()
        return float(cv2.Laplacian(grey, cv2.CV_32F).var())


@dataclasses.dataclass(eq=False, kw_only=True, slots=True)
class VideoReader:
    """An open video; ``damage`` fills up while frames are read."""

    name: str
    """The file's name."""
    container: Any
    """The open file."""
    stream: Any
    """Its first video stream."""
    damage: int = 0
    """How many packets could not be decoded so far."""
    stamps: list[int] = dataclasses.field(default_factory=list)
    """Time stamps of the packets read so far, decoded or not."""

    def skip_unreferenced(self) -> None:
        """From now on decode only frames that others refer to: about half the work where there are B-frames.

        ``index`` of a frame then counts decoded frames only; its rank among ``stamps`` is its number in the video.
        """
        self.stream.codec_context.skip_frame = "NONREF"

    @property
    def frame_count(self) -> int:
        """Number of frames that the header promises; 0 where it says nothing."""
        return int(self.stream.frames or 0)

    def frames(self, *, start: int | None = None) -> Iterator[VideoFrame]:
        """Frames in the order shown.

        Args:
            start: a time stamp to seek to first; then frames begin at or before it and ``index`` counts from there
                (no frames where the stream has no time stamps).
        """
        import av

        if start is not None:
            with contextlib.suppress(av.FFmpegError):
                self.container.seek(start, stream=self.stream, backward=True)
        index = 0
        unit = float(self.stream.time_base or 1)
        rate = float(self.stream.average_rate or 0) or 25.0
        aspect = float(self.stream.sample_aspect_ratio or 1)
        packets = iter(self.container.demux(self.stream))
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.pts is not None:
                    self.stamps.append(packet.pts)
                decoded = packet.decode()
            except (av.FFmpegError, ValueError):
                self.damage += 1
                if self.damage > 1000:
                    return
                continue
            for raw in decoded:
                if raw.is_corrupt:
                    self.damage += 1
                    continue
                timed = raw.pts is not None
                if start is not None and not timed:
                    return
                seconds = raw.pts * unit if timed else index / rate
                yield VideoFrame(index=index, time=raw.pts if timed else index, seconds=seconds, raw=raw, aspect=aspect)
                index += 1


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[VideoReader]:
    """A video file, open for reading.

    Raises:
        InputError: not a video of a known container, damaged, without pictures, or of a size that is not taken.
    """
    import av
    from av.stream import Disposition

    name = path.name
    with path.open("rb") as file:
        container_format = container_of(file.read(HEAD_BYTES))
        if container_format is None:
            raise InputError(f"{name} is not a video that da3gs reads; give {CONTAINER_WORDS} (told by content)")
        file.seek(0)
        try:
            container = av.open(file, format=container_format)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise InputError(f"{name} is damaged or cut short; its video cannot be opened") from error
        with container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                raise InputError(f"{name} has no video stream; give a video with pictures")
            stream = streams[0]
            context = stream.codec_context
            if context is None:
                raise InputError(f"{name} has a video stream that this machine cannot decode; convert it to H.264")
            if context.width * context.height > _MOST_PIXELS:
                raise InputError(
                    f"{name} has frames of {context.width}x{context.height} pixels; at most 250 megapixels"
                )
            stream.thread_type = "AUTO"
            yield VideoReader(name=name, container=container, stream=stream)


def frames_at(path: Path, times: Sequence[int]) -> Iterator[VideoFrame]:
    """The frames with these time stamps, ascending; those that cannot be found are left out.

    Where they lie far apart the frames between are jumped over. What is not found so (some containers have no index,
    some streams no time stamps) is looked for once more from the beginning.
    """
    wanted = set(times)
    with open_video(path) as video:
        gap = _JUMP / float(video.stream.time_base or 1)
        for run in _runs(sorted(wanted), gap):
            for frame in video.frames(start=run[0]):
                if frame.time in wanted and run[0] <= frame.time <= run[-1]:
                    wanted.discard(frame.time)
                    yield frame
                if frame.time >= run[-1]:
                    break
    if wanted:
        with open_video(path) as video:
            for frame in video.frames():
                if frame.time in wanted:
                    wanted.discard(frame.time)
                    yield frame
                if not wanted:
                    return


def _runs(times: Sequence[int], gap: float) -> list[list[int]]:
    """Ascending time stamps, cut where two are further apart than ``gap``."""
    runs: list[list[int]] = []
    for time in times:
        if runs and time - runs[-1][-1] <= gap:
            runs[-1].append(time)
        else:
            runs.append([time])
    return runs


def frame_at(path: Path, time: int) -> UInt8[np.ndarray, "H W 3"]:
    """One frame by its time stamp.

    Raises:
        InputError: there is none (any more).
    """
    for frame in frames_at(path, [time]):
        return frame.image()
    raise InputError(f"{path.name} has no frame at {time}; it has changed since it was loaded")


def _srgb(raw: Any) -> UInt8[np.ndarray, "H W 3"]:
    tags = numbered(int(raw.color_primaries), int(raw.color_trc))
    is_rgb = raw.format.is_rgb
    full = (
        is_rgb or int(raw.color_range) == 2 or raw.format.name.startswith("yuvj") or raw.format.name.startswith("gray")
    )
    matrix = {1: "ITU709", 9: "BT2020", 10: "BT2020", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M"}.get(
        int(raw.colorspace), "ITU709" if max(raw.width, raw.height) >= 1280 or raw.height > 576 else "ITU601"
    )
    deep = not tags.plain or any(c.bits > 8 for c in raw.format.components)
    keywords: dict[str, Any] = (
        {} if is_rgb else {"src_colorspace": matrix, "src_color_range": "JPEG" if full else "MPEG"}
    )
    picture = raw.reformat(
        format="rgb48le" if deep else "rgb24",
        dst_color_range="JPEG",
        interpolation=_accurate(),
        **keywords,
    ).to_ndarray()
    return to_srgb(picture, primaries=tags.primaries, transfer=tags.transfer)


def _accurate() -> Any:
    from av.video.reformatter import Interpolation

    return Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def _upright(image: UInt8[np.ndarray, "h w 3"], rotation: float, aspect: float) -> UInt8[np.ndarray, "H W 3"]:
    """Square pixels, then turned as the display matrix says (degrees, counterclockwise)."""
    if 0.1 < aspect < 10 and aspect != 1:
        width = max(1, round(image.shape[1] * aspect))
        image = cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90) % 4))


def save_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], *, fps: float = 24.0, overwrite: bool = False
) -> None:
    """Write a video, whole or not at all: H.264 for ``.mp4``, an endless animation for ``.gif`` and ``.webp``.

    Odd heights and widths grow by one repeated row or column in mp4, which cannot have them.

    Raises:
        InputError: another suffix, no frames, or ``path`` exists and ``overwrite`` is false.
    """
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif", ".webp"):
        raise InputError(f"{path.name}: a video is written as .mp4, .gif or .webp, not {suffix or 'without a suffix'}")
    if not 0 < fps <= 1000:
        raise InputError(f"fps={fps}; give frames a second above 0 and up to 1000")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InputError(f"{path.name}: there are no frames to write; ask for at least one")
    with atomic_file(path, overwrite=overwrite) as temporary:
        if suffix == ".mp4":
            _save_mp4(temporary, first, iterator, fps)
        else:
            _save_animation(temporary, first, iterator, fps)


def _save_mp4(path: Path, first: np.ndarray, rest: Iterator[np.ndarray], fps: float) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1  # limited
        for image in itertools.chain((first,), rest):
            padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="edge")
            raw = av.VideoFrame.from_ndarray(padded, format="rgb24")
            raw = raw.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=_accurate(),
            )
            container.mux(stream.encode(raw))
        container.mux(stream.encode(None))


def _save_animation(path: Path, first: np.ndarray, rest: Iterator[np.ndarray], fps: float) -> None:
    from PIL import Image

    milliseconds = max(20, round(1000 / fps))  # browsers slow down shorter ones
    pictures = (Image.fromarray(image) for image in rest)
    keywords: dict[str, Any] = {"quality": 85, "method": 4} if path.suffix.lower() == ".webp" else {"optimize": False}
    Image.fromarray(first).save(path, save_all=True, append_images=pictures, duration=milliseconds, loop=0, **keywords)
