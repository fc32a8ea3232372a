"""Errors of the engine: each says where, what was expected, what was found and what to try."""

from collections.abc import Iterator
from contextlib import contextmanager


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


class CompileWarning(UserWarning):
    """Something is computed without a compiler where one was asked for; the message names the cause."""


def cause(error: Exception) -> str:
    """Say on one line what went wrong: the engine's own sentence, or kind and first line of another."""
    if isinstance(error, InferenceError):
        return str(error)
    first_line = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {first_line}".removesuffix(": ")


@contextmanager
def named_failure(what: str) -> Iterator[None]:
    """Say what failed where somebody else's code may raise anything.

    Raises:
        ModelError: for whatever is raised inside, but for the engine's own sentences.
    """
    try:
        yield
    except InferenceError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: {cause(error)}") from error
