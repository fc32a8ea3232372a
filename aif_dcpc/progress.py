"""The live line on the screen, and the tables at the end; nothing moves where the output is not a terminal."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table


class LiveProgress:
    """A progress bar with the few numbers that tell whether learning works, and the time left.

    Args:
        total: steps of the whole job.
        done: steps done before.
        unit: what a step is.
    """

    def __init__(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        console = Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self.task = self.bar.add_task("", total=total, completed=done)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def update(self, done: int, numbers: Mapping[str, float]) -> None:
        """Show how far the job is, and its numbers."""
        words = "  ".join(f"{name} [bold]{value:.3g}[/bold]" for name, value in numbers.items())
        self.bar.update(self.task, completed=done, description=words)


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print two columns on standard output."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
