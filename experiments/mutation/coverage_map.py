"""Which tests run which lines of `inference/`, and how long each takes: coverage, a context a test."""

import hashlib
import json
import math
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import coverage
import pytest

from aif_dcpc.experiments.mutation.mutants import PACKAGE, ROOT, Mutant, modules
from aif_dcpc.experiments.mutation.trials import OPTIONS, Chosen, in_child, spent
from aif_dcpc.files import atomic

TESTS = (
    *sorted(
        str(p.relative_to(ROOT))
        for p in (ROOT / "tests/exact").rglob("test_*.py")
        if p.parent.name != "agents"
    ),
    "tests/contract/test_docstrings.py",
    "tests/contract/test_moves.py",
    "tests/contract/test_refusals.py",
    "tests/calibration/test_simulation_based.py",
)


@dataclass(frozen=True)
class Map:
    """Tests by what they run.

    Attributes:
        suite: digest of the test files.
        seconds: usual processor time by test.
        lines: module -> test -> lines that it runs, imports left out.
    """

    suite: str
    seconds: dict[str, float]
    lines: dict[str, dict[str, set[int]]]

    def tests(self, mutant: Mutant, limit: float) -> dict[str, float]:
        """Tests that can notice a mutant, with their times, fastest first.

        As many as fit into a time limit, seconds.
        """
        found: list[str] = []
        for first, last in mutant.spans:
            span = set(range(first, last + 1))
            found = found or [
                name for name, lines in self.lines.get(mutant.module, {}).items() if lines & span
            ]
        chosen: dict[str, float] = {}
        for name in sorted(found, key=lambda n: self.seconds[n]):
            if chosen and sum(chosen.values()) + self.seconds[name] > limit:
                break
            chosen[name] = self.seconds[name]
        return chosen


def measure(store: Path, files: tuple[str, ...] = TESTS, *, budget: float = math.inf) -> Map:
    """Run every test file that has changed since the map in `store` (all, if `inference/` has).

    Raises:
        RuntimeError: a test fails: mutants say nothing then.
        SystemExit: the budget (processor seconds of this process and its children) is spent; call
            again to go on.
    """
    engine = _digest([PACKAGE / m for m in modules()])
    known: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    for file in files:
        stamp = engine + _digest([ROOT / file])
        if known.get(file, {}).get("stamp") != stamp:
            if spent() > budget:
                raise SystemExit("the budget is spent: call again to go on")
            known[file] = {"stamp": stamp, **_measure_file(file)}
            with atomic(store) as whole:
                whole.write_text(json.dumps(known))
        seconds = known[file]["seconds"].values()
        print(f"{file}: {len(seconds)} tests, {sum(seconds):.0f} s", flush=True)
    return _joined(_digest([ROOT / file for file in files]), [known[file] for file in files])


def _measure_file(file: str) -> dict[str, Any]:
    """Run the tests of one file in a child."""
    code, found = in_child(lambda connection: _run(connection, file))
    if code or not found or found["failed"]:
        failed = found and found["failed"]
        raise RuntimeError(f"{file}: its tests do not pass as they are ({code}, {failed})")
    return dict(found)


def _digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:16]


def _joined(suite: str, parts: list[dict[str, Any]]) -> Map:
    lines: dict[str, dict[str, set[int]]] = {}
    for part in parts:
        for module, tests in part["lines"].items():
            lines.setdefault(module, {}).update(
                {name: set(numbers) for name, numbers in tests.items()}
            )
    return Map(suite, {name: t for part in parts for name, t in part["seconds"].items()}, lines)


def _run(connection: Connection, file: str) -> None:
    sys.dont_write_bytecode = True
    measured = coverage.Coverage(data_file=None, include=[f"{PACKAGE}/*"], config_file=False)
    measured.start()
    measured.switch_context("import")
    plugin = Chosen(None, measured.switch_context)
    code = pytest.main([*OPTIONS, str(ROOT / file)], plugins=[plugin])
    measured.stop()
    data = measured.get_data()
    lines: dict[str, dict[str, list[int]]] = {}
    for path in data.measured_files():
        module = str(Path(path).resolve().relative_to(PACKAGE))
        for number, tests in data.contexts_by_lineno(path).items():
            for name in set(tests) - {"", "import"}:
                lines.setdefault(module, {}).setdefault(name, []).append(number)
    connection.send(
        {
            "seconds": plugin.taken,
            "lines": lines,
            "failed": plugin.failed or ([] if code == 0 else [str(code)]),
        }
    )
