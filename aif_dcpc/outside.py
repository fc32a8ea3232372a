"""Code from outside the package, named as `module:Name`: what a run names, and who may have it imported.

Whoever types such a name on the command line asks for it. A run folder may hold the name, but
cannot have it imported: whoever loads the run says once more what to trust.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from aif_dcpc.errors import ConfigError
from aif_dcpc.named_code import NotThere, import_named
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


def find_function(key: str, name: str) -> Callable[..., Any]:
    """Import what a key of the configuration names, and is to be called.

    Raises:
        ConfigError: the module or the name in it is not to be had, or is nothing to call.
    """
    try:
        found = import_named(name)
    except NotThere as error:
        raise ConfigError(f"{key}={name}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{key}={name} must be something to call, not {found!r}.")
    function: Callable[..., Any] = found
    return function
