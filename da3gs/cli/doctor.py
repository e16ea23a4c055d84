"""``da3gs doctor``: does this machine have what it takes?"""

from __future__ import annotations

import dataclasses

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch
from da3gs.cli._session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Look at Python, torch, CUDA, codecs, disk, memory and models; each line says how to mend what is missing.

    Exit 1 when something that da3gs cannot do without does not work.
    """

    warmup: Switch = False
    """Compile the kernels now, so that the first run does not have to."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Look, print, say whether all is well."""
        from da3gs.cli._diagnostics import diagnose

        findings = diagnose(warmup=self.warmup)
        sound = all(finding.status != "fail" for finding in findings)
        session.result({"passed": sound, "checks": [dataclasses.asdict(finding) for finding in findings]})
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mend = f"  ->  {finding.mend}" if finding.mend else ""
            session.print(f"{finding.status:<4}  {finding.name:<{width}}  {finding.said}{mend}")
        return 0 if sound else 1


COMMAND = Doctor
