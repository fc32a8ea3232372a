"""Code from outside the package, named as `module:Name`: what a run names, who may have it imported, how it is found.

Whoever types such a name on the command line asks for it. A run folder may hold the name, but
cannot have it imported: whoever loads the run says once more what to trust.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from aif_dcpc.errors import ConfigError
from aif_dcpc.schema import TrainConfig


def is_outside(value: Any) -> bool:
    """Tell whether a value of a configuration names code from outside the package: a text with a colon."""
    return isinstance(value, str) and ":" in value


def outside_names(config: TrainConfig) -> list[str]:
    """Return whatever could be taken for the name of code in what a run is built from, options included."""
    parts: list[Any] = [config.agent, config.inference, asdict(config.env)]
    if config.images is not None:
        parts.append({**asdict(config.images), "folder": None})  # a path is never imported
    return list(dict.fromkeys(value for value in _leaves(parts) if is_outside(value)))


def _leaves(values: Any) -> Iterator[Any]:
    """Yield the values at the ends of nested groups and lists."""
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, list):
        yield values
        return
    for value in values:
        yield from _leaves(value)


def as_trust(names: Sequence[str]) -> str:
    """Return how to trust some names on the command line."""
    return f"trust={names[0]}" if len(names) == 1 else f"'trust=[{','.join(names)}]'"


def import_module_of(key: str, name: str | None) -> None:
    """Import the module of a `module:Name` that a key of the configuration holds; other values are left alone.

    Raises:
        ConfigError: it is not to be had, or fails while it is imported.
    """
    if name is None or not is_outside(name):
        return
    try:
        import_module(name.partition(":")[0])
    except Exception as error:  # whatever the user's module does
        raise ConfigError(f"{key}={name} cannot be imported: {_told(error)}.") from error


def find_builder(key: str, name: str) -> Callable[..., Any]:
    """Import what a key of the configuration names.

    Raises:
        ConfigError: the module or the name in it is not to be had, or is nothing to call.
    """
    import_module_of(key, name)
    try:
        found = resolve_name(name)
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={name} is not there: {_told(error)}.") from error
    if not callable(found):
        raise ConfigError(f"{key}={name} must be something to call, not {found!r}.")
    builder: Callable[..., Any] = found
    return builder


def _told(error: Exception) -> str:
    """Return an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
