"""Errors of the engine: each says where, what was expected, what was found and what to try."""

import difflib
from collections.abc import Iterable


class InferenceError(Exception):
    """Base of everything the engine raises on purpose."""


class ModelError(InferenceError, ValueError):
    """The declared graphical model is not sound."""


class ClampError(InferenceError, ValueError):
    """The data handed over do not fit the model."""


class MoveError(InferenceError, ValueError):
    """A move was paired with a site that it cannot update."""


class NonFiniteError(InferenceError, FloatingPointError):
    """A log density or a particle stopped being finite."""


class ConvergenceWarning(UserWarning):
    """A cloud or an estimate that should not be trusted yet; the message names the remedy."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a misspelt name, with the closest match and the list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."


def cause(error: Exception) -> str:
    """What went wrong, on one line: an engine's own sentence, or the kind of another error and its first line."""
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return (
        str(error)
        if isinstance(error, InferenceError)
        else f"{type(error).__name__}: {first}".removesuffix(": ")
    )
