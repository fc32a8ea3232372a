"""A cloud as a list of tensors, and what is left of it: what a graph of operations takes and returns.

Sweeps are functions of clouds, graphs those of tensors. A cloud is taken apart into the tensors that
sweeps read and change, counts of what moves have learned (host numbers that differ from sweep to
sweep), and the rest, by which one tells whether a graph recorded with one cloud serves another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.model.state import State

Counts = dict[tuple[str, Any], Any]
SWEPT = ("values", "masks", "cache", "adaptation", "log_weights", "inverse_temperature")
COUNTS = "updates"  # of what a move has learned about a site


def take_apart(thing: Any, leaves: list[Tensor]) -> Any:
    """Append the tensors within containers to `leaves`; return what is left, with their layouts.

    Two things with equal remainders can be put together from each other's tensors.
    """
    if isinstance(thing, Tensor):
        leaves.append(thing.contiguous())  # a window's strides would tell the length of its series
        return thing.shape, thing.dtype, thing.device
    if isinstance(thing, Mapping):
        return tuple((key, take_apart(value, leaves)) for key, value in thing.items())
    if isinstance(thing, tuple | list):
        return type(thing), tuple(take_apart(value, leaves) for value in thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        parts = (take_apart(getattr(thing, field.name), leaves) for field in fields(thing))
        return type(thing), tuple(parts)
    return thing


def put_together(like: Any, leaves: Iterator[Tensor]) -> Any:
    """Make a thing like another one from tensors, in the order in which `take_apart` gives them."""
    if isinstance(like, Tensor):
        return next(leaves)
    if isinstance(like, Mapping):
        return {key: put_together(value, leaves) for key, value in like.items()}
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*(put_together(value, leaves) for value in like))
    if isinstance(like, tuple | list):
        return type(like)(put_together(value, leaves) for value in like)
    if is_dataclass(like) and not isinstance(like, type):
        return type(like)(
            **{
                field.name: put_together(getattr(like, field.name), leaves)
                for field in fields(like)
            }
        )
    return like


def without_counts(adaptation: Mapping[str, Any]) -> tuple[dict[str, Any], Counts]:
    """Part what moves have learned from how often they have: numbers that differ from sweep to sweep."""
    counts = {
        (name, key): count
        for name, learned in adaptation.items()
        for key, count in getattr(learned, COUNTS, {}).items()
    }
    return {name: _counted(learned, {}) for name, learned in adaptation.items()}, counts


def with_counts(adaptation: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Put the counts back that `without_counts` took."""
    found = {}
    for name, learned in adaptation.items():
        own = {key: count for (site, key), count in counts.items() if site == name}
        found[name] = _counted(learned, own)
    return found


def _counted(learned: Any, updates: dict[Any, Any]) -> Any:
    return replace(learned, **{COUNTS: updates}) if hasattr(learned, COUNTS) else learned


@dataclass(frozen=True)
class Parts:
    """What a sweep reads and changes of a cloud, as a list of tensors.

    Attributes:
        rest: what is left of it, equal for clouds that one recording serves.
        leaves: the tensors, in order.
        counts: how often moves have learned.
        like: the parts themselves.
    """

    rest: Any
    leaves: tuple[Tensor, ...]
    counts: Counts
    like: tuple[Any, ...]

    @classmethod
    def of(cls, state: State) -> "Parts":
        """Take a cloud apart."""
        adaptation, counts = without_counts(state.adaptation)
        bare = state.replace(adaptation=adaptation)
        like = tuple(getattr(bare, name) for name in SWEPT)
        leaves: list[Tensor] = []
        rest = take_apart(like, leaves)
        return cls((rest, tuple(counts)), tuple(leaves), counts, like)

    def without_tensors(self) -> "Parts":
        """The same with nothing but the places of its tensors."""
        like = put_together(self.like, repeat(torch.empty(0)))
        return replace(self, leaves=(), like=like)

    def cloud(self, state: State, leaves: Iterator[Tensor], counts: Counts) -> State:
        """The cloud `state` with tensors and counts in the place of its own."""
        found = dict(zip(SWEPT, put_together(self.like, leaves), strict=True))
        found["adaptation"] = with_counts(found["adaptation"], counts)
        return state.replace(**found)
