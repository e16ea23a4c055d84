"""The frames of a video worth using: spread over time, the sharpest of each window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs.errors import InputError
from da3gs.formats.cameras.lens import Lens, panorama_lens
from da3gs.formats.media.boxes import says_spherical
from da3gs.formats.media.video import VideoFrame, frames_at, open_video
from da3gs.photos.candidates import Candidate, Collection, Panoramas
from da3gs.photos.decoding.images import Picture, check_size
from da3gs.photos.naming import shown
from da3gs.photos.records import Dropped, Unreadable

DEFAULT_FPS = 2.0
MOST_FRAMES = 200
"""More windows than this are made longer."""
LONG = 2000
"""Of videos with more frames only those are looked at that other frames refer to."""

_Scored = tuple[float, float, int, int]
"""seconds, sharpness, index, time"""


def video_photos(
    path: Path, *, views: int | None, fps: float | None, progress: Progress, panoramas: Panoramas = "auto"
) -> Collection:
    """The frames to use, found in one pass: the sharpest of each 1/fps seconds, or of each of ``views`` windows.

    Args:
        path: the video.
        views: at most so many frames.
        fps: so many a second.
        progress: told how far it was looked through.
        panoramas: whether frames are panoramas: ``auto`` where the video says so, ``always`` where they are twice as
            wide as high.

    Raises:
        InputError: it has no frames, or none of a size that is taken.
    """
    frames, damage, (height, width) = _scored(path, progress)
    name = shown(path.name)
    if not frames:
        raise InputError(f"{name} has no frames that can be decoded; record or convert it again")
    chosen = _sharpest(frames, windows=_windows(frames, views=views, fps=fps))
    lens = _panorama(path, height, width, panoramas)
    candidates = tuple(
        Candidate(index=index, name=f"frame_{index:06d}", path=path, time=time, lens=lens)
        for _, _, index, time in chosen
    )
    dropped = []
    if len(chosen) < len(frames):
        unused = (
            f"{len(frames) - len(chosen)} of {len(frames)} frames are not used: the sharpest of each window was taken"
        )
        dropped.append(Dropped(name=name, reason=unused, kind="has frames that are not used"))
    if damage:
        told = f"is damaged in {damage} places; frames there are left out"
        dropped.append(Dropped(name=name, reason=told, kind="is damaged in places"))
    return Collection(kind="video", title=name, candidates=candidates, dropped=tuple(dropped))


def _panorama(path: Path, height: int, width: int, panoramas: Panoramas) -> Lens | None:
    """The lens of frames of 360 degrees, as photos of them have it; None for ordinary ones."""
    if panoramas == "never" or abs(width / (2 * height) - 1) > 0.01:
        return None
    with path.open("rb") as file:
        told = says_spherical(file)
    return panorama_lens(height, width) if told or panoramas == "always" else None


def _scored(path: Path, progress: Progress) -> tuple[list[_Scored], int, tuple[int, int]]:
    """Time, sharpness and number of the frames, how often decoding failed, and the frames' height and width."""
    frames: list[_Scored] = []
    size = (0, 0)
    with open_video(path) as video:
        long = video.frame_count > LONG
        if long:
            video.skip_unreferenced()
        for frame in video.frames():
            if not frames:
                size = _checked_size(frame, path)
            frames.append((frame.seconds, frame.sharpness(), frame.index, frame.time))
            progress("looking through the video", frame.index + 1, max(video.frame_count, frame.index + 1))
        numbers = {stamp: number for number, stamp in enumerate(sorted(set(video.stamps)))}
    if long:
        frames = [(seconds, sharp, numbers.get(time, index), time) for seconds, sharp, index, time in frames]
    return frames, video.damage, size


def _checked_size(frame: VideoFrame, path: Path) -> tuple[int, int]:
    height, width = frame.image().shape[:2]
    try:
        check_size(height, width)
    except Unreadable as problem:
        raise InputError(f"{shown(path.name)} {problem}") from problem
    return height, width


def _windows(frames: Sequence[_Scored], *, views: int | None, fps: float | None) -> int:
    """How many windows of equal time to cut the video into."""
    duration = max(f[0] for f in frames) - min(f[0] for f in frames)
    if fps is None and views is not None:
        return views
    wanted = max(1, round(duration * (fps or DEFAULT_FPS)))
    return min(wanted, MOST_FRAMES if views is None else views)


def _sharpest(frames: Sequence[_Scored], *, windows: int) -> list[_Scored]:
    """One frame a window, in order; windows without frames give none."""
    start, end = min(f[0] for f in frames), max(f[0] for f in frames)
    length = (end - start) / windows or 1.0
    best: dict[int, _Scored] = {}
    for frame in frames:
        window = min(int((frame[0] - start) / length), windows - 1)
        if window not in best or frame[1] > best[window][1]:
            best[window] = frame
    return sorted(best.values(), key=lambda f: f[2])


def clip_pictures(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Picture | Unreadable]]:
    """The chosen frames of one video, decoded in one pass."""
    waiting: dict[int | None, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        waiting[candidate.time].append(candidate)
    for frame in frames_at(candidates[0].path, [time for time in waiting if time is not None]):
        picture = Picture(image=frame.image(), mask=None)
        yield from ((candidate, picture) for candidate in waiting.pop(frame.time))
    for candidate in (c for frames in waiting.values() for c in frames):
        yield candidate, Unreadable(f"has no frame {candidate.name} that can be decoded")
