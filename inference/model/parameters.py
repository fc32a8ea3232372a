"""What densities depend on beside their sites: parameters, buffers, tensors and numbers that kernels capture.

A cloud caches densities and scores at its values. They are of use only as long as what they depend
on is as it was, so a cloud remembers the *snapshot* that they were evaluated under: every tensor,
how often it had been changed in place, and every number of Python's.

They are looked for in what kernels close over and in the globals that they name: in containers (the
first `MOST` things of each), functions, modules, distributions, and objects of the user's own. What
else libraries make is not looked into.
"""

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from aif_dcpc.inference.model.graph import GraphicalModel

DEPTH = 5  # of containers and functions within functions
MOST = 1000  # things of a container
Number = bool | int | float | str
Container = dict | list | tuple
READ = Tensor | Number | nn.Module | functools.partial | Distribution | Container  # of its globals
Seen = dict[int, tuple[int, Any]]  # by identity, from what depth and (to be held) what
OWN = frozenset(vars(nn.Module())) - {"training"}  # what torch itself notes of a module
LIBRARIES = {"aif_dcpc", "numpy", "pyro", "torch", *sys.stdlib_module_names}
INSTALLED = ("site-packages", "dist-packages")  # folders of other libraries


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
        leaves = [*model.parameters(), *model.buffers(), *_all(kernels, DEPTH, {})]
        tensors = tuple({id(x): x for x in leaves if isinstance(x, Tensor)}.values())
        versions = tuple(0 if t.is_inference() else t._version for t in tensors)
        return cls(tensors, versions, tuple(x for x in leaves if not isinstance(x, Tensor)))

    def same(self, other: "Snapshot | None") -> bool:
        """Whether nothing has changed."""
        if other is None or self.versions != other.versions or self.numbers != other.numbers:
            return False
        return all(a is b for a, b in zip(self.tensors, other.tensors, strict=True))


def _all(things: Iterable[Any], depth: int, seen: Seen) -> Iterator[Tensor | Number]:
    for thing in things:
        yield from _leaves(thing, depth, seen)


def _leaves(thing: Any, depth: int, seen: Seen) -> Iterator[Tensor | Number]:
    """Tensors and numbers that calling (or looking into) something may read.

    What has been `seen` from no further away is not looked into again.
    """
    if isinstance(thing, Tensor | Number):
        yield thing
        return
    before, _ = seen.get(id(thing), (-1, None))
    if before >= depth:
        return
    seen[id(thing)] = (depth, thing)
    if isinstance(thing, nn.Module):
        yield from (*thing.parameters(), *thing.buffers())
        for part in thing.modules():
            yield from _all(_own_attributes(part), depth - 1, seen)
    elif depth:
        yield from _all(_parts(thing), depth - 1, seen)


def _parts(thing: Any) -> Iterable[Any]:
    """List what a container, a function or an object holds."""
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    if isinstance(thing, MethodType):
        return (thing.__func__, thing.__self__, *_attributes(thing.__self__))
    if isinstance(thing, FunctionType):
        return _captured(thing)
    if isinstance(thing, Mapping):
        return islice(thing.values(), MOST)
    if isinstance(thing, Sequence) and not isinstance(thing, str | bytes):
        return islice(thing, MOST)
    if isinstance(thing, Distribution) or _is_own(thing):
        return _attributes(thing)
    return ()


def _is_own(thing: Any) -> bool:
    """Tell whether something is called, or an object of the user's own."""
    if isinstance(thing, type | ModuleType):
        return False
    if callable(thing) or isinstance(thing, SimpleNamespace):
        return True
    return not _is_library(_package(thing))


def _package(thing: Any) -> str:
    """Name the package that the class of something comes from."""
    return type(thing).__module__.partition(".")[0]


@functools.cache
def _is_library(package: str) -> bool:
    """Tell whether a package is a library, and not the user's own."""
    path = getattr(sys.modules.get(package), "__file__", None) or ""
    return package in LIBRARIES or any(folder in path for folder in INSTALLED)


def _own_attributes(module: nn.Module) -> Iterator[Any]:
    """List what a module holds beside its parameters, buffers and parts: numbers, where a library made it."""
    if isinstance(module, GraphicalModel):
        return
    is_own = not _is_library(_package(module))
    for key, value in vars(module).items():
        if key not in OWN and (is_own or isinstance(value, Number)):
            yield value


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
