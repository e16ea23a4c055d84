"""The long run: ``python -m tests.fuzz --minutes 30``; findings go to stdout and, as files, to a folder."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from tests.fuzz.layouts import holds, layouts
from tests.fuzz.parsers import parsers

_MEMORY = 6 << 30  # bytes of addresses beyond what the libraries take
_SECONDS = 30
_ROUND = 60


class TooSlowError(Exception):
    """One input took longer than any may."""


def main() -> int:
    """Fuzz until the time is up; 1 where something was found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--only", default="", help="of the targets those whose name this regular expression finds")
    options.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    asked = options.parse_args()
    targets: dict[str, tuple[Callable[[], st.SearchStrategy[Any]], Callable[[Path, Any], None]]] = {
        parser.name: (parser.damage, parser.read) for parser in parsers()
    }
    targets["layouts"] = (layouts, lambda folder, layout: holds(layout, folder))
    chosen = {name: target for name, target in targets.items() if re.search(asked.only, name)}
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, resource.RLIM_INFINITY))
    end, found, tried = time.monotonic() + 60 * asked.minutes, Counter[str](), Counter[str]()
    order = random.sample(sorted(chosen), len(chosen))
    for seed, name in enumerate(itertools.cycle(order)):
        if time.monotonic() > end or len(found) == len(chosen):
            break
        if name not in found:
            _round(name, *chosen[name], seed, end, tried, found, asked.findings)
    print(f"{sum(tried.values())} inputs of {len(tried)} kinds, findings in {len(found)}: {', '.join(found) or 'none'}")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(tried.items())))
    return 1 if found else 0


def _round(
    name: str,
    damage: Callable[[], st.SearchStrategy[Any]],
    read: Callable[[Path, Any], None],
    seed: int,
    end: float,
    tried: Counter[str],
    found: Counter[str],
    findings: Path,
) -> None:
    """Some inputs of one kind."""
    last: list[Any] = [None]

    @settings(
        max_examples=_ROUND, deadline=None, suppress_health_check=list(HealthCheck), database=InMemoryExampleDatabase(),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(damage())
    def one(data: Any) -> None:
        if time.monotonic() > end:
            return
        last[0] = data
        tried[name] += 1
        with tempfile.TemporaryDirectory(prefix="da3gs-fuzz-") as folder, _timed():
            read(Path(folder), data)

    try:
        one()
    except Exception:
        found[name] += 1
        findings.mkdir(exist_ok=True)
        path = findings / name.replace("/", "-")
        path.write_bytes(last[0] if isinstance(last[0], bytes) else repr(last[0]).encode("utf-8", "surrogatepass"))
        print(f"FINDING in {name} (round {seed}, input in {path}):\n{traceback.format_exc(limit=-12)}", flush=True)


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    """Ends what takes too long: in seconds of the processor, and ten times as many by the clock for what waits."""

    def late(*_: object) -> None:
        raise TooSlowError(f"longer than {_SECONDS} s")

    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, late)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main())
