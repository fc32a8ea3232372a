"""The live line on the screen, a line a minute where there is no screen, and the tables at the end."""

import io
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from aif_dcpc.notes import say

EVERY = 60.0  # seconds between lines where the output is no terminal
GONE = (OSError, ValueError)  # what writing to a closed terminal or file gives


class LiveProgress:
    """A progress bar with the few numbers that tell whether learning works, and the time left.

    Args:
        total: steps of the whole job.
        done: steps done before.
        unit: what a step is.
        every: seconds between lines where standard error is no terminal.
        shown: whether there is anything to be seen at all.
    """

    def __init__(
        self,
        total: int,
        *,
        done: int = 0,
        unit: str = "steps",
        every: float = EVERY,
        shown: bool = True,
    ) -> None:
        console = Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self.shown = shown
        self.plain = not (shown and console.is_terminal)
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=self.plain)
        self.task = self.bar.add_task("", total=total, completed=done)
        self.total = total
        self.done = done
        self.unit = unit
        self.every = every
        self.start = time.monotonic()
        self.told = self.start

    def __enter__(self) -> Self:
        with suppress(*GONE):
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*GONE):
            self.bar.stop()

    def update(self, done: int, numbers: Mapping[str, float]) -> None:
        """Show how far the job is, and its numbers."""
        if self.plain:
            self._tell(done, numbers)
            return
        words = "  ".join(f"{name} [bold]{value:.3g}[/bold]" for name, value in numbers.items())
        with suppress(*GONE):
            self.bar.update(self.task, completed=done, description=words)

    def _tell(self, done: int, numbers: Mapping[str, float]) -> None:
        """Print a line if the last one is long ago."""
        now = time.monotonic()
        if now - self.told < self.every or not self.shown:
            return
        self.told = now
        rate = (done - self.done) / (now - self.start)
        left = f", {duration((self.total - done) / rate)} left" if rate > 0 else ""
        words = "".join(f"  {name} {value:.3g}" for name, value in numbers.items())
        line = f"{done}/{self.total} {self.unit} in {duration(now - self.start)}{left}{words}"
        with suppress(*GONE):
            print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time in the two units that matter.

    >>> [duration(t) for t in (3.2, 75, 7260, 200000)]
    ['3 s', '1 min 15 s', '2 h 1 min', '2 d 7 h']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print two columns on standard output."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))  # as they are, without markup
    say_table(table)


def print_columns(title: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Print rows of several named columns on standard output."""
    table = Table(title=Text(title), title_justify="left")
    columns = list(next(iter(rows.values())))
    for name in ("", *columns):
        table.add_column(Text(name))
    for name, values in rows.items():
        table.add_row(Text(name), *(Text(values[column]) for column in columns))
    say_table(table)


def say_table(table: Table) -> None:
    """Print a table on standard output, as wide as it is there."""
    live = Console()
    width = shutil.get_terminal_size((100, 24)).columns
    drawn = io.StringIO()
    Console(file=drawn, width=width, force_terminal=live.is_terminal).print(table)
    say(drawn.getvalue().rstrip("\n"))
