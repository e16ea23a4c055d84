"""``da3gs compare``: is the difference between two reports more than noise?"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from tyro.conf import Positional

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Pair the scenes of two reports of `da3gs evaluate` and say whether the difference is more than noise."""

    report_a: Annotated[Positional[str], option("REPORT_A", hint="")]
    """The first folder."""
    report_b: Annotated[Positional[str], option("REPORT_B", hint="")]
    """The second."""
    across_protocols: Switch = False
    """Compare even if the protocols differ."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Compare and print."""
        from da3gs.evaluation.reports.compare import compare

        found = compare(self.report_a, self.report_b, across_protocols=self.across_protocols)
        session.result(found)
        for line in compare_lines(found):
            session.print(line)
        return 0


def compare_lines(found: dict[str, Any]) -> list[str]:
    """Outcome in lines for people."""
    lines = [f"A: {found['a']['report']}   B: {found['b']['report']}   in both: {found['scenes']}"]
    for name, (a, b) in found["different_settings"].items():
        lines.append(f"  {name}: {a} | {b}")
    for cost, digits in (("splats", 0), ("megabytes", 1), ("seconds", 2)):
        a, b = found["a"][cost], found["b"][cost]
        if a is not None or b is not None:
            shown = ["-" if value is None else f"{value:,.{digits}f}" for value in (a, b)]
            lines.append(f"{cost:<13} A {shown[0]}  B {shown[1]}  a scene")
    for metric, row in found["metrics"].items():
        if not row["scenes"]:
            lines.append(f"{metric:<13} {row['verdict']}")
            continue
        spread = row["confidence_95"]
        interval = f" (95 %: {spread[0]:+.3f} to {spread[1]:+.3f})" if spread else ""
        lines.append(f"{metric:<13} A {row['a']:.3f}  B {row['b']:.3f}  B - A {row['difference']:+.3f}{interval}")
        lines.append(f"{'':<13} {row['verdict']} (chance {row['chance']:.3f})")
    return lines


COMMAND = Compare
