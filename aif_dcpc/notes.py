"""What is said to the user: results on standard output, notes beside them; nobody may be there to read them."""

import os
import sys
from contextlib import suppress


def say(text: str) -> None:
    """Print on standard output; whoever closed its other end, as `head` does, has read enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(sentence: str) -> None:
    """Print a sentence on standard error."""
    with suppress(OSError, ValueError):
        print(f"note: {sentence}", file=sys.stderr, flush=True)
