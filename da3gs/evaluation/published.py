"""Numbers that others printed, with the protocol that each belongs to; shown beside ours, never mixed with them.

Splits are recognised by a fingerprint of their content. PSNR in dB, SSIM, LPIPS (VGG); None where none was printed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

Targets = Literal["given", "aligned", "optimised"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Published split."""

    name: str
    """What to call it."""
    size: tuple[int, int]
    """Height and width that pictures are scored at."""
    undistort: bool = False
    """Whether lens distortion is undone (most ignore it)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One printed row."""

    method: str
    psnr: float
    ssim: float | None = None
    lpips: float | None = None
    size: tuple[int, int]
    targets: Targets = "given"
    note: str = ""

    @property
    def poses(self) -> str:
        """Whether the method was given the context cameras: those who move target cameras were not."""
        return "given" if self.targets == "given" else "predicted"


_DEPTHSPLAT, _SQUARE, _LONG, _DA3 = (256, 448), (252, 252), (540, 960), (270, 480)

FAMILIES: dict[str, Family] = {
    "4d33a0d668e5d4d8": Family(name="DepthSplat 2 views, 50 frames", size=_DEPTHSPLAT),
    "9040c36a3c81063e": Family(name="DepthSplat 4 views, 50 frames", size=_DEPTHSPLAT),
    "348de31e274efa88": Family(name="DepthSplat 6 views, 50 frames", size=_DEPTHSPLAT),
    "01cb5bba3d098e7a": Family(name="DepthSplat 12 views, 100 frames", size=_DEPTHSPLAT),
    "29a68ef0d5696c55": Family(name="DepthSplat 2 views, 10 frames", size=_DEPTHSPLAT),
    "7c3a0725a5a55d30": Family(name="YoNoSplat 6 views", size=_SQUARE),
    "160e7d99cc75ff1e": Family(name="YoNoSplat 12 views", size=_SQUARE),
    "8fd718a66f103261": Family(name="YoNoSplat 24 views", size=_SQUARE),
    "e63359273efb0d47": Family(name="Long-LRM 16 views", size=_LONG, undistort=True),
    "b53d2e0ae7d19baa": Family(name="Long-LRM 32 views", size=_LONG, undistort=True),
    "da3-12": Family(name="Depth Anything 3, 12 views", size=_DA3),
}
"""Known splits by the first 16 digits of their fingerprint; all have the 140 scenes of DL3DV-Benchmark."""

SCENES = 140
SCENE_NAMES = "fc74f430cc1cedeb"
"""The first digits of the fingerprint of DL3DV-Benchmark's sorted scene names: a rule can be used on any data."""
_P224, _ZIP = (224, 224), _SQUARE


def _rows(size: tuple[int, int], targets: Targets, note: str, *rows: tuple[Any, ...]) -> tuple[Published, ...]:
    return tuple(
        Published(
            method=row[0], psnr=row[1], ssim=row[2] if len(row) > 2 else None, lpips=row[3] if len(row) > 3 else None,
            size=size, targets=targets, note=note,
        )
        for row in rows
    )  # fmt: skip


_SELF = "target poses optimised on the target photos"

NUMBERS: dict[str, tuple[Published, ...]] = {
    "da3-12": _rows(
        _DA3, "given", "each trained on DL3DV-10K, table 5 of the paper",
        ("pixelSplat", 16.55, 0.456, 0.480), ("MVSplat", 18.13, 0.559, 0.393), ("DepthSplat", 19.24, 0.620, 0.322),
        ("Fast3R", 19.30, 0.604, 0.320), ("MV-DUSt3R", 20.01, 0.645, 0.294), ("VGGT", 20.96, 0.697, 0.253),
        ("Depth Anything 3", 21.33, 0.711, 0.241),
    ),
    "7c3a0725a5a55d30": (
        *_rows(_P224, "given", "", ("MVSplat", 22.66), ("DepthSplat", 23.42, 0.797, 0.136), ("YoNoSplat", 24.72)),
        *_rows(_P224, "optimised", _SELF, ("YoNoSplat, pose-free", 24.53, 0.804, 0.142)),
        *_rows(_ZIP, "given", "", ("Depth Anything 3 giant", 23.99, 0.805, 0.158),
               ("ZipSplat with priors", 25.34, 0.810, 0.169)),
        *_rows(_ZIP, "optimised", _SELF, ("Depth Anything 3 giant", 23.77, 0.795, 0.165),
               ("ZipSplat", 25.24, 0.804, 0.172)),
    ),
    "160e7d99cc75ff1e": (
        *_rows(_P224, "given", "", ("MVSplat", 21.29), ("DepthSplat", 21.91, 0.753, 0.179), ("YoNoSplat", 23.29)),
        *_rows(_P224, "optimised", _SELF, ("YoNoSplat, pose-free", 22.93, 0.746, 0.187)),
        *_rows(_ZIP, "given", "", ("ZipSplat with priors", 24.37, 0.773, 0.194)),
        *_rows(_ZIP, "optimised", _SELF, ("Depth Anything 3 giant", 22.38, 0.736, 0.208),
               ("ZipSplat", 24.27, 0.767, 0.197)),
    ),
    "8fd718a66f103261": (
        *_rows(_P224, "given", "", ("MVSplat", 19.98), ("DepthSplat", 20.09, 0.690, 0.240), ("YoNoSplat", 22.66)),
        *_rows(_P224, "optimised", _SELF, ("YoNoSplat, pose-free", 22.17, 0.720, 0.209)),
        *_rows(_ZIP, "given", "", ("Depth Anything 3 giant", 21.70), ("ZipSplat with priors", 24.23, 0.773, 0.194)),
        *_rows(_ZIP, "optimised", _SELF, ("Depth Anything 3 giant", 21.69, 0.711, 0.229),
               ("ZipSplat", 24.14, 0.768, 0.198)),
    ),
    "348de31e274efa88": _rows(
        _DEPTHSPLAT, "given", "context frames among the targets",
        ("MVSplat", 22.93, 0.775, 0.193), ("DepthSplat", 24.19, 0.823, 0.147), ("iLRM", 25.60, 0.830, 0.168),
    ),
    "e63359273efb0d47": _rows(
        _LONG, "given", "",
        ("3DGS, optimised", 21.20), ("Long-LRM", 22.66, 0.740, 0.292), ("iLRM", 22.91, 0.766, 0.295),
        ("ReSplat", 23.51, 0.766, 0.284), ("tttLRM", 23.60, 0.784, 0.255),
        ("Long-LRM++ (semi-explicit)", 24.40, 0.795, 0.231), ("LaCT (implicit)", 24.70, 0.793, 0.224),
    ),
    "b53d2e0ae7d19baa": _rows(
        _LONG, "given", "",
        ("3DGS, optimised", 23.60), ("Long-LRM", 24.10), ("iLRM", 24.30, 0.803, 0.256),
        ("tttLRM", 25.07, 0.822, 0.215), ("LaCT (implicit)", 26.90, 0.837, 0.185),
    ),
}  # fmt: skip
"""Printed rows by the fingerprint of their split."""


def family_of(fingerprint: str) -> Family | None:
    """Published split, found by the first digits of its digest or by its rule's name."""
    return FAMILIES.get(fingerprint)


def beside(
    fingerprint: str,
    *,
    size: tuple[int, int] | None,
    poses: str,
    targets: str,
    scenes: Sequence[str],
    left_out: int,
    undistorted: bool,
    refine: float,
    enlarged: bool,
) -> list[dict[str, Any]]:
    """The printed rows of a split, each with what its protocol does otherwise than ours (empty: the same).

    Args:
        fingerprint: of the split.
        size: height and width that ours are scored at.
        poses: whether ours got the context cameras.
        targets: where our target cameras come from.
        scenes: names of ours that are done.
        left_out: how many of our frames were left out.
        undistorted: whether ours undid lens distortion.
        refine: seconds that ours spent on each scene's splats.
        enlarged: whether any of our photos was smaller than it is scored at.
    """
    family = FAMILIES.get(fingerprint)
    names = json.dumps(sorted(scenes), separators=(",", ":"))
    others = not hashlib.sha256(names.encode()).hexdigest().startswith(SCENE_NAMES)
    found = []
    for row in NUMBERS.get(fingerprint, ()):
        assert family is not None
        ours = "other sizes" if size is None else f"{size[0]}x{size[1]}"
        facts = (
            (size != row.size, f"scored at {row.size[0]}x{row.size[1]}, ours at {ours}"),
            (poses != row.poses, f"context cameras {row.poses}, ours {poses}"),
            (targets != row.targets, f"target cameras {row.targets}, ours {targets}"),
            (len(scenes) != SCENES, f"{SCENES} scenes, ours {len(scenes)}"),
            (len(scenes) == SCENES and others, "scenes of DL3DV-Benchmark, ours others"),
            (left_out > 0, f"all frames, ours without {left_out}"),
            (enlarged, "photos made smaller, ours enlarged"),
            (undistorted != family.undistort, "lens distortion treated otherwise"),
            (refine > 0 and "optimised" not in row.method, f"one pass, ours refined {refine:g} s a scene"),
        )
        found.append(
            {
                "method": row.method, "psnr": row.psnr, "ssim": row.ssim, "lpips": row.lpips, "note": row.note,
                "differences": [words for differs, words in facts if differs],
            }
        )  # fmt: skip
    return found
