"""Words of the command line to one frozen dataclass; what cannot be parsed becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Optional, TypeVar

import tyro

from da3gs.cli._session import Session
from da3gs.errors import InputError

MAX_THREADS = 256


def option(metavar: str, *aliases: str, hint: str | None = None) -> Any:
    """Appearance of an option in the help: the word for its value, and short names such as ``-o``."""
    return tyro.conf.arg(metavar=metavar, aliases=list(aliases) or None, help_behavior_hint=hint)


Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
"""A boolean that is off unless it is named, and has no ``--no-`` twin."""


class _Words(tuple[str, ...]):
    """A class of its own, as tyro imports a type checker (0.2 s) for ``tuple[str, ...]``."""


NO_WORDS = _Words()

Words = Annotated[
    _Words,
    tyro.conf.Positional,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="WORD...",
        instance_from_str=_Words,
        is_instance=lambda value: isinstance(value, _Words),
        str_from_instance=list,
    ),
]
"""Any number of words that stand by themselves."""


Frame = Literal["opencv", "opengl", "colmap", "supersplat"]
"""Axes by the program that has them."""

FileFrame = Annotated[Optional[Frame], option("FRAME", hint="(default: what the file says, else its format's)")]
"""Axes of the numbers of a splat file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """The options that every command has."""

    json: Switch = False
    """Print one JSON object on stdout and nothing else there."""
    quiet: Switch = False
    """No progress bars, only warnings in the log."""
    verbose: Switch = False
    """Log as it happens, with details."""

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            InputError: naming the option, its value and the range.
        """

    def apply_threads(self) -> None:
        """Tell every library how many threads it may use; those not imported yet read it from the environment."""

    def keywords(self) -> dict[str, Any]:
        """Those that the functions behind the commands take, too."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in named.items() if name not in ("json", "quiet", "verbose")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Computing(Common):
    """The options of commands that compute on a device."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    threads: Annotated[Optional[int], option("N", hint="(default: all cores)")] = None
    """Processor threads to use."""

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            InputError: naming the option, its value and the range.
        """
        super().check()
        if self.threads is not None and not 1 <= self.threads <= MAX_THREADS:
            raise InputError(f"--threads {self.threads} is out of range; give 1 to {MAX_THREADS}")

    def apply_threads(self) -> None:
        """Tell every library how many threads it may use; those not imported yet read it from the environment."""
        if self.threads is None:
            return
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(self.threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing(Computing):
    """The options of commands that draw splats."""

    backend: Literal["auto", "cpu", "gsplat"] = "auto"
    """Rasteriser: gsplat on CUDA, or our own on the processor; auto takes gsplat where it can run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seeded(Common):
    seed: Annotated[Optional[int], option("N", hint="(default: 0)")] = None
    """Seed of everything random."""

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            InputError: naming the option, its value and the range.
        """
        super().check()
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise InputError(f"--seed {self.seed} is out of range; give 0 to 2^63 - 1")

    def keywords(self) -> dict[str, Any]:
        """Those that the functions behind the commands take, too."""
        return super().keywords() | {"seed": self.seed or 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeededComputing(_Seeded, Computing):
    """The options of commands that compute and draw random numbers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeededDrawing(_Seeded, Drawing):
    """The options of commands that draw splats and random numbers."""


CommonOptions = Annotated[Common, tyro.conf.OmitArgPrefixes]
"""The options of a command that neither computes nor draws, as its last field, without a prefix."""
SeededComputingOptions = Annotated[SeededComputing, tyro.conf.OmitArgPrefixes]
"""Those of a command that computes and draws random numbers."""
DrawingOptions = Annotated[Drawing, tyro.conf.OmitArgPrefixes]
"""Those of a command that draws."""
SeededDrawingOptions = Annotated[SeededDrawing, tyro.conf.OmitArgPrefixes]
"""Those of a command that draws splats and random numbers."""

COMMON = Common()
"""The options of every command where none is given."""
SEEDED_COMPUTING = SeededComputing()
"""The same with a device, threads and a seed."""
DRAWING = Drawing()
"""The same with a device, threads and a rasteriser."""
SEEDED_DRAWING = SeededDrawing()
"""The same with a device, threads, a rasteriser and a seed."""


class Command(ABC):
    """A subcommand: a frozen dataclass whose fields are its words and whose field docstrings are its help."""

    waits_asleep: ClassVar[bool] = True
    """Whether waiting OpenMP threads sleep, so that they don't burn the cores that the next stage needs. Many small
    operations one after the other are faster with threads that stay awake."""

    no_keywords: ClassVar[frozenset[str]] = frozenset()
    """Fields of the command line alone, which the function behind the command does not take."""

    @property
    def common(self) -> Common:
        """The options that every command has."""
        return COMMON

    def keywords(self) -> dict[str, Any]:
        """The flags as keywords of the function behind the command: its fields, and those of groups among them."""
        flags = dict(self.common.keywords())
        for name, value in vars(self).items():
            if name != "common" and name not in self.no_keywords:
                flags |= vars(value) if dataclasses.is_dataclass(value) else {name: value}
        return flags

    @abstractmethod
    def run(self, session: Session) -> int:
        """Do it, print the results, return the exit status."""


AnyCommand = TypeVar("AnyCommand", bound=Command)


def parse(command: type[AnyCommand], words: Sequence[str], name: str) -> AnyCommand | None:
    """The command with its fields set, or None where the help was asked for and has been printed.

    Raises:
        InputError: a word is unknown, misplaced or malformed.
    """
    complaint = io.StringIO()
    try:
        with _caught(complaint, words):
            parsed = tyro.cli(command, args=words, prog=f"da3gs {name}")
    except SystemExit as stop:
        if not stop.code:
            return None
        raise InputError(f"{_one_line(complaint.getvalue())} (see da3gs {name} --help)") from None
    parsed.common.check()
    return parsed


def number_or_auto(flag: str, text: str) -> int | Literal["auto"]:
    """The value of an option that takes a whole number or ``auto``.

    >>> number_or_auto("--views", "8"), number_or_auto("--views", "auto")
    (8, 'auto')

    Raises:
        InputError: it is neither.
    """
    if text == "auto":
        return "auto"
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text) is None:
        raise InputError(f"{flag} takes a whole number or auto, got {text!r}")
    return int(text)


def seconds_or_auto(flag: str, text: str) -> float | Literal["auto"]:
    """The value of an option that takes seconds or ``auto``.

    >>> seconds_or_auto("--refine", "7.5"), seconds_or_auto("--refine", "auto")
    (7.5, 'auto')

    Raises:
        InputError: it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{flag} takes seconds or auto, got {text!r}") from None


@contextlib.contextmanager
def _caught(complaint: io.StringIO, words: Sequence[str]) -> Iterator[None]:
    """Catch tyro's complaints, drawn wide enough that no word is wrapped, in the one style that is understood."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(complaint))
        if not any(word in ("-h", "--help") or word.startswith("--tyro-") for word in words):
            stack.enter_context(contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")))
            before = os.environ.get("COLUMNS")
            os.environ["COLUMNS"] = "4000"
            stack.callback(lambda: os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before))
        yield


def _one_line(box: str) -> str:
    """What a box that tyro draws round an error says, without its frame, its help texts and its footer."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [re.sub(r"[│╭╮╰╯]", "", row).strip() for row in plain.splitlines() if row[:1] not in ("╭", "╰")]
    sections: list[list[str]] = [[]]
    for row in rows:
        if row and not row.strip("─"):
            sections.append([])
        elif row:
            sections[-1].append(row)
    said = " ".join(sections[0]) or "the arguments could not be parsed"
    if said.startswith("Missing from") and len(sections[0]) > 1:
        said = "missing " + re.split(r"\s{2,}", sections[0][1])[0]
    if value := re.match(r"Error parsing (\S+): (?:No type matching )?(.*)$", said):
        said = _bad_value(value[1], value[2])
    for section in sections[1:]:
        if section[0].startswith("Perhaps you meant") and len(section) > 1:
            said += f"; perhaps you meant {section[1]}"
    return said[:1].lower() + said[1:].rstrip(".")


def _bad_value(flag: str, reason: str) -> str:
    kind = "a whole number" if "int" in reason.lower() else "a number"
    given = re.search(r"from (\[.*?\])\.|: ('.*')$|(could not convert .*)", reason)
    if given is None or ("float" not in reason and "int" not in reason.lower()):
        return f"{flag}: {reason}"
    words = next(group for group in given.groups() if group)
    return f"{flag} takes {kind}, got {words.strip('[]').removeprefix('could not convert string to float: ')}"
