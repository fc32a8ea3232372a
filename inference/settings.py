"""Checks of settings that are numbers: one sentence for what cannot be."""

import operator
from typing import Any

from aif_dcpc.inference.errors import ModelError

MOST_SEED = 2**64 - 1  # what torch.Generator takes


def check_integer(setting: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number within its range.

    Args:
        setting: its name, for the sentence.
        value: what was given.
        least, most: the range, both ends included; no upper end by default.

    Raises:
        ModelError: for anything else.
    """
    wanted = f"at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ModelError(f"{setting}={value!r}: expected a whole number, {wanted}.") from None
    if number < least or (most is not None and number > most):
        raise ModelError(f"{setting}={number}: expected {wanted}.")
    return number


def check_seed(seed: Any) -> int:
    """Return a seed that a generator takes.

    Raises:
        ModelError: for anything else.
    """
    return check_integer("seed", seed, 0, MOST_SEED)
