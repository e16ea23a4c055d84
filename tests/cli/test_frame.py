"""The frame of the command line: help, usage errors, exit statuses, who may write where."""

import errno
import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from da3gs.cli import COMMANDS, command_class, main
from da3gs.cli._hold import HeldStderr
from da3gs.cli._session import Session, guarded
from da3gs.errors import Da3gsError, InputError, MissingDependencyError

HEAVY = ("torch", "numba", "viser", "cv2", "av", "PIL", "scipy", "plyfile", "numpy")


def run_python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


HELP = """
import contextlib, io, json, sys
from da3gs.cli import COMMANDS, main

for words in ([], *([name] for name in COMMANDS)):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main([*words, "--help"])
    print(json.dumps([words, status, said.getvalue()[:12], [name for name in HEAVY if name in sys.modules]]))
"""


@pytest.mark.process
def test_help_imports_nothing_heavy() -> None:
    """In one process: the first command that imports something heavy is named with it."""
    done = run_python(HELP.replace("HEAVY", repr(HEAVY)))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 1 + len(COMMANDS), done.stderr
    assert [line for line in found if line[1:] != [0, "usage: da3gs", []]] == []


@pytest.mark.process
def test_help_answers_within_half_a_second() -> None:
    """In seconds of the processor, with compiled modules kept, as an installation has them."""
    command = [sys.executable, "-m", "da3gs", "reconstruct", "--help"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5, seconds


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("da3gs 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["--bogus"], "unknown command '--bogus'"),
        (["check"], "missing SCENE|FILE"),
        (["check", "a", "--bogus"], "unrecognized options: --bogus"),
        (["check", "a", "--no-json"], "perhaps you meant --json"),
        (["reconstruct", "a", "--seed", "x"], "--seed takes a whole number, got 'x'"),
        (["reconstruct", "a", "--seed", "-4"], "--seed -4 is out of range"),
        (["reconstruct", "a", "--seed", str(2**63)], "is out of range"),
        (["check", "a", "--threads", "0"], "--threads 0 is out of range"),
        (["check", "a", "--device", "gpu"], "invalid choice 'gpu'"),
        (["check", "a", "--min-psnr"], "--min-psnr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("da3gs: error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("a.jpg is empty"), 2, "a.jpg is empty"),
        (MissingDependencyError("x needs y"), 2, "x needs y"),
        (Da3gsError("two\nlines \x1b[31m"), 2, "two lines \\x1b[31m"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/where/scene.ply"), 2, "the disk is full: scene.ply"),
        (PermissionError(errno.EACCES, "Permission denied", "/some/where"), 2, "permission denied: where"),
        (OSError("800 requested and 12 written"), 2, "is the disk full?"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "is the disk full?"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), 2, "out of memory"),
        (KeyboardInterrupt(), 130, None),
        (BrokenPipeError(), 0, None),
        (ValueError("ours"), 1, None),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_become_statuses(
    error: BaseException, status: int, said: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        with Session():
            os.write(2, b"a native library mutters\n")
            print("a warning", file=sys.stderr)
            logging.getLogger("da3gs").warning("a log line")
            raise error

    assert guarded(run) == status
    err = capfd.readouterr().err
    if status == 2:
        assert said is not None
        assert err.count("\n") == 1
        assert err.startswith("da3gs: error: ")
        assert said in err
        assert "/some" not in err
    elif status:
        assert "a native library mutters" in err
        assert "a log line" in err
    assert ("Traceback" in err) == (status == 1)


def test_a_good_end_shows_what_was_held(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        with Session():
            os.write(2, b"native\n")
            logging.getLogger("da3gs.pipeline").info("told")
            assert capfd.readouterr().err == ""
        return 0

    assert guarded(run) == 0
    err = capfd.readouterr().err
    assert "native" in err
    assert "told" in err


def test_verbose_holds_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Session(verbose=True):
        os.write(2, b"at once\n")
        assert "at once" in capfd.readouterr().err


def test_release_shows_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Session() as session:
        os.write(2, b"early\n")
        session.release()
        assert "early" in capfd.readouterr().err
        os.write(2, b"late\n")
        assert "late" in capfd.readouterr().err


def test_holding_twice_leaks_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        held = HeldStderr()
        held.start()
        held.stop(show=False)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_json_is_one_finite_object(capsys: pytest.CaptureFixture[str]) -> None:
    with Session(json=True) as session:
        session.print("for people")
        session.result({"psnr": math.inf, "psnr_input": [math.inf, 3.0], "x": math.nan, "p": Path("a"), "t": (1, True)})
    assert json.loads(capsys.readouterr().out) == {
        "psnr": 100.0, "psnr_input": [100.0, 3.0], "x": None, "p": "a", "t": [1, True]
    }  # fmt: skip


@pytest.mark.process
def test_nobody_reads_stdout() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "da3gs", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.process
def test_stdout_on_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "da3gs", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.startswith("da3gs: error: the disk is full")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="closing descriptors in the child needs POSIX")
@pytest.mark.process
def test_closed_streams_are_the_null_device() -> None:
    command = f"{sys.executable} -m da3gs --version <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0


@pytest.mark.process
def test_sigterm_ends_like_an_interrupt() -> None:
    code = (
        "import os, signal, sys\n"
        "from da3gs.cli._session import guarded\n"
        "def run():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    import time; time.sleep(30)\n"
        "sys.exit(guarded(run))"
    )
    done = run_python(code)
    assert done.returncode == 130
    assert done.stderr == "da3gs: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("words", "policy"), [(["models"], "passive"), (["train", "smoke", "-o", "run"], None)])
def test_waiting_threads_sleep_except_in_training(
    words: list[str], policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")  # so that afterwards it is as before
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(command_class(words[0]), "run", lambda *_: seen.append(os.environ.get("OMP_WAIT_POLICY")) or 0)
    assert main(words) == 0
    assert seen == [policy]
