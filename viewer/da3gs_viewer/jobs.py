"""Reconstruction in one process of its own, kept warm between jobs; ending it is how a job is cancelled."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from da3gs.errors import Da3gsError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_TELL_EVERY = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One reconstruction."""

    source: str
    """A file or folder."""
    scene: str
    """The scene folder to write."""
    model: str
    """A name of ``da3gs models``, or what the command line named."""
    poses: str = "auto"
    """As the flag."""
    most_video_seconds: float = 600.0
    """Longer videos are refused."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further keywords of ``reconstruct``: device, threads, seed."""


class JobFailedError(Da3gsError):
    """A job ended without a scene; the message is for people."""


class JobCancelledError(JobFailedError):
    """Somebody ended the job."""


class Worker:
    """The process. One job at a time; starting it takes seconds, so it starts before there is a job."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: where the process works and keeps its temporary files; emptied when a job was cut off.
        """
        self._folder, self._lock = folder, threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._cancelled = self._closed = False
        self._start()

    def _start(self) -> None:
        import multiprocessing

        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(self._folder), os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Number of the process, while there is one."""
        return None if self._process is None else self._process.pid

    def run(self, job: Job, told: Callable[[str, int, int], None]) -> dict[str, Any]:
        """Do a job; blocks until it is done.

        Raises:
            JobFailedError: the input, the model or the machine stand in the way, or it was cancelled.
        """
        with self._lock:
            if self._closed:
                raise JobCancelledError("cancelled")
            if self._process is None or not self._process.is_alive():
                self._start()
            self._cancelled = False
            pipe = self._pipe
        told("waking the worker", 0, 0)
        assert pipe is not None
        try:
            pipe.send(job)
            while True:
                kind, content = pipe.recv()
                if kind == "progress":
                    told(*content)
                elif kind == "done":
                    return content
                else:
                    raise JobFailedError(content)
        except (EOFError, OSError) as error:
            if self._cancelled or self._closed:
                raise JobCancelledError("cancelled") from error
            raise JobFailedError(
                "the reconstruction ended by itself; was the memory too small? Use fewer photos"
            ) from error
        finally:
            if self._process is not None and not self._process.is_alive():
                shutil.rmtree(job.scene, ignore_errors=True)

    def cancel(self) -> None:
        """End the job by ending the process; the next job starts another."""
        with self._lock:
            self._cancelled = True
            self._end()
            if not self._closed:
                self._start()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._closed = True
            self._end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join(5)
            process.close()
        if self._pipe is not None:
            self._pipe.close()


def _serve(pipe: Connection, folder: str, parent: int) -> None:
    """The process: jobs in, progress and results out, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)  # empty: no name of a model is a path here
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    models: dict[tuple[str, str], Any] = {}
    with contextlib.suppress(Exception):
        _warm(models)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        result: tuple[str, Any]
        try:
            result = ("done", _reconstruct(job, models, pipe))
        except Exception as error:
            result = ("failed", _complaint(error))
        try:
            pipe.send(result)
        except OSError:
            return


def _end_with(parent: int) -> None:
    """Do not outlive a parent that was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _warm(models: dict[tuple[str, str], Any]) -> None:
    """What every job needs, before the first one comes."""
    from da3gs.rendering import warmup

    _model("auto", {}, models)
    warmup()


def _model(name: str, options: dict[str, Any], models: dict[tuple[str, str], Any]) -> Any:
    """A model by name, the last one kept."""
    from da3gs.pipeline.model_loading import loaded_model
    from da3gs.pipeline.settings import Settings

    device = options.get("device", "auto")
    if (name, device) not in models:
        models.clear()
        models[name, device] = loaded_model(name, Settings(device=device))
    return models[name, device]


def _reconstruct(job: Job, models: dict[tuple[str, str], Any], pipe: Connection) -> dict[str, Any]:
    from da3gs.pipeline.check import check
    from da3gs.pipeline.reconstruct import reconstruct

    last = ("", 0.0)

    def progress(stage: str, done: int, total: int) -> None:
        """Tell, but not too often."""
        nonlocal last
        now = time.monotonic()
        if stage != last[0] or now - last[1] > _TELL_EVERY:
            last = (stage, now)
            pipe.send(("progress", (stage, done, total)))

    check_video(Path(job.source), job.most_video_seconds)
    progress("loading the model", 0, 1)
    model = _model(job.model, job.options, models)
    scene = reconstruct(job.source, model=model, poses=job.poses, progress=progress, **job.options)  # type: ignore[arg-type]
    backend = job.options.get("backend", "auto")
    scene.save(job.scene, backend=backend, progress=progress)
    progress("checking the file", 0, 1)
    report = check(job.scene, device=job.options.get("device", "auto"), backend=backend)
    if not report.passed:
        raise Da3gsError(f"the file shows something else than the splats in memory ({report.psnr:.0f} dB): a bug")
    return {"splats": len(scene.gaussians), "views": len(scene.views)}


def check_video(path: Path, most_seconds: float) -> None:
    """Refuse a video that is too long; anything that is none passes.

    Raises:
        InputError: it is longer than ``most_seconds``, as far as its header tells.
    """
    from da3gs.errors import InputError
    from da3gs.formats.media.video import container_of, open_video

    if not path.is_file():
        return
    with path.open("rb") as file:
        if container_of(file.read(4096)) is None:
            return
    with open_video(path) as video:
        rate = float(video.stream.average_rate or 0)
        told = (video.container.duration or 0) / 1e6
        seconds = max(told, video.frame_count / rate if rate else 0.0)
    if seconds > most_seconds:
        raise InputError(
            f"the video is {seconds / 60:.1f} minutes long; at most {most_seconds / 60:g} are taken, so cut it first"
        )


def _complaint(error: Exception) -> str:
    """One line for people."""
    if isinstance(error, Da3gsError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error):
        return "out of memory; use fewer or smaller photos, or a smaller model"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    import traceback

    traceback.print_exception(error)
    return f"something went wrong in da3gs ({type(error).__name__}); the terminal shows where"
