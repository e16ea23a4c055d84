"""Where compiled kernels are kept, and how work is shared between threads."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from da3gs.rendering import _jit, _project, warmup


def test_kernels_are_kept_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = _jit.cache_folder.__wrapped__()
    assert folder.parent == tmp_path
    assert folder.name.startswith("kernels-")
    assert folder == _jit.cache_folder.__wrapped__(), "the same sources, the same folder"


def test_a_place_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the folder should be: what a read-only package and home look like, for any user."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    folder = _jit.cache_folder.__wrapped__()
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    folder.rmdir()


def test_a_compilation_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def never_compiled() -> None: ...

    class Kernel:
        signatures: tuple[()] = ()
        py_func = staticmethod(never_compiled)

    with caplog.at_level(logging.INFO, logger="da3gs.rendering"):
        _jit.announce_compilation(Kernel)
        assert "compiling the CPU rasteriser" in caplog.text
        warmup()
        caplog.clear()
        _jit.announce_compilation(_project.project)
        assert not caplog.text


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_work_runs_on_as_many_threads_at_once(workers: int) -> None:
    meeting, threads = threading.Barrier(workers), set()

    def work() -> None:
        threads.add(threading.get_ident())
        meeting.wait(timeout=60)  # passes only when all have come, each from a thread of its own

    _jit.run_parallel(work, workers)
    assert len(threads) == workers
    assert threading.get_ident() in threads


def test_an_error_in_any_thread_comes_out() -> None:
    def work() -> None:
        raise ValueError("broken piece")

    with pytest.raises(ValueError, match="broken piece"):
        _jit.run_parallel(work, 3)
