"""Scenes as independent jobs: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pickle
import selectors
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from da3gs._optional import require
from da3gs.errors import BackendError, Da3gsError
from da3gs.evaluation.baselines import Baseline, Method, baseline_of
from da3gs.evaluation.data import EvalScene, Scenes, open_scenes
from da3gs.evaluation.novel_views import Scored, score_views
from da3gs.evaluation.perceptual import load_lpips
from da3gs.evaluation.protocol import Protocol, split_pictures
from da3gs.pipeline.model_loading import LoadedModel, loaded_model

_log = logging.getLogger(__name__)

RETRIES = 2
"""How often a scene is tried again when the process that had it died."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One scene, in words that any process understands."""

    task: str
    root: str
    key: str
    context: tuple[int, ...]
    target: tuple[int, ...]
    protocol: Protocol
    method: Method
    lpips_trunk: str | None = None
    lpips_reason: str | None = None
    save_images: bool = False
    dataset: str = "posed"
    """Of geometry tasks: the layout of the root."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Given:
    """Records that the calling process has at hand already, for jobs that run in it."""

    model: LoadedModel | None = None
    baseline: Baseline | None = None
    scene: EvalScene | None = None
    """With cameras that the root does not hold."""


def run_job(job: Job, given: Given | None = None) -> Scored:
    """Evaluate one scene; whatever goes wrong with it becomes a failed record, so that other scenes go on."""
    try:
        return _run(job, given or Given())
    except (Da3gsError, MemoryError) as problem:
        reason = " ".join(str(problem).split()) or "out of memory"
    except (OSError, ArithmeticError, ValueError, RuntimeError, LookupError, TypeError) as problem:
        _log.exception("scene %s failed", job.key)
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    return failed(job.key, reason)


def failed(key: str, reason: str) -> Scored:
    """The record of a scene that could not be evaluated."""
    nothing = {"psnr": None, "ssim": None, "lpips": None, "lpips_reason": None}
    return Scored(record={"name": key, "status": "failed", "reason": reason, **nothing, "views": []}, images={})


def _run(job: Job, given: Given) -> Scored:
    model = given.model
    if model is None and job.method.uses_model and given.baseline is None:
        model = _model(job.method.model, job.method)
    if job.task != "views":
        from da3gs.evaluation.geometry.tasks import score_geometry

        assert model is not None
        record = score_geometry(job.task, job.dataset, job.root, job.key, job.context, job.protocol, model, job.method)
        return Scored(record=record, images={})
    scene = given.scene or _scenes(job.root, job.protocol.size)[job.key]
    pictures = split_pictures(scene, job.context, job.target, job.protocol)
    return score_views(
        job.key,
        pictures,
        job.protocol,
        given.baseline or baseline_of(job.method, model),
        job.method,
        model=model,
        lpips=None if job.lpips_trunk is None else load_lpips(Path(job.lpips_trunk)),
        lpips_reason=job.lpips_reason,
        save_images=job.save_images,
    )


@functools.lru_cache(maxsize=1)
def _model(name: str, method: Method) -> LoadedModel:
    """Loaded once a process."""
    return loaded_model(name, method.settings())


@functools.lru_cache(maxsize=2)
def _scenes(root: str, size: tuple[int, int] | None) -> Scenes:
    return open_scenes(root, covering=size)


def run_here(jobs: Sequence[Job], given: Given) -> Iterator[Scored]:
    """One after the other in this process."""
    for job in jobs:
        yield run_job(job, given)


def run_workers(
    jobs: Sequence[Job], workers: int, *, threads: int, born: Callable[[int], None] | None = None
) -> Iterator[Scored]:
    """In so many processes of this machine, as they finish.

    Each loads the model once and is asked for a scene at a time. The scene of a process that died is given to a new
    one, twice; then it counts as failed.

    Args:
        jobs: the scenes.
        workers: how many processes.
        threads: of torch and the rasteriser in each.
        born: told the process id of each worker.
    """
    waiting, tries = list(reversed(jobs)), dict.fromkeys((job.key for job in jobs), 0)
    busy: dict[_Worker, Job] = {}
    idle: list[_Worker] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or busy:
                while waiting and len(busy) < workers:
                    worker = idle.pop() if idle else _Worker(threads)
                    if worker.fresh:
                        selector.register(worker.answers, selectors.EVENT_READ, worker)
                        if born is not None:
                            born(worker.process.pid)
                    busy[worker] = job = waiting.pop()
                    worker.ask(job)
                for ready, _ in selector.select():
                    worker = ready.data
                    had = busy.pop(worker, None)
                    answer = worker.answer()
                    if answer is not None:
                        if waiting:  # at once: what the caller does with the answer need not be waited for
                            busy[worker] = job = waiting.pop()
                            worker.ask(job)
                        else:
                            idle.append(worker)
                        yield answer
                        continue
                    selector.unregister(worker.answers)
                    worker.stop()
                    idle = [other for other in idle if other is not worker]
                    if had is None:
                        continue
                    job = had
                    tries[job.key] += 1
                    if tries[job.key] > RETRIES:
                        yield failed(job.key, f"its process died {tries[job.key]} times; is there enough memory?")
                    else:
                        _log.warning("the process with scene %s died; the scene is tried again", job.key)
                        waiting.append(job)
        finally:
            for worker in {*busy, *idle}:
                worker.stop()


class _Worker:
    """A process of ours: jobs go in, answers come out, both pickled by processes of one user and one version."""

    def __init__(self, threads: int) -> None:
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from da3gs.evaluation.jobs import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout
        self.fresh = True

    def ask(self, job: Job) -> None:
        """Hand a job over; if the process is gone, the missing answer will tell."""
        self.fresh = False
        try:
            write_message(self._jobs, job)
        except OSError:
            _log.debug("a worker was gone before it got scene %s", job.key)

    def answer(self) -> Scored | None:
        """Its answer, None where it died."""
        try:
            return read_message(self.answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            return None

    def stop(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self._jobs, self.answers):
            try:
                pipe.close()
            except OSError:
                _log.debug("a pipe to a worker was broken")


def write_message(pipe: IO[bytes], value: object) -> None:
    """A pickled object and its length."""
    data = pickle.dumps(value)
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> Any:
    """Message that ``write_message`` wrote on the other side.

    Raises:
        EOFError: the other side is gone.
    """
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    data = pipe.read(struct.unpack("<Q", head)[0])
    return pickle.loads(data)


def serve() -> None:
    """A worker's life: what it prints goes to stderr, answers go to the pipe that was stdout; ends with its parent."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    while True:
        try:
            job = read_message(jobs)
        except (EOFError, KeyboardInterrupt):
            os._exit(0)
        try:
            write_message(answers, run_job(job))
        except (BrokenPipeError, KeyboardInterrupt):
            os._exit(1)


def run_ray(jobs: Sequence[Job], address: str, *, threads: int) -> Iterator[Scored]:
    """On a Ray cluster, as they finish; the scene of a lost node is given to another.

    The nodes read the root and the model under the same paths, and have da3gs installed.

    Args:
        jobs: the scenes.
        address: of the cluster: ``auto``, ``HOST:PORT``, or ``local`` for one on this machine.
        threads: processor cores a scene.

    Raises:
        BackendError: no cluster answers.
    """
    ray = require("ray", why="--address")
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=None if address == "local" else address, include_dashboard=False, logging_level="ERROR",
                     **({"num_cpus": os.cpu_count()} if address == "local" else {}))  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"no Ray cluster at {address} ({' '.join(str(error).split())[:120]}); start one with ray start --head"
            ) from error
    remote = ray.remote(num_cpus=threads, max_retries=RETRIES)(_on_ray)
    try:
        running = {remote.remote(job, threads): job for job in jobs}
        while running:
            done, _ = ray.wait(list(running))
            for future in done:
                job = running.pop(future)
                try:
                    yield ray.get(future)
                except ray.exceptions.RayError as error:
                    yield failed(job.key, " ".join(f"its Ray worker was lost: {error}".split())[:200])
    finally:
        if ours:
            ray.shutdown()


def _on_ray(job: Job, threads: int) -> Scored:
    from da3gs.pipeline.model_loading import limited_threads

    with limited_threads(threads):
        return run_job(job)
