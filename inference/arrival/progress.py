"""How far `sample` has come: a bar with the time left on a terminal, a line a minute elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TaskID

EVERY = 60.0  # seconds between lines where there is no terminal


class SampleProgress:
    """Counts sweeps of one stage after the other, on standard error.

    Args:
        show: False for silence; None shows a bar on a terminal and lines, from the first minute on,
            elsewhere.
    """

    def __init__(self, show: bool | None = None) -> None:
        self.is_silent = show is False
        self.bar: Progress | None = None
        if not self.is_silent and (show or sys.stderr.isatty()):
            self.bar = Progress(console=Console(stderr=True), transient=True)
        self.task: TaskID | None = None
        self.stage = ""
        self.done = 0
        self.total = 0
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Start the bar, if there is one."""
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def begin(self, stage: str, total: int) -> None:
        """Begin a stage of so many sweeps."""
        self.stage = stage
        self.done = 0
        self.total = total
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(stage, total=total)

    def extend(self, more: int) -> None:
        """Add sweeps to the stage."""
        self.total += more
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, total=self.total)

    def advance(self) -> None:
        """Count one sweep of the stage."""
        self.done += 1
        if self.bar is not None and self.task is not None:
            self.bar.advance(self.task)
        elif not self.is_silent and time.monotonic() - self.last_line > EVERY:
            self.last_line = time.monotonic()
            print(f"sample: {self.stage}, {self.done} of {self.total} sweeps", file=sys.stderr)
