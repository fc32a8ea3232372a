"""What densities depend on beside their sites: parameters, buffers, tensors that kernels capture.

A cloud caches densities and scores at its values. They are of use only as long as what they depend
on is as it was, so a cloud remembers the *snapshot* that they were evaluated under: every tensor,
and how often it had been changed in place.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from aif_dcpc.inference.model.graph import GraphicalModel

DEPTH = 5  # of containers and functions within functions


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors and their versions at one time.

    Attributes:
        tensors: held, so that none can be mistaken for a later one in its place.
        versions: how often each had been changed in place.
    """

    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, model: GraphicalModel) -> "Snapshot":
        """Take note of what the kernels of a model depend on now."""
        kernels = [
            kernel for site in model.sites.values() for kernel in (site.kernel, site.initial)
        ]
        found = {id(t): t for t in (*model.parameters(), *model.buffers(), *_all(kernels, DEPTH))}
        tensors = tuple(found.values())
        return cls(tensors, tuple(0 if t.is_inference() else t._version for t in tensors))

    def same(self, other: "Snapshot | None") -> bool:
        """Whether nothing has changed."""
        if other is None or self.versions != other.versions:
            return False
        return all(a is b for a, b in zip(self.tensors, other.tensors, strict=True))


def _all(things: Iterable[Any], depth: int) -> Iterator[Tensor]:
    for thing in things:
        yield from _tensors(thing, depth)


def _tensors(thing: Any, depth: int) -> Iterator[Tensor]:
    """Tensors that calling (or looking into) something may read."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from (*thing.parameters(), *thing.buffers())
    elif depth:
        yield from _all(_parts(thing), depth - 1)


def _parts(thing: Any) -> Iterable[Any]:
    """List what a container, a function or an object holds."""
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    if isinstance(thing, MethodType):
        return (thing.__func__, thing.__self__, *_attributes(thing.__self__))
    if isinstance(thing, FunctionType):
        return _captured(thing)
    if isinstance(thing, Mapping):
        return thing.values()
    if isinstance(thing, Sequence) and not isinstance(thing, str | bytes):
        return thing
    if isinstance(thing, Distribution) or (callable(thing) and not isinstance(thing, type)):
        return _attributes(thing)
    return ()


def _attributes(thing: Any) -> Iterable[Any]:
    return getattr(thing, "__dict__", {}).values()


def _captured(function: FunctionType) -> Iterable[Any]:
    """List what a function reads beside its arguments: closure, defaults and globals."""
    cells = (_content(cell) for cell in function.__closure__ or ())
    defaults = function.__defaults__ or ()
    keyword_defaults = (function.__kwdefaults__ or {}).values()
    return (*cells, *defaults, *keyword_defaults, *_globals(function))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _globals(function: FunctionType) -> Iterator[Any]:
    """Tensors, modules and the module's own functions that a function names."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        own = (
            isinstance(value, FunctionType)
            and value.__module__ == function.__module__
            and value is not function
        )
        if own or isinstance(value, Tensor | nn.Module | functools.partial | Distribution):
            yield value
