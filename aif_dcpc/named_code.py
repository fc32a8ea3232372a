"""Code by its name, `module:name`: the one place that finds it, which every part of the project may import.

>>> import_named("math:tau") > 6
True
>>> import_named("math:tua")
Traceback (most recent call last):
    ...
aif_dcpc.named_code.NotThere: module 'math' has no 'tua'. Did you mean 'tau'?
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from aif_dcpc.misspelt import closest


class NotThere(Exception):
    """What a name stands for is not to be had: the message is one sentence, to stand after the name."""


def import_named(name: str) -> Any:
    """Import what stands at `module:name`, where the name may have dots as well.

    Raises:
        NotThere: it is no such name, or the module or the name in it is not to be had.
    """
    module, _, path = name.partition(":")
    if not module or not path or ":" in path:
        raise NotThere("expected module:name.")
    found: Any = import_named_module(module)
    for part in path.split("."):
        if not hasattr(found, part):
            raise NotThere(f"module {module!r} has no {path!r}.{closest(part, dir(found))}")
        found = getattr(found, part)
    return found


def is_missing(name: str) -> bool:
    """Tell, without importing anything, whether the module of `module:name` can be nowhere."""
    top = name.partition(":")[0].partition(".")[0]
    try:
        return bool(top) and find_spec(top) is None
    except ValueError:  # a module that does not know where it is from, such as __main__
        return False


def import_named_module(module: str) -> ModuleType:
    """Import a module that somebody else wrote.

    Raises:
        NotThere: there is no such module, or it fails while it is imported.
    """
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:  # whatever that module does
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise NotThere(f"there is no module {module!r} on Python's path.") from error
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotThere(f"module {module!r} cannot be imported: {told.rstrip('.: ')}.") from error
