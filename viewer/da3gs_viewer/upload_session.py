"""Upload session of one page: files in, checked and straight to disk; a job; its progress and its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from da3gs.checkpoints import MODELS
from da3gs.errors import InputError
from da3gs.photos.accounts import restored, told
from da3gs.photos.folders.survey import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from da3gs_viewer.jobs import JobCancelledError, JobFailedError

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from da3gs_viewer.app import Viewer

POSES = ("auto", "given", "predicted", "rays", "colmap")
PIECE = 4 << 20
"""Files come in pieces of at most so many bytes."""
WAITING = "waiting for another upload"


@dataclasses.dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """Limits of what one browser may send."""

    files: int = 2000
    """Files."""
    megabytes: float = 2000.0
    """All of them together."""
    video_minutes: float = 10.0
    """Length of a video."""

    def __post_init__(self) -> None:
        """Refuse what is not positive."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1e9:
                raise InputError(f"--max-{field.name.replace('_', '-')} is a number above 0, got {value:g}")


class Refused(Exception):
    """Refusal of what a browser asked for; the message is for people."""


class UploadHost(Protocol):
    """Server as a page's upload needs it."""

    @property
    def limits(self) -> UploadLimits:
        """Limits of what one browser may send."""

    @property
    def model_label(self) -> str:
        """Name of the command line's model on the page."""

    def new_folder(self) -> Path:
        """For one upload and its scene."""

    def chosen_model(self, name: object) -> str:
        """The model that a browser may ask for by name."""

    async def reconstruct(self, source: Path, scene: Path, model: str, poses: str, told: Any) -> tuple[str, Viewer]:
        """The scene of an upload, on show, and the path at which it is reached."""

    def cancel(self) -> None:
        """End the job that is running."""


class Session:
    """One page's upload."""

    def __init__(self, uploads: UploadHost, connection: ServerConnection) -> None:
        """Nothing has been sent yet."""
        self._uploads, self._connection = uploads, connection
        self._folder: Path | None = None
        self._names: set[str] = set()
        self._bytes = 0
        self._job: asyncio.Task[None] | None = None
        self._running = self._shown = False

    async def say(self, **message: Any) -> None:
        """A message to the page."""
        await self._connection.send(json.dumps(message))

    async def run(self) -> None:
        """Listen until the page is closed."""
        uploads, limits = self._uploads, self._uploads.limits
        names = list(dict.fromkeys([uploads.model_label, *MODELS]))
        await self.say(
            state="ready", models=names, poses=POSES, files=limits.files, megabytes=limits.megabytes,
            minutes=limits.video_minutes, suffixes=sorted(PHOTO_SUFFIXES | VIDEO_SUFFIXES | {".zip"}),
        )  # fmt: skip
        async for raw in self._connection:
            try:
                await self._answer(_parsed(raw))
            except Refused as error:
                await self.say(state="refused", message=str(error))

    async def _answer(self, message: dict[str, Any]) -> None:
        match message.get("do"):
            case "file":
                await self._receive(message)
            case "start":
                await self._begin(message)
            case "cancel":
                await self._cancel()
            case _:
                raise Refused("this page does not fit this version of da3gs; load it again")

    async def _receive(self, message: dict[str, Any]) -> None:
        """One file: checked by name and size, then taken in pieces."""
        if self._job is not None and not self._job.done():
            raise Refused("a reconstruction is running; wait for it or cancel it")
        name, size, limits = message.get("name"), message.get("size"), self._uploads.limits
        if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise Refused("this page does not fit this version of da3gs; load it again")
        suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
        if suffix not in PHOTO_SUFFIXES | VIDEO_SUFFIXES | {".zip"}:
            raise Refused(f"{_short(name)} is no photo, zip or video that da3gs reads")
        if len(self._names) >= limits.files:
            raise Refused(f"more than {limits.files} files; choose fewer, or start da3gs view with --max-files")
        if self._bytes + size > limits.megabytes * 1e6:
            raise Refused(f"more than {limits.megabytes:g} MB; choose less, or start da3gs view with --max-megabytes")
        if self._folder is None:
            self._folder = self._uploads.new_folder()
            (self._folder / "photos").mkdir()
        own = _free_name(name, suffix, self._names)
        await self.say(state="send", name=name)
        await self._take(self._folder / "photos" / own, size)
        self._names.add(own)
        self._bytes += size
        await self.say(state="got", name=name, files=len(self._names), bytes=self._bytes)

    async def _take(self, path: Path, size: int) -> None:
        """The announced bytes, straight to disk."""
        left = size
        with path.open("xb") as file:
            while left > 0:
                piece = await self._connection.recv()
                if isinstance(piece, str) or len(piece) > left or not piece:
                    await self._connection.close(1002, "not what was announced")
                    raise Refused("not what was announced")
                await asyncio.to_thread(file.write, piece)
                left -= len(piece)

    async def _begin(self, message: dict[str, Any]) -> None:
        if self._job is not None and not self._job.done():
            raise Refused("a reconstruction is running; wait for it or cancel it")
        model, poses = self._uploads.chosen_model(message.get("model")), message.get("poses", "auto")
        if poses not in POSES:
            raise Refused("there is no such way to find the cameras")
        if self._folder is None or not self._names:
            raise Refused("there is nothing to reconstruct yet; add photos, a zip or a video")
        source = self._source()
        self._job = asyncio.create_task(self._work(source, model, poses))

    def _source(self) -> Path:
        assert self._folder is not None
        files = sorted((self._folder / "photos").iterdir())
        packed = [file for file in files if file.suffix in VIDEO_SUFFIXES | {".zip"}]
        if packed and len(files) > 1:
            raise Refused("send photos, or one zip, or one video; not several of them together")
        return packed[0] if packed else self._folder / "photos"

    async def _work(self, source: Path, model: str, poses: str) -> None:
        from websockets.exceptions import ConnectionClosed

        loop = asyncio.get_running_loop()

        def told(stage: str, done: int, total: int) -> None:
            """Show progress to the browser."""
            self._running = stage != WAITING
            state = "working" if self._running else "waiting"
            message = self.say(state=state, stage=stage, done=done, total=total)
            asyncio.run_coroutine_threadsafe(_quietly(message), loop)

        assert self._folder is not None
        scene = self._folder / "photos.scene"
        self._clear()
        try:
            path, viewer = await self._uploads.reconstruct(source, scene, model, poses, told)
            self._shown = True
            splats = len(viewer.editor.gaussians)
            photos, passed = len(viewer.names), passed_over(viewer)
            await self.say(state="done", path=path, splats=splats, photos=photos, passed=passed)
        except JobCancelledError:
            self._clear()
            with contextlib.suppress(ConnectionClosed):
                await self.say(state="cancelled")
        except (JobFailedError, InputError) as error:
            self._clear()
            with contextlib.suppress(ConnectionClosed):
                await self.say(state="failed", message=str(error))
        except ConnectionClosed:
            pass
        finally:
            self._running = False

    async def _cancel(self) -> None:
        """End the job, or forget what was sent."""
        if self._job is not None and not self._job.done():
            await self._stop_job()
            return
        self._forget()
        await self.say(state="cancelled")

    async def _stop_job(self) -> None:
        """A job that is running ends with its process; one that waits just goes."""
        assert self._job is not None
        if self._running:
            await asyncio.to_thread(self._uploads.cancel)
            await asyncio.wait([self._job], timeout=30)
        else:
            self._job.cancel()
            await asyncio.wait([self._job], timeout=30)
            with contextlib.suppress(Exception):
                await self.say(state="cancelled")

    def _clear(self) -> None:
        """Forget all but the photos themselves."""
        for path in () if self._folder is None else self._folder.iterdir():
            if path.name != "photos":
                shutil.rmtree(path, ignore_errors=True)

    def _forget(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._bytes = None, 0
        self._names.clear()

    async def end(self) -> None:
        """The page has gone: what it began ends, and what nobody can reach any more is deleted."""
        if self._job is not None and not self._job.done():
            await self._stop_job()
        if not self._shown:
            self._forget()


def passed_over(viewer: Viewer) -> list[str]:
    """Lines on what of the upload became no view, by reason, and which reading was chosen where there were several."""
    views = {} if viewer.editor.scene is None else viewer.editor.scene.record.get("views") or {}
    return [*told(restored(views.get("dropped") or ())), *(views.get("notes") or ())]


def _parsed(raw: str | bytes) -> dict[str, Any]:
    """A message of the page.

    Raises:
        Refused: it is none.
    """
    try:
        message = json.loads(raw) if isinstance(raw, str) and len(raw) < 65536 else None
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Refused("this page does not fit this version of da3gs; load it again")
    return message


def _free_name(name: str, suffix: str, taken: set[str]) -> str:
    """A name on disk that nobody else's words get into: letters, digits and a few marks."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    clean = re.sub(r"[^0-9A-Za-z_-]+", "-", stem).strip("-")[:80] or "photo"
    number, own = 1, f"{clean}{suffix}"
    lower = {one.lower() for one in taken}
    while own.lower() in lower:
        number += 1
        own = f"{clean}-{number}{suffix}"
    return own


def _short(name: str) -> str:
    words = "".join(c if c.isprintable() else "?" for c in name)
    return words if len(words) <= 60 else f"{words[:40]}...{words[-15:]}"


async def _quietly(sending: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        await sending
