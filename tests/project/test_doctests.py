"""The examples in docstrings say what is true."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.project.test_house import ROOT, SOURCES


def _module(path: str) -> str:
    return path.removeprefix("viewer/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


WITH_EXAMPLES = [
    _module(path.relative_to(ROOT).as_posix()) for path in SOURCES if ">>>" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    import torch

    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    examples = [test for test in finder.find(module, globs={**vars(module), "torch": torch}) if test.examples]
    assert examples, f"{name} has examples that doctest does not find"
    for example in examples:
        runner.run(example)
    assert runner.failures == 0
