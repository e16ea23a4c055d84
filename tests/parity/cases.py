"""Fixture files and how they are judged.

Numbers are held to the tolerances that the file states. Pictures at the network's size are held to more and to less:
OpenCV's cubic resize rounds about 1 of 70,000 values of an 8-bit picture differently from one processor to another, so
at most 1 value of 5,000 may be off, by one 8-bit step, and all others have to agree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from da3gs.network.config import IMAGE_STD

VALUES_PER_STEP = 5000
"""In how many values of a resized picture one may be off by an 8-bit step."""
_TIE = 1e-4  # where a quaternion's last component is so near 0, its sign is a matter of rounding


class CaseError(Exception):
    """The case asks for something that the runner does not know."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One fixture file."""

    name: str
    """File stem."""
    arrays: dict[str, np.ndarray]
    """Everything in the file by its full name (``in/...``, ``out/...``)."""
    meta: dict[str, Any]
    """What the file says about itself."""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the official call."""
        return self.meta.get("options") or {}

    @property
    def stride(self) -> int:
        """Every how many pixels an output is stored."""
        return int(self.meta.get("stride") or 1)

    @property
    def generator(self) -> torch.Generator:
        """The random numbers that the official code drew."""
        return torch.Generator().manual_seed(int(self.meta.get("torch_seed") or 0))

    def tensor(self, name: str) -> Tensor:
        """An input as a tensor."""
        return torch.from_numpy(self.arrays[f"in/{name}"])

    def __contains__(self, name: str) -> bool:
        """Whether the file holds this array."""
        return name in self.arrays

    def names(self, group: str) -> list[str]:
        """The names of a group (``out``, ``mid``, ``alt``) without it."""
        return [name.removeprefix(f"{group}/") for name in self.arrays if name.startswith(f"{group}/")]

    def checked_options(self, *known: str) -> dict[str, Any]:
        """The options; an unknown one is an error and not a thing to skip."""
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise CaseError(f"unknown options {unknown}")
        return self.options


def load_case(path: Path) -> Case:
    """Read a fixture file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return Case(name=path.stem, meta=json.loads(str(arrays.pop("meta"))), arrays=arrays)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How one array compares."""

    array: str
    """Full name in the file."""
    ok: bool
    """Whether it holds."""
    text: str
    """Errors beside their bounds, or what is wrong."""
    ratio: float
    """The larger of error by bound; infinite where there is nothing to compare."""


def judged(case: Case, computed: dict[str, Any], *, group: str = "out") -> list[Verdict]:
    """A verdict for every array of a group; one that was not computed does not hold."""
    return [_judged(case, f"{group}/{name}", computed.get(name)) for name in case.names(group)]


def with_ties(case: Case, computed: dict[str, Any]) -> list[Verdict]:
    """Verdicts on the outputs; a case with a tie may match its alternative as a whole instead."""
    verdicts = judged(case, computed)
    names = set(case.names("alt"))
    if all(v.ok for v in verdicts) or not names:
        return verdicts
    other = [v for v in judged(case, computed, group="alt") if v.array.removeprefix("alt/") in set(case.names("out"))]
    covered = {v.array.removeprefix("alt/") for v in other} >= set(case.names("out"))
    return other if covered and all(v.ok for v in other) else verdicts


def _judged(case: Case, name: str, found: object) -> Verdict:
    def failed(text: str) -> Verdict:
        return Verdict(array=name, ok=False, text=text, ratio=float("inf"))

    if found is None:
        return failed("not computed by the runner")
    group, _, inner = name.partition("/")
    bounds = case.meta["tolerances"].get(name) or (
        case.meta["tolerances"].get(f"out/{inner}") if group == "alt" else None
    )
    if bounds is None:
        return failed("the file gives no tolerance")
    expected = case.arrays[name]
    ours = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    ours = _strided(ours, expected.shape, case.stride)
    if ours.shape != expected.shape:
        return failed(f"shape {ours.shape} instead of {expected.shape}")
    steps = _picture_steps(case, inner, ours, expected)
    off, note = int(np.count_nonzero(steps)), ""
    if off:
        allowed = -(-steps.size // VALUES_PER_STEP)
        if off > allowed or not np.abs(steps).max() <= 1:
            return failed(
                f"{off} of {steps.size} differ by up to {np.abs(steps).max():g} of 255, {allowed} by 1 allowed"
            )
        ours, note = np.where(steps == 0, ours, expected), f", {off} of {steps.size} left out: one 8-bit step"
    if bounds.get("exact"):
        different = int((ours != expected).sum())
        return Verdict(
            array=name, ok=different == 0, text=f"{different} of {ours.size} differ{note}", ratio=float(different)
        )
    a, b = ours.astype(np.float64), expected.astype(np.float64)
    if inner.rpartition("/")[2] in ("rotations", "mat_to_quat"):
        a = _signs_resolved(a, b)
    error = np.where(_both_nan(a, b), 0.0, np.abs(a - b))
    error = np.where(a == b, 0.0, error)  # also equal infinities
    largest, rms = float(error.max(initial=0.0)), float(np.sqrt(np.square(error).mean())) if error.size else 0.0
    ok = bool(largest <= bounds["abs"] and rms <= bounds["rms"])
    text = f"abs {largest:.2e} of {bounds['abs']:.2e}, rms {rms:.2e} of {bounds['rms']:.2e}{note}"
    ratio = max(largest / max(bounds["abs"], 1e-300), rms / max(bounds["rms"], 1e-300))
    return Verdict(array=name, ok=ok, text=text, ratio=ratio if ratio == ratio else float("inf"))


def _picture_steps(case: Case, name: str, ours: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """By how many 8-bit steps the values of a resized picture differ; empty where the array is no such picture."""
    if case.meta["kind"] == "preprocess" and name.endswith("/images"):  # normalised, channels before rows
        std = np.array(IMAGE_STD)[:, None, None]
        return np.rint((ours.astype(np.float64) - expected) * std * 255)
    if case.meta["kind"] == "api" and name.endswith("/processed_images"):
        return ours.astype(np.float64) - expected
    return np.empty(0)


def _both_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A file of splats with negative scales holds NaN where the official one does."""
    return np.isnan(a) & np.isnan(b)


def _signs_resolved(ours: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Quaternions with the official sign where that sign was decided by rounding."""
    undecided = np.abs(expected[..., -1:]) < _TIE
    opposite = (ours * expected).sum(-1, keepdims=True) < 0
    return np.where(undecided & opposite, -ours, ours)


def _strided(ours: np.ndarray, shape: tuple[int, ...], stride: int) -> np.ndarray:
    """Every n-th row and column, or every n-th splat, where the file holds only those."""
    if stride == 1 or ours.shape == shape or ours.ndim != len(shape):
        return ours
    for axis in range(ours.ndim):
        if ours.shape[axis] != shape[axis] and -(-ours.shape[axis] // stride) == shape[axis]:
            ours = ours[(slice(None),) * axis + (slice(None, None, stride),)]
    return ours


def batches(value: np.ndarray) -> Iterator[tuple[str, list[int]]]:
    """The batches of a preprocessing case: a name and the numbers of its images."""
    yield from json.loads(str(value)).items()
