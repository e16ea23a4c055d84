"""The command ``da3gs``: parses, calls, prints. Every subcommand is one module, imported when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import cast

from da3gs._optional import without_pillow_warnings
from da3gs.cli._parse import Command, parse
from da3gs.cli._session import Session, guarded
from da3gs.errors import InputError

COMMANDS = {
    "demo": "reconstruct the bundled photos, check the result, render a short video",
    "reconstruct": "photos, a video, a zip, a COLMAP model ... in, a scene with splats out",
    "refine": "a scene's splats made better against its photos",
    "view": "walk through a scene in the browser",
    "render": "a video, a folder of frames or one picture of a scene",
    "export": "splats and cameras as files of other programs",
    "check": "read a splat file as a stranger would and compare its renders",
    "models": "the models there are: licence, size, what they can do",
    "evaluate": "score a model, a baseline or other people's splats on many scenes",
    "compare": "whether the difference between two reports is more than noise",
    "train": "train a model",
    "doctor": "what this machine has, what is missing, how to mend it",
}
"""Every subcommand and the line that ``da3gs --help`` says about it; the module of the same name defines it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 a check failed or a bug, 2 input, 130 interrupted.

    Args:
        argv: the words after ``da3gs``; those of this process when left out.
    """
    _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(words))


def command_class(name: str) -> type[Command]:
    """The dataclass of a subcommand."""
    module = importlib.import_module(f"da3gs.cli.{name}")
    return cast(type[Command], module.COMMAND)


def _dispatch(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help", *_]:
            print(_overview())
            return 0
        case ["--version" | "-V", *_]:
            from da3gs import __version__

            print(f"da3gs {__version__}")
            return 0
        case [name, *rest] if name in COMMANDS:
            command = parse(command_class(name), rest, name)
            if command is None:
                return 0
            if command.waits_asleep:  # read when torch is imported
                os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            common = command.common
            said = Session(json=common.json, quiet=common.quiet, verbose=common.verbose)
            with without_pillow_warnings(), said as session:
                common.apply_threads()
                return command.run(session)
        case [name, *_]:
            raise InputError(f"unknown command {name!r}; there are: {', '.join(COMMANDS)} (see da3gs --help)")
    raise AssertionError(words)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: da3gs COMMAND [OPTIONS]      (da3gs COMMAND --help says more; da3gs --version)",
            "",
            "Photos in, Gaussian splat out.",
            "",
            *lines,
            "",
            "Start with:  da3gs demo          or:  da3gs reconstruct PHOTOS/ --view",
        ]
    )


def _open_closed_streams() -> None:
    """Give a closed stdin, stdout or stderr to the null device, lest the next file opened takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            while (descriptor := os.open(os.devnull, os.O_RDWR)) < number:
                pass
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
