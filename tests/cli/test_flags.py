"""One list of flags: the command line, the function behind it, its settings and the docs say the same."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import da3gs
from da3gs.cli import command_class
from da3gs.cli._parse import Command, parse
from da3gs.evaluation.baselines import Method
from da3gs.pipeline.settings import Settings

DOCS = Path(__file__).parents[2] / "assets" / "docs"
COMMANDS: list[tuple[str, list[str], Callable[..., Any], type]] = [
    ("reconstruct", ["photos"], da3gs.reconstruct, Settings),
    ("evaluate", ["data", "-o", "report"], da3gs.evaluate, Method),
]
ROLES = {"kind", "folder"}
"""Of an evaluated method, where the command line has one word, ``--baseline``."""


def asked_for(name: str, words: list[str]) -> Command:
    """The command with no flag given."""
    parsed = parse(command_class(name), words, name)
    assert parsed is not None
    return parsed


def keywords_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Keywords that are flags, with their defaults: not what the command itself hands in, where it tells of its work
    and where it keeps finished pieces."""
    found = inspect.signature(function).parameters.values()
    handed_in = ("progress", "partial")
    return {one.name: one.default for one in found if one.kind is one.KEYWORD_ONLY and one.name not in handed_in}


def choices(hint: Any) -> set[str]:
    """The words among which a type lets choose."""
    if get_origin(hint) is Literal:
        return set(map(str, get_args(hint)))
    inner = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else ()
    return set().union(*map(choices, inner))


@pytest.mark.parametrize(("name", "words", "function", "settings"), COMMANDS, ids=lambda value: str(value)[:12])
def test_flags_are_the_functions_keywords(
    name: str, words: list[str], function: Callable[..., Any], settings: type
) -> None:
    """By name and default; what a command has to be given has no default to compare."""
    flags, keywords = asked_for(name, words).keywords(), keywords_of(function)
    assert flags.keys() == keywords.keys()
    given = {"output": None}
    assert {**flags, **given} == {**keywords, **given}
    fields = {field.name: field.default for field in settings.__dataclass_fields__.values()}  # type: ignore[attr-defined]
    resolved = {"model"} | ROLES
    assert {key: keywords[key] for key in fields if key not in resolved} == {
        key: value for key, value in fields.items() if key not in resolved
    }


@pytest.mark.parametrize(("name", "words", "function", "settings"), COMMANDS, ids=lambda value: str(value)[:12])
def test_flags_offer_the_functions_choices(
    name: str, words: list[str], function: Callable[..., Any], settings: type
) -> None:
    """Words that the command line offers are those of the function's type, and of the settings'."""
    command = asked_for(name, words)
    offered = typing.get_type_hints(type(command)) | typing.get_type_hints(type(command.common))
    taken, kept = typing.get_type_hints(function), typing.get_type_hints(settings)
    for key in keywords_of(function):
        if choices(offered.get(key)) and choices(taken[key]):
            assert choices(offered[key]) == choices(taken[key]), key
        if key in kept and key != "model":
            assert choices(taken[key]) == choices(kept[key]), key


@pytest.mark.parametrize("name", ["reconstruct", "evaluate"])
def test_pages_show_the_help(name: str) -> None:
    """The page of a command has its flags from the command itself."""
    assert f"{{{{ help {name} }}}}" in (DOCS / "verbs" / f"{name}.md").read_text(encoding="utf-8")
