"""Tests in forked children of a process that has imported everything except the project.

A child costs a fraction of a second before its first test, where a fresh interpreter would spend
ten on PyTorch. No file is touched: a mutated module is compiled in the place of its file when the
child imports it.
"""

import contextlib
import importlib
import importlib.machinery
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from aif_dcpc.experiments.mutation.mutants import ROOT

OPTIONS = (
    "-x",
    "-q",
    "--no-header",
    "--tb=no",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "--timeout=0",
    f"--rootdir={ROOT}",
)
# a test may take this many times its usual processor time, and so many seconds more
PATIENCE = 5
GRACE = 15
MEMORY = 8 << 30  # bytes that a child may map on top of what it starts with


class Chosen:
    """Plugin: runs chosen tests alone, the fastest first, each under its own limit of processor time.

    Args:
        seconds: usual processor time by test; None runs all that is collected, without a limit.
        around: called with the name of each test before it runs.
    """

    def __init__(
        self, seconds: Mapping[str, float] | None, around: Callable[[str], object]
    ) -> None:
        self.seconds = seconds
        self.around = around
        self.taken: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests, sorted."""
        if self.seconds is not None:
            items[:] = [item for item in items if item.nodeid in self.seconds]
            items.sort(key=lambda item: self.seconds[item.nodeid] if self.seconds else 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Time a test, set-up included, under its limit."""
        start = time.process_time()
        if self.seconds is not None:
            limit_processor_time(start + PATIENCE * self.seconds[item.nodeid] + GRACE)
        self.around(item.nodeid)
        done = yield
        self.taken[item.nodeid] = time.process_time() - start
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the tests that fail."""
        if report.failed:
            self.failed.append(report.nodeid)


def limit_processor_time(seconds: float) -> None:
    """End this process once it has used so many seconds in all."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, resource.RLIM_INFINITY))


def spent() -> float:
    """Processor seconds of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def preload(names: list[str]) -> None:
    """Import what the tests import, in the same order, except the project itself."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def imported(files: list[str]) -> list[str]:
    """Modules that collecting test files imports, those of this repository left out."""

    def collect(connection: Connection) -> None:
        pytest.main(["--collect-only", *OPTIONS, *files])
        foreign = [
            n for n, m in sys.modules.items() if not _is_ours(n, getattr(m, "__file__", None))
        ]
        connection.send(foreign)

    _, found = in_child(collect)
    return list(found or [])


def _is_ours(name: str, file: str | None) -> bool:
    return name.split(".")[0] in {"aif_dcpc", "tests", "__main__"} or (file or "").startswith(
        str(ROOT)
    )


def in_child(task: Callable[[Connection], None]) -> tuple[int, Any]:
    """Run a task in a silent forked child.

    Returns:
        its exit code (minus the signal that ended it), and the last thing it sent.
    """
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)

    def silent() -> None:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        task(theirs)

    child = fork.Process(target=silent)
    child.start()
    theirs.close()
    sent = None
    with contextlib.suppress(EOFError):
        while True:
            sent = ours.recv()
    child.join()
    return child.exitcode or 0, sent


def plant(path: Path, source: str) -> None:
    """Have this process compile a text in the place of a file when it is imported."""
    usual = importlib.machinery.SourceFileLoader.get_code
    target = os.path.realpath(path)

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> Any:
        if os.path.realpath(self.path) == target:
            return compile(source, self.path, "exec")
        return usual(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def run(source: str, path: Path, seconds: Mapping[str, float]) -> tuple[str, str]:
    """Run tests with a text in the place of a module, up to the first failure.

    Returns:
        "survived", "killed", "timeout" or "crashed", and the test at which it ended.
    """

    def task(connection: Connection) -> None:
        sys.dont_write_bytecode = True
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
        limit_processor_time(60)  # for collection
        plant(path, source)
        connection.send((None, "collection"))
        plugin = Chosen(seconds, lambda name: connection.send((None, name)))
        files = dict.fromkeys(str(ROOT / name.split("::")[0]) for name in seconds)
        code = pytest.main([*OPTIONS, *files], plugins=[plugin])
        connection.send((int(code), plugin.failed[0] if plugin.failed else "collection"))

    ended, sent = in_child(task)
    code, where = sent or (None, "start")
    if code is None:
        return ("timeout" if ended in (-24, -9) else "crashed"), where
    return (
        ("survived", "")
        if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        else ("killed", where)
    )
