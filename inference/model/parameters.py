"""What densities depend on beside their sites: parameters, buffers, tensors and numbers that kernels capture.

A cloud caches densities and scores at its values. They are of use only as long as what they depend
on is as it was, so a cloud remembers the *snapshot* that they were evaluated under: every tensor,
how often it had been changed in place, and every number of Python's.
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
Number = bool | int | float | str
READ = Tensor | Number | nn.Module | functools.partial | Distribution  # of a module's globals


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors, their versions, and numbers at one time.

    Attributes:
        tensors: held, so that none can be mistaken for a later one in its place.
        versions: how often each had been changed in place.
        numbers: numbers and names, as they are found.
    """

    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]
    numbers: tuple[Number, ...] = ()

    @classmethod
    def of(cls, model: GraphicalModel) -> "Snapshot":
        """Take note of what the kernels of a model depend on now."""
        kernels = [
            kernel for site in model.sites.values() for kernel in (site.kernel, site.initial)
        ]
        leaves = [*model.parameters(), *model.buffers(), *_all(kernels, DEPTH)]
        tensors = tuple({id(x): x for x in leaves if isinstance(x, Tensor)}.values())
        versions = tuple(0 if t.is_inference() else t._version for t in tensors)
        return cls(tensors, versions, tuple(x for x in leaves if not isinstance(x, Tensor)))

    def same(self, other: "Snapshot | None") -> bool:
        """Whether nothing has changed."""
        if other is None or self.versions != other.versions or self.numbers != other.numbers:
            return False
        return all(a is b for a, b in zip(self.tensors, other.tensors, strict=True))


def _all(things: Iterable[Any], depth: int) -> Iterator[Tensor | Number]:
    for thing in things:
        yield from _leaves(thing, depth)


def _leaves(thing: Any, depth: int) -> Iterator[Tensor | Number]:
    """Tensors and numbers that calling (or looking into) something may read."""
    if isinstance(thing, Tensor | Number):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from (*thing.parameters(), *thing.buffers())
        for part in thing.modules():
            yield from (x for x in vars(part).values() if isinstance(x, Number))
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
    """Tensors, numbers, modules and the module's own functions that a function names."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        own = (
            isinstance(value, FunctionType)
            and value.__module__ == function.__module__
            and value is not function
        )
        if own or isinstance(value, READ):
            yield value
