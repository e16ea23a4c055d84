"""The rules of the house that a program can keep: sizes, documentation, tools, layers, public names."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import da3gs

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "da3gs").rglob("*.py"), *(ROOT / "viewer" / "da3gs_viewer").rglob("*.py")])
LEAVES = sorted((ROOT / "benchmarks").rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES, MOST_MODULES = 400, 60, 20

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    """A tool of the environment, run in the repository."""
    binary = Path(sys.executable).with_name(command[0])
    if not binary.exists():
        pytest.skip(f"{command[0]} is not installed; make test installs it")
    return subprocess.run([str(binary), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "--quiet"), ("ruff", "format", "--check", "--quiet"), ("lint-imports",), ("mypy",)],
    ids=" ".join,
)
@pytest.mark.process
def test_tools_have_nothing_to_say(command: tuple[str, ...]) -> None:
    done = tool(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function of a module, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def docstring_lines(function: Function) -> int:
    """How many lines the docstring takes."""
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return 0
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


def too_long(path: Path) -> list[str]:
    """What of a file exceeds the house's sizes."""
    text = path.read_text(encoding="utf-8")
    name, lines = path.relative_to(ROOT), text.count("\n")
    found = [f"{name}: {lines} lines"] if lines >= MOST_LINES else []
    for function in functions(ast.parse(text)):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1 - docstring_lines(function)
        if length >= MOST_FUNCTION_LINES:
            found.append(f"{name}:{function.lineno} {function.name}: {length} lines")
    return found


def undocumented(path: Path) -> list[str]:
    """Public modules, classes, functions and methods without a docstring, and functions without a return type."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(ROOT)
    found = [] if ast.get_docstring(tree) else [f"{name}: the module"]
    for node in tree.body:
        found += [f"{name}:{line} {what}" for line, what in _undocumented(node, "")]
    found += [f"{name}:{f.lineno} {f.name}: no return type" for f in functions(tree) if f.returns is None]
    return found


def _undocumented(node: ast.stmt, inside: str) -> Iterator[tuple[int, str]]:
    if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
        return
    overrides = isinstance(node, Function) and any(getattr(d, "attr", None) == "setter" for d in node.decorator_list)
    if ast.get_docstring(node) is None and not overrides:
        yield node.lineno, inside + node.name
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            yield from _undocumented(child, f"{node.name}.")


def test_files_and_functions_are_short() -> None:
    assert [line for path in SOURCES + LEAVES for line in too_long(path)] == []


def test_folders_are_small() -> None:
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in SOURCES)
    assert {folder: count for folder, count in sizes.items() if count > MOST_MODULES} == {}


def test_everything_public_is_documented() -> None:
    assert [line for path in SOURCES for line in undocumented(path)] == []


QUESTIONS = ("What", "Which", "How", "Where", "Whether", "Who", "Of", "As", "Is")


def test_module_docstrings_begin_with_a_noun() -> None:
    """A paper's word for it comes first; a question makes the reader guess what the module is."""
    modules = [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py"))]
    firsts = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in modules}
    assert [str(path.relative_to(ROOT)) for path, text in firsts.items() if text.split(" ")[0] in QUESTIONS] == []


def test_records_document_their_fields() -> None:
    """A field of a public record of tensors is followed by its docstring."""
    missing = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or not _is_record(node):
                continue
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                    continue
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not said:
                    missing.append(f"{path.relative_to(ROOT)}:{field.lineno} {node.name}.{field.target.id}")
    assert missing == []


def _is_record(node: ast.ClassDef) -> bool:
    return any("TensorRecord" in ast.unparse(base) for base in node.bases)


def modules() -> list[str]:
    """Every module that is installed."""
    names = []
    for package in ("da3gs", "da3gs_viewer"):
        root = importlib.import_module(package)
        names += [package, *(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))]
    return [name for name in names if not name.endswith("__main__")]


def test_every_module_imports_and_hides_no_public_name() -> None:
    for name in modules():
        importlib.import_module(name)
    for name in da3gs.__all__:
        value = getattr(da3gs, name)
        if name == "__version__":
            assert isinstance(value, str)
            continue
        assert inspect.isclass(value) or callable(value), f"da3gs.{name} is {value!r}"
        assert not inspect.ismodule(value), f"da3gs.{name} is hidden by a module of the same name"
        assert value.__doc__, f"da3gs.{name} has no docstring"


LAZY = {("da3gs.scene", "da3gs._scene_read"), ("da3gs.scene", "da3gs._scene_write")}
"""Imports upwards that are meant: ``Scene.save`` and ``load_scene`` stand where people look for them."""


def import_graph() -> dict[str, set[str]]:
    """Every import of one of our modules by another, at any depth, those for type checkers too."""
    roots = {ROOT / "da3gs": ROOT, ROOT / "viewer" / "da3gs_viewer": ROOT / "viewer"}
    files = {
        ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): path
        for root, base in roots.items()
        for path in root.rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [full if full in files else node.module for full in whole]
            graph[name] |= {other for other in found if other in files and (name, other) not in LAZY} - {name}
    return graph


def test_no_imports_go_in_circles() -> None:
    graph = import_graph()
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert {name: sorted(others & graph.keys()) for name, others in graph.items()} == {}, "in or above a circle"


@pytest.mark.process
def test_import_is_light() -> None:
    code = "import sys, da3gs; print([m for m in ('torch', 'numba', 'numpy', 'viser') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_heavy_packages_are_imported_inside_functions() -> None:
    """gsplat, pycolmap, viser and the like must not be needed to import da3gs."""
    heavy = {"gsplat", "pycolmap", "lpips", "skimage", "torchvision", "ray", "nerfstudio", "matplotlib", "viser"}
    found = []
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.partition(".")[0] in heavy]
    assert found == []


def fenced(text: str) -> list[str]:
    """The lines of a page's fenced blocks, without prompts and comments."""
    lines = []
    for block in re.findall(r"```(?:sh|bash|console|shell)?\n(.*?)```", text, flags=re.DOTALL):
        lines += [line.removeprefix("$ ").partition(" #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


def test_readme_shows_commands_that_exist() -> None:
    from da3gs.cli import COMMANDS, command_class

    lines = fenced((ROOT / "README.md").read_text(encoding="utf-8"))
    makes = [line for line in lines if re.match(r"(make|uv|python)\b", line)]
    assert makes[:2] == ["make demo", "make test"], "the two commands that a newcomer types"
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for line in lines:
        words = line.split()
        if words[0] == "make":
            assert set(words[1:]) <= goals, line
        if words[0] == "da3gs":
            assert words[1] in COMMANDS, line
            said = inspect.getsource(sys.modules[command_class(words[1]).__module__])
            for flag in re.findall(r"\s--([a-z-]+)", line):
                known = flag.replace("-", "_") in said or flag in (
                    "json",
                    "quiet",
                    "verbose",
                    "device",
                    "seed",
                    "threads",
                )
                assert known, f"--{flag} in: {line}"


def test_readme_and_sources_name_no_machine() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", ROOT / "CHANGELOG.md"])
    assert re.search(r"/(home|root|Users)/", text) is None
