"""The ways of docs/structure.md are walked: steps run in their order, and the files that run are named."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
BARS = {"engine": 8, "agent": 12, "learner": 8}


def script(name: str):
    """A script of docs/, which is no package."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


walks = script("walks")


def section(name: str) -> str:
    return PAGE.split(f"\n### {name}\n")[1].split("\n##")[0]


def steps(name: str) -> list[tuple[str, str]]:
    """File and function of every step on the way."""
    found = re.findall(r"^\d+\. `([\w/]+\.py):([\w.]+)`", section(name), re.MULTILINE)
    assert len(found) > 10
    return found


def aside(name: str) -> set[str]:
    """Files of the paragraphs behind the steps."""
    return set(re.findall(r"`([\w/]+/\w+\.py)`", section(name)))


def row(name: str) -> list[int]:
    """The numbers of the table: on the way, bar, all files, crossings."""
    (line,) = re.findall(rf"^\| {name}: .*\|$", PAGE, re.MULTILINE)
    return [int(cell) for cell in line.split("|")[2:-1]]


def first_missing(wanted: list[tuple[str, str]], calls: list[tuple[str, str]]):
    """The first step that does not run after those before it; None if all do."""
    left = iter(calls)
    return next((step for step in wanted if step not in left), None)


def close(one: int, other: int) -> bool:
    return abs(one - other) <= max(2, other / 5)


@pytest.fixture(scope="module", params=sorted(BARS))
def way(request):
    return request.param, walks.WALKS[request.param]()


def test_the_steps_run_in_their_order(way):
    name, walk = way
    assert first_missing(steps(name), walk.calls) is None


def test_the_files_that_run_are_named(way):
    """All but two of either, so that not every helper asks for another page."""
    name, walk = way
    named = {file for file, _ in steps(name)} | aside(name)
    of_the_way = {file for file in walk.files if file.startswith(("inference/", "agents/"))}
    assert len(named - of_the_way) <= 2, named - of_the_way
    assert len(of_the_way - named) <= 2, of_the_way - named


def test_the_table_counts_them(way):
    name, walk = way
    on_the_way, bar, all_files, crossings = row(name)
    files = {file for file, _ in steps(name)}
    assert files.isdisjoint(aside(name))
    assert on_the_way == len(files) <= bar == BARS[name]
    assert close(all_files, len(walk.files)) and close(crossings, walk.crossings)


def test_a_step_out_of_order_is_noticed():
    calls = list(chain([("a.py", "f")], [("b.py", "g")], [("a.py", "h")]))
    assert first_missing([("a.py", "f"), ("a.py", "h")], calls) is None
    assert first_missing([("a.py", "h"), ("b.py", "g")], calls) == ("b.py", "g")
    assert first_missing([("c.py", "f")], calls) == ("c.py", "f")
