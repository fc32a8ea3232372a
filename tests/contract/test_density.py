"""How densely the code is written: no import circles, short files and functions, one thing a line.

Figures are measured on the six package folders, tests apart. A bound over all of them leaves room for the single
exception that reads better; a bound for every file or function does not.
"""

import ast
from functools import cache
from pathlib import Path
from statistics import median

import networkx
import pytest
from radon.complexity import cc_visit
from radon.visitors import Function

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("aif_dcpc", "agents", "envs", "inference", "configs", "experiments")
MAX_FILE = 400  # lines
MAX_FUNCTION = 80  # lines, docstring included
MEDIAN_FUNCTION = 6  # lines, docstring apart
LONG_LINE = 100  # characters
LONG_LINES = 0.03  # largest share of them in a package
COMPLEX = 10  # cyclomatic complexity that a function should not exceed
COMPLEX_FUNCTIONS = 20  # that exceed it at most
TUPLE_ASSIGNMENTS = 5  # `a, b = x, y` at most, per 1,000 statements
SHORT_DOCSTRING = 3  # words that say too little in a first line
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def texts(folder: str) -> dict[Path, str]:
    """The source of every file of a package folder."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in paths}


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax tree of every file of every package folder."""
    return {path: ast.parse(text) for folder in PACKAGES for path, text in texts(folder).items()}


def nodes(kinds):
    """All nodes of some kinds, with the file that each stands in."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield path, node


def module_name(path: Path) -> str:
    """The name under which a file is imported."""
    parts = list(path.with_suffix("").parts)
    if parts[0] != "aif_dcpc":
        parts.insert(0, "aif_dcpc")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imported(node, modules) -> list[str]:
    """Names of the project's modules that one statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        members = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [member if member in modules else node.module for member in members]
    return [name for name in names if name in modules]


def test_no_import_circles_between_files():
    """Imports inside functions and under TYPE_CHECKING count as well."""
    modules = {module_name(path) for path in trees()}
    graph = networkx.DiGraph()
    for path, node in nodes((ast.Import, ast.ImportFrom)):
        importer = module_name(path)
        graph.add_edges_from(
            (importer, name) for name in imported(node, modules) if name != importer
        )
    circles = [
        sorted(part) for part in networkx.strongly_connected_components(graph) if len(part) > 1
    ]
    assert graph.number_of_edges() > 500
    assert circles == []


def test_files_are_short():
    long = {
        path: len(text.splitlines()) for folder in PACKAGES for path, text in texts(folder).items()
    }
    assert {str(path): lines for path, lines in long.items() if lines > MAX_FILE} == {}


def test_functions_are_short():
    lengths = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1 for path, node in nodes(FUNCTIONS)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION} == {}


def body_lines(node) -> int:
    """Lines of a function's body without its docstring."""
    body = node.body if ast.get_docstring(node) is None else node.body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_half_of_the_functions_are_very_short():
    assert median(body_lines(node) for _, node in nodes(FUNCTIONS)) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("folder", PACKAGES)
def test_few_lines_are_long(folder):
    lines = [line for text in texts(folder).values() for line in text.splitlines()]
    long = [line for line in lines if len(line) > LONG_LINE]
    assert len(long) <= LONG_LINES * len(lines)


def test_few_functions_branch_often():
    blocks = [
        (path, block)
        for folder in PACKAGES
        for path, text in texts(folder).items()
        for block in cc_visit(text)
        if isinstance(block, Function)
    ]
    branching = [
        f"{path}:{block.fullname} {block.complexity}"
        for path, block in blocks
        if block.complexity > COMPLEX
    ]
    assert len(blocks) > 1000
    assert len(branching) <= COMPLEX_FUNCTIONS, branching


def test_a_line_assigns_one_thing():
    statements = sum(1 for _ in nodes(ast.stmt))
    packed = [
        f"{path}:{node.lineno}"
        for path, node in nodes(ast.Assign)
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    assert 1000 * len(packed) <= TUPLE_ASSIGNMENTS * statements, packed


def test_docstrings_say_what_the_thing_is():
    documented = [(path, node, ast.get_docstring(node)) for path, node in nodes(DOCUMENTED)]
    short = [
        f"{path}:{getattr(node, 'lineno', 1)} {text}"
        for path, node, text in documented
        if text is not None and len(text.splitlines()[0].split()) <= SHORT_DOCSTRING
    ]
    assert short == []
