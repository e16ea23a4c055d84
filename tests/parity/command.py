"""Compare da3gs with stored numbers of the official code: ``python -m benchmarks.parity FILES.npz...``.

One line an output: error, tolerance, ok or FAIL. The exit status is 0 only when every output of every file holds; one
that is not known here is a failure.
"""

from __future__ import annotations

import argparse
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from da3gs.errors import Da3gsError
from tests.parity import functions, network
from tests.parity.cases import Case, CaseError, Verdict, judged, load_case, with_ties
from tests.parity.trace import intermediate_values

KINDS: dict[str, Callable[[Case], dict]] = {
    "network": network.network_outputs,
    "api": network.api_outputs,
    "geometry": functions.geometry,
    "gs_adapter": functions.gs_adapter,
    "nested_alignment": functions.nested_alignment,
    "ply": functions.ply,
    "preprocess": functions.preprocess,
    "ray_pose": functions.ray_pose,
    "reference_view": functions.reference_view,
    "trajectory": functions.trajectory,
}
"""What computes the outputs of each kind of case."""


def verdicts(case: Case) -> list[Verdict]:
    """How every output of a case compares.

    Raises:
        CaseError: the case is of an unknown kind, or has unknown options.
    """
    kind = case.meta.get("kind")
    if kind not in KINDS:
        raise CaseError(f"unknown kind {kind!r}")
    return with_ties(case, KINDS[kind](case))


def _on_the_way(case: Case) -> list[Verdict]:
    """Verdicts on the intermediate values that this code has too."""
    values = intermediate_values(case) if case.meta.get("kind") == "network" and case.names("mid") else {}
    return [v for v in judged(case, values, group="mid") if v.array.removeprefix("mid/") in values]


def compare(path: Path, *, quiet: bool = False, mid: bool = False) -> bool:
    """Compare one file and print what came out; whether all of it holds."""
    start = time.perf_counter()
    try:
        case = load_case(path)
        found = verdicts(case)
        between = _on_the_way(case) if mid else []
    except (CaseError, Da3gsError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"{path.stem}: FAIL {type(error).__name__}: {error}")
        return False
    for verdict in (*between, *found):
        if not (quiet and verdict.ok):
            print(f"{case.name} {verdict.array}: {verdict.text} {'ok' if verdict.ok else 'FAIL'}")
    held = sum(v.ok for v in found)
    worst = max((v.ratio for v in found), default=float("inf"))
    seconds = time.perf_counter() - start
    print(f"{case.name}: {held} of {len(found)} hold, at most {worst:.3g} of a tolerance, {seconds:.1f} s")
    return bool(found) and held == len(found)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when everything holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    parser.add_argument("--quiet", action="store_true", help="print only outputs that do not hold, and a line a file")
    parser.add_argument("--mid", action="store_true", help="also compare the values on the way, for finding a fault")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    results = [compare(path, quiet=options.quiet, mid=options.mid) for path in options.files]
    print(f"{sum(results)} of {len(results)} files hold")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
