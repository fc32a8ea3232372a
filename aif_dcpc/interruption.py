"""Leave in order: the first signal asks the loop to save and stop, the second stops at once.

SIGINT (Ctrl-C), SIGTERM (kill, a cluster's time limit), SIGHUP (a closed terminal) and SIGUSR1 (a cluster that
will requeue the job) all do. A command leaves with 128 + the number of the signal, as shells expect.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)


class Interruption:
    """Whether somebody asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self.signal is not None


class Interrupted(KeyboardInterrupt):
    """A signal that came where nothing has to be saved."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Listen to the signals while inside, where this is the main thread; elsewhere nothing is heard."""
    interruption = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        restore()

    restore = _listen(note)
    try:
        yield interruption
    finally:
        restore()


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let signals end what is inside by an exception, so that it can clear up behind itself."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    restore = _listen(stop)
    try:
        yield
    finally:
        restore()


def exit_code(number: int | None) -> int:
    """What a command that a signal interrupted leaves with."""
    return 128 + (number or signal.SIGINT)


def _listen(handler: Callable[[int, FrameType | None], None]) -> Callable[[], None]:
    """Install a handler; return what puts the former ones back."""
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, former in before.items():
            signal.signal(number, former)

    try:
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # by nohup
                before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        before.clear()
    return restore
