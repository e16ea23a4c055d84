"""Compilation of the CPU kernels, their cache and their threads.

Kernels are serial and release the GIL; threads are our own, as many as torch uses unless said otherwise. Each of them
takes pieces of work from a shared counter, so that no threading layer of numba is loaded, any number of Python threads
may render at once, and forked processes too.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import torch

_log = logging.getLogger(__name__)
_pool_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


@functools.cache
def cache_folder(here: Path = Path(__file__).parent) -> Path:
    """Folder of a package's compiled kernels: beside them, else in the user's cache, else in a temporary folder.

    The name carries a hash of all kernel sources: numba itself notices only changes of the file that a kernel stands
    in, not of the helpers that it calls.
    """
    digest = hashlib.sha256()
    for source in sorted(here.glob("_*.py")):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    bases = [Path(chosen)] if chosen else [here / "__pycache__", Path(user) / "da3gs"]
    for base in bases:
        with contextlib.suppress(OSError):
            folder = base / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    return Path(tempfile.mkdtemp(prefix="da3gs-kernels-"))


@contextlib.contextmanager
def _numba_cache(here: Path) -> Iterator[None]:
    """Decorators inside keep their compiled code in our folder; other users of numba see no change."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder(here))
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` on first use: no GIL, cached on disk, fused multiply-adds but no other reordering."""
    with _numba_cache(Path(function.__code__.co_filename).parent):
        return numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")(function)


def inline(function: Callable[..., Any]) -> Any:
    """Like ``kernel``, for helpers that are called by kernels alone."""
    return numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")(function)


def announce_compilation(first: Any) -> None:
    """Log one line if the stage that starts with the kernel ``first`` is neither compiled nor in the cache."""
    if not first.signatures and not any(cache_folder().rglob(f"*{first.py_func.__name__}*.nbi")):
        _log.info("compiling the CPU rasteriser, once on this machine: about 10 seconds")


def worker_count(threads: int | None) -> int:
    """Number of threads to use: as many as torch does unless said otherwise."""
    return max(1, threads if threads is not None else torch.get_num_threads())


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="da3gs-render"), size
        return _pool


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run_parallel(work: Callable[[], None], workers: int) -> None:
    """Call ``work`` on up to ``workers`` threads at once, this one included, and return when all have returned.

    ``work`` must share its pieces through a counter: a thread that comes late finds nothing left, and one call alone
    does it all.
    """
    if workers == 1:
        work()
        return
    pool = _executor(workers - 1)
    others = [pool.submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        started = [other for other in others if not other.cancel()]
        for other in started:
            other.result()
