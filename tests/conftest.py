"""What every test may rely on: the test data, interrupts, and one thread a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# A shell starts background jobs with interrupts ignored, and children inherit that: tests send interrupts to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers of pytest-xdist share the processors already. Before torch is imported, and for the processes of tests too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = Path(os.environ.get("DA3GS_TEST_DATA") or Path(__file__).parents[2] / "shared")
"""Photos, published splits and official numbers that are too large for the repository."""


def pytest_configure() -> None:
    """A folder that was named has to be there: with a typing error in it, half of the tests would be skipped."""
    if os.environ.get("DA3GS_TEST_DATA") and not DATA.is_dir():
        raise pytest.UsageError(f"DA3GS_TEST_DATA={DATA} is no folder")


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """The path of a file or folder of the test data; a test that asks for what is not there is skipped."""

    def path(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"no test data: {name} is not in {DATA}; DA3GS_TEST_DATA names a folder with it")
        return DATA / name

    return path
