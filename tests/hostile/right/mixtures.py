"""Every known piece beside photos of every kind at once; ``make fuzz`` draws them at random."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.fuzz.layouts import BASES, BESIDE, Base, Layout, holds
from tests.hostile.right import case


def _all_at_once(base: Base, packed: bool, tmp_path: Path) -> None:
    holds(Layout(base=base, deep=1, beside=tuple(BESIDE), packed=packed), tmp_path)


for base in BASES:
    for packed in (False, True) if base in ("loose", "polycam") else (False,):
        name = f"all-beside-{base}{'-in-a-zip' if packed else ''}"
        case("fuzz", name, functools.partial(_all_at_once, base, packed))
