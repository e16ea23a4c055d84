"""The frames of a video worth using: spread over time, the sharpest of each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from da3gs._progress import Progress
from da3gs.errors import InputError
from da3gs.formats.video import VideoFrame, frames_at, open_video
from da3gs.photos.candidates import Candidate, Collection
from da3gs.photos.images import Picture, check_size
from da3gs.photos.naming import shown
from da3gs.photos.records import Dropped, Unreadable

DEFAULT_FPS = 2.0
MOST_FRAMES = 200
"""More windows than this are made longer."""
LONG = 2000
"""Of videos with more frames only those are looked at that other frames refer to."""

_Scored = tuple[float, float, int, int]
"""seconds, sharpness, index, time"""


def video_photos(path: Path, *, views: int | None, fps: float | None, progress: Progress) -> Collection:
    """The frames to use, found in one pass: the sharpest of each 1/fps seconds, or of each of ``views`` windows.

    Raises:
        InputError: it has no frames, or none of a size that is taken.
    """
    frames, damage = _scored(path, progress)
    name = shown(path.name)
    if not frames:
        raise InputError(f"{name} has no frames that can be decoded; record or convert it again")
    chosen = _sharpest(frames, windows=_windows(frames, views=views, fps=fps))
    candidates = tuple(
        Candidate(index=index, name=f"frame_{index:06d}", path=path, time=time) for _, _, index, time in chosen
    )
    dropped = []
    if len(chosen) < len(frames):
        unused = (
            f"{len(frames) - len(chosen)} of {len(frames)} frames are not used: the sharpest of each window was taken"
        )
        dropped.append(Dropped(name=name, reason=unused))
    if damage:
        dropped.append(Dropped(name=name, reason=f"is damaged in {damage} places; frames there are left out"))
    return Collection(kind="video", title=name, candidates=candidates, dropped=tuple(dropped))


def _scored(path: Path, progress: Progress) -> tuple[list[_Scored], int]:
    """Time, sharpness and number of the frames, and how often decoding failed."""
    frames: list[_Scored] = []
    with open_video(path) as video:
        long = video.frame_count > LONG
        if long:
            video.skip_unreferenced()
        for frame in video.frames():
            if not frames:
                _check_frame(frame, path)
            frames.append((frame.seconds, frame.sharpness(), frame.index, frame.time))
            progress("looking through the video", frame.index + 1, max(video.frame_count, frame.index + 1))
        numbers = {stamp: number for number, stamp in enumerate(sorted(set(video.stamps)))}
    if long:
        frames = [(seconds, sharp, numbers.get(time, index), time) for seconds, sharp, index, time in frames]
    return frames, video.damage


def _check_frame(frame: VideoFrame, path: Path) -> None:
    try:
        check_size(*frame.image().shape[:2])
    except Unreadable as problem:
        raise InputError(f"{shown(path.name)} {problem}") from problem


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
    waiting = {c.time: c for c in candidates}
    for frame in frames_at(candidates[0].path, [c.time for c in candidates if c.time is not None]):
        yield waiting.pop(frame.time), Picture(image=frame.image(), mask=None)
    for candidate in waiting.values():
        yield candidate, Unreadable(f"has no frame {candidate.name} that can be decoded")
