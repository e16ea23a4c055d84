"""Output of a command: results to stdout, the rest to stderr, one line when it ends with 2."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from da3gs._progress import Progress, silent
from da3gs.cli._hold import HeldStderr
from da3gs.errors import Da3gsError

_ROOM = "make room, or choose another place with -o"
_RIGHTS = "check its permissions, or choose another place"
_MACHINE = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EFBIG: ("the file would be larger than the system allows", "choose another place, or raise ulimit -f"),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EROFS: ("the file system is read-only", "choose another place with -o"),
    errno.EACCES: ("permission denied", _RIGHTS),
    errno.EPERM: ("permission denied", _RIGHTS),
    errno.EMFILE: ("too many open files", "raise the limit with ulimit -n"),
    errno.ENAMETOOLONG: ("a file name is too long", "choose a shorter one"),
    errno.EIO: ("the disk cannot be read or written", "check it, or choose another place"),
    errno.ENOMEM: ("out of memory", "close other programs, or ask for less"),
}
_MAX_PSNR = 100.0


class Session:
    """One run of one command: its stdout and stderr, its log, its progress."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        """Remember what the flags say; ``with`` starts it."""
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self._hold = HeldStderr()
        self._log = logging.StreamHandler()
        self._stdout = sys.stdout

    def __enter__(self) -> Session:
        self._stdout = sys.stdout
        if not self.verbose:
            self._hold.start()
        self._log = logging.StreamHandler()  # binds the stderr of now
        self._log.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._log)
        level = logging.DEBUG if self.verbose else logging.WARNING if self.quiet else logging.INFO
        logging.getLogger("da3gs").setLevel(level)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdout.flush()
        logging.getLogger().removeHandler(self._log)
        self._hold.stop(show=error is None or complaint(error) is None)

    def release(self) -> None:
        """Show what was held back: from here on the command can no longer end with 2."""
        self._hold.release()

    def print(self, text: str = "") -> None:
        """A line for people on stdout; nothing with ``--json``."""
        if not self.json:
            print(text, file=self._stdout)

    def result(self, record: dict[str, Any]) -> None:
        """The one JSON object of ``--json``; nothing without it."""
        if self.json:
            print(json.dumps(_finite(record), allow_nan=False, ensure_ascii=False), file=self._stdout)

    def flush(self) -> None:
        """Let readers of stdout have what was printed so far."""
        self._stdout.flush()

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """A progress to hand to long work: a bar where stderr is a terminal, nothing elsewhere."""
        terminal = None if self.quiet else self._hold.terminal()
        if terminal is None:
            yield silent
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with terminal, Bars(*columns, console=Console(file=terminal), transient=True) as bars:
            task = bars.add_task("starting", total=None)
            current = ""

            def report(stage: str, done: int, total: int) -> None:
                nonlocal current
                if stage != current:
                    current = stage
                    bars.reset(task, description=stage, total=total or None, completed=done)
                else:
                    bars.update(task, total=total or None, completed=done)

            yield report


def guarded(run: Callable[[], int]) -> int:
    """Run something: what stands in the way ends as one line and 2, an interruption as 130, a bug as a traceback."""
    restore = _terminate_like_interrupt()
    try:
        status = run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        _say("da3gs: interrupted")
        return 130
    except BrokenPipeError:
        _discard_stdout()
        return 0
    except Exception as error:
        line = complaint(error)
        if line is None:
            traceback.print_exc()
            return 1
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _discard_stdout()
        _say(f"da3gs: error: {line}")
        return 2
    finally:
        restore()


def complaint(error: BaseException) -> str | None:
    """The one line of an error outside da3gs (input, arguments, machine); None for bugs and interruptions."""
    if isinstance(error, Da3gsError):
        return _one_line(str(error))
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return "out of memory; use fewer views, a smaller --resolution or a smaller model"
    if _is_unwritten(error):
        return f"a file could not be written whole; is the disk full? {_ROOM}"
    if isinstance(error, OSError) and error.errno in _MACHINE and not isinstance(error, BrokenPipeError):
        what, remedy = _MACHINE[error.errno]
        name = f": {os.path.basename(error.filename)}" if isinstance(error.filename, str) else ""
        return _one_line(f"{what}{name}; {remedy}")
    return None


def _is_torch_out_of_memory(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _is_unwritten(error: BaseException) -> bool:
    """Whether a library met a full disk and says so in its own words: numpy's tofile, safetensors, torch.save."""
    said = str(error)
    if isinstance(error, OSError):
        return error.errno is None and "requested and" in said and "written" in said
    return "No space left on device" in said or "PytorchStreamWriter failed writing" in said


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def _finite(value: Any) -> Any:
    """The value as JSON can hold it: no NaN or infinity, PSNR at most 100, paths and tuples plain."""
    match value:
        case dict():
            return {str(k): _capped(v) if str(k).startswith("psnr") else _finite(v) for k, v in value.items()}
        case list() | tuple():
            return [_finite(v) for v in value]
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
    return str(value) if isinstance(value, os.PathLike) else _finite(value.tolist())


def _capped(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_capped(v) for v in value]
    if isinstance(value, float) and value > _MAX_PSNR:
        return _MAX_PSNR
    return _finite(value)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _discard_stdout() -> None:
    """Nobody reads stdout any more: let what is still buffered go nowhere, so that the end of the process is quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _terminate_like_interrupt() -> Callable[[], None]:
    """Let SIGTERM end a run as Ctrl-C does; the function that is returned puts the former handler back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)

    def restore() -> None:
        signal.signal(signal.SIGTERM, before)

    return restore
