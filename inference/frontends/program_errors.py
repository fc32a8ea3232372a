"""What is said of a program that cannot be read: why, and at which of its own lines."""

import contextlib
import traceback
from pathlib import Path

import pyro
import torch

from aif_dcpc.inference.errors import ModelError

LIBRARIES = (
    str(Path(torch.__file__ or "").parent),
    str(Path(pyro.__file__ or "").parent),
    str(Path(__file__).parents[1]),
)
STANDARD_LIBRARY = str(Path(contextlib.__file__).parent)


def fails_by_itself(error: Exception) -> ModelError:
    """Say that a program does not run by itself, and where."""
    cause = (str(error).strip().splitlines() or [""])[0][:200]
    return ModelError(
        f"program: it fails by itself{_own_line(error)}: {type(error).__name__}: {cause}; run it "
        "once with the same arguments to see."
    )


def program_line() -> str:
    """The innermost line of the running program that belongs to no library."""
    return _line(traceback.extract_stack())


def not_static(error: Exception) -> ModelError:
    """Refuse a program that ran, but cannot be recorded: say why, and at which of its own lines."""
    place = _own_line(error)
    if isinstance(error, ModelError):
        return error
    if "_local_scalar_dense" in str(error) and _checks_arguments(error):
        return ModelError(
            f"program: a law checks its arguments while it is recorded{place}: leave out "
            "validate_args=True; data are checked when they are given."
        )
    if "_local_scalar_dense" in str(error):
        return ModelError(
            "program: it reads the numbers in a latent or observed site (a branch on a sample, "
            f".item(), a data-dependent shape), so its structure is not static{place}; compute with "
            "the sample instead, for example with torch.where, or branch on the data themselves."
        )
    cause = (str(error).strip().splitlines() or [""])[0][:200]
    return ModelError(
        f"program: it cannot be recorded as tensor operations{place}: {type(error).__name__}: "
        f"{cause}"
    )


def _checks_arguments(error: Exception) -> bool:
    """Whether a law of torch was checking its arguments."""
    last = traceback.extract_tb(error.__traceback__)
    checks = Path("torch", "distributions", "distribution.py").parts
    return any(Path(f.filename).parts[-3:] == checks and f.name == "__init__" for f in last)


def _own_line(error: Exception) -> str:
    """The innermost line of a traceback that belongs to no library."""
    return _line(traceback.extract_tb(error.__traceback__))


def _line(frames: traceback.StackSummary) -> str:
    for frame in reversed(frames):
        standard = (
            frame.filename.startswith(STANDARD_LIBRARY) and "site-packages" not in frame.filename
        )
        if not standard and not frame.filename.startswith((*LIBRARIES, "<")):
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""
