"""Running a case: the real command in a process of its own, in an empty folder, and what is there afterwards.

Starting Python and importing torch takes seconds, so most cases run in children that are forked from one process that
has imported everything and run nothing: a child is a process of its own with its own descriptors, folder and end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 120
BIG = 1 << 24


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit status; negative: the signal that ended it."""
    stdout: str
    """What it printed."""
    stderr: str
    """What it complained."""


@dataclass(frozen=True)
class Place:
    """Where a command runs."""

    folder: Path
    """Working folder, filled by the case."""
    home: Path
    """HOME."""
    temporary: Path
    """TMPDIR; has to be empty afterwards."""

    @staticmethod
    def below(parent: Path) -> Place:
        """Three new folders."""
        place = Place(parent / "work", parent / "home", parent / "tmp")
        for path in (place.folder, place.home, place.temporary):
            path.mkdir()
        return place

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the command sees in place of the user's own."""
        return {"HOME": str(self.home), "TMPDIR": str(self.temporary)}


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every name below a folder with its kind and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = status.st_size
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size <= BIG and os.access(path, os.R_OK):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISREG(status.st_mode):
            content = (status.st_size, status.st_mtime_ns)
        elif stat.S_ISDIR(status.st_mode):
            content = None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), content)
    return found


def run_truly(arguments: list[str], place: Place) -> Outcome:
    """``python -m da3gs`` from nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "da3gs", *arguments],
        cwd=place.folder,
        env={**kept, **place.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
    )
    return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class WarmRunner:
    """A process that has imported everything and forks for every command."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, arguments: list[str], place: Place) -> Outcome:
        """The command in a fork."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": arguments, "folder": str(place.folder), "environment": place.environment}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def serve() -> None:
    """The warm process: orders on stdin, outcomes on stdout, a JSON object a line."""
    import av  # noqa: F401
    import cv2  # noqa: F401
    import numba  # noqa: F401
    import pillow_heif  # noqa: F401
    import plyfile  # noqa: F401
    import tyro  # noqa: F401

    import da3gs

    for name in da3gs.__all__:
        with contextlib.suppress(ImportError):  # what is missing fails in the case that needs it
            getattr(da3gs, name)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_forked(order["arguments"], order["folder"], order["environment"])), flush=True)


def _forked(arguments: list[str], folder: str, environment: dict[str, str]) -> dict[str, object]:
    captured = [os.memfd_create(name) for name in ("out", "err")]
    child = os.fork()
    if child == 0:
        _become(arguments, folder, environment, *captured)
    _, status = os.waitpid(child, 0)
    texts = []
    for descriptor in captured:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return {"code": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def _become(arguments: list[str], folder: str, environment: dict[str, str], out: int, err: int) -> None:
    """The child: take the place of the command, never return."""
    import signal
    import tempfile
    import traceback

    signal.alarm(TIMEOUT)
    os.chdir(folder)
    os.environ.update(environment)
    for name in [name for name in os.environ if name.startswith(("XDG_", "PYTEST_"))]:
        del os.environ[name]
    tempfile.tempdir = None
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    code = 70
    try:
        from da3gs.cli import main

        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
