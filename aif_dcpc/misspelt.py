"""What to say about a misspelt name: the one "did you mean" of the project, which every part may import."""

import difflib
import re
from collections.abc import Iterable

CUTOFF = 0.5  # least similarity, between 0 and 1, of a name that is offered instead


def closest(name: str, known: Iterable[str]) -> str:
    """Return a fragment that offers the most similar known name, or an empty text if none is similar.

    Letter case does not count, and a name that has the whole word comes before similar ones. The
    fragment begins with a space, to stand after a full stop.

    >>> closest("minigrid", ["MiniGrid", "TMaze"])
    " Did you mean 'MiniGrid'?"
    >>> closest("steps", ["epochs", "total_env_steps"])
    " Did you mean 'total_env_steps'?"
    """
    by_lower = {entry.lower(): entry for entry in sorted(known)}
    having = [entry for entry in by_lower if name.lower() in re.split(r"[_.]", entry)]
    close = having or difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=CUTOFF)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return one sentence for an unknown name: the closest match, then all that are known."""
    names = sorted(known)
    return f"unknown {kind} {name!r}.{closest(name, names)} Known: {', '.join(names) or 'none'}."
