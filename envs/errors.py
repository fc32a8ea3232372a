"""Errors of the adapters: where, what was expected, what was found, what to try."""

import math
from numbers import Real
from typing import Any


class EnvironmentError_(Exception):
    """Base of everything an adapter raises on purpose."""


class UnknownEnvironment(EnvironmentError_, ValueError):
    """No adapter, or no registered environment, of that name."""


class UnsupportedEnvironment(EnvironmentError_, ValueError):
    """The environment exists, but its spaces cannot be laid out as streams of integers or numbers."""


class BadSetting(EnvironmentError_, ValueError):
    """A setting of an adapter is out of its range."""


def check_setting(name: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Refuse a setting of an environment that is no finite number, or lies out of its range."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        span = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise BadSetting(f"env.options.{name}={value}: expected a number {span}.")
