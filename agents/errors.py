"""What can be wrong about an agent's settings or the spaces that it is given."""

import difflib
from collections.abc import Iterable


class AgentError(ValueError):
    """An agent cannot be built as asked: the message is one sentence for the user."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a misspelt name, with the closest match and the list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."
